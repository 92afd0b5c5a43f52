//! How z conditions the denoiser: layer modulation and layer masking.

use crate::common;
use burn::tensor::{Device, Tensor, TensorData};
use soda::config::Config;
use soda::edit::mix::by_stage;
use soda::model::Soda;
use soda::rng::{self, Purpose};
use soda::train::masking::draw_masks;
use soda::train::optim::collect_gradients;
use std::collections::BTreeSet;

/// Returns configs/quick.toml with smaller networks.
fn config(overrides: &[&str]) -> Config {
    let small = [
        "model.encoder.base=4",
        "model.unet.base=8",
        "model.unet.groups=2",
        "model.unet.final_groups=2",
    ];
    let overrides: Vec<String> = small.iter().chain(overrides).map(|s| (*s).to_owned()).collect();
    Config::parse(include_str!("../../configs/quick.toml"), "configs/quick.toml", &overrides)
        .expect("a valid recipe")
}

fn lengths(config: &Config) -> Vec<usize> {
    config.model.sections().iter().map(|s| s.len()).collect()
}

#[test]
fn z_is_cut_into_sections_as_equal_as_possible() {
    assert_eq!(lengths(&config(&["model.unet.layer_modulation=true"])), [26, 26, 26, 25, 25]);
    assert_eq!(
        lengths(&config(&["model.unet.layer_modulation=false", "train.layer_mask=0"])),
        [128]
    );
    assert_eq!(lengths(&config(&["model.z_dim=7"])), [2, 2, 1, 1, 1]);
    let sections = config(&[]).model.sections();
    assert!(
        sections.windows(2).all(|s| s[0].end == s[1].start) && sections[4].end == 128,
        "{sections:?}"
    );
    let message = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
        Config::parse(include_str!("../../configs/quick.toml"), "quick", &overrides)
            .unwrap_err()
            .to_string()
    };
    assert!(message(&["model.z_dim=4"]).contains("splits z into 5 sections"));
    assert!(
        message(&["model.unet.layer_modulation=false"]).contains("there are no sections to mask")
    );
    assert!(message(&["data.views=conditioned"]).contains("set both or neither"));
    assert!(message(&["sample.guidance=[1.0, 2.0]"]).contains("z has 5 sections"));
}

/// Returns the blocks that z reaches if only `nonzero` of it isn't zero: those whose layer from z
/// has a gradient.
fn reached(config: &Config, nonzero: std::ops::Range<usize>, device: &Device) -> BTreeSet<String> {
    let width = config.model.mixable().last().expect("a section").end;
    let device = device.clone().autodiff();
    let model = Soda::new(&config.model, 1, &device);
    let random = |index: u64, shape: [usize; 4]| {
        let values = rng::normal(&mut rng::stream(1, Purpose::Test, index), shape.iter().product());
        Tensor::<4>::from_data(TensorData::new(values, shape), &device)
    };
    let z: Vec<f32> = (0..width).map(|i| if nonzero.contains(&i) { 1.0 } else { 0.0 }).collect();
    let z = Tensor::<2>::from_data(TensorData::new(z, [1, width]), &device).expand([2, width]);
    let (t, mask) = (Tensor::full([2], 0.5, &device), Tensor::ones([2, 1], &device));
    let eps = model.predict(random(0, [2, 3, 32, 32]), t, z, mask, None, None);
    let gradients = collect_gradients(&model, &(eps * random(1, [2, 3, 32, 32])).sum().backward());
    let mut blocks = BTreeSet::new();
    for (name, gradient) in gradients {
        let Some(block) = name.strip_prefix("unet.").and_then(|n| n.strip_suffix(".z.weight"))
        else {
            continue;
        };
        let values = gradient.into_data().try_to_vec::<f32>().expect("f32");
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
        if values.iter().any(|v| *v != 0.0) {
            blocks.insert(block.to_owned());
        }
    }
    blocks
}

fn each_section_reaches_its_layers(config: &Config, device: &Device) {
    let names = |stage: usize| {
        // Each stage has one block down and two up; the up path starts at the coarsest stage.
        let up = [0, 1].map(|i| format!("up.{}.block", 2 * (3 - stage) + i));
        up.into_iter().chain([format!("down.{stage}.block")]).collect::<BTreeSet<_>>()
    };
    let sections = config.model.mixable();
    for (stage, section) in sections[..4].iter().enumerate() {
        assert_eq!(reached(config, section.clone(), device), names(stage), "section {stage}");
    }
    let middle = ["middle1", "middle2"].map(str::to_owned);
    assert_eq!(reached(config, sections[4].clone(), device), middle.into_iter().collect());
}

