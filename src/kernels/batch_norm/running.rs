//! The running statistics of a BatchNorm after one more batch.

use super::RunningOp;
use burn::backend::Dispatch;
use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

/// In plain tensor operations. `statistics` `[2C]`: the batch's mean and biased variance over `n` pixels.
pub(super) fn update(norm: &BatchNorm, statistics: Tensor<1>, n: usize) {
    let c = statistics.dims()[0] / 2;
    let update = |running: Tensor<1>, new: Tensor<1>| running * (1.0 - norm.momentum) + new.detach() * norm.momentum;
    let mean = update(norm.running_mean.value_sync(), statistics.clone().narrow(0, 0, c));
    let variance = statistics.narrow(0, c, c) * unbiased(n);
    let variance = update(norm.running_var.value_sync(), variance);
    norm.running_mean.update(mean.detach());
    norm.running_var.update(variance.detach());
}

/// As [`update`], in one launch on wgpu devices.
pub(super) fn update_wgsl(norm: &BatchNorm, statistics: Tensor<1>, n: usize) {
    let running = [&norm.running_mean, &norm.running_var].map(|state| state.value_sync().without_autodiff().into_dispatch());
    let [mean, variance] = running;
    let statistics = statistics.without_autodiff().into_dispatch();
    let (mean, variance) = <Dispatch as RunningOp>::running(mean, variance, statistics, norm.momentum as f32, unbiased(n) as f32);
    replace(&norm.running_mean, Tensor::from_dispatch(mean));
    replace(&norm.running_var, Tensor::from_dispatch(variance));
}

/// What makes a variance over `n` numbers unbiased.
fn unbiased(n: usize) -> f64 {
    let n = n as f64;
    n / (n - 1.0).max(1.0)
}

/// Sets `state` to `value`. Its own update would average the values of several threads, a launch of its own even for one.
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
