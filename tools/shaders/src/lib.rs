//! What tools do with the folder of filled shaders that `soda shaders DIR` writes: check it (the program check-shaders), and compile it
//! for GPUs that aren't there (compile-shaders).

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
