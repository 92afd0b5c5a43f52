//! Finds the operands that a shader writes. Our texts declare all operands `read_write`, because
//! cubecl cuts them from the same buffers. WebGPU refuses a buffer that is bound writable twice, so
//! a plan declares operands that aren't written as `read`.

use wgpu::naga::front::wgsl::parse_str;
use wgpu::naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};

/// Returns the shader `text` with its accesses declared, and for each of its `count` operands
/// whether it is written.
///
/// # Errors
/// If the text isn't a valid shader; the error is a message.
pub(super) fn declared(text: &str, count: usize) -> Result<(String, Vec<bool>), String> {
    let module = parse_str(text).map_err(|e| e.message().to_owned())?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|e| e.to_string())?;
    let entry = info.get_entry_point(0);
    let mut writes = vec![false; count];
    for (handle, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        if let Some(write) = writes.get_mut(binding.binding as usize) {
            *write = entry[handle].contains(GlobalUse::WRITE);
        }
    }
    let mut text = text.to_owned();
    for (i, _) in writes.iter().enumerate().filter(|(_, write)| !**write) {
        let declaration = |access: &str| format!("@binding({i}) var<storage, {access}>");
        let before = declaration("read_write");
        if !text.contains(&before) {
            return Err(format!("operand {i} isn't declared as {before}"));
        }
        text = text.replace(&before, &declaration("read"));
    }
    Ok((text, writes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalog::{operations, shaders};

    #[test]
    fn only_written_operands_stay_writable() {
        let text = "
            @group(0) @binding(0) var<storage, read_write> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> unseen: array<f32>;
            @group(0) @binding(2) var<storage, read_write> y: array<f32>;
            fn put(i: u32, v: f32) { y[i] = v; }
            @compute @workgroup_size(1) fn main(@builtin(local_invocation_index) i: u32) { put(i, x[i]); }";
        let (changed, writes) = declared(text, 3).expect("a valid shader");
        assert_eq!(writes, [false, false, true]);
        assert!(
            changed.contains("@binding(0) var<storage, read> x")
                && changed.contains("@binding(2) var<storage, read_write> y")
        );
        assert!(declared(text, 4).is_err(), "an operand that isn't there");
        assert!(declared("fn main( {", 0).is_err());
    }

    #[test]
    fn every_shader_without_extensions_writes_something() {
        for (operation, filled) in shaders(operations()) {
            if filled.extensions.names().is_empty() {
                let (_, writes) = declared(&filled.text, filled.buffers)
                    .unwrap_or_else(|e| panic!("{operation}: {e}"));
                assert!(writes.contains(&true), "{operation}: {}", filled.variant);
            }
        }
    }
}
