//! SODA (bottleneck diffusion for representation learning, arXiv 2311.17901) on any GPU.
pub mod config;
pub mod device;
pub mod diffusion;
pub mod error;
pub mod kernels;
pub mod model;
pub mod rng;
pub mod run_dir;
pub mod train;
