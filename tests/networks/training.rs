//! Training: the optimizer's arithmetic, learning, resuming, stopping.

use crate::common;
use crate::common::assert_close;
use crate::common::program::TINY;
use crate::update;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use soda::config::{Config, LrSchedule};
use soda::data::{Dataset, Images, bundled};
use soda::device::{Selected, select};
use soda::diffusion::Schedule;
use soda::edit::linear_decoder::{BESIDE, LinearDecoder};
use soda::eval::validation::validate;
use soda::kernels::testing::with_references;
use soda::model::weights::WeightsFile;
use soda::model::{Soda, parameters, weights};
use soda::rng::{self, Purpose};
use soda::run_dir::RunDir;
use soda::train::checkpoint::{self, State};
use soda::train::ema::Ema;
use soda::train::optim::{collect_gradients, learning_rate};
use soda::train::replay::replay;
use soda::train::run::{Options, Summary, train};
use soda::train::step::{Pair, step};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Returns configs/quick.toml with networks small enough for tests.
pub fn tiny(overrides: &[&str]) -> Config {
    tiny_of(include_str!("../../configs/quick.toml"), overrides)
}

/// Like [`tiny`], from another `recipe`.
fn tiny_of(recipe: &str, overrides: &[&str]) -> Config {
    let small = [
        "model.unet.dropout=0.1",
        "train.warmup_steps=2",
        "train.log_every=1",
        "train.checkpoint_every=3",
        "train.steps=6",
        "data.threads=1",
    ];
    let small = TINY.iter().chain(&small);
    let overrides: Vec<String> = small.chain(overrides).map(|s| (*s).to_owned()).collect();
    Config::parse(recipe, "configs/quick.toml", &overrides).expect("a valid recipe")
}

/// Returns the first images of the bundled subset.
pub fn data() -> Dataset {
    let full = bundled().expect("the bundled subset");
    let few = |images: &Images, n| Arc::new(images.select(&(0..n).collect::<Vec<_>>()));
    Dataset { train: few(&full.train, 64), test: few(&full.test, 20), ..full }
}

pub fn cpu() -> Selected {
    Selected::cpu("a test")
}

fn run(config: &Config, run: &RunDir, options: &Options) -> soda::error::Result<Summary> {
    train(config, &data(), &cpu(), run, options)
}

pub fn newest(run: &RunDir, file: &str) -> HashMap<String, Vec<f32>> {
    let step = *run.checkpoints().last().expect("a checkpoint");
    let (tensors, _) =
        weights::read(&run.checkpoint(step).join(file)).expect("a readable checkpoint");
    tensors.into_iter().map(|(name, _, values)| (name, values)).collect()
}

/// Returns each logged step of `run` with its loss.
fn losses(run: &RunDir) -> Vec<(u64, f64)> {
    run.read_metrics().expect("metrics").rows.iter().map(|r| (r.step, r.loss)).collect()
}

/// Trains `config` without interruption into `folder`/whole, and with interruptions; asserts that
/// both end in the same bits.
fn resumes_bit_for_bit(folder: &std::path::Path, config: &Config, device: &Selected) -> RunDir {
    let run = |config: &Config, run: &RunDir, options: &Options| {
        train(config, &data(), device, run, options)
    };
    let (whole, parts) = (RunDir::new(folder.join("whole")), RunDir::new(folder.join("parts")));
    run(config, &whole, &Options::default()).expect("trains");

    // Interruptions in the first and the second step: checkpoints are written.
    let flag = Arc::new(AtomicBool::new(true));
    for expected in [1, 2] {
        let options = Options { resume: true, interrupt: flag.clone(), ..Options::default() };
        let summary = run(config, &parts, &options).expect("stops");
        assert!(summary.interrupted && summary.steps == expected, "{summary:?}");
        assert_eq!(parts.checkpoints().last(), Some(&expected));
    }
    let resume = Options { resume: true, ..Options::default() };
    let summary = run(config, &parts, &resume).expect("resumes");
    let steps = config.train.steps;
    assert!(summary.steps == steps as u64 && !summary.interrupted);
    for file in ["model.safetensors", "ema.safetensors", "optimizer.safetensors"] {
        let (whole, parts) = (newest(&whole, file), newest(&parts, file));
        assert_eq!(whole.len(), parts.len());
        for (name, values) in &whole {
            assert!(values == &parts[name], "{name} in {file} differs");
        }
    }
    assert_eq!(losses(&whole), losses(&parts));
    assert_eq!(losses(&whole).len(), steps);
    whole
}

#[test]
fn a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(&[]);
    let whole = resumes_bit_for_bit(folder.path(), &config, &cpu());
    let resume = Options { resume: true, ..Options::default() };

    // A finished run isn't changed.
    let before = std::fs::read(whole.weights().expect("weights")).expect("readable");
    run(&config, &whole, &resume).expect("says that it is finished");
    assert_eq!(std::fs::read(whole.weights().expect("weights")).expect("readable"), before);

    // Another seed gives another run.
    let other = RunDir::new(folder.path().join("other"));
    run(&tiny(&["seed=2"]), &other, &Options::default()).expect("trains");
    assert!(newest(&whole, "model.safetensors") != newest(&other, "model.safetensors"));
}

