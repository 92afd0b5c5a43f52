//! Diffusion as pure maths: schedules, the forward process, samplers and guidance, over closures
//! and plain tensors.

pub mod forward;
pub mod guidance;
pub mod prediction;
pub mod sampler;
pub mod schedule;
pub mod weight;

pub use schedule::Schedule;
