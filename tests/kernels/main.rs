//! Kernels against plain tensor operations.
//!
//! They share one process. The profile that a test chooses tiles by and the copies that it counts
//! are its thread's own. Once a test of the CPU kernels has had buffers filled with junk, those of
//! all tests here are: no result may depend on it.

mod ada_gn;
mod catalog;
#[path = "../common/mod.rs"]
mod common;
mod half;
mod others;
mod traffic;