#[test]
fn a_resumed_run_ends_in_the_same_bits_with_every_switch_of_the_loss() {
    let of_run = |run: &RunDir| newest(run, "model.safetensors");
    let weights = |sets: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        of_run(&resumes_bit_for_bit(folder.path(), &tiny(sets), &cpu()))
    };
    let once = |sets: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = RunDir::new(folder.path().join("whole"));
        run(&tiny(sets), &whole, &Options::default()).expect("trains");
        of_run(&whole)
    };
    let together = [
        &[
            "train.denoisings=2",
            "train.stratified_t=true",
            "train.loss_weight=min_snr",
            "train.micro_batch=3",
        ][..],
        &["train.loss_weight=one_minus_alpha_bar", "data.target.side=16"],
        &[
            "diffusion.prediction=v",
            "diffusion.levels=continuous",
            "diffusion.high_noise=0.2",
            "train.loss_weight=pdae",
        ],
        &["train.precision=mixed"],
    ]
    .map(weights);
    // No switch has the same effect as another, or none. High noise needs continuous levels.
    let alone = [
        &[][..],
        &["train.denoisings=2"],
        &["train.stratified_t=true"],
        &["train.loss_weight=min_snr"],
        &["train.loss_weight=one_minus_alpha_bar"],
        &["train.loss_weight=pdae"],
        &["data.target.side=16"],
        &["diffusion.prediction=v"],
        &["diffusion.levels=continuous"],
        &["diffusion.levels=continuous", "diffusion.high_noise=0.2"],
    ]
    .map(once);
    let all: Vec<_> = together.iter().chain(&alone).collect();
    assert!(
        all.iter().enumerate().all(|(i, one)| all[..i].iter().all(|other| other != one)),
        "a switch changes nothing"
    );
}

#[test]
fn a_run_in_half_precision_resumes_bit_for_bit_on_an_adapter() {
    let folder = tempfile::tempdir().expect("a folder");
    let adapter = select("wgpu").expect("an adapter; scripts/test.sh installs a software one");
    let mixed = newest(
        &resumes_bit_for_bit(folder.path(), &tiny(&["train.precision=mixed"]), &adapter),
        "optimizer.safetensors",
    );
    assert_eq!(mixed["loss_scale"][..3], [65_536.0, 6.0, 0.0]);
}

#[test]
fn a_skipped_step_is_replayed_as_a_skipped_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(&["train.precision=mixed"]);
    let whole = RunDir::new(folder.path().join("whole"));
    run(&config, &whole, &Options::default()).expect("trains");
    let taken = replay(&config, &data(), &cpu(), &whole, 4, None).expect("replays");
    assert!(taken.is_finite() && !taken.left_out && taken.grad_norm.is_finite(), "{taken:?}");

    // From the same checkpoint with a loss scale that no gradient survives.
    let mut state = checkpoint::load_step(&whole, 3, &config, &Device::flex()).expect("readable");
    state.optim.loss_scale = Some(Tensor::from_floats([1e34, 7.0, 0.0, 0.0], &Device::flex()));
    let other = RunDir::new(folder.path().join("other"));
    other.create(&config).expect("writable");
    checkpoint::Snapshot::of(&state, &config)
        .expect("readable")
        .write(&other, 2, None)
        .expect("writable");
    let left_out = replay(&config, &data(), &cpu(), &other, 4, None).expect("replays");
    assert!(
        left_out.left_out && left_out.is_finite() && !left_out.grad_norm.is_finite(),
        "{left_out:?}"
    );
    assert_eq!(
        (left_out.loss, &left_out.images),
        (taken.loss, &taken.images),
        "its loss differs from that of the step that was taken"
    );
    // The run itself skips it.
    run(&config, &other, &Options { resume: true, ..Options::default() }).expect("resumes");
    let row = other.read_metrics().expect("metrics").rows[0].clone();
    assert_eq!((row.step, row.loss, row.left_out), (4, left_out.loss, Some(1)));
}

#[test]
fn a_finished_run_keeps_its_linear_decoder_and_an_interrupted_one_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = |run: &RunDir| {
        let weights = WeightsFile::open(&run.weights().expect("weights")).expect("readable");
        LinearDecoder::stored(&weights).expect("whole")
    };
    let (done, stopped) =
        (RunDir::new(folder.path().join("done")), RunDir::new(folder.path().join("stopped")));
    let config = tiny(&["sample.start=0.4"]);
    run(&config, &done, &Options::default()).expect("trains");
    let linear = stored(&done).expect("fitted at the end");
    assert_eq!((linear.z_dim(), linear.side()), (config.model.z_dim, 32));
    let options = Options { interrupt: Arc::new(AtomicBool::new(true)), ..Options::default() };
    run(&config, &stopped, &options).expect("stops");
    assert!(stored(&stopped).is_none());
    // It belongs to these weights and is ignored next to others.
    let beside = |run: &RunDir| run.weights().expect("weights").with_file_name(BESIDE);
    std::fs::copy(beside(&done), beside(&stopped)).expect("copied");
    assert!(stored(&stopped).is_none());
    // If sampling starts from pure noise, nothing is fitted.
    let noise = RunDir::new(folder.path().join("noise"));
    run(&tiny(&[]), &noise, &Options::default()).expect("trains");
    assert!(!beside(&noise).exists());
}

