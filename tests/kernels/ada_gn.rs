//! What the catalogue's cases of AdaGN don't cover: finite differences, other memory layouts, very
//! many workgroups, rejected arguments.

use crate::common;
use crate::common::{assert_close, error};
use burn::tensor::{Device, Tensor, TensorData};
use soda::kernels::ada_gn::{self, Activation, AdaGnOptions, Dropout};
use soda::kernels::layout::copies;
use soda::kernels::testing::with_references;
use soda::rng::{self, Purpose};

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    groups: usize,
    activation: Activation,
    dropout: Option<Dropout>,
    modulated: bool,
}

const SILU: Case = Case {
    batch: 2,
    channels: 8,
    height: 4,
    width: 4,
    groups: 2,
    activation: Activation::Silu,
    dropout: None,
    modulated: true,
};
const DROPOUT: Dropout = Dropout { p: 0.3, key: [7, 9] };

impl Case {
    fn sized(batch: usize, channels: usize, height: usize, width: usize, groups: usize) -> Self {
        Self { batch, channels, height, width, groups, ..SILU }
    }

    fn options(&self) -> AdaGnOptions {
        AdaGnOptions {
            groups: self.groups,
            eps: 1e-5,
            activation: self.activation,
            dropout: self.dropout,
        }
    }
}

struct Inputs {
    h: Vec<f32>,
    t: Vec<f32>,
    z: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    /// Weights of the scalar that is differentiated.
    weights: Vec<f32>,
}

fn inputs(case: &Case) -> Inputs {
    let Case { batch, channels, height, width, .. } = *case;
    let mut stream =
        rng::stream(11, Purpose::Test, (batch * 31 + channels * 7 + height * width) as u64);
    let n = batch * channels * height * width;
    // A mean of 3 detects a variance that isn't centred.
    let h = rng::normal(&mut stream, n).into_iter().map(|v| 2.0 * v + 3.0).collect();
    let mut around = |n, centre: f32| {
        rng::normal(&mut stream, n).into_iter().map(|v| 0.5 * v + centre).collect()
    };
    Inputs {
        h,
        t: around(batch * 2 * channels, 0.7),
        z: around(batch * 2 * channels, 0.6),
        gamma: around(channels, 1.0),
        beta: around(channels, 0.2),
        weights: around(n, 0.0),
    }
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Returns a [B, C, H, W] view of NHWC memory, as convolutions produce.
fn feature_map(values: &[f32], case: &Case, device: &Device) -> Tensor<4> {
    let Case { batch, channels, height, width, .. } = *case;
    tensor(values, [batch, height, width, channels], device).permute([0, 3, 1, 2])
}

/// Returns the result, then the gradients of h, t, z, gamma and beta (t and z only if modulated).
fn run(
    case: &Case,
    inputs: &Inputs,
    device: &Device,
    fused: bool,
) -> Vec<(&'static str, Vec<f32>)> {
    let Case { batch, channels, .. } = *case;
    let autodiff = device.clone().autodiff();
    let h = feature_map(&inputs.h, case, &autodiff).detach().require_grad();
    let t = tensor(&inputs.t, [batch, 2 * channels], &autodiff).require_grad();
    let z = tensor(&inputs.z, [batch, 2 * channels], &autodiff).require_grad();
    let gamma = tensor(&inputs.gamma, [channels], &autodiff).require_grad();
    let beta = tensor(&inputs.beta, [channels], &autodiff).require_grad();
    let call = || match case.modulated {
        true => ada_gn::ada_gn(
            h.clone(),
            t.clone(),
            z.clone(),
            gamma.clone(),
            beta.clone(),
            case.options(),
        ),
        false => ada_gn::group_norm(h.clone(), gamma.clone(), beta.clone(), case.options()),
    };
    let out = if fused { call() } else { with_references(call) };
    let weights = feature_map(&inputs.weights, case, &autodiff);
    let grads = (out.clone() * weights).sum().backward();
    let mut results = vec![("value", values(out.inner()))];
    results.push(("gradient of h", values(h.grad(&grads).expect("h is tracked"))));
    if case.modulated {
        results.push(("gradient of t", values(t.grad(&grads).expect("t is tracked"))));
        results.push(("gradient of z", values(z.grad(&grads).expect("z is tracked"))));
    }
    results.push(("gradient of gamma", values(gamma.grad(&grads).expect("gamma is tracked"))));
    results.push(("gradient of beta", values(beta.grad(&grads).expect("beta is tracked"))));
    results
}

/// Sums of up to 12,288 f32 values in another order: relative errors of a few 1e-6 of the largest
/// element.
const RELATIVE: f32 = 1e-5;
const ABSOLUTE: f32 = 1e-5;

#[test]
fn comparison_rejects_wrong_results() {
    let case = SILU;
    let inputs = inputs(&case);
    let want = run(&case, &inputs, &Device::flex(), false);
    for wrong in [
        Case { activation: Activation::None, ..case },
        Case { groups: 4, ..case },
        Case { dropout: Some(Dropout { p: 0.05, key: [1, 2] }), ..case },
    ] {
        let got = run(&wrong, &inputs, &Device::flex(), true);
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            assert!(
                error(got, want, RELATIVE, ABSOLUTE) > 100.0,
                "{name} of {wrong:?} passes as {case:?}"
            );
        }
    }
    let mut broken = want[0].1.clone();
    broken[5] = f32::NAN;
    assert!(error(&broken, &broken, RELATIVE, ABSOLUTE) > 1.0, "NaN passes");
    broken[5] = want[0].1[5] * 1.001 + 0.001;
    assert!(error(&broken, &want[0].1, RELATIVE, ABSOLUTE) > 1.0, "a single wrong element passes");
}

