//! SODA (bottleneck diffusion for representation learning,
//! [arXiv 2311.17901](https://arxiv.org/abs/2311.17901)) on any GPU: training, evaluation by probes
//! and generation on Burn and wgpu, with hand-written WGSL kernels.
//!
//! An encoder turns an image into a vector z, and a denoiser that sees the image only through z
//! learns to remove noise from another view of it. [`prelude`] has what most programs need:
//!
//! ```
//! use soda::model::shipped;
//! use soda::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let device = select("cpu")?; // or "auto", "vulkan", "metal", ..
//! let weights = shipped::open()?;
//! let model = weights.model(&device.device)?;
//!
//! let images = bundled()?.at(weights.config.data.side)?.test;
//! let z = encode(&model, &images, &[0, 1, 2], &weights.config.data, false, &device.device)?;
//! assert_eq!((z.rows(), z.dim), (3, 128));
//! # Ok(())
//! # }
//! ```
//!
//! The programs in `examples/` embed a folder, reconstruct images, take a training step and add a
//! kernel.
//!
//! The library prints nothing, names no flags and reads no environment variables: it reports to a
//! [`progress::Listener`], and a program chooses the words of its [`error::Hint`]s. Modules are
//! declared in dependency order: each uses only those above it. Modules that are hidden from this
//! documentation serve the program and the tests, and change without notice.
//!
//! Burn's own types appear in signatures: [`burn`] and what kernels of your own need
//! ([`burn_flex`], [`bytemuck`]) are exported again, so that versions agree.
//!
//! Burn and wgpu panic when a GPU is lost or runs out of memory, and a thread that waits for the
//! device then waits for ever. [`error::Fault::of`] classifies the message of such a panic, and
//! [`error::Fault::ends_the_device`] tells from a panic hook whether the process should end; a run
//! in training resumes from its last checkpoint. Failures that Burn returns are
//! [`error::Error::Device`].
//!
//! On the CPU, kernels run on rayon's global threads while the calling thread sleeps. A program
//! whose main thread becomes one of them first trains about a tenth faster:
//! `rayon::ThreadPoolBuilder::new().use_current_thread().build_global()`, where there are two
//! threads or more. The library leaves that choice to the program.

// Standard output may carry the contents of a file (`--json -`), so the command line prints through
// its `outln!`, which checks for that.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

pub use {burn, burn_flex, bytemuck};

pub mod error;

pub mod config;
pub mod device;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod machine;
mod pickle;
pub mod progress;
mod protobuf;
pub mod ranks;
pub mod rng;
#[doc(hidden)]
pub mod shell;
#[doc(hidden)]
pub mod units;

pub mod data;
pub mod run_dir;

pub mod diffusion;
pub mod kernels;
pub mod model;
pub mod selftest;

pub mod eval;

pub mod edit;

pub mod report;

pub mod train;

#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod web;

pub mod prelude;