#[test]
fn a_resumed_run_on_a_graphics_adapter_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(&["train.steps=3", "train.checkpoint_every=1"]);
    let device = select("wgpu").expect("an adapter; scripts/test.sh installs a software one");
    let losses = losses(&resumes_bit_for_bit(folder.path(), &config, &device));
    assert!(losses.windows(2).all(|w| w[0].1 != w[1].1), "{losses:?}");
}

#[test]
fn training_on_an_existing_run_without_resume_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    run(&tiny(&["train.steps=1"]), &dir, &Options::default()).expect("trains");
    let error = run(&tiny(&["train.steps=1"]), &dir, &Options::default()).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("resume it"), "{error}");
}

#[test]
fn a_run_whose_checkpoints_are_gone_is_not_restarted() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    let config = tiny(&["train.steps=4", "train.checkpoint_every=1"]);
    run(&config, &dir, &Options::default()).expect("trains");
    let metrics = std::fs::read_to_string(dir.metrics()).expect("readable");
    // On a disk that isn't there now.
    let (checkpoints, away) = (dir.path.join("checkpoints"), folder.path().join("away"));
    std::fs::rename(&checkpoints, &away).expect("moved");
    let resumed = || run(&config, &dir, &Options { resume: true, ..Options::default() });
    let message = resumed().expect_err("refused").to_string();
    assert!(
        message.contains("has trained for 4 steps, and none of its checkpoints is there"),
        "{message}"
    );
    assert_eq!(std::fs::read_to_string(dir.metrics()).expect("readable"), metrics);
    std::fs::rename(&away, &checkpoints).expect("moved back");
    assert_eq!(resumed().expect("it is there again").steps, 4);
    // Ended before its first checkpoint, it starts again.
    std::fs::remove_dir_all(&checkpoints).expect("removed");
    let first = metrics.lines().next().expect("a row");
    std::fs::write(dir.metrics(), format!("{first}\n")).expect("writable");
    assert_eq!(resumed().expect("starts again").steps, 4);
}

#[test]
fn a_time_limit_ends_a_run_like_its_last_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    let config = tiny(&["train.steps=1000000", "train.lr_schedule=cosine"]);
    let limit = Some(Duration::from_secs(4));
    let summary = run(&config, &dir, &Options { limit, ..Options::default() }).expect("trains");
    assert!(summary.steps > 1 && summary.steps < 1_000_000);
    assert_eq!(dir.checkpoints().last(), Some(&summary.steps));
    let last = dir.read_metrics().expect("metrics").rows.pop().expect("rows");
    assert!(
        last.lr < 0.2 * config.train.lr,
        "the schedule follows the clock: {} at the end",
        last.lr
    );
    assert!(dir.sample(summary.steps).exists() && dir.loss_plot().exists());
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_earlier_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    let config =
        tiny(&["train.lr=1e30", "train.steps=50", "train.clip_norm=0", "train.checkpoint_every=1"]);
    let message = run(&config, &dir, &Options::default()).unwrap_err().to_string();
    assert!(message.contains("at step") && message.contains("train.lr"), "{message}");
    // Reading refuses values that aren't finite.
    assert!(!newest(&dir, "model.safetensors").is_empty());
    let (step, steps) = (dir.checkpoints().last().copied(), "train.steps=50");
    assert!(step.is_some_and(|step| step < 50), "{step:?} of {steps}");
}

/// Returns the losses of training repeatedly on one batch.
fn overfit(device: &Selected, steps: u64, lr: f64) -> Vec<f32> {
    overfit_with(&[], device, steps, lr)
}

/// Like [`overfit`], with other networks.
fn overfit_with(networks: &[&str], device: &Selected, steps: u64, lr: f64) -> Vec<f32> {
    let config = tiny(&[&["train.warmup_steps=1", "model.unet.dropout=0"][..], networks].concat());
    let (schedule, autodiff) = (Schedule::new(&config.diffusion), device.device.clone().autodiff());
    let mut state = State::new(&config, "", &device.device);
    let images = data().train;
    let (mut source, mut target) = (vec![0.0; 8 * 3072], vec![0.0; 8 * 3072]);
    let indices: Vec<usize> = (0..8).collect();
    soda::data::views::plain_source(&images, &indices, &config.data, false, &mut source).unwrap();
    soda::data::views::plain_target(&images, &indices, 32, &mut target).unwrap();
    let mut losses = Vec::new();
    for number in 1..=steps {
        let pair = Pair::new(config.model.sides, source.clone(), target.clone(), None, &autodiff);
        let outcome;
        (state, outcome) = step(state, pair, &schedule, &config, number, lr);
        losses.push(outcome.loss.into_scalar::<f32>());
    }
    losses
}

#[test]
fn the_loss_falls_on_the_cpu() {
    let losses = overfit(&cpu(), 60, 3e-3);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    let (first, last) = (mean(&losses[..3]), mean(&losses[55..]));
    assert!(first > 0.8 && last < 0.5 * first, "{first} -> {last}");
}

