//! SODA (bottleneck diffusion for representation learning, arXiv 2311.17901) on any GPU: training,
//! evaluation by probes and generation on Burn and wgpu, with hand-written WGSL kernels.
//!
//! The modules are listed in dependency order: each uses only those above it.

// Standard output may carry the contents of a file (`--json -`), so the command line prints through
// its `outln!`, which checks for that.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

pub mod error;

pub mod config;
pub mod device;
pub mod files;
pub mod machine;
mod pickle;
pub mod progress;
mod protobuf;
pub mod ranks;
pub mod rng;
pub mod run_dir;
pub mod shell;
pub mod units;

pub mod data;
pub mod diffusion;
pub mod kernels;

pub mod selftest;

pub mod model;

pub mod eval;

pub mod edit;

pub mod report;

pub mod train;

pub mod bench;

pub mod web;

pub mod prelude;
