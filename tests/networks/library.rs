//! What programs of one's own do with the library: change a recipe, bring images in memory, look at
//! networks that are being trained, end a run.

use crate::training::{cpu, data, tiny};
use burn::module::Module;
use burn::tensor::Device;
use soda::config::SampleConfig;
use soda::data::{Dataset, Images, bytes_of};
use soda::edit::generator::Generator;
use soda::error::Error;
use soda::eval::features::{FeatureKind, Frozen, calibrate, encode};
use soda::model::weights::WeightsFile;
use soda::model::{Soda, parameters};
use soda::rng;
use soda::run_dir::RunDir;
use soda::train::run::{Options, train};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Returns all values of the networks, BatchNorm's statistics included.
fn values(model: &Soda) -> Vec<f32> {
    let all = parameters::collect(&model.valid());
    all.into_iter().flat_map(|t| t.values.to_data().try_to_vec::<f32>().expect("f32")).collect()
}

#[test]
fn networks_in_training_are_evaluated_as_they_are_after_it() {
    let config = tiny(&["model.unet.dropout=0.5"]);
    let device = Device::flex();
    let training = Soda::new(&config.model, 1, &device.clone().autodiff());
    let (before, images) = (values(&training), data().test);
    let z = |model: &Soda, indices: &[usize]| {
        encode(model, &images, indices, &config.data, false, &device).expect("z").values
    };
    // Sums over a batch of another size are rounded otherwise.
    let largest = |a: &[f32], b: &[f32]| {
        assert!(a.iter().chain(b).all(|v| v.is_finite()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let (alone, among) = (z(&training, &[0]), z(&training, &[0, 1, 2, 3]));
    assert!(largest(&alone, &among) < 1e-5, "z depends on its neighbours: {alone:?}, {among:?}");
    assert_eq!(values(&training), before, "a look at z changed the networks");
    // Negative control: in training, z does depend on them.
    let x = burn::tensor::Tensor::<4>::random(
        [4, 3, 32, 32],
        burn::tensor::Distribution::Default,
        &device.clone().autodiff(),
    );
    let in_training = |n| {
        training
            .encode(x.clone().narrow(0, 0, n))
            .narrow(0, 0, 1)
            .into_data()
            .try_to_vec::<f32>()
            .expect("f32")
    };
    assert!(largest(&in_training(1), &in_training(4)) > 1e-3);

    let sample = SampleConfig { steps: 2, ..config.sample.clone() };
    let draw = |model: &Soda| {
        Generator::new(model, &config, sample.clone(), &device).draw(&alone, 3).expect("an image")
    };
    assert_eq!(draw(&training), draw(&training.valid()), "dropout is on");
}

#[test]
fn a_recipe_that_a_program_changed_is_checked_and_its_networks_follow_the_views() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("run"));
    let mut config = tiny(&["train.steps=1"]);
    config.data.side = 64;
    let data = data().at(64).expect("resampled");
    train(&config, &data, &cpu(), &run, &Options::default()).expect("trains");
    let weights = WeightsFile::open(&run.weights().expect("weights")).expect("readable");
    assert_eq!(weights.config.model.sides.source, 64);
    assert_eq!(
        run.read_metrics().expect("metrics").rows[0].images as usize,
        config.train.batch_size
    );

    config.train.log_every = 0;
    let other = RunDir::new(folder.path().join("other"));
    let refused = train(&config, &data, &cpu(), &other, &Options::default()).unwrap_err();
    assert!(refused.to_string().starts_with("the recipe: train.log_every = 0"), "{refused}");
    assert!(matches!(refused, Error::Usage(_)) && !other.path.exists());
}

#[test]
fn a_program_ends_a_run_by_a_rule_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("run"));
    let config = tiny(&["train.steps=6", "train.log_every=1"]);
    let enough = |row: &soda::run_dir::Row| match row.step {
        2.. => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let options = Options { on_row: Some(Arc::new(enough)), ..Options::default() };
    let summary = train(&config, &data(), &cpu(), &run, &options).expect("trains");
    assert_eq!((summary.steps, summary.interrupted), (3, false), "the step after the rule ends it");
    assert_eq!(run.checkpoints().last(), Some(&3));
    let whole = RunDir::new(folder.path().join("whole"));
    let summary = train(&config, &data(), &cpu(), &whole, &Options::default()).expect("trains");
    assert_eq!(summary.steps, 6);
}