#[test]
fn ten_steps_with_our_kernels_agree_with_burns_own_operations() {
    // Enough channels for the order of summation to matter; with four, all losses can have the same
    // bits.
    let networks = ["model.encoder.base=8", "model.unet.base=16"];
    let overfit = |lr| overfit_with(&networks, &cpu(), 10, lr);
    let ours = overfit(1e-3);
    let burns = with_references(|| overfit(1e-3));
    assert!(ours != burns, "the references ran our kernels");
    // As on wgpu: only rounding at first; then Adam moves weights whose gradient is all rounding
    // error by up to lr.
    assert_close("loss of the first step", &ours[..1], &burns[..1], 1e-5, 0.0);
    assert_close("losses", &ours, &burns, 5e-3, 0.0);
    let other = overfit(1.2e-3);
    assert!(common::error(&other, &burns, 5e-3, 0.0) > 1.0, "a learning rate 20 % off would pass");
}

#[test]
fn micro_batches_give_the_gradients_of_the_whole_batch_except_for_batch_norm() {
    let device = Device::flex();
    // Micro-batches of 3, 3 and 2 images, and the whole batch.
    let losses = |switches: &[&str], parts: usize, seed: u64| {
        let (parts, seed) = (format!("train.micro_batch={parts}"), format!("seed={seed}"));
        let config = tiny(&[switches, &["model.unet.dropout=0", &parts, &seed]].concat());
        let (schedule, autodiff) = (Schedule::new(&config.diffusion), device.clone().autodiff());
        let mut state = State::new(&config, "", &device);
        let images = data().train;
        let (mut source, mut target) = (vec![0.0; 8 * 3072], vec![0.0; 8 * 3072]);
        let indices: Vec<usize> = (0..8).collect();
        soda::data::views::plain_source(&images, &indices, &config.data, false, &mut source)
            .unwrap();
        soda::data::views::plain_target(&images, &indices, 32, &mut target).unwrap();
        // The encoder's BatchNorm would use other statistics, so all sources are the same image:
        // the statistics are then those of the whole batch.
        let first = source[..3072].to_vec();
        source.chunks_exact_mut(3072).for_each(|image| image.copy_from_slice(&first));
        let mut out = Vec::new();
        for number in 1..=3 {
            let pair =
                Pair::new(config.model.sides, source.clone(), target.clone(), None, &autodiff);
            let outcome;
            (state, outcome) = step(state, pair, &schedule, &config, number, 1e-3);
            out.extend([outcome.loss, outcome.grad_norm].map(|t| t.into_scalar::<f32>()));
        }
        assert_eq!(state.position.images, 24);
        out
    };
    for switches in
        [&[][..], &["train.denoisings=2", "train.stratified_t=true", "train.loss_weight=pdae"]]
    {
        let losses = |parts, seed| losses(switches, parts, seed);
        let whole = losses(0, 1);
        assert!(whole.iter().all(|v| v.is_finite()));
        assert_eq!(whole, losses(8, 1));
        // The order of summation differs; after an update Adam turns rounding errors into up to lr,
        // see below.
        assert_close("loss and norm of the first step", &losses(3, 1)[..2], &whole[..2], 1e-4, 0.0);
        assert_close("losses and norms", &losses(3, 1), &whole, 5e-3, 0.0);
        assert!(common::error(&losses(3, 2), &whole, 5e-3, 0.0) > 1.0, "another seed would pass");
    }
}

#[test]
fn the_first_steps_on_wgpu_agree_with_the_cpu() {
    let want = overfit(&cpu(), 6, 1e-3);
    let got = overfit(&select("wgpu").expect("an adapter"), 6, 1e-3);
    // Before an update both differ only by rounding. Adam divides by the gradient's size, so
    // weights whose gradient is all rounding error move by up to lr: a few thousandths of the later
    // losses.
    assert_close("loss of the first step", &got[..1], &want[..1], 1e-5, 0.0);
    assert_close("losses", &got, &want, 3e-3, 0.0);
    let other = overfit(&cpu(), 6, 1.2e-3);
    assert!(common::error(&other, &want, 3e-3, 0.0) > 1.0, "a learning rate 20 % off would pass");
}

#[test]
fn a_run_whose_recipe_now_ends_earlier_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    run(&tiny(&[]), &dir, &Options::default()).expect("trains");
    let resume = Options { resume: true, allow_change: true, ..Options::default() };
    let summary = run(&tiny(&["train.steps=4"]), &dir, &resume).expect("ends");
    assert_eq!(summary.steps, 6);
}

#[test]
fn a_truncated_last_row_of_metrics_is_dropped_and_other_damage_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    run(&tiny(&[]), &dir, &Options::default()).expect("trains");
    let text = std::fs::read_to_string(dir.metrics()).expect("there");
    std::fs::write(dir.metrics(), &text[..text.len() - 20]).expect("writable");
    assert_eq!(dir.read_metrics().expect("readable").rows.len(), 5);
    std::fs::write(dir.metrics(), text.replacen("step", "stop", 1)).expect("writable");
    let message = dir.read_metrics().unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl line 1"), "{message}");
}

