//! The folder of generated shaders: its manifest and their source.

use naga::valid::Capabilities;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The manifest's name in the folder.
const MANIFEST: &str = "manifest.json";

/// An extension of WGSL that a device may lack.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Extension {
    F16,
    Subgroups,
    CooperativeMatrix,
}

impl Extension {
    /// Returns the naga capabilities that wgpu sets for a device with this extension.
    pub fn capabilities(self) -> Capabilities {
        match self {
            // Vulkan devices can pack f16 values into a u32 exactly if they have f16.
            Self::F16 => Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
            // Without SUBGROUP_BARRIER: neither WebGPU's extension nor HLSL has such a barrier.
            Self::Subgroups => Capabilities::SUBGROUP,
            Self::CooperativeMatrix => Capabilities::COOPERATIVE_MATRIX,
        }
    }

    /// Returns the line that enables this extension in a shader; for subgroups only Tint takes it.
    pub fn directive(self) -> &'static str {
        match self {
            Self::F16 => "enable f16;",
            Self::Subgroups => "enable subgroups;",
            Self::CooperativeMatrix => "enable wgpu_cooperative_matrix;",
        }
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Subgroups => "subgroups",
            Self::CooperativeMatrix => "cooperative_matrix",
        })
    }
}

/// The kind of a bound buffer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    Storage,
    Uniform,
}

/// One variant of one kernel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shader {
    /// The file of its source, in the folder.
    pub file: String,
    /// The operation that it belongs to.
    pub operation: String,
    /// The name that profiles show.
    pub kernel: String,
    /// The values of its template, in readable form.
    pub variant: String,
    /// All extensions that it needs.
    pub extensions: BTreeSet<Extension>,
    /// Invocations of a workgroup, by dimension.
    pub workgroup_size: [u32; 3],
    /// Bound buffers, by binding number.
    pub bindings: Vec<Binding>,
    /// Bytes of workgroup memory as WebGPU counts them; not checked if absent.
    #[serde(default)]
    pub workgroup_bytes: Option<u32>,
    /// Multiply-adds of an invocation in one iteration of each loop that has them; empty for
    /// memory-bound kernels.
    #[serde(default)]
    pub multiply_adds: Vec<u32>,
    /// The recipes that launch it on GPUs.
    #[serde(default)]
    pub recipes: Vec<String>,
}

impl fmt::Display for Shader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.kernel, self.variant, self.file)
    }
}

/// The contents of manifest.json.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub shaders: Vec<Shader>,
}

/// A manifest, and the contents of every other file of the folder by name.
pub struct Folder {
    pub manifest: Manifest,
    pub texts: BTreeMap<String, String>,
}

impl Folder {
    /// Reads all files of `dir`.
    ///
    /// # Errors
    /// The folder or a file can't be read, a file isn't text, or the manifest is missing or
    /// invalid.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let mut texts = BTreeMap::new();
        let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        for entry in entries {
            let entry = entry.map_err(|e| format!("{}: {e}", dir.display()))?;
            let path = entry.path();
            let text =
                std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            texts.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
        let manifest = texts.remove(MANIFEST).ok_or_else(|| {
            format!("{}: no {MANIFEST} (`soda shaders {0}` writes one)", dir.display())
        })?;
        let manifest = serde_json::from_str(&manifest)
            .map_err(|e| format!("{}: {e}", dir.join(MANIFEST).display()))?;
        Ok(Self { manifest, texts })
    }
}
