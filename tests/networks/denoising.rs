//! The loss of a training step: noise levels, samples, weights and the prediction, each against its
//! formula.

use crate::common::assert_close;
use crate::common::program::TINY;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use soda::config::Config;
use soda::diffusion::Schedule;
use soda::diffusion::forward::draw_levels;
use soda::rng::{self, Purpose};
use soda::train::checkpoint::State;
use soda::train::masking::draw_masks;
use soda::train::step::{Pair, step};

const BATCH: usize = 6;
const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;
const STEP: u64 = 5;

fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> =
        TINY.iter().chain(&["model.unet.dropout=0"]).chain(sets).map(|s| (*s).to_owned()).collect();
    Config::parse(include_str!("../../configs/quick.toml"), "configs/quick.toml", &sets)
        .expect("a valid recipe")
}

/// Returns random images in [-1, 1].
fn images(index: u64, n: usize) -> Vec<f32> {
    rng::normal(&mut rng::stream(1, Purpose::Test, index), n * IMAGE)
        .into_iter()
        .map(|v| (0.5 * v).clamp(-1.0, 1.0))
        .collect()
}

/// Returns the loss and the gradient norm of one step on a source and a target for each image.
fn stepped(config: &Config, source: Vec<f32>, target: Vec<f32>) -> Vec<f32> {
    let device = Device::flex();
    let pair = Pair::new(config.model.sides, source, target, None, &device.clone().autodiff());
    let (state, outcome) = step(
        State::new(config, "", &device),
        pair,
        &Schedule::new(&config.diffusion),
        config,
        STEP,
        1e-3,
    );
    // Each image counts once, however often it is noised.
    assert_eq!(state.position.images as usize, BATCH);
    let found: Vec<f32> = [outcome.loss, outcome.grad_norm].map(|t| t.into_scalar::<f32>()).into();
    assert!(found.iter().all(|v| v.is_finite() && *v > 0.0));
    found
}

/// Computes the loss of [`stepped`] by the paper's formula, image by image in f64, with `weight` as
/// a function of alpha_bar.
fn expected(config: &Config, source: &[f32], target: &[f32], weight: impl Fn(f64) -> f64) -> f32 {
    let (device, draws) = (Device::flex(), config.train.denoisings);
    // As in training, BatchNorm uses the batch's statistics.
    let state = State::new(config, "", &device);
    let schedule = Schedule::new(&config.diffusion);
    let [mut masks, mut times, mut noise, mut key] =
        [Purpose::Masks, Purpose::Time, Purpose::Noise, Purpose::Dropout]
            .map(|purpose| rng::stream(config.seed, purpose, STEP));
    let levels = draw_levels(&schedule, [BATCH, draws], config.train.stratified_t, &mut times);
    let mask = draw_masks(BATCH * draws, config, &mut masks)
        .tensor(&device)
        .into_data()
        .try_to_vec::<f32>()
        .expect("f32");
    let width = mask.len() / (BATCH * draws);
    let autodiff = device.clone().autodiff();
    let x_source =
        Tensor::<4>::from_data(TensorData::new(source.to_vec(), [BATCH, 3, SIDE, SIDE]), &autodiff);
    let z = state.model.encode(x_source).inner();
    let (key, denoiser) = (key.random(), state.model.valid());
    let mut sum = 0.0;
    for (i, level) in levels.iter().enumerate() {
        let image = i / draws;
        let (x_0, eps) = (&target[image * IMAGE..][..IMAGE], rng::normal(&mut noise, IMAGE));
        let (signal, sigma) =
            (level.alpha_bar.sqrt() as f32, (1.0 - level.alpha_bar).sqrt() as f32);
        let x_t: Vec<f32> = x_0.iter().zip(&eps).map(|(x, e)| signal * x + sigma * e).collect();
        let v = config.diffusion.prediction == soda::config::Prediction::V;
        let output = denoiser.predict(
            Tensor::from_data(TensorData::new(x_t, [1, 3, SIDE, SIDE]), &device),
            Tensor::from_data(TensorData::new(vec![level.time], [1]), &device),
            z.clone().narrow(0, image, 1),
            Tensor::from_data(
                TensorData::new(mask[i * width..][..width].to_vec(), [1, width]),
                &device,
            ),
            None,
            Some(key),
        );
        let output = output.into_data().try_to_vec::<f32>().expect("f32");
        let wanted = x_0.iter().zip(&eps).map(|(x, e)| if v { signal * e - sigma * x } else { *e });
        let squares: f64 = output.iter().zip(wanted).map(|(o, w)| f64::from(o - w).powi(2)).sum();
        sum += weight(level.alpha_bar) * squares / IMAGE as f64;
    }
    (sum / levels.len() as f64) as f32
}