#[test]
fn z_is_scored_on_held_out_images_during_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    let config =
        tiny(&["train.evaluate_every=4", "train.evaluate_images=40", "probe.batch_size=8"]);
    let flag = Arc::new(AtomicBool::new(true));
    run(&config, &dir, &Options { interrupt: flag, ..Options::default() }).expect("stops");
    run(&config, &dir, &Options { resume: true, ..Options::default() }).expect("resumes");
    let metrics = dir.read_metrics().expect("metrics");
    let scored = &metrics.evaluations;
    let starts = dir.read_starts();
    assert_eq!(
        starts.iter().map(|s| (s.step, s.images, s.device.as_str())).collect::<Vec<_>>(),
        [(0, 64, "cpu"), (1, 64, "cpu")]
    );
    // Every four steps, and at the end.
    assert_eq!(
        scored.iter().map(|e| (e.step, e.images)).collect::<Vec<_>>(),
        [(4, 4 * 8), (6, 6 * 8)]
    );
    assert_eq!(metrics.rows.len(), 6);
    // Of the EMA, at the last step as at any other.
    let state = checkpoint::load_step(&dir, 6, &config, &Device::flex()).expect("whole");
    let score = |model| {
        let e = validate(&model, &config, &data(), 40, &Device::flex()).expect("scores");
        e.expect("classes")
    };
    let (of_ema, last) = (score(state.ema.model()), &scored[1]);
    assert_eq!((of_ema.knn, of_ema.linear), (last.knn, last.linear));
    for e in scored {
        assert!(e.n_train == 40 && e.n_validation > 4, "{e:?}");
        assert!((0.0..=100.0).contains(&e.knn) && (0.0..=100.0).contains(&e.linear), "{e:?}");
    }
    // Rows that a resumed run would repeat are dropped; lines are sorted by step.
    let mut cut = metrics.clone();
    cut.truncate(5);
    assert_eq!((cut.rows.len(), cut.evaluations.len()), (5, 1));
    let text = std::fs::read_to_string(dir.metrics()).expect("there");
    let steps = |text: &str| -> Vec<(u64, bool)> {
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        text.lines()
            .map(value)
            .map(|v| (v["step"].as_u64().expect("a step"), v.get("knn").is_some()))
            .collect()
    };
    assert_eq!(steps(&text), steps(&metrics.to_jsonl()));
    assert_eq!(steps(&text)[3..6], [(4, false), (4, true), (5, false)]);

    // Images of one class can't be scored; training continues.
    let unlabelled = Dataset { classes: vec!["images".into()], ..data() };
    let other = RunDir::new(folder.path().join("other"));
    train(&config, &unlabelled, &cpu(), &other, &Options::default()).expect("trains");
    assert!(other.read_metrics().expect("metrics").evaluations.is_empty());
}

#[test]
fn a_refused_start_leaves_nothing_behind_and_other_data_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::new(folder.path().join("run"));
    let message =
        run(&tiny(&["train.batch_size=65"]), &dir, &Options::default()).unwrap_err().to_string();
    assert!(message.contains("train.batch_size = 65"), "{message}");
    assert!(!dir.path.exists());

    run(&tiny(&["train.steps=1"]), &dir, &Options::default()).expect("trains");
    let other = Dataset { sha256: "another".into(), ..data() };
    let resume = Options { resume: true, ..Options::default() };
    let message =
        train(&tiny(&["train.steps=1"]), &other, &cpu(), &dir, &resume).unwrap_err().to_string();
    assert!(message.contains("open the same data"), "{message}");
}

