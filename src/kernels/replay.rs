//! Launches recorded once and replayed, on backends that can.

use burn::tensor::{Device, Graph, Tensor, capture};

/// The launches of a closure that computes a tensor.
pub(crate) struct Replayed<F: FnMut() -> Tensor<4>>(Graph<Tensor<4>, F>);

impl<F: FnMut() -> Tensor<4>> Replayed<F> {
    /// Runs `work` once on `device` and records its launches. `work` must own or borrow everything
    /// that it reads: its inputs then live as long as the recording.
    pub fn capture(device: &Device, work: F) -> Self {
        Self(capture(device, work))
    }

    /// Returns whether the launches were recorded. If not, [`run`](Self::run) calls the closure.
    pub fn is_recorded(&self) -> bool {
        self.0.is_hardware()
    }

    /// Runs the launches again. The result stays on the device.
    pub fn run(&mut self) {
        // SAFETY: the inputs live as long as the graph, whose closure borrows them, and all
        // launches are made from the thread that has the only reference to the graph.
        unsafe { self.0.replay() };
    }
}
