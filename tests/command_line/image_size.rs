//! Images of other sides than 32: every command with them, what recipes may set, and that 32 works
//! as before.

use crate::common::program::{fails, json, soda, succeeds, text, train};
use burn::tensor::{Device, Tensor, TensorData};
use soda::config::{Config, Sides, Stem};
use soda::data::crop::{Window, resized_crop};
use soda::data::views::{make_pair, plain_source};
use soda::data::{Images, bytes_of};
use soda::kernels::catalog::random;
use soda::kernels::layout::copies;
use soda::kernels::max_pool::max_pool;
use soda::kernels::testing::with_references;
use soda::kernels::{conv2d, conv2d::Conv2dOptions};
use soda::model::weights::{self, WeightsFile};
use soda::model::{Soda, parameters, shipped};
use soda::rng;
use std::collections::HashMap;
use std::path::Path;

/// Writes 120 images of either class, none of them square.
fn pictures(folder: &Path) {
    for i in 0..240u32 {
        let place = folder.join("pictures").join(if i % 2 == 0 { "a" } else { "b" });
        std::fs::create_dir_all(&place).expect("a folder");
        let pixel = |x: u32, y: u32| {
            let value =
                |salt: u32| ((x * (3 + i % 7) + y * (5 + salt) + i * 37 + salt * 90) % 256) as u8;
            image::Rgb([value(0), value(1), if i % 2 == 0 { 20 } else { 220 }])
        };
        image::RgbImage::from_fn(90, 72, pixel)
            .save(place.join(format!("{i:03}.png")))
            .expect("a PNG");
    }
}

fn metadata(path: &Path) -> HashMap<String, String> {
    let bytes = std::fs::read(path).expect("the file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
    header.metadata().clone().expect("metadata")
}

fn picture(path: &Path) -> image::RgbImage {
    image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_rgb8()
}

/// Trains two steps with `sets` on the images of a folder; returns the folder, for further
/// commands.
fn trained(sides: [usize; 3], sets: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path());
    let keys = ["data.side", "data.source.side", "data.target.side"];
    let sides: Vec<String> =
        keys.iter().zip(sides).map(|(key, side)| format!("{key}={side}")).collect();
    let mut more = vec!["--run", "run", "--data", "pictures"];
    for set in sides.iter().map(String::as_str).chain(sets.iter().copied()) {
        more.extend(["--set", set]);
    }
    let output = train(folder.path(), &more);
    succeeds(&output);
    let said = text(&output.stderr);
    assert!(!said.contains("resampled") && !said.contains("model.unet.attention"), "{said}");
    folder
}

/// Checks every command with weights of any side; `[source, target]` are the sides that the weights
/// must state.
fn commands_work(folder: &Path, side: usize, [source, target]: [usize; 2]) {
    let run = |args: &[&str]| {
        let output = soda(
            folder,
            &[args, &["--run", "run", "--data", "pictures", "--device", "cpu"]].concat(),
        );
        succeeds(&output)
    };
    let wanted = [("side", side), ("source_side", source), ("target_side", target)];
    let carries = |path: &str| {
        let found = metadata(&folder.join(path));
        for (key, side) in wanted {
            assert_eq!(found.get(key), Some(&side.to_string()), "{path}: {key}");
        }
    };
    run(&["embed", "--split", "test", "--out", "z.safetensors", "--json", "z.json"]);
    carries("z.safetensors");
    let report = json(&folder.join("z.json"));
    assert_eq!(
        (&report["n"], &report["dim"], &report["side"]),
        (&24.into(), &8.into(), &side.into())
    );
    run(&["embed", "pictures/a", "--features", "denoiser:up0.0@300", "--out", "up.npy"]);

    // Pictures show images at their own side, enlarged if they are small.
    let shown = |enlarged: usize| target * (enlarged / target).max(1);
    run(&["reconstruct", "-n", "3", "--out", "r.png", "--json", "r.json"]);
    assert_eq!(json(&folder.join("r.json"))["n"], 3);
    let height = picture(&folder.join("r.png")).height() as usize;
    assert!((2 * shown(64)..2 * shown(64) + 40).contains(&height), "{height}");
    run(&["mix", "test:0", "pictures/a/000.png", "--with", "test:1", "test:2", "--out", "m.png"]);
    let matrix = picture(&folder.join("m.png"));
    assert!(matrix.width() as usize >= 3 * shown(96) && matrix.height() as usize >= 3 * shown(96));
    run(&["sample", "-n", "4", "--components", "2", "--out", "s.png", "--json", "s.json"]);
    assert!(
        json(&folder.join("s.json"))["nearest_train"]["mean"].as_f64().is_some_and(|v| v > 0.0)
    );
    assert!(picture(&folder.join("s.png")).width() as usize >= 4 * shown(64));

    run(&["export", "--half", "--out", "half.safetensors", "--json", "half.json"]);
    carries("half.safetensors");
    let weights = WeightsFile::open(&folder.join("half.safetensors")).expect("weights");
    assert_eq!(weights.config.model.sides, Sides { source, target });
}