/// Compares with AdamW and clipping in f64 on the host, from the same gradients.
#[test]
fn adamw_follows_its_definition() {
    let config =
        tiny(&["train.clip_norm=0.5", "train.encoder_lr_ratio=2", "train.weight_decay=0.05"]);
    let device = Device::flex();
    let state = State::new(&config, "", &device);
    let values = |named: &[parameters::Named]| -> HashMap<String, Vec<f64>> {
        let to_f64 = |t: &Tensor<1>| {
            t.to_data().try_to_vec::<f32>().expect("f32").into_iter().map(f64::from).collect()
        };
        named.iter().map(|t| (t.name.clone(), to_f64(&t.values))).collect()
    };
    let mut weights = values(&parameters::collect(&state.model.valid()));
    let (mut first, mut second) =
        (HashMap::<String, Vec<f64>>::new(), HashMap::<String, Vec<f64>>::new());
    let (mut model, mut optim, mut ema) = (state.model, state.optim, state.ema);
    let mut clipped = false;
    for number in 1..=3 {
        let images = rng::normal(&mut rng::stream(1, Purpose::Test, number), 4 * 3072);
        let x: Tensor<4> =
            Tensor::from_data(TensorData::new(images, [4, 3, 32, 32]), &device.clone().autodiff());
        let t = Tensor::from_floats([0.1, 0.4, 0.7, 1.0], &x.device());
        let z = model.encode(x.clone());
        let loss = (model.predict(x.clone(), t, z, Tensor::ones([4, 1], &x.device()), None, None)
            - x)
            .square()
            .mean()
            * 30.0;
        let grads = loss.backward();
        let host: HashMap<String, Vec<f64>> = collect_gradients(&model, &grads)
            .into_iter()
            .map(|(k, g)| {
                (
                    k,
                    g.to_data()
                        .try_to_vec::<f32>()
                        .expect("f32")
                        .into_iter()
                        .map(f64::from)
                        .collect(),
                )
            })
            .collect();
        let norm = host.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let by_name = collect_gradients(&model, &grads);
        let scale = (0.5 / (norm + 1e-6)).min(1.0);
        clipped |= scale < 1.0;
        let measured;
        (model, measured) = update(&mut optim, 1e-2, model, by_name, &mut ema, &config.train);
        assert_close("norm", &[measured.into_scalar::<f32>()], &[norm as f32], 1e-5, 0.0);

        for (name, grad) in &host {
            let lr = if name.starts_with("encoder.") { 2e-2 } else { 1e-2 };
            let m = first.entry(name.clone()).or_insert_with(|| vec![0.0; grad.len()]);
            let v = second.entry(name.clone()).or_insert_with(|| vec![0.0; grad.len()]);
            let w = weights.get_mut(name).expect("a parameter");
            for i in 0..grad.len() {
                let g = grad[i] * scale;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.95 * v[i] + 0.05 * g * g;
                let (mhat, vhat) = (
                    m[i] / (1.0 - 0.9f64.powi(number as i32)),
                    v[i] / (1.0 - 0.95f64.powi(number as i32)),
                );
                w[i] = w[i] * (1.0 - lr * 0.05) - lr * mhat / (vhat.sqrt() + 1e-8);
            }
        }
        for t in parameters::collect(&model.valid()).iter().filter(|t| host.contains_key(&t.name)) {
            let want: Vec<f32> = weights[&t.name].iter().map(|w| *w as f32).collect();
            // Adam divides by sqrt(v): if a gradient is all rounding error, so is the update, of
            // size lr at most.
            assert_close(
                &t.name,
                &t.values.to_data().try_to_vec::<f32>().expect("f32"),
                &want,
                1e-4,
                1e-4,
            );
        }
        // The host's copy continues from the device's weights, so that rounding errors don't add
        // up.
        weights = values(&parameters::collect(&model.valid()));
    }
    assert!(clipped, "gradients were never clipped");
}

#[test]
fn ema_averages_weights_and_copies_batch_norm_statistics() {
    let config = tiny(&["train.ema_decay=0.9", "train.ema_power=1"]);
    assert_eq!(Ema::decay(&config.train, 1), 0.5);
    assert_eq!(Ema::decay(&config.train, 100), 0.9);
    let device = Device::flex();
    let State { model, mut ema, mut optim, .. } = State::new(&config, "", &device);
    let values = |model: &Soda| -> HashMap<String, Vec<f32>> {
        let host =
            |t: parameters::Named| (t.name, t.values.to_data().try_to_vec::<f32>().expect("f32"));
        parameters::collect(model).into_iter().map(host).collect()
    };
    let before = values(&model.valid());
    let x: Tensor<4> = Tensor::ones([2, 3, 32, 32], &device.clone().autodiff());
    let z = model.encode(x.clone());
    let mask = Tensor::ones([2, 1], &x.device());
    let grads = model
        .predict(x.clone(), Tensor::ones([2], &x.device()), z, mask, None, None)
        .sum()
        .backward();
    let grads = collect_gradients(&model, &grads);
    let (model, _) = update(&mut optim, 1e-2, model, grads, &mut ema, &config.train);
    let (after, average) = (values(&model.valid()), values(&ema.model()));
    assert_eq!(after.len(), average.len());
    for (name, average) in &average {
        let (before, after) = (&before[name], &after[name]);
        assert!(before != after, "{name} didn't change");
        if parameters::is_statistic(name) {
            assert_eq!(average, after, "{name}");
        } else {
            let want: Vec<f32> = before.iter().zip(after).map(|(b, a)| 0.5 * b + 0.5 * a).collect();
            // One rounding.
            assert_close(name, average, &want, 1e-6, 0.0);
        }
    }
}

#[test]
fn the_learning_rate_warms_up_and_then_stays_or_falls() {
    let mut config = tiny(&["train.lr=1e-3", "train.warmup_steps=10"]).train;
    config.lr_schedule = LrSchedule::Constant;
    assert!((learning_rate(&config, 5, 0.05) - 5e-4).abs() < 1e-12);
    assert_eq!(learning_rate(&config, 10, 0.1), 1e-3);
    assert_eq!(learning_rate(&config, 99, 0.99), 1e-3);
    config.lr_schedule = LrSchedule::Cosine;
    assert!((learning_rate(&config, 50, 0.5) - 5e-4).abs() < 1e-12);
    assert!(learning_rate(&config, 100, 1.0) < 1e-12);
    // In the last fifth: 1 - sqrt of the fraction of it that is done.
    (config.lr_schedule, config.cooldown) = (LrSchedule::Constant, 0.2);
    for (progress, rate) in
        [(0.5, 1e-3), (0.79, 1e-3), (0.85, 5e-4), (0.95, 1e-3 * (1.0 - 0.75f64.sqrt())), (1.0, 0.0)]
    {
        let got = learning_rate(&config, 50, progress);
        assert!((got - rate).abs() < 1e-12, "{got} at {progress}");
    }
}