#[test]
fn images_in_memory_are_a_data_set_with_a_checksum() {
    let images = |first: u8, label: u16| {
        let mut pixels: Vec<u8> =
            (0..8 * bytes_of(32)).map(|i| (rng::mix(i as u64) % 256) as u8).collect();
        pixels[0] = first;
        Images::new(32, pixels, (0..8).map(|i| i % 2 * label).collect())
    };
    let classes = || vec!["a".to_owned(), "b".to_owned()];
    let of = |first| Dataset::new("mine", images(first, 1), images(0, 1), classes()).expect("good");
    assert_eq!(of(1).sha256, of(1).sha256);
    assert_ne!(of(1).sha256, of(2).sha256);
    let refused = |train, classes| {
        Dataset::new("mine", train, images(0, 0), classes).unwrap_err().to_string()
    };
    let label = refused(images(1, 2), classes());
    assert!(label.contains("an image has the label 2, and there are 2 classes"), "{label}");
    let label = refused(images(1, 1), Vec::new());
    assert!(label.contains("an image has the label 1"), "{label}");
    let other_side = refused(Images::new(16, vec![0; bytes_of(16)], vec![0]), Vec::new());
    assert!(other_side.contains("have 16 pixels a side and the test images 32"), "{other_side}");

    // A run takes them, and doesn't resume on others.
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("run"));
    let config = tiny(&["train.steps=1", "train.batch_size=4"]);
    train(&config, &of(1), &cpu(), &run, &Options::default()).expect("trains");
    let resume = Options { resume: true, ..Options::default() };
    let refused = train(&config, &of(2), &cpu(), &run, &resume).unwrap_err().to_string();
    assert!(refused.contains("was trained on other data"), "{refused}");
}

#[test]
fn cached_features_of_another_selection_of_the_same_data_are_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, device, data) = (tiny(&[]), Device::flex(), data());
    let model = Soda::new(&config.model, 1, &device);
    let of = |rows: &[usize]| {
        let fold = Dataset { train: Arc::new(data.train.select(rows)), ..data.clone() };
        Frozen::new(&model, &config, &fold, &device)
            .kept(Some(folder.path().to_owned()), "weights", "cpu")
            .train(&FeatureKind::Z, false)
            .expect("features")
    };
    let (even, odd) = (of(&[0, 2, 4]), of(&[1, 3, 5]));
    assert_ne!(even.values, odd.values);
    assert_eq!(odd.labels, [1, 3, 5].map(|i| data.train.label(i)));
    // Negative control: the same selection is taken from the cache.
    let kept = || std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!((of(&[0, 2, 4]).values, kept()), (even.values, 2));
}

/// Data sets end with the images of their largest class, which calibration mustn't prefer.
#[test]
fn calibration_weighs_classes_by_their_images() {
    let (few, many) = (640, 8320);
    let shade = |i: usize| if i < 2 * few && i.is_multiple_of(2) { 250 } else { 5 };
    let shades: Vec<u8> = (0..few + many).map(shade).collect();
    let pixels = |shades: &[u8]| -> Vec<u8> {
        let value = |shade: u8, at: usize| shade ^ (rng::mix(at as u64) % 4) as u8;
        shades.iter().flat_map(|&s| (0..bytes_of(16)).map(move |at| value(s, at))).collect()
    };
    let config = tiny(&["data.side=16", "model.unet.multipliers=[1]"]);
    let device = Device::flex();
    let calibrated = |shades: &[u8]| {
        let images = Images::new(16, pixels(shades), vec![0; shades.len()]);
        let indices: Vec<usize> = (0..images.len()).collect();
        let model = Soda::new(&config.model, 1, &device);
        let model = calibrate(model, &images, &indices, &config.data, &device).expect("calibrated");
        parameters::collect(&model)
            .into_iter()
            .find(|t| t.name.ends_with("running_mean"))
            .expect("statistics")
            .values
            .to_data()
            .try_to_vec::<f32>()
            .expect("f32")
    };
    let mixed: Vec<u8> = (0..shades.len()).map(|i| shades[i * 37 % shades.len()]).collect();
    let distance = |a: &[f32], b: &[f32]| {
        let size = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
        size(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>()) / size(b)
    };
    let (ordered, mixed, largest) =
        (calibrated(&shades), calibrated(&mixed), calibrated(&shades[2 * few..]));
    // 7 % of the images are bright; a batch of 128 has 9 of them, give or take 3.
    let (found, control) = (distance(&ordered, &mixed), distance(&largest, &mixed));
    assert!(found.is_finite() && control > 2.0 * found, "{found} and, without the few, {control}");
}