/// Asserts that the page about the run has all its parts.
fn report_is_whole(folder: &Path) {
    let args = [
        "report",
        "--run",
        "run",
        "--data",
        "pictures",
        "--device",
        "cpu",
        "--json",
        "report.json",
    ];
    succeeds(&soda(folder, &args));
    let html = std::fs::read_to_string(folder.join("run/report.html")).expect("the page");
    assert_eq!(json(&folder.join("report.json"))["missing"], serde_json::json!([]));
    for id in ["reconstructions", "samples", "editing", "neighbours"] {
        assert!(html.contains(&format!("<section id=\"{id}\">")), "section {id} is missing");
    }
}

#[test]
fn two_steps_and_every_command_at_40() {
    let folder = trained([40, 0, 0], &["model.unet.attention=[20]"]);
    commands_work(folder.path(), 40, [40, 40]);
    report_is_whole(folder.path());
}

#[test]
fn two_steps_and_every_command_at_64_with_torchvisions_stem() {
    let sets =
        ["model.encoder.stem=7x7", "model.unet.multipliers=[1,2,2,2]", "model.unet.attention=[16]"];
    let folder = trained([64, 0, 0], &sets);
    commands_work(folder.path(), 64, [64, 64]);
    report_is_whole(folder.path());
}

/// Checks the recipes for your own images, at every side that docs/training.md names: their
/// networks fit together, and `soda train` completes two steps of the smallest networks like them.
#[test]
fn the_recipes_for_own_images_take_96_and_128_pixels() {
    for name in ["tiny64", "folder64"] {
        for side in [64, 96, 128] {
            let set = [format!("data.side={side}")];
            let config = Config::named(Path::new(name), &set).expect("a recipe");
            // tiny64's encoder sees as many pixels as that of the shipped weights, so it can start
            // from them.
            let (stem, source) =
                if name == "tiny64" { (Stem::Conv3x3, 32) } else { (Stem::Conv7x7, side) };
            assert_eq!(
                (config.data.side, config.model.sides),
                (side, Sides { source, target: side }),
                "{name}"
            );
            assert_eq!(config.model.encoder.stem, stem, "{name}");
            // 96, 48, 24 and 12: no stage has 16 pixels.
            let unused = if name == "folder64" && side == 96 { vec![16] } else { vec![] };
            assert_eq!(config.unused_attention(), unused, "{name} at {side}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path());
    for side in ["96", "128"] {
        let side_of_data = format!("data.side={side}");
        let small = [
            &side_of_data,
            "model.z_dim=8",
            "model.encoder.base=4",
            "model.unet.base=8",
            "model.unet.groups=2",
            "model.unet.final_groups=2",
            "train.batch_size=4",
            "train.steps=2",
            "sample.start=1",
            "sample.steps=2",
        ];
        let run = format!("run{side}");
        let mut args = vec![
            "train", "--config", "tiny64", "--device", "cpu", "--data", "pictures", "--run", &run,
        ];
        small.iter().for_each(|set| args.extend(["--set", set]));
        succeeds(&soda(folder.path(), &args));
        let reconstructed = [
            "reconstruct",
            "-n",
            "1",
            "--run",
            &run,
            "--device",
            "cpu",
            "--data",
            "pictures",
            "--out",
            "r.png",
        ];
        succeeds(&soda(folder.path(), &reconstructed));
        assert!(
            picture(&folder.path().join("r.png")).height()
                > 2 * side.parse::<u32>().expect("a number")
        );
    }
    // The run's own data is recognised at another side, too, although training can't go on there.
    let other = ["--set", "data.side=128"];
    let export =
        ["export", "--run", "run96", "--device", "cpu", "--whiten", "--out", "w.safetensors"];
    succeeds(&soda(folder.path(), &[&export[..], &other].concat()));
    let resume = ["train", "--resume", "--run", "run96", "--device", "cpu", "--allow-change"];
    let resumed = soda(folder.path(), &[&resume[..], &other, &["--set", "train.steps=3"]].concat());
    fails(&resumed, 2, &["data.side = 128", "96 pixels a side", "from its weights"]);
}

#[test]
fn the_views_may_have_their_own_sides() {
    let folder = trained([64, 48, 24], &["model.unet.attention=[12]"]);
    commands_work(folder.path(), 64, [48, 24]);
    let run = |args: &[&str]| {
        soda(
            folder.path(),
            &[args, &["--run", "run", "--data", "pictures", "--device", "cpu"]].concat(),
        )
    };
    for args in [
        &["invert", "test:0", "pictures/b/001.png"][..],
        &["interpolate", "test:0", "test:1", "-n", "3", "--invert"],
        &["directions", "--pca", "2", "--image", "test:0"],
        &["neighbours", "test:0", "-k", "2"],
        &["diagnose", "-n", "6", "--bins", "2"],
        &["quality", "-n", "8", "--components", "2"],
        &["probe", "--protocol", "knn"],
    ] {
        succeeds(&run(args));
    }
}

#[test]
fn a_view_is_drawn_in_pixels_of_the_images_own_side() {
    let sets = ["model.unet.view_conditioning=true", "data.views=conditioned"];
    let folder = trained([48, 32, 16], &sets);
    let view = |crop: &str| {
        let args = [
            "view", "test:0", "--crop", crop, "--run", "run", "--data", "pictures", "--device",
            "cpu",
        ];
        soda(folder.path(), &args)
    };
    succeeds(&view("24,0,24,48"));
    fails(&view("25,0,24,48"), 2, &["--crop", "48 x 48"]);
}

#[test]
fn cifar_is_resampled_to_the_recipes_side_and_training_reports_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let output =
        train(folder.path(), &["--run", "run", "--data", "bundled", "--set", "data.side=40"]);
    succeeds(&output);
    let said = text(&output.stderr);
    assert!(said.contains("resampled from 32 x 32 to 40 x 40 pixels"), "{said}");
    // An attention side that no stage has (16 is stage 1's at 32) isn't dropped silently.
    let output = train(
        folder.path(),
        &["--run", "b", "--set", "data.side=40", "--set", "model.unet.attention=[16]"],
    );
    succeeds(&output);
    let said = text(&output.stderr);
    assert!(said.contains("no stage of the denoiser has feature maps of 16 x 16 pixels"), "{said}");
    // Training from weights of one side continues at another, if the same stages have attention.
    let from =
        ["--run", "c", "--set", "data.side=48", "--from", "run/checkpoints/step_2/ema.safetensors"];
    succeeds(&train(folder.path(), &from));
    assert_eq!(
        metadata(&folder.path().join("c/checkpoints/step_2/ema.safetensors"))["source_side"],
        "48"
    );
    let other = [&from[..], &["--set", "model.unet.attention=[24]"]].concat();
    fails(
        &train(folder.path(), &[&other[..], &["--run", "d"]].concat()[2..]),
        2,
        &["stages with attention"],
    );
}

/// Returns mean and variance of each channel after the convolution `kernel`, the stem of networks
/// of `config`, on plain training images.
fn stem_statistics(config: &Config, kernel: TensorData) -> [Vec<f32>; 2] {
    let (images, side) = (soda::data::bundled().expect("the subset").train, 32);
    let indices: Vec<usize> = (0..images.len()).step_by(10).collect();
    let (n, channels) = (indices.len(), kernel.shape()[0]);
    let mut values = vec![0.0; n * bytes_of(side)];
    plain_source(&images, &indices, &config.data, false, &mut values).expect("in memory");
    let device = Device::flex();
    let x = Tensor::<4>::from_data(TensorData::new(values, [n, 3, side, side]), &device);
    let kernel = Tensor::<4>::from_data(kernel, &device);
    let y = conv2d::conv2d(x, kernel, None, None, Conv2dOptions::same(3, 1));
    let rows = y.permute([1, 0, 2, 3]).reshape([channels, n * side * side]);
    [rows.clone().mean_dim(1), rows.var(1)]
        .map(|v| v.into_data().try_into_vec::<f32>().expect("f32"))
}

#[test]
fn an_exported_encoder_for_another_side_has_batch_norm_statistics_of_that_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(
        at,
        &["--run", "run", "--set", "data.source.side=24", "--set", "data.target.side=24"],
    ));
    let export = |out: &str, more: &[&str]| {
        soda(
            at,
            &[
                &["export", "--run", "run", "--device", "cpu", "--out", out, "--json", "e.json"],
                more,
            ]
            .concat(),
        )
    };
    let larger = ["--set", "data.source.side=32", "--set", "data.target.side=32"];
    succeeds(&export("same.safetensors", &[]));
    succeeds(&export("larger.safetensors", &larger));
    succeeds(&export("target.safetensors", &["--set", "data.target.side=32"]));
    let open = |name: &str| WeightsFile::open(&at.join(name)).expect("weights");
    assert_eq!(open("larger.safetensors").config.model.sides, Sides { source: 32, target: 32 });
    let tensors = |name: &str| {
        weights::read(&at.join(name)).expect("a file").0.into_iter().collect::<Vec<_>>()
    };
    let changed = |a: &str, b: &str| {
        let b: HashMap<_, _> =
            tensors(b).into_iter().map(|(name, _, values)| (name, values)).collect();
        tensors(a)
            .into_iter()
            .filter(|(name, _, values)| b[name] != *values)
            .map(|(name, ..)| name)
            .collect::<Vec<_>>()
    };
    let other = changed("same.safetensors", "larger.safetensors");
    assert!(
        !other.is_empty() && other.iter().all(|name| parameters::is_statistic(name)),
        "{other:?}"
    );
    assert!(
        changed("same.safetensors", "target.safetensors").is_empty(),
        "the encoder's images are the same"
    );
    // They are the statistics of images at that side: with them the stem's normalised outputs have
    // mean 0 and variance 1, roughly.
    let statistics = |name: &str, which: &str| {
        let found = tensors(name).into_iter().find(|(own, ..)| own == which);
        found.unwrap_or_else(|| panic!("no {which}")).2
    };
    let (_, shape, kernel) = tensors("larger.safetensors")
        .into_iter()
        .find(|(name, ..)| name == "encoder.stem.weight")
        .expect("a stem");
    let config = open("larger.safetensors").config;
    let [mean, variance] = stem_statistics(&config, TensorData::new(kernel, shape));
    // The largest distances of means in deviations, and of logarithms of variances.
    let distances = |name: &str| {
        let [own_mean, own_variance] = ["running_mean", "running_var"]
            .map(|which| statistics(name, &format!("encoder.stem_norm.{which}")));
        let all = [&own_mean, &own_variance, &mean, &variance];
        assert!(all.iter().all(|v| v.len() == mean.len() && v.iter().all(|v| v.is_finite())));
        let channels = 0..mean.len();
        let worst = |distance: &dyn Fn(usize) -> f32| {
            channels.clone().map(distance).reduce(f32::max).expect("channels")
        };
        [
            worst(&|c| (own_mean[c] - mean[c]).abs() / variance[c].sqrt()),
            worst(&|c| (own_variance[c] / variance[c]).ln().abs()),
        ]
    };
    let (same, larger) = (distances("same.safetensors"), distances("larger.safetensors"));
    // Of every tenth image, and of an average that forgets: within a fifth.
    assert!(larger.iter().all(|v| *v < 0.2), "{larger:?}");
    assert!(same[1] > 3.0 * larger[1], "{same:?}, {larger:?}: any statistics would pass");
    fails(&export("x.safetensors", &["--set", "train.lr=1"]), 2, &["stay as they were trained"]);
    fails(&export("x.safetensors", &["--set", "data.source.side=20"]), 2, &["multiple of 8"]);
}

