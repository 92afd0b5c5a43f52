//! View conditioning: a denoiser that knows where its image lies in the encoder's draws that part.

use crate::update;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use soda::config::{Config, SampleConfig};
use soda::data::Images;
use soda::data::crop::{Geometry, Window, resized_crop};
use soda::data::loader::Loader;
use soda::data::views::plain_source;
use soda::edit::generator::{Generator, signed};
use soda::edit::linear_decoder::fit_to;
use soda::eval::psnr_ssim::psnr;
use soda::model::Soda;
use soda::rng::{self, Purpose};
use soda::train::ema::Ema;
use soda::train::optim::{AdamW, collect_gradients};
use std::sync::Arc;

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;

fn config() -> Config {
    let overrides = [
        "data.views=conditioned",
        "model.unet.view_conditioning=true",
        "data.source.crop=0",
        "model.z_dim=8",
        "model.encoder.base=4",
        "model.unet.base=16",
        "model.unet.multipliers=[1,2]",
    ];
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    Config::parse(include_str!("../../configs/quick.toml"), "quick", &overrides)
        .expect("a valid recipe")
}

/// Returns `n` copies of one image: 4 x 4 blocks of random colours.
fn pattern(n: usize) -> Images {
    let mut stream = rng::stream(2, Purpose::Test, 0);
    let blocks: [u8; 48] = std::array::from_fn(|_| if stream.random::<bool>() { 230 } else { 25 });
    let image = |i| blocks[16 * (i / 1024) + i % 1024 / 32 / 8 * 4 + i % 32 / 8];
    Images::new(SIDE, (0..n * IMAGE).map(|i| image(i % IMAGE)).collect(), vec![0; n])
}

fn images(values: Vec<f32>, n: usize, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, [n, 3, 32, 32]), device)
}

fn noise(n: usize, index: u64) -> Vec<f32> {
    rng::normal(&mut rng::stream(3, Purpose::Test, index), n * IMAGE)
}

/// The network sees only noise, the z of an image that never changes, and the view, so it can infer
/// the target view only from the view's position. (With x_t in place of noise it would read most of
/// such a simple image from x_t, and take hours to learn the rest.)
#[test]
fn another_box_gives_the_matching_crop() {
    let (config, device) = (config(), Device::flex());
    let autodiff = device.clone().autodiff();
    let mut model = Soda::new(&config.model, 1, &autodiff);
    let (mut ema, mut optim) = (Ema::new(&model, 0), AdamW::default());
    let n = 16;
    let mut batches =
        Loader::new(Arc::new(pattern(64)), config.data.clone(), n, 1, 0).expect("starts");
    let inputs = |index: u64, device: &Device| {
        let t = Tensor::<1>::ones([n], device);
        (images(noise(n, index), n, device), t, Tensor::<2>::ones([n, 1], device))
    };
    for number in 0..150 {
        let batch = batches.next().expect("a batch");
        let view = Tensor::<2>::from_data(TensorData::new(batch.geometry, [n, 4]), &autodiff);
        let (x, t, mask) = inputs(number, &autodiff);
        let z = model.encode(images(batch.source, n, &autodiff));
        let drawn = model.predict(x, t, z, mask, Some(view), None);
        let loss = (drawn - images(batch.target, n, &autodiff)).square().mean();
        let lr = 2e-3 * ((number + 1) as f64 / 20.0).min(1.0);
        let grads = collect_gradients(&model, &loss.backward());
        (model, _) = update(&mut optim, lr, model, grads, &mut ema, &config.train);
    }

    let model = model.valid();
    let mut source = vec![0.0; n * IMAGE];
    plain_source(&pattern(n), &(0..n).collect::<Vec<_>>(), &config.data, false, &mut source)
        .unwrap();
    let source = images(source, n, &device);
    let window = |top, left| Window { top, left, height: 16, width: 16 };
    let corners = [(0, 0), (0, 16), (16, 0), (16, 16)];
    let views: Vec<Geometry> = corners
        .iter()
        .flat_map(|&(top, left)| {
            [false, true].map(|flip| Geometry { window: window(top, left), flip })
        })
        .collect();
    let crop = |view: &Geometry| {
        let pixels = resized_crop(&pattern(1).image(0).unwrap(), view.window, view.flip, SIDE);
        signed(&Images::new(SIDE, pixels.repeat(n), vec![0; n]), SIDE).unwrap()
    };
    for (i, view) in views.iter().enumerate() {
        let geometry = view.within(&Geometry::plain(SIDE)).repeat(n);
        let (x, t, mask) = inputs(1000, &device);
        let view = Tensor::<2>::from_data(TensorData::new(geometry, [n, 4]), &device);
        let drawn = model.predict(x, t, model.encode(source.clone()), mask, Some(view), None);
        let drawn = drawn.clamp(-1.0, 1.0).into_data().try_to_vec::<f32>().expect("f32");
        assert!(drawn.iter().all(|v| v.is_finite()));
        let scores: Vec<f64> = views.iter().map(|other| psnr(&drawn, &crop(other))).collect();
        for (j, score) in scores.iter().enumerate() {
            assert!(i == j || scores[i] > score + 3.0, "view {i}: {scores:.1?}");
        }
    }
}

#[test]
fn no_view_means_the_source_view_and_sampling_follows_the_view() {
    let (config, device) = (config(), Device::flex());
    let model = Soda::new(&config.model, 1, &device);
    let mut sample = config.sample.clone();
    sample.steps = 2;
    let decoder = Generator::new(&model, &config, sample, &device);
    let z = decoder.encode(&pattern(2)).expect("z");
    let draw = |view: Option<[f32; 4]>| {
        let view = view.map(|v| v.repeat(2));
        decoder.decode(&z, &decoder.noise(2, 1), view.as_deref(), 1).expect("draws")
    };
    let plain = draw(None);
    assert!(plain.iter().all(|v| v.is_finite()));
    assert_eq!(plain, draw(Some([1.0, 0.0, 1.0, 0.0])));
    assert_ne!(plain, draw(Some([-1.0, 0.0, 1.0, 0.0])));
    assert_ne!(plain, draw(Some([1.0, 0.0, 0.5, 0.5])));
    // So does the image that sampling starts from.
    let mut stream = rng::stream(2, Purpose::Test, 1);
    let others = Images::new(SIDE, (0..40 * IMAGE).map(|_| stream.random()).collect(), vec![0; 40]);
    let linear = fit_to(&model, &others, 40, &config, &device).expect("a fit");
    let sample = SampleConfig { start: 0.1, ..decoder.sample.clone() };
    let decoder = Generator::new(&model, &config, sample, &device);
    let noise = vec![0.0; 2 * IMAGE];
    let from_noise = decoder.decode(&z, &noise, None, 1).expect("draws");
    let decoder = decoder.beginning_with(Some(Arc::new(linear)));
    let from_picture =
        |view: [f32; 4]| decoder.decode(&z, &noise, Some(&view.repeat(2)), 1).expect("draws");
    let whole = from_picture([1.0, 0.0, 1.0, 0.0]);
    assert_ne!(whole, from_noise);
    assert_ne!(whole, from_picture([-1.0, 0.0, 1.0, 0.0]));
    // Each seed starts from a different image for the same z.
    let varied = |seed| decoder.clone().varied().decode(&z, &noise, None, seed).expect("draws");
    assert!(varied(1) != whole && varied(1) != varied(2) && varied(1) == varied(1));
}
