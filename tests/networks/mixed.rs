//! Half precision: the networks on software Vulkan, which stores feature maps as f16, against their
//! emulation on the CPU; mixed-precision training.

use crate::common;
use crate::common::program::TINY;
use burn::module::Module;
use burn::nn::BatchNormConfig;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use soda::config::Config;
use soda::diffusion::Schedule;
use soda::kernels::batch_norm::batch_norm;
use soda::kernels::conv2d::{Conv2dOptions, conv2d};
use soda::kernels::precision::{Precision, autocast};
use soda::model::{Soda, parameters};
use soda::rng::{self, Purpose};
use soda::train::checkpoint::State;
use soda::train::optim::collect_gradients;
use soda::train::step::{Pair, step};

/// Returns configs/quick.toml with networks small enough for tests.
fn config(overrides: &[&str]) -> Config {
    let overrides: Vec<String> = TINY.iter().chain(overrides).map(|s| (*s).to_owned()).collect();
    Config::parse(include_str!("../../configs/quick.toml"), "configs/quick.toml", &overrides)
        .expect("a valid recipe")
}

/// Returns standard normal values, the same on every device.
fn normal<const D: usize>(shape: [usize; D], stream: u64, device: &Device) -> Tensor<D> {
    let values = rng::normal(&mut rng::stream(3, Purpose::Test, stream), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().expect("f32")
}

/// Returns z, the prediction, and all gradients of a batch through both networks.
fn computed(device: &Device, precision: Precision, seed: u64) -> [Vec<f32>; 3] {
    const BATCH: usize = 4;
    let config = config(&["model.unet.attention=[16]"]);
    let device = device.clone().autodiff();
    let model = Soda::new(&config.model, seed, &device).in_precision(precision);
    let z = model.encode(normal([BATCH, 3, 32, 32], 0, &device));
    let t = Tensor::from_floats([0.1, 0.4, 0.7, 1.0], &device);
    let ones = Tensor::ones([BATCH, 1], &device);
    let output =
        model.predict(normal([BATCH, 3, 32, 32], 1, &device), t, z.clone(), ones, None, None);
    // Scaled as in training, to stay far above f16's smallest values.
    let loss = (output.clone() - normal([BATCH, 3, 32, 32], 2, &device)).square().mean() * 4096.0;
    let gradients = collect_gradients(&model, &loss.backward());
    let gradients = gradients.into_values().flat_map(host).collect();
    [host(z.inner()), host(output.inner()), gradients]
}

/// Returns |a - b| / |b|; asserts that both vectors are finite.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|v| v.is_finite()), "a value isn't finite");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (difference / square(&mut b.iter().map(|b| f64::from(*b)))).sqrt()
}

/// Both round the same operands at the same places; what remains is the order of summation, which
/// occasionally rounds to the other neighbour. Over a few layers that changes far less than the
/// rounding itself.
#[test]
fn a_few_layers_on_vulkan_agree_with_the_cpus_emulation() {
    let layers = |device: Device, precision: Precision| {
        let device = device.autodiff();
        autocast(precision, || {
            let x = normal([4, 4, 32, 32], 0, &device);
            let weights = |i: u64| normal([4, 4, 3, 3], 10 + i, &device) * 0.2;
            let h = conv2d(x, weights(0), None, None, Conv2dOptions::same(3, 1));
            let h = batch_norm(&BatchNormConfig::new(4).init(&device), h, None, true);
            let h = conv2d(h.clone(), weights(1), None, Some(h), Conv2dOptions::same(3, 1));
            host(h.cast(FloatDType::F32).inner())
        })
    };
    let exact = layers(Device::flex(), Precision::F32);
    let emulated = layers(Device::flex(), Precision::F16);
    let stored = layers(common::wgpu(), Precision::F16);
    let (rounding, between) = (distance(&emulated, &exact), distance(&stored, &emulated));
    assert!(
        rounding > 2e-4 && between < 0.2 * rounding,
        "{between:.1e} between the devices, {rounding:.1e} from f32"
    );
}

/// Through all layers such differences grow to the size of the rounding errors; more would be a
/// bug.
#[test]
fn networks_in_half_precision_are_as_far_from_f32_as_11_bits_allow() {
    let exact = computed(&Device::flex(), Precision::F32, 1);
    let emulated = computed(&Device::flex(), Precision::F16, 1);
    let stored = computed(&common::wgpu(), Precision::F16, 1);
    let other = computed(&Device::flex(), Precision::F16, 2);
    for (i, (what, most)) in
        [("z", 5e-3), ("the prediction", 5e-3), ("the gradients", 5e-2)].into_iter().enumerate()
    {
        let between = distance(&stored[i], &emulated[i]);
        for rounding in [distance(&emulated[i], &exact[i]), distance(&stored[i], &exact[i])] {
            assert!(
                (1e-4..most).contains(&rounding),
                "{what}: half precision is {rounding:.1e} from f32"
            );
            assert!(
                between < 1.5 * rounding,
                "{what}: {between:.1e} between the devices, {rounding:.1e} from f32"
            );
        }
        assert!(
            distance(&other[i], &emulated[i]) > 10.0 * most,
            "{what} of other weights would pass"
        );
    }
}