fn recipe(sets: &[&str]) -> Result<Config, String> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let text = include_str!("../../configs/quick.toml")
        .replace("side = 32", "# side")
        .replace("stem = ", "# stem = ");
    Config::parse(&text, "r.toml", &sets).map_err(|e| e.to_string())
}

#[test]
fn sides_are_multiples_of_8_from_16_to_256_that_the_stages_can_halve() {
    for side in ["16", "40", "256"] {
        let config = recipe(&[&format!("data.side={side}")]).expect("a recipe");
        assert_eq!(config.model.sides.source.to_string(), side);
    }
    for (set, key) in [
        ("data.side=8", "data.side = 8"),
        ("data.side=20", "data.side = 20"),
        ("data.side=264", "data.side = 264"),
        ("data.source.side=36", "data.source.side = 36"),
        ("data.target.side=1048576", "data.target.side = 1048576"),
    ] {
        let message = recipe(&[set]).expect_err(set);
        assert!(
            message.contains(key) && message.contains("multiple of 8 from 16 to 256"),
            "{message}"
        );
    }
    // 40 can be halved three times: 20, 10, 5.
    let stages = |n: usize| format!("model.unet.multipliers={:?}", vec![1; n]);
    recipe(&["data.target.side=40", &stages(4)]).expect("four stages");
    let message = recipe(&["data.target.side=40", &stages(5)]).expect_err("five stages");
    assert!(message.contains("5 stages") && message.contains("multiple of 16"), "{message}");
    recipe(&["data.source.side=40", &stages(5)]).expect("the encoder rounds up");
    assert!(recipe(&["model.encoder.stem=5x5"]).expect_err("5x5").contains("5x5"));
}