/// What recipes may switch on in addition to configs/quick.toml.
const SWITCHES: [&[&str]; 5] = [
    &["train.lr_schedule=constant", "train.cooldown=0.5"],
    &["train.decay_1d=false"],
    &["train.decorrelation=0.1"],
    &["data.source.color_jitter=0.8", "data.source.color_jitter_strength=1"],
    &["data.source.grayscale=0.5"],
];

#[test]
fn with_each_switch_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = |name: &str, config: &Config, interrupt: bool| {
        let at = RunDir::new(folder.path().join(name));
        let resume = Options { resume: true, ..Options::default() };
        if interrupt {
            let stop = Options { interrupt: Arc::new(AtomicBool::new(true)), ..resume.clone() };
            let steps = [1, 2, 3].map(|_| run(config, &at, &stop).expect("stops").steps);
            assert_eq!(steps, [1, 2, 3]);
        }
        run(config, &at, &resume).expect("trains");
        ["model.safetensors", "ema.safetensors", "optimizer.safetensors"]
            .map(|file| newest(&at, file))
    };
    // Keeps the last step's picture cheap.
    let small = ["train.steps=5", "train.checkpoint_every=100", "sample.steps=1"];
    let config = |sets: &[&str]| tiny(&[&small[..], sets].concat());
    let plain = weights("plain", &config(&[]), false);
    let constant = weights("constant", &config(&["train.lr_schedule=constant"]), false);
    for (i, sets) in SWITCHES.iter().enumerate() {
        let whole = weights(&format!("whole {i}"), &config(sets), false);
        let parts = weights(&format!("parts {i}"), &config(sets), true);
        assert!(whole == parts, "{sets:?}: resuming changes the weights");
        assert!(whole != plain && whole != constant, "{sets:?} does nothing");
    }
    // Values that mean off have no effect.
    let off = [
        "train.cooldown=0",
        "train.decay_1d=true",
        "train.decorrelation=0",
        "data.source.color_jitter=0",
    ];
    assert!(weights("off", &config(&off), false) == plain);
    // Nor does leaving the keys out of the recipe.
    let keys = [
        "cooldown",
        "decay_1d",
        "decorrelation",
        "color_jitter",
        "color_jitter_strength",
        "grayscale",
    ];
    let named = |line: &&str| keys.contains(&line.split('=').next().unwrap_or_default().trim());
    let quick = include_str!("../../configs/quick.toml");
    let bare: Vec<&str> = quick.lines().filter(|line| !named(line)).collect();
    assert!(keys.iter().all(|key| quick.lines().any(|line| line.starts_with(&format!("{key} =")))));
    assert!(weights("bare", &tiny_of(&bare.join("\n"), &small), false) == plain);
}

#[test]
fn gains_shifts_and_biases_keep_their_size_if_only_matrices_decay() {
    let stepped = |set: &str| {
        let config =
            tiny(&["train.clip_norm=0", "train.encoder_lr_ratio=1", "train.weight_decay=0.5", set]);
        let mut state = State::new(&config, "", &Device::flex());
        let values = |model: &Soda| -> HashMap<String, (usize, Vec<f32>)> {
            let named = parameters::collect(&model.valid()).into_iter();
            named
                .map(|t| (t.name, (t.shape.len(), t.values.to_data().try_to_vec().expect("f32"))))
                .collect()
        };
        let before = values(&state.model);
        // With gradients of 0, only weight decay changes anything.
        let zeros = parameters::collect(&state.model.valid())
            .into_iter()
            .filter(|t| !parameters::is_statistic(&t.name));
        let zeros = zeros.map(|t| (t.name, t.values.zeros_like())).collect();
        let (model, _) =
            update(&mut state.optim, 0.1, state.model, zeros, &mut state.ema, &config.train);
        (before, values(&model))
    };
    for (set, all) in [("train.decay_1d=true", true), ("train.decay_1d=false", false)] {
        let (before, after) = stepped(set);
        let mut seen = [0, 0];
        for (name, (dims, values)) in
            before.iter().filter(|(name, _)| !parameters::is_statistic(name))
        {
            let decays = all || *dims > 1;
            let want: Vec<f32> =
                values.iter().map(|v| if decays { 0.95 * v } else { *v }).collect();
            assert_close(name, &after[name].1, &want, 1e-6, 1e-12);
            seen[usize::from(*dims > 1)] += usize::from(values.iter().any(|v| *v != 0.0));
        }
        assert!(seen.iter().all(|n| *n > 3), "too few vectors or matrices aren't 0: {seen:?}");
    }
}