#[test]
fn feature_maps_are_f16_where_the_adapter_stores_them_and_gradients_have_their_inputs_type() {
    let device = common::wgpu().autodiff();
    let x = normal([2, 8, 8, 8], 0, &device).require_grad();
    let weight = normal([16, 8, 3, 3], 1, &device).require_grad();
    let run =
        |x: &Tensor<4>| conv2d(x.clone(), weight.clone(), None, None, Conv2dOptions::same(3, 1));
    let y = autocast(Precision::F16, || run(&x));
    assert_eq!(y.dtype(), DType::F16);
    assert_eq!(run(&x).dtype(), DType::F32, "nothing is cast outside autocast");
    let gradients = y.cast(FloatDType::F32).square().sum().backward();
    assert_eq!(x.grad(&gradients).expect("tracked").dtype(), DType::F32);
    assert_eq!(weight.grad(&gradients).expect("tracked").dtype(), DType::F32);
}

/// A value written as f16 becomes one of its two neighbours in f16; WGSL lets the driver choose
/// which.
#[test]
fn feature_maps_hold_one_of_the_two_neighbours_in_f16() {
    let x = |device: &Device| normal([2, 4, 8, 8], 0, device);
    let identity = |device: &Device| Tensor::<2>::eye(4, device).reshape([4, 4, 1, 1]);
    let stored = |device: &Device| {
        let y = autocast(Precision::F16, || {
            conv2d(x(device), identity(device), None, None, Conv2dOptions::same(1, 1))
        });
        host(y.cast(FloatDType::F32))
    };
    let exact = host(x(&Device::flex()));
    let (nearest, vulkan) = (stored(&Device::flex()), stored(&common::wgpu()));
    for ((exact, nearest), vulkan) in exact.iter().zip(&nearest).zip(&vulkan) {
        // 11 bits.
        assert!((nearest - exact).abs() <= exact.abs() * 0.000_489, "{exact} became {nearest}");
        assert!((vulkan - exact).abs() <= exact.abs() * 0.000_978, "{exact} became {vulkan}");
    }
    assert_ne!(exact, nearest);
}

/// Returns weights, EMA and moments.
fn tensors(state: &State) -> Vec<f32> {
    let networks = [state.model.valid(), state.ema.model()];
    let networks = networks
        .iter()
        .flat_map(parameters::collect)
        .filter(|t| !parameters::is_statistic(&t.name))
        .map(|t| t.values);
    let mut moments: Vec<_> = state.optim.moments.iter().collect();
    moments.sort_by_key(|(name, _)| (*name).clone());
    let moments = moments.into_iter().flat_map(|(_, m)| [m.first.clone(), m.second.clone()]);
    networks.chain(moments).flat_map(host).collect()
}

/// Takes the second step of mixed training with a loss scale of `scale` that has survived seven
/// steps. Returns the tensors before and after the step, the state of the loss scaling after it,
/// and the norm of its gradients.
fn second_step(scale: f32, device: &Device) -> ([Vec<f32>; 2], Vec<f32>, f32) {
    let config = config(&["train.precision=mixed", "train.warmup_steps=1"]);
    let schedule = Schedule::new(&config.diffusion);
    let take = |state: State, number: u64| {
        let images =
            |stream| rng::normal(&mut rng::stream(5, Purpose::Test, stream), 4 * 3 * 32 * 32);
        let pair = Pair::new(
            config.model.sides,
            images(number),
            images(10 + number),
            None,
            &device.clone().autodiff(),
        );
        step(state, pair, &schedule, &config, number, 1e-3)
    };
    let (mut state, _) = take(State::new(&config, "", device), 1);
    let before = tensors(&state);
    state.optim.loss_scale = Some(Tensor::from_floats([scale, 7.0, 0.0, 0.0], device));
    let (state, outcome) = take(state, 2);
    let scaling = host(outcome.loss_scale.expect("mixed precision has a scale"));
    ([before, tensors(&state)], scaling, host(outcome.grad_norm)[0])
}

#[test]
fn a_step_whose_gradients_overflow_changes_nothing_but_the_scale() {
    for device in [Device::flex(), common::wgpu()] {
        let ([before, after], scaling, norm) = second_step(1024.0, &device);
        assert_eq!(scaling, [1024.0, 8.0, 0.0, 0.0]);
        assert!(norm.is_finite() && norm > 0.0, "{norm}");
        let moved = distance(&after, &before);
        assert!(moved > 1e-4, "{moved}");

        // The scale is divided out again: a power of two changes the rounding only for f16's
        // subnormal values, below 6e-5.
        let ([_, twice], _, twice_norm) = second_step(2048.0, &device);
        assert!((norm - twice_norm).abs() < 1e-2 * norm, "{norm} {twice_norm}");
        assert!(distance(&twice, &after) < 0.1 * moved);

        let ([before, after], scaling, norm) = second_step(1e34, &device);
        assert!(!norm.is_finite());
        assert_eq!(scaling, [5e33, 0.0, 1.0, 1.0]);
        assert!(before.iter().all(|v| v.is_finite()) && before == after, "the step isn't skipped");
    }
}
