//! What the catalogue's cases of the other operations don't cover: linear layers over pixels,
//! statistics far from zero, tensors with other owners.

use crate::common::{assert_close, error, wgpu};
use burn::module::Module;
use burn::nn::{BatchNormConfig, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use soda::device::Class;
use soda::kernels::adamw::{Options, Parameter, adamw};
use soda::kernels::batch_norm::batch_norm;
use soda::kernels::catalog::random;
use soda::kernels::linear::{dense, linear};
use soda::kernels::testing::{fill_with_junk, with_class};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Returns the CPU backend, with new buffers filled with NaN to find elements that a kernel doesn't
/// write.
fn cpu() -> Device {
    fill_with_junk(true);
    Device::flex()
}

/// Runs `check` with the tiles of real GPUs and with those of software adapters.
fn with_every_class(check: impl Fn(&Device)) {
    for class in [Class::Gpu, Class::Software] {
        with_class(class, || check(&wgpu()));
    }
}

/// Compares the statistics of values far from zero with those in f64: a variance from plain sums of
/// squares would lose all digits.
fn batch_norm_far_from_zero(device: &Device) {
    for (index, (c, pixels)) in [(8, 3_000), (5, 700)].into_iter().enumerate() {
        let learning = &device.clone().autodiff();
        let x = values(random([pixels, c], index as u64 + 700, &Device::flex()) * 0.5 + 1_000.0);
        let norm = BatchNormConfig::new(c).init(learning);
        let image = Tensor::<4>::from_data(TensorData::new(x.clone(), [1, pixels, 1, c]), learning)
            .permute([0, 3, 1, 2]);
        let y = batch_norm(&norm, image, None, false).permute([0, 2, 3, 1]);

        let channel = |i: usize| x.iter().skip(i).step_by(c).map(|v| f64::from(*v));
        let mean: Vec<f64> = (0..c).map(|i| channel(i).sum::<f64>() / pixels as f64).collect();
        let squares = |i: usize| channel(i).map(|v| (v - mean[i]).powi(2)).sum::<f64>();
        let variance: Vec<f64> = (0..c).map(|i| squares(i) / (pixels - 1) as f64).collect();
        let deviation =
            |i: usize| (variance[i] * (pixels - 1) as f64 / pixels as f64 + norm.epsilon).sqrt();
        let want_y = x
            .iter()
            .enumerate()
            .map(|(at, v)| ((f64::from(*v) - mean[at % c]) / deviation(at % c)) as f32);
        let want_mean: Vec<f32> = mean.iter().map(|m| (0.1 * m) as f32).collect();
        let want_variance: Vec<f32> = variance.iter().map(|v| (0.9 + 0.1 * v) as f32).collect();
        let want_y: Vec<f32> = want_y.collect();
        let updated = norm.valid();
        let (got_mean, got_variance) =
            (values(updated.running_mean.value()), values(updated.running_var.value()));
        // The last digit of a mean of 1,000 in f32 is 6e-5, that of the values a ten-thousandth of
        // a deviation of 0.5.
        assert_close("the running mean", &got_mean, &want_mean, 1e-6, 1e-6);
        assert_close("the running variance", &got_variance, &want_variance, 1e-6, 1e-6);
        assert_close("the value", &values(y.inner()), &want_y, 0.0, 2e-4);
        // Negative control: the biased variance is a different one.
        let biased: Vec<f32> = variance
            .iter()
            .map(|v| (0.9 + 0.1 * v * (pixels - 1) as f64 / pixels as f64) as f32)
            .collect();
        assert!(
            error(&got_variance, &biased, 1e-6, 1e-6) > 1.0,
            "the test doesn't distinguish the unbiased variance from the biased one"
        );
    }
}

#[test]
fn batch_norm_keeps_its_digits_far_from_zero_on_the_cpu() {
    batch_norm_far_from_zero(&cpu());
}

#[test]
fn batch_norm_keeps_its_digits_far_from_zero_on_wgpu() {
    with_every_class(batch_norm_far_from_zero);
}

/// AdamW writes in place, but never into tensors with other owners.
fn adamw_leaves_shared_tensors_unchanged(device: &Device) {
    let make = |i: u64| random([40], 500 + i, device);
    let (weight, first, second, average) = (make(0), make(1), make(2).square(), make(3));
    let before: Vec<_> = [&weight, &first, &second, &average].map(|t| values(t.clone())).into();
    let held = Parameter {
        weight: weight.clone(),
        first: first.clone(),
        second: second.clone(),
        average: average.clone(),
    };
    let options =
        Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 1, ema_decay: 0.5 };
    let new = adamw(
        held,
        make(4),
        Tensor::ones([1], device),
        Tensor::from_floats(options.factors(), device),
    );
    assert!(values(new.weight) != before[0]);
    assert_eq!([weight, first, second, average].map(values).to_vec(), before);
}