#[test]
fn a_run_that_continues_from_weights_continues_steps_and_random_streams_and_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| RunDir::new(folder.path().join(name));
    let with = |steps: &str| {
        tiny(&[steps, "train.lr_schedule=constant", "train.checkpoint_every=100", "sample.steps=1"])
    };
    let config = with("train.steps=4");
    run(&config, &at("first"), &Options::default()).expect("trains");
    let from =
        Arc::new(WeightsFile::open(&at("first").weights().expect("weights")).expect("weights"));
    let longer = with("train.steps=7");
    let on = Options { from: Some(from.clone()), continues: true, ..Options::default() };
    run(&longer, &at("whole"), &on).expect("continues");
    let rows = |name: &str| at(name).read_metrics().expect("metrics").rows;
    let counts: Vec<_> = rows("whole").iter().map(|r| (r.step, r.images)).collect();
    assert_eq!(counts, [(5, 40), (6, 48), (7, 56)]);
    // Warmup starts again: moments from one update are worth little.
    let rates: Vec<f64> = rows("whole").iter().map(|r| r.lr).collect();
    assert!(rates[0] < 0.6 * rates[1], "{rates:?}");
    let start = &at("whole").read_starts()[0];
    assert_eq!(
        (start.step, start.from.as_ref(), start.from_images),
        (4, Some(&from.sha256), Some(0))
    );

    // Stopped and resumed: after a step, and before there was a checkpoint.
    let stop = Options { interrupt: Arc::new(AtomicBool::new(true)), ..on.clone() };
    assert_eq!(run(&longer, &at("parts"), &stop).expect("stops").steps, 5);
    let resume = Options { resume: true, ..Options::default() };
    run(&longer, &at("parts"), &resume).expect("resumes");
    std::fs::create_dir_all(&at("killed").path).expect("a folder");
    for name in ["config.toml", "starts.jsonl"] {
        std::fs::copy(at("whole").path.join(name), at("killed").path.join(name)).expect("there");
    }
    run(&longer, &at("killed"), &Options { from: Some(from.clone()), ..resume.clone() })
        .expect("starts again");
    for file in ["model.safetensors", "ema.safetensors", "optimizer.safetensors"] {
        let whole = newest(&at("whole"), file);
        assert!(
            whole == newest(&at("parts"), file) && whole == newest(&at("killed"), file),
            "{file}"
        );
    }
    // Negative control: a new run from the same weights differs, with the random values of steps 1,
    // 2, 3 and a new EMA.
    let new = Options { from: Some(from.clone()), ..Options::default() };
    run(&with("train.steps=3"), &at("new"), &new).expect("trains");
    assert_eq!(
        rows("new").iter().map(|r| (r.step, r.images)).collect::<Vec<_>>(),
        [(1, 8), (2, 16), (3, 24)]
    );
    assert!(newest(&at("new"), "model.safetensors") != newest(&at("whole"), "model.safetensors"));
    // The EMA continues: its last 3 of 7 updates use the decays that follow four updates.
    let trained =
        State::continued(&longer, &from, &data().sha256, &Device::flex()).expect("continues");
    assert_eq!((trained.ema.updates, trained.optim.updates, trained.position.images), (4, 0, 32));
    // Recipes and data that can't be continued with.
    let message = |config: &Config, sha256: &str| {
        State::continued(config, &from, sha256, &Device::flex()).err().expect("refused").to_string()
    };
    assert!(message(&config, &data().sha256).contains("train.steps = 4"));
    assert!(message(&longer, "other").contains("other data"));
}

#[test]
fn event_files_hold_the_metrics_and_a_resumed_run_withdraws_later_steps() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(&[
        "train.tensorboard=true",
        "train.steps=4",
        "train.sample_every=2",
        "train.checkpoint_every=2",
        "train.keep_checkpoints=0",
    ]);
    let at = RunDir::new(folder.path().join("run"));
    run(&config, &at, &Options::default()).expect("trains");
    let files = || -> Vec<Vec<u8>> {
        let entries =
            std::fs::read_dir(&at.path).expect("readable").flatten().map(|entry| entry.path());
        let mut paths: Vec<_> = entries
            .filter(|path| path.to_string_lossy().contains("events.out.tfevents."))
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
    };
    let count = |bytes: &[u8], what: &str| {
        bytes.windows(what.len()).filter(|window| *window == what.as_bytes()).count()
    };
    let [first] = &files()[..] else { panic!("not one file") };
    let counts = ["train/loss", "reconstructions", "brain.Event:2", "tensorboard = true"]
        .map(|what| count(first, what));
    assert_eq!(counts, [4, 2, 1, 1]);
    // A loss of metrics.jsonl, in f32.
    let loss = at.read_metrics().expect("metrics").rows[2].loss as f32;
    assert!(first.windows(4).any(|window| window == loss.to_le_bytes()));
    // Resumed at step 2: steps 3 and 4 are withdrawn.
    std::fs::remove_dir_all(at.checkpoint(4)).expect("removed");
    run(&config, &at, &Options { resume: true, ..Options::default() }).expect("resumes");
    let [_, second] = &files()[..] else { panic!("not one file for each call") };
    // The second event: step 3, and a SessionLog with status START. A record is its length, a
    // checksum of that, the event and its checksum.
    let length = |at: usize| u64::from_le_bytes(*second[at..].first_chunk().expect("8 bytes"));
    let at_second = 16 + usize::try_from(length(0)).expect("short");
    let event = &second[at_second + 12..][..usize::try_from(length(at_second)).expect("short")];
    let start = [0x10, 3, 0x3a, 2, 8, 1];
    assert!(event.windows(start.len()).any(|bytes| bytes == start), "{event:x?}");

    let without = RunDir::new(folder.path().join("without"));
    run(&tiny(&["train.steps=1"]), &without, &Options::default()).expect("trains");
    assert!(
        !std::fs::read_dir(&without.path)
            .expect("readable")
            .flatten()
            .any(|e| e.file_name().to_string_lossy().contains("tfevents"))
    );
}