#[test]
fn each_section_reaches_exactly_its_layers() {
    each_section_reaches_its_layers(&config(&[]), &Device::flex());
    // Without sections every stage can have its own z.
    let whole = config(&["model.unet.layer_modulation=false", "train.layer_mask=0"]);
    each_section_reaches_its_layers(&whole, &Device::flex());
    assert!(reached(&whole, 0..0, &Device::flex()).is_empty());
}

#[test]
fn the_same_z_for_every_stage_is_that_z() {
    let (config, device) =
        (config(&["model.unet.layer_modulation=false", "train.layer_mask=0"]), Device::flex());
    let model = Soda::new(&config.model, 1, &device);
    let normal = |index, n| rng::normal(&mut rng::stream(1, Purpose::Test, index), n);
    let x = Tensor::<4>::from_data(
        TensorData::new(normal(0, 2 * 3 * 32 * 32), [2, 3, 32, 32]),
        &device,
    );
    let predict = |z: &[f32]| {
        let z = Tensor::<2>::from_data(TensorData::new(z.to_vec(), [2, z.len() / 2]), &device);
        let eps = model.predict(
            x.clone(),
            Tensor::full([2], 0.5, &device),
            z,
            Tensor::ones([2, 1], &device),
            None,
            None,
        );
        eps.into_data().try_to_vec::<f32>().expect("f32")
    };
    let z = normal(1, 2 * 128);
    let mut wide = by_stage(&z, 128, 5);
    assert_eq!(predict(&wide), predict(&z));
    // Negative control: another z in one of the stages.
    wide[3] += 1.0;
    assert_ne!(predict(&wide), predict(&z));
}

#[test]
fn each_section_reaches_exactly_its_layers_on_the_graphics_adapter() {
    each_section_reaches_its_layers(&config(&[]), &common::wgpu());
}

#[test]
fn masks_have_the_stated_statistics() {
    let n = 20_000;
    let rows = |config: &Config| {
        let mask =
            draw_masks(n, config, &mut rng::stream(1, Purpose::Masks, 1)).tensor(&Device::flex());
        let width = mask.dims()[1];
        let values = mask.into_data().try_to_vec::<f32>().expect("f32");
        assert!(values.iter().all(|v| *v == 0.0 || *v == 1.0));
        (width, values)
    };
    let config_ = config(&["train.z_drop=0.1", "train.layer_mask=0.2"]);
    let (width, values) = rows(&config_);
    assert_eq!(width, 128);
    let sections = config_.model.sections();
    let share = |predicate: &dyn Fn(&[bool]) -> bool| {
        let kept = |row: &[f32]| sections.iter().map(|s| row[s.start] == 1.0).collect::<Vec<_>>();
        values.chunks(width).filter(|row| predicate(&kept(row))).count() as f64 / n as f64
    };
    for row in values.chunks(width) {
        assert!(
            sections.iter().all(|s| row[s.clone()].iter().all(|v| *v == row[s.start])),
            "a section is masked as a whole"
        );
    }
    // Five standard errors of a share of 20,000 images are at most 0.018.
    let near = |got: f64, want: f64| assert!((got - want).abs() < 0.018, "{got}, not {want}");
    near(share(&|kept| kept[0]), 0.9 * 0.8);
    near(share(&|kept| kept[4]), 0.9 * 0.8);
    near(share(&|kept| kept[1] && kept[3]), 0.9 * 0.8 * 0.8);
    near(share(&|kept| kept.iter().all(|k| !k)), 0.1 + 0.9 * 0.2f64.powi(5));
    // Sections are dropped independently, but an image's whole z at once, so this isn't the product
    // of the single rates.
    assert!((share(&|kept| !kept[0] && !kept[1]) - 0.28f64.powi(2)).abs() > 0.03);

    let (width, values) = rows(&config(&["train.z_drop=0.1", "train.layer_mask=0"]));
    assert_eq!(width, 1);
    near(values.iter().filter(|v| **v == 0.0).count() as f64 / n as f64, 0.1);
}
