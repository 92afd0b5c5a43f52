//! Tools for the folder of generated shaders that `soda shaders DIR` writes: check-shaders checks
//! it, and compile-shaders compiles it for GPUs that this machine doesn't have.

pub mod check;
pub mod disassembly;
mod instructions;
pub mod limits;
pub mod manifest;
pub mod module;
#[cfg(test)]
mod tests;
pub mod translate;
#[allow(unsafe_code)]
pub mod vulkan;
