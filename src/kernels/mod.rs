//! Operations with hand-written kernels: one public function each, a reference in plain tensor operations beside it.
//!
//! Only this room knows WGSL, cubecl and the primitives of Burn's backends.

pub mod ada_gn;
pub mod adamw;
pub mod attention;
pub mod batch_norm;
#[allow(unsafe_code)]
pub mod buffers;
pub mod choice;
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
pub mod peak;
pub mod profile;
mod simd;
mod template;
pub mod vjp;
