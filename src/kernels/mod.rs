//! Operations with hand-written kernels: one public function each, a reference in plain tensor
//! operations beside it.
//!
//! Every operation is a folder: mod.rs (the function, its inputs, one trait with a forward and a
//! backward pass), reference.rs (the trait's default body, for any backend), autodiff.rs (its node
//! in the graph, where it is differentiable), cpu.rs (Burn's CPU backend), wgsl.rs (cubecl on wgpu)
//! and cases.rs, its entry in the [`catalog`]. A new operation is a folder, its shaders and a line
//! there: the self test, the benchmark, the tests and the checks of shaders then include it.
//!
//! Only this room knows WGSL, cubecl and the primitives of Burn's backends.

pub mod ada_gn;
pub mod adamw;
pub mod attention;
pub(crate) mod autodiff;
pub mod batch_norm;
#[allow(unsafe_code)]
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
pub mod math;
pub mod max_pool;
mod moments;
pub mod operand;
pub mod peak;
pub mod pixel_mean;
#[allow(unsafe_code)]
pub mod plan;
pub mod precision;
pub mod profile;
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
#[doc(hidden)]
pub mod traffic;
pub mod vjp;