#[test]
fn the_loss_is_the_weighted_mean_over_images_and_samples_of_the_prediction_error() {
    let (source, target) = (images(0, BATCH), images(1, BATCH));
    // Means over t = 1..=1000 of the inverted cosine; 1 - alpha_bar is symmetric about one half.
    let schedule = Schedule::new(&config(&[]).diffusion);
    let mean =
        |f: &dyn Fn(f64) -> f64| (1..=1000).map(|t| f(schedule.alpha_bar(t))).sum::<f64>() / 1000.0;
    let min_snr = |a: f64| (5.0 * (1.0 - a) / a).min(1.0);
    let v = ["diffusion.prediction=v", "diffusion.levels=continuous"];
    type Weight<'a> = Box<dyn Fn(f64) -> f64 + 'a>;
    let cases: [(Vec<&str>, Weight); 6] = [
        (vec![], Box::new(|_| 1.0)),
        (
            vec!["train.loss_weight=one_minus_alpha_bar"],
            Box::new(|a| (1.0 - a) / mean(&|a| 1.0 - a)),
        ),
        (vec!["train.loss_weight=min_snr"], Box::new(|a| min_snr(a) / mean(&min_snr))),
        (vec!["train.denoisings=3", "train.stratified_t=true"], Box::new(|_| 1.0)),
        (v.to_vec(), Box::new(|_| 1.0)),
        (
            [&v[..], &["train.loss_weight=min_snr"]].concat(),
            Box::new(|a| a.min(5.0 * (1.0 - a)) / mean(&|a| a.min(5.0 * (1.0 - a)))),
        ),
    ];
    let mut all = Vec::new();
    for (sets, weight) in &cases {
        let config = config(sets);
        let found = stepped(&config, source.clone(), target.clone())[0];
        // Sums of 3,072 squares in f32. For v, the mean over continuous levels is taken at other
        // levels than those of t.
        let tolerance = if sets.len() > 2 { 2e-3 } else { 1e-4 };
        assert_close(
            &format!("{sets:?}"),
            &[found],
            &[expected(&config, &source, &target, weight)],
            tolerance,
            0.0,
        );
        let wrong = expected(&config, &source, &target, |a| weight(a) * (1.0 + 0.02 * a));
        assert!((found / wrong - 1.0).abs() > tolerance, "{sets:?}: other weights would pass");
        all.push(found);
    }
    assert!(
        all.iter().enumerate().all(|(i, one)| all[..i].iter().all(|other| one != other)),
        "{all:?}"
    );
}

#[test]
fn two_denoisings_of_an_image_equal_that_image_twice_in_the_batch() {
    let twice = |images: &[f32]| {
        images.chunks(IMAGE).flat_map(|image| [image, image].concat()).collect::<Vec<f32>>()
    };
    let (source, target) = (images(0, BATCH), images(1, BATCH));
    let (half_source, half_target) = (&source[..3 * IMAGE], &target[..3 * IMAGE]);
    // The means and variances of BatchNorm are the same.
    let whole = stepped(&config(&["train.denoisings=1"]), twice(half_source), twice(half_target));
    let device = Device::flex();
    let two = |sets: &[&str], source: &[f32]| {
        let config = config(sets);
        let pair = Pair::new(
            config.model.sides,
            source.to_vec(),
            half_target.to_vec(),
            None,
            &device.clone().autodiff(),
        );
        let (state, outcome) = step(
            State::new(&config, "", &device),
            pair,
            &Schedule::new(&config.diffusion),
            &config,
            STEP,
            1e-3,
        );
        assert_eq!(state.position.images, 3);
        [outcome.loss, outcome.grad_norm].map(|t| t.into_scalar::<f32>())
    };
    assert_close("loss and norm", &two(&["train.denoisings=2"], half_source), &whole, 1e-4, 0.0);
    let other = two(&["train.denoisings=2"], &source[3 * IMAGE..]);
    assert!(crate::common::error(&other, &whole, 1e-4, 0.0) > 1.0, "z of other images would pass");
    let one = two(&["train.denoisings=1"], half_source);
    assert!(crate::common::error(&one, &whole, 1e-4, 0.0) > 1.0, "a single denoising would pass");
}