/// More than 65,535 workgroups (one for every 8 or 16 channels): the grid is folded into two
/// dimensions.
#[test]
fn many_workgroups_fold_into_two_dimensions() {
    let case = Case::sized(33_000, 17, 1, 2, 17);
    assert!(case.batch * case.channels.div_ceil(16) > 65_535);
    let inputs = inputs(&case);
    let want = run(&case, &inputs, &Device::flex(), false);
    for ((name, got), (_, want)) in run(&case, &inputs, &common::wgpu(), true).iter().zip(&want) {
        // The two values of a group can be almost equal; 1 / deviation is then large, and the
        // reference loses digits as well.
        assert_close(name, got, want, 1e-4, 1e-4);
    }
}

/// Compares (f(x + e) - f(x - e)) / 2e along a random direction with the gradient's component along
/// it.
fn matches_finite_differences(device: &Device) {
    let case = Case { dropout: Some(DROPOUT), ..SILU };
    let base = inputs(&case);
    let analytic = run(&case, &base, device, true);
    let objective = |h: &[f32], t: &[f32], z: &[f32], gamma: &[f32], beta: &[f32]| -> f64 {
        let moved = Inputs {
            h: h.into(),
            t: t.into(),
            z: z.into(),
            gamma: gamma.into(),
            beta: beta.into(),
            weights: vec![],
        };
        let out = ada_gn::ada_gn(
            feature_map(&moved.h, &case, device),
            tensor(&moved.t, [2, 16], device),
            tensor(&moved.z, [2, 16], device),
            tensor(&moved.gamma, [8], device),
            tensor(&moved.beta, [8], device),
            case.options(),
        );
        let weights = values(feature_map(&base.weights, &case, device));
        values(out).iter().zip(weights).map(|(o, w)| f64::from(*o) * f64::from(w)).sum()
    };
    let step = 3e-3f32;
    let mut rejected = 0;
    for (slot, name) in ["h", "t", "z", "gamma", "beta"].into_iter().enumerate() {
        let gradient = &analytic[slot + 1].1;
        let direction =
            rng::normal(&mut rng::stream(5, Purpose::Test, slot as u64), gradient.len());
        let at = |sign: f32| {
            let mut parts = [
                base.h.clone(),
                base.t.clone(),
                base.z.clone(),
                base.gamma.clone(),
                base.beta.clone(),
            ];
            let moved = parts[slot].iter_mut().zip(&direction);
            moved.for_each(|(v, d)| *v += sign * step * d);
            objective(&parts[0], &parts[1], &parts[2], &parts[3], &parts[4])
        };
        let numeric = (at(1.0) - at(-1.0)) / (2.0 * f64::from(step));
        // The gradient is in logical NCHW order; h was given in NHWC order.
        let direction =
            if slot == 0 { values(feature_map(&direction, &case, device)) } else { direction };
        let exact: f64 =
            gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        // Errors of central differences: a term in step^2, and the objective's f32 rounding error
        // divided by the step.
        let tolerated = 1e-2 * exact.abs() + 5e-3;
        assert!(
            (numeric - exact).abs() <= tolerated,
            "{name}: {numeric} from differences, {exact} from the backward pass"
        );
        rejected += usize::from((numeric - 1.1 * exact).abs() > tolerated);
    }
    assert!(rejected >= 4, "a gradient 10 % off would pass for all but {rejected} operands");
}

#[test]
fn gradients_match_finite_differences_on_the_cpu() {
    matches_finite_differences(&Device::flex());
}

#[test]
fn gradients_match_finite_differences_on_wgpu() {
    matches_finite_differences(&common::wgpu());
}

#[test]
fn other_memory_layouts_give_the_same_result_and_are_counted_as_copies() {
    let case = Case::sized(2, 6, 5, 3, 3);
    let inputs = inputs(&case);
    for device in [Device::flex(), common::wgpu()] {
        let call = |h: Tensor<4>| {
            let (gamma, beta) =
                (tensor(&inputs.gamma, [6], &device), tensor(&inputs.beta, [6], &device));
            values(ada_gn::group_norm(h, gamma, beta, case.options()))
        };
        let h = feature_map(&inputs.h, &case, &device);
        let nchw = tensor(&values(h.clone()), [2, 6, 5, 3], &device);
        let before = copies();
        let want = call(h);
        assert_eq!(copies(), before, "NHWC memory needs no copy");
        let got = call(nchw);
        assert!(copies() > before, "an NCHW tensor needs a copy, and it is counted");
        assert_close("NCHW memory", &got, &want, 1e-6, 1e-6);
    }
}

#[test]
#[should_panic(expected = "groups = 3 doesn't divide h's 8 channels")]
fn groups_that_do_not_divide_the_channels_are_named() {
    let one = Tensor::ones([8], &Device::flex());
    ada_gn::group_norm(
        Tensor::zeros([1, 8, 2, 2], &Device::flex()),
        one.clone(),
        one,
        Case { groups: 3, ..SILU }.options(),
    );
}
