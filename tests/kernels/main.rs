//! Kernels against plain tensor operations.
//!
//! The tests share one process. The profile that selects tiles and the count of copies are
//! thread-local. Once a test of the CPU kernels fills new buffers with junk, those of all tests
//! here are filled: no result may depend on it.

mod ada_gn;
mod catalog;
#[path = "../common/mod.rs"]
mod common;
mod half;
mod others;
mod traffic;
