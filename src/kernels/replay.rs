//! Launches recorded once and replayed, where a backend can.

use burn::tensor::{Device, Graph, Tensor, capture};

/// The launches of a closure that makes a tensor.
pub(crate) struct Replayed<F: FnMut() -> Tensor<4>>(Graph<Tensor<4>, F>);

impl<F: FnMut() -> Tensor<4>> Replayed<F> {
    /// Runs `work` once on `device` and records its launches. What it reads must belong to it: the
    /// inputs that it borrows live as long as what was recorded.
    pub fn capture(device: &Device, work: F) -> Self {
        Self(capture(device, work))
    }

    /// Whether the launches were recorded; else [`run`](Self::run) calls the closure.
    pub fn is_recorded(&self) -> bool {
        self.0.is_hardware()
    }

    /// Runs it once more. The result is left on the device.
    pub fn run(&mut self) {
        // SAFETY: the inputs live as long as the graph, whose closure borrows them, and all of it
        // is launched from the thread that has the only reference to it.
        unsafe { self.0.replay() };
    }
}
