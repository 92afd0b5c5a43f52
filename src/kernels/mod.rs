//! Operations with hand-written kernels: one public function each, a reference in plain tensor operations beside it.
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
pub mod columns;
pub mod conv2d;
pub mod feature_map;
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
pub mod profile;
#[allow(unsafe_code)]
pub mod shader;
mod simd;
mod template;
#[doc(hidden)]
pub mod testing;
pub mod vjp;
