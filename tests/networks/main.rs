//! The networks and their training, in the test's own process.

#[path = "../common/mod.rs"]
mod common;
mod denoising;
mod inception;
mod mixed;
mod modulation;
mod networks;
mod ranks;
mod training;
mod view_conditioning;
