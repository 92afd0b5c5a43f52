//! Translations of a module for the graphics APIs, with the options that wgpu uses for an unchecked
//! launch: without loop bounds, index and divisor checks, or zeroed workgroup memory.

use crate::manifest::Extension;
use crate::module::{Buffer, Valid, chain};
use naga::back::{hlsl, msl, spv};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A language of a graphics API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Vulkan.
    SpirV,
    /// Metal.
    Msl,
    /// Direct3D 12.
    Hlsl,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SpirV => "SPIR-V",
            Self::Msl => "MSL",
            Self::Hlsl => "HLSL",
        })
    }
}

impl Target {
    pub const ALL: [Self; 3] = [Self::SpirV, Self::Msl, Self::Hlsl];

    /// Whether naga can write `extension` in this language. If not, that is reported, not tried.
    pub fn writes(self, extension: Extension) -> bool {
        match extension {
            Extension::F16 | Extension::Subgroups => true,
            Extension::CooperativeMatrix => self != Self::Hlsl,
        }
    }

    /// Returns the extension of this language's files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::SpirV => "spv",
            Self::Msl => "metal",
            Self::Hlsl => "hlsl",
        }
    }

    /// Translates `shader`, which uses `extensions`. Buffers keep their binding numbers.
    ///
    /// # Errors
    /// One line that says what the language lacks.
    pub fn translate(
        self,
        shader: &Valid,
        extensions: &BTreeSet<Extension>,
    ) -> Result<Vec<u8>, String> {
        let has = |extension| extensions.contains(&extension);
        match self {
            Self::SpirV => {
                // Vulkan 1.1 has subgroups; devices with cooperative matrices have 1.3.
                let version = if has(Extension::CooperativeMatrix) { (1, 6) } else { (1, 3) };
                spirv(shader, version)
            }
            Self::Msl => {
                let version = match () {
                    () if has(Extension::CooperativeMatrix) => (2, 3),
                    () if has(Extension::Subgroups) => (2, 1),
                    () => (2, 0),
                };
                metal(shader, version)
            }
            Self::Hlsl => {
                let model = match () {
                    () if has(Extension::F16) => hlsl::ShaderModel::V6_2,
                    () if has(Extension::Subgroups) => hlsl::ShaderModel::V6_0,
                    () => hlsl::ShaderModel::V5_1,
                };
                direct3d(shader, model)
            }
        }
    }
}

fn spirv(shader: &Valid, lang_version: (u8, u8)) -> Result<Vec<u8>, String> {
    let options = spv::Options {
        lang_version,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let words =
        spv::write_vec(&shader.module, &shader.info, &options, None).map_err(|e| chain(&e))?;
    Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
}

/// The number of buffers that Metal can bind to a kernel; one holds the array lengths.
const METAL_BUFFERS: u32 = 31;

fn metal(shader: &Valid, lang_version: (u8, u8)) -> Result<Vec<u8>, String> {
    let buffers = shader.buffers().last().map_or(0, |b| b.binding + 1);
    if buffers >= METAL_BUFFERS {
        return Err(format!("{buffers} buffers and one of lengths, {METAL_BUFFERS} at most"));
    }
    let resources = bound(shader, |binding| msl::BindTarget {
        buffer: Some(binding as msl::Slot),
        mutable: true,
        ..Default::default()
    });
    let resources = msl::EntryPointResources {
        // The array lengths come after the buffers, as in wgpu.
        sizes_buffer: Some(buffers as msl::Slot),
        resources,
        ..Default::default()
    };
    let options = msl::Options {
        lang_version,
        per_entry_point_map: [(shader.module.entry_points[0].name.clone(), resources)].into(),
        fake_missing_bindings: false,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let written =
        msl::write_string(&shader.module, &shader.info, &options, &msl::PipelineOptions::default());
    let (text, names) = written.map_err(|e| chain(&e))?;
    for name in names.entry_point_names {
        name.map_err(|e| chain(&e))?;
    }
    with("kernel void", text)
}

fn direct3d(shader: &Valid, shader_model: hlsl::ShaderModel) -> Result<Vec<u8>, String> {
    let options = hlsl::Options {
        shader_model,
        binding_map: bound(shader, |register| hlsl::BindTarget { register, ..Default::default() }),
        fake_missing_bindings: false,
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    let written =
        hlsl::Writer::new(&mut text, &options, &pipeline).write(&shader.module, &shader.info, None);
    for name in written.map_err(|e| chain(&e))?.entry_point_names {
        name.map_err(|e| chain(&e))?;
    }
    with("numthreads", text)
}

/// Returns `text` if it contains `mark`, which every compute shader has.
fn with(mark: &str, text: String) -> Result<Vec<u8>, String> {
    if text.contains(mark) {
        Ok(text.into_bytes())
    } else {
        Err(format!("no `{mark}` in the translation"))
    }
}

/// Maps each buffer's binding number through `target`.
fn bound<T>(shader: &Valid, target: impl Fn(u32) -> T) -> BTreeMap<naga::ResourceBinding, T> {
    let place = |b: Buffer| {
        (naga::ResourceBinding { group: b.group, binding: b.binding }, target(b.binding))
    };
    shader.buffers().into_iter().map(place).collect()
}