#[test]
fn recipes_and_weights_without_sides_mean_32() {
    let (old, new) = (
        recipe(&[]).expect("a recipe"),
        recipe(&["data.side=32", "data.source.side=32", "data.target.side=32"]),
    );
    let new = new.expect("a recipe");
    assert_eq!(
        (old.data.side, old.model.sides, old.model.encoder.stem),
        (32, Sides::default(), Stem::Conv3x3)
    );
    assert_eq!(old.model, new.model);
    // The same views, bit for bit; at another side they differ.
    let image: Vec<u8> = (0..bytes_of(32)).map(|i| rng::mix(i as u64) as u8).collect();
    let pair = |config: &Config| {
        let Sides { source, target } = config.model.sides;
        let [mut source, mut target] = [source, target].map(|side| vec![0.0; bytes_of(side)]);
        make_pair(&image, &config.data, 1, 2, 3, &mut source, &mut target);
        (source, target)
    };
    assert_eq!(pair(&old), pair(&new));
    let other = pair(&recipe(&["data.source.side=40"]).expect("a recipe"));
    assert!(other.0.len() == bytes_of(40) && other.1 == pair(&old).1);
    // Weights from before there were sides.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.safetensors");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped::PATH);
    let (tensors, mut metadata) = weights::read(&shipped).expect("the shipped weights");
    for key in ["side", "source_side", "target_side"] {
        metadata.remove(key).expect("what files say now");
    }
    let config = metadata.get_mut("config").expect("a recipe");
    assert!(config.contains("side = 32"));
    *config =
        config.lines().filter(|line| !line.starts_with("side = ")).collect::<Vec<_>>().join("\n");
    weights::write(&path, &tensors, metadata).expect("written");
    let weights = WeightsFile::open(&path).expect("weights as they were");
    assert_eq!(weights.config.model.sides, Sides::default());
    weights.model(&Device::flex()).expect("the networks");
}

