//! Kernels against plain tensor operations on the CPU backend, and the texts of shaders.
//!
//! They share one process. The tiles that a test forces and the copies that it counts are its thread's own. Once a test of the CPU
//! kernels has had buffers filled with junk, those of all tests here are: no result may depend on it.

mod ada_gn;
mod catalog;
#[path = "../common/mod.rs"]
mod common;
mod cpu_kernels;
mod shaders;
mod wgpu_attention;
mod wgpu_conv2d;
