//! Operations with hand-written kernels. Each has one public function and a reference
//! implementation in plain tensor operations.
//!
//! Every operation is a folder: mod.rs (the function, one trait with a forward and a backward
//! pass), inputs.rs (the operands, if there are several), reference.rs (the trait's default body,
//! for any backend), autodiff.rs (its node in the graph, if it is differentiable), cpu.rs (Burn's CPU
//! backend), wgsl.rs (cubecl on wgpu) and cases.rs, its entry in the [`catalog`]. To add an
//! operation, add its folder, its shaders and a line in the catalogue: the self test, the benchmark,
//! the tests and the shader checks then include it.
//!
//! WGSL, cubecl and the primitives of Burn's backends are used in this module only.

pub mod ada_gn;
pub mod adamw;
pub mod adapter;
mod arguments;
pub mod attention;
pub(crate) mod autodiff;
pub mod batch_norm;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod buffers;
pub mod catalog;
mod choice;
pub(crate) mod columns;
pub mod concat;
pub mod conv2d;
#[allow(unsafe_code)]
pub(crate) mod gemm;
pub mod launch;
pub mod layout;
pub mod linear;
#[doc(hidden)]
pub mod math;
pub mod max_pool;
mod moments;
#[doc(hidden)]
pub mod operand;
#[doc(hidden)]
pub mod peak;
pub mod pixel_mean;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod plan;
pub mod precision;
#[doc(hidden)]
pub mod profile;
#[doc(hidden)]
pub mod record;
#[allow(unsafe_code)]
pub(crate) mod replay;
#[allow(unsafe_code)]
pub mod shader;
pub mod silu;
mod simd;
mod template;
#[doc(hidden)]
pub mod testing;
mod timer;
#[doc(hidden)]
pub mod traffic;
#[doc(hidden)]
pub mod vjp;
pub mod work;