#[test]
fn attention_is_where_feature_maps_have_the_given_side() {
    let attends = |side: usize, at: usize| -> Vec<usize> {
        let sets = [
            format!("data.side={side}"),
            format!("model.unet.attention=[{at}]"),
            "model.unet.blocks=1".into(),
        ];
        let sets: Vec<&str> = sets
            .iter()
            .map(String::as_str)
            .chain(["model.unet.base=8", "model.encoder.base=4"])
            .collect();
        let config = recipe(&sets).expect("a recipe");
        let names = parameters::collect(&Soda::new(&config.model, 1, &Device::flex()));
        let stage = |name: &str| {
            name.strip_prefix("unet.down.")?.strip_suffix(".attention.norm.gamma")?.parse().ok()
        };
        names.iter().filter_map(|named| stage(&named.name)).collect()
    };
    assert_eq!(attends(32, 16), [1]);
    assert_eq!(attends(64, 16), [2]);
    assert_eq!(attends(40, 40), [0]);
    assert_eq!(attends(40, 5), [3]);
    assert_eq!(attends(40, 16), [0usize; 0]);
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

#[test]
fn max_pooling_takes_the_largest_of_nine_pixels_and_passes_its_gradient_back() {
    let device = Device::flex().autodiff();
    for [b, c, h, w] in [[2, 3, 8, 8], [1, 5, 7, 9], [1, 1, 1, 2]] {
        let (x, weights) = (
            random([b, c, h, w], 0, &device).require_grad(),
            random([b, c, h.div_ceil(2), w.div_ceil(2)], 1, &device),
        );
        let pooled = max_pool(x.clone());
        let grads = (pooled.clone() * weights.clone()).sum().backward();
        let gradient = values(Tensor::from_inner(x.grad(&grads).expect("a gradient")));
        let (x, pooled, weights) = (values(x), values(pooled), values(weights));
        let (mut want, mut want_gradient) = (Vec::new(), vec![0.0; x.len()]);
        for plane in 0..b * c {
            for (i, j) in (0..h.div_ceil(2)).flat_map(|i| (0..w.div_ceil(2)).map(move |j| (i, j))) {
                let near = |at: usize, n: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(n);
                let places =
                    near(i, h).flat_map(|y| near(j, w).map(move |x| plane * h * w + y * w + x));
                let best = places.max_by(|a, b| x[*a].total_cmp(&x[*b])).expect("a pixel");
                want_gradient[best] += weights[want.len()];
                want.push(x[best]);
            }
        }
        assert_eq!(pooled, want);
        crate::common::assert_close("gradient", &gradient, &want_gradient, 1e-6, 0.0);
    }
    // Its result has the layout that convolutions need, unlike one in NCHW order.
    let device = Device::flex();
    let convolve = |x: Tensor<4>| {
        let before = copies();
        conv2d::conv2d(x, random([4, 3, 3, 3], 2, &device), None, None, Conv2dOptions::same(3, 1));
        copies() - before
    };
    assert_eq!(convolve(max_pool(random([1, 3, 9, 9], 3, &device))), 0);
    assert!(convolve(random([1, 3, 5, 5], 4, &device)) > 0);
}

#[test]
fn the_encoder_with_a_7x7_stem_agrees_with_burns_own_operations_at_any_side() {
    let device = Device::flex();
    for side in [16, 40, 64] {
        let sets = [
            format!("data.side={side}"),
            "model.encoder.stem=7x7".into(),
            "model.encoder.base=4".into(),
        ];
        let config = recipe(&sets.each_ref().map(String::as_str)).expect("a recipe");
        let model = Soda::new(&config.model, 1, &device);
        let shapes = parameters::shapes(&model);
        let stem = shapes.iter().find(|(name, _)| name == "encoder.stem.weight").expect("the stem");
        assert_eq!(stem.1, [4, 3, 7, 7]);
        let x = random([3, 3, side, side], 5, &device);
        let host = |z: Tensor<2>| z.into_data().try_to_vec::<f32>().expect("f32");
        let (ours, burns) =
            (host(model.encode(x.clone())), with_references(|| host(model.encode(x.clone()))));
        crate::common::assert_close("z", &ours, &burns, 1e-4, 0.0);
        assert!(
            crate::common::error(&host(model.encode(x.flip([3]))), &burns, 1e-4, 0.0) > 1.0,
            "mirror images have the same z"
        );
    }
}

#[test]
fn images_are_encoded_at_the_encoders_side_whatever_their_own() {
    let config =
        recipe(&["data.side=64", "data.source.side=32", "model.encoder.base=4", "model.z_dim=8"])
            .expect("a recipe");
    let model = Soda::new(&config.model, 1, &Device::flex());
    let pixels = |side: usize, salt: u64| -> Vec<u8> {
        (0..bytes_of(side)).map(|i| rng::mix(i as u64 + salt) as u8).collect()
    };
    let z = |side: usize, pixels: Vec<u8>| {
        let images = Images::new(side, pixels, vec![0]);
        soda::eval::features::encode(&model, &images, &[0], &config.data, false, &Device::flex())
            .expect("z")
            .values
    };
    let small = resized_crop(&pixels(64, 0), Window::whole(64), false, 32);
    assert_eq!(z(64, pixels(64, 0)), z(32, small));
    assert_ne!(z(64, pixels(64, 0)), z(64, pixels(64, 1)));
}