#[test]
fn adamw_leaves_shared_tensors_unchanged_on_the_cpu() {
    adamw_leaves_shared_tensors_unchanged(&cpu());
}

#[test]
fn adamw_leaves_shared_tensors_unchanged_on_wgpu() {
    with_every_class(adamw_leaves_shared_tensors_unchanged);
}

/// Returns the value and the gradients of a linear layer over pixels, or over vectors, with our
/// operations on `device`, or with Burn's.
fn linear_layer(device: &Device, ours: bool, pixels: bool) -> Vec<(&'static str, Vec<f32>)> {
    let device = device.clone().autodiff();
    let mut layer = LinearConfig::new(20, 36).init(&device);
    layer.weight = layer.weight.map(|w| random(w.dims(), 300, &device).require_grad());
    layer.bias = layer.bias.map(|bias| bias.map(|b| random(b.dims(), 304, &device).require_grad()));
    let [height, width] = if pixels { [5, 4] } else { [1, 1] };
    let x = random([3, 20, height, width], 301, &device).require_grad();
    let residual = random([3, 36, height, width], 303, &device).require_grad();
    let y = match (ours, pixels) {
        (true, true) => linear(&layer, x.clone(), Some(residual.clone())),
        (true, false) => {
            let (x, residual) = (x.clone().reshape([3, 20]), residual.clone().reshape([3, 36]));
            dense(&layer, x, Some(residual)).reshape([3, 36, 1, 1])
        }
        (false, _) => {
            layer.forward(x.clone().permute([0, 2, 3, 1])).permute([0, 3, 1, 2]) + residual.clone()
        }
    };
    let grads = (y.clone() * random([3, 36, height, width], 302, &device)).sum().backward();
    vec![
        ("value", values(y.inner())),
        ("gradient of x", values(x.grad(&grads).expect("tracked"))),
        ("gradient of the weight", values(layer.weight.val().grad(&grads).expect("tracked"))),
        (
            "gradient of the bias",
            values(layer.bias.as_ref().expect("a bias").val().grad(&grads).expect("tracked")),
        ),
        ("gradient of the residual", values(residual.grad(&grads).expect("tracked"))),
    ]
}

fn linear_layers_equal_burns(device: &Device) {
    for pixels in [true, false] {
        for ((name, got), (_, want)) in
            linear_layer(device, true, pixels).iter().zip(&linear_layer(&cpu(), false, pixels))
        {
            assert_close(name, got, want, 1e-5, 1e-6);
            let mut wrong = got.clone();
            wrong[got.len() / 2] += want.iter().fold(0.0f32, |m, v| m.max(v.abs())) * 3e-5 + 3e-6;
            assert!(error(&wrong, want, 1e-5, 1e-6) > 1.0, "a wrong element of {name} would pass");
        }
    }
}

#[test]
fn linear_layers_equal_burns_on_the_cpu() {
    linear_layers_equal_burns(&cpu());
}

#[test]
fn linear_layers_equal_burns_on_wgpu() {
    with_every_class(linear_layers_equal_burns);
}
