//! The update of a BatchNorm's running statistics by one more batch: one launch on wgpu devices,
//! plain tensor operations elsewhere.

use super::inputs::RunningInputs;
use super::reference;
use crate::kernels::choice::references;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;
use burn_flex::Flex;
use std::cell::RefCell;

/// The update on a backend; the default implementation is the reference. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait Running: Backend {
    /// Returns the running mean and variance after the batch, `[C]` each.
    fn forward(
        #[extension_type] inputs: RunningInputs<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::running(inputs)
    }
}

impl Running for Flex {}

/// A deferred update: the running statistics of a layer, and the batch that they don't include yet.
#[derive(Debug)]
pub struct Pending {
    mean: RunningState<Tensor<1>>,
    variance: RunningState<Tensor<1>>,
    momentum: f64,
    /// `[2C]`: the batch's mean and biased variance.
    pub statistics: Tensor<1>,
    /// Pixels of the batch.
    pub pixels: usize,
}

impl Pending {
    /// Updates the running statistics by a batch of `pixels` pixels with `statistics` `[2C]`: those
    /// of this batch or of another process's.
    pub fn take_in(&self, statistics: Tensor<1>, pixels: usize) {
        let inner = |tensor: Tensor<1>| tensor.without_autodiff().into_dispatch();
        let [mean, variance] = [&self.mean, &self.variance].map(|state| inner(state.value_sync()));
        let (momentum, unbiased) = (self.momentum, unbiased(pixels));
        let inputs =
            RunningInputs { mean, variance, statistics: inner(statistics), momentum, unbiased };
        let (mean, variance) = if references() {
            reference::running(inputs)
        } else {
            <Dispatch as Running>::forward(inputs)
        };
        replace(&self.mean, Tensor::from_dispatch(mean));
        replace(&self.variance, Tensor::from_dispatch(variance));
    }
}

thread_local! {
    /// The updates that this thread has deferred, if it defers them at present.
    static PUT_OFF: RefCell<Option<Vec<Pending>>> = const { RefCell::new(None) };
}

/// Runs `work` with all updates of running statistics deferred. Returns the deferred updates, in
/// the order of the calls.
pub fn put_off<T>(work: impl FnOnce() -> T) -> (T, Vec<Pending>) {
    /// Ends the deferral, even if `work` panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            PUT_OFF.take();
        }
    }
    let _end = End;
    PUT_OFF.set(Some(Vec::new()));
    let done = work();
    (done, PUT_OFF.take().unwrap_or_default())
}

/// Updates the running statistics of `norm` by `statistics` `[2C]`, the batch's mean and biased
/// variance over `n` pixels.
pub(super) fn update(norm: &BatchNorm, statistics: Tensor<1>, n: usize) {
    let (mean, variance) = (norm.running_mean.clone(), norm.running_var.clone());
    let pending = Pending { mean, variance, momentum: norm.momentum, statistics, pixels: n };
    let now = PUT_OFF.with_borrow_mut(|put_off| match put_off {
        Some(all) => {
            all.push(pending);
            None
        }
        None => Some(pending),
    });
    if let Some(pending) = now {
        pending.take_in(pending.statistics.clone(), n);
    }
}

/// Returns the factor that makes a variance over `n` values unbiased.
fn unbiased(n: usize) -> f64 {
    let n = n as f64;
    n / (n - 1.0).max(1.0)
}

/// Sets `state` to `value`. The state's own update would average the values of several threads,
/// which takes another launch even for one.
fn replace(state: &RunningState<Tensor<1>>, value: Tensor<1>) {
    struct Replace(Tensor<1>);
    impl ModuleMapper for Replace {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|old| {
                let new = self.0.clone().reshape(old.shape());
                if old.device().is_autodiff() { Tensor::from_inner(new) } else { new }
            })
        }
    }
    // The clone shares its value with `state`.
    state.clone().map(&mut Replace(value));
}
