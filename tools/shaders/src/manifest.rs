//! The folder of filled shaders: what its manifest says, and the texts.

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
    /// Returns what naga must allow for this extension, as wgpu sets it for a device that has the extension.
    pub fn capabilities(self) -> Capabilities {
        match self {
            // Vulkan's devices have the packing of halves into u32 exactly where they have f16.
            Self::F16 => Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
            // Without SUBGROUP_BARRIER: WebGPU's extension has no such barrier, and neither has HLSL.
            Self::Subgroups => Capabilities::SUBGROUP,
            Self::CooperativeMatrix => Capabilities::COOPERATIVE_MATRIX,
        }
    }

    /// Returns the line by which a text turns this extension on; that of subgroups is for Tint only.
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
    /// The file of its text, in the folder.
    pub file: String,
    /// The operation that it belongs to.
    pub operation: String,
    /// The name that profiles show.
    pub kernel: String,
    /// The values of its template, for people.
    pub variant: String,
    /// All that it needs.
    pub extensions: BTreeSet<Extension>,
    /// Invocations of a workgroup, by dimension.
    pub workgroup_size: [u32; 3],
    /// Bound buffers, by binding number.
    pub bindings: Vec<Binding>,
    /// Workgroup memory, counted as WebGPU does; not claimed where absent.
    #[serde(default)]
    pub workgroup_bytes: Option<u32>,
    /// Multiply-adds of an invocation in one round of each loop that makes them; none where memory decides.
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

/// What manifest.json holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub shaders: Vec<Shader>,
}

/// A manifest and the text of every other file beside it, by name.
pub struct Folder {
    pub manifest: Manifest,
    pub texts: BTreeMap<String, String>,
}

impl Folder {
    /// Reads all of `dir`.
    ///
    /// # Errors
    /// Where the folder, its manifest or a file can't be read, isn't text or isn't what a manifest must be.
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
