//! Hooks for tests and comparisons: nothing that the program itself runs calls them, but for a hidden variable of the
//! environment, SODA_SIMD.

use super::simd::Path;

/// Makes the CPU kernels run on the SIMD path called `name` for the rest of the process, so that each path of a machine can be
/// compared. (The matrix products of the `gemm` crate choose their own.)
///
/// # Errors
/// If this machine has no such path; names those that it has.
pub fn force_simd(name: &str) -> Result<(), String> {
    Path::force(name)
}
