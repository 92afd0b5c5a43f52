//! A shader as naga parses and validates it.

use crate::manifest::{Binding, Extension};
use naga::front::wgsl;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, TypeInner, proc::Layouter};
use std::collections::BTreeSet;
use std::error::Error;

/// A valid module with one compute shader.
pub struct Valid {
    pub module: Module,
    pub info: ModuleInfo,
    layouter: Layouter,
}

/// A buffer that a module declares.
#[derive(Debug, PartialEq, Eq)]
pub struct Buffer {
    pub group: u32,
    pub binding: u32,
    /// None if it is neither a storage nor a uniform buffer.
    pub kind: Option<Binding>,
    /// Its size in bytes, or its minimum if its last array is runtime-sized.
    pub bytes: u32,
}

/// Parses and validates `text` as WGSL for a device that has exactly `extensions`.
///
/// # Errors
/// One line that says what is wrong, and where.
pub fn validate(text: &str, extensions: &BTreeSet<Extension>) -> Result<Valid, String> {
    let capabilities =
        extensions.iter().fold(Capabilities::empty(), |all, e| all | e.capabilities());
    let options = wgsl::Options { capabilities, ..wgsl::Options::new() };
    let module = wgsl::Frontend::new_with_options(options).parse(text);
    let module = module.map_err(|e| located(e.location(text), e.message()))?;
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
    let info = info.map_err(|e| located(e.location(text), &chain(e.as_inner())))?;
    match &module.entry_points[..] {
        [only] if only.stage == ShaderStage::Compute => {}
        _ => return Err("must have one entry point, a compute shader".to_owned()),
    }
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| chain(&e))?;
    Ok(Valid { module, info, layouter })
}

/// Returns those of `extensions` that `text` doesn't need.
pub fn needless(text: &str, extensions: &BTreeSet<Extension>) -> Vec<Extension> {
    let without = |left_out: Extension| {
        let others = extensions.iter().copied().filter(|&e| e != left_out).collect();
        // naga's validator alone would accept cooperative matrices that aren't a variable's type.
        validate(&text.replace(left_out.directive(), ""), &others).is_ok()
    };
    extensions.iter().copied().filter(|&e| without(e)).collect()
}

impl Valid {
    /// Returns the invocations of a workgroup, by dimension.
    pub fn workgroup_size(&self) -> [u32; 3] {
        self.module.entry_points[0].workgroup_size
    }

    /// Returns all declared buffers, by group and binding.
    pub fn buffers(&self) -> Vec<Buffer> {
        let bound = self.module.global_variables.iter().filter_map(|(_, v)| {
            let at = v.binding.as_ref()?;
            let kind = match v.space {
                AddressSpace::Storage { .. } => Some(Binding::Storage),
                AddressSpace::Uniform => Some(Binding::Uniform),
                _ => None,
            };
            Some(Buffer {
                group: at.group,
                binding: at.binding,
                kind,
                bytes: self.layouter[v.ty].size,
            })
        });
        let mut buffers: Vec<_> = bound.collect();
        buffers.sort_by_key(|b| (b.group, b.binding));
        buffers
    }

    /// Returns the bytes of an element of each storage buffer that is an array.
    pub fn element_bytes(&self) -> BTreeSet<u32> {
        let variables = self
            .module
            .global_variables
            .iter()
            .filter(|(_, v)| matches!(v.space, AddressSpace::Storage { .. }));
        let stride = |ty| match self.module.types[ty].inner {
            TypeInner::Array { stride, .. } => Some(stride),
            _ => None,
        };
        variables.filter_map(|(_, v)| stride(v.ty)).collect()
    }

    /// Returns the bytes of workgroup memory as WebGPU counts them: the size of each variable in
    /// use, rounded up to a multiple of 16.
    pub fn workgroup_bytes(&self) -> u32 {
        let uses = self.info.get_entry_point(0);
        let variables = self.module.global_variables.iter();
        let variables = variables
            .filter(|&(handle, v)| v.space == AddressSpace::WorkGroup && !uses[handle].is_empty());
        variables.map(|(_, v)| self.layouter[v.ty].size.next_multiple_of(16)).sum()
    }
}

/// Prefixes a message with its position in the source, if known.
fn located(location: Option<naga::SourceLocation>, message: &str) -> String {
    match location {
        Some(l) => {
            format!("line {}, column {}: {}", l.line_number, l.line_position, one_line(message))
        }
        None => one_line(message),
    }
}

/// Formats an error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&e| e.source());
    one_line(&causes.map(|e| e.to_string()).collect::<Vec<_>>().join(": "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
