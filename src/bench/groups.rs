//! The groups of measurements, each with the function that a job runs for it: training steps,
//! inference, single kernels, the view pipeline, and the time of the host.
//!
//! None of their files uses this one, so that a new group is a file of its own and a line here.

use super::job::Job;
use super::plan::Group;
use super::{data, host, inference, kernels, step};
use crate::error::Result;
use crate::kernels::catalog::operations;

impl Job {
    /// Measures `group`.
    ///
    /// # Errors
    /// If the device was lost, or the receiver of the rows is gone.
    pub fn run(&mut self, group: Group) -> Result<()> {
        match group {
            Group::Step(size) => step::run(self, size),
            Group::Inference => inference::run(self),
            Group::Kernels => kernels::run(self, operations()),
            Group::Data => data::run(self),
            Group::Host => host::run(self),
        }
    }
}
