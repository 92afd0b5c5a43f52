//! Resuming: with another recipe, on another device, from other weights, with less memory, and
//! replaying a failed step.

#![cfg(unix)] // signals, links, limits of the shell

use crate::common::program::{TINY, fails, json, recipe, soda, succeeds, text, train};
use crate::common::run::{command, limited, newest};
use soda::config::MicroBatch;
use soda::run_dir::RunDir;

#[test]
fn another_recipe_is_refused_key_by_key_unless_allowed_and_other_networks_always() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    let resume = [
        "train",
        "--device",
        "cpu",
        "--run",
        "r",
        "--resume",
        "--set",
        "train.steps=4",
        "--set",
        "train.batch_size=16",
    ];
    fails(
        &soda(at, &resume),
        2,
        &["train.batch_size: 8 -> 16", "train.steps: 2 -> 4", "--allow-change"],
    );
    let run = RunDir::new(at.join("r"));
    assert_eq!((newest(&run), run.read_config().expect("a recipe").train.batch_size), (2, 8));
    let allowed = [&resume[..], &["--allow-change"]].concat();
    let output = soda(at, &allowed);
    succeeds(&output);
    assert!(text(&output.stderr).contains("a changed recipe"), "{}", text(&output.stderr));
    assert_eq!((newest(&run), run.read_config().expect("a recipe").train.batch_size), (4, 16));
    let rows = run.read_metrics().expect("metrics").rows;
    assert_eq!(rows.iter().map(|r| (r.step, r.images)).collect::<Vec<_>>(), [(2, 16), (4, 48)]);
    let other = [
        "train",
        "--device",
        "cpu",
        "--run",
        "r",
        "--resume",
        "--allow-change",
        "--set",
        "model.z_dim=16",
    ];
    fails(&soda(at, &other), 2, &["model.z_dim: 8 -> 16", "[model]"]);
}

#[test]
fn resuming_on_another_device_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    let run = RunDir::new(at.join("r"));
    let more = ["train", "--run", "r", "--resume", "--device", "cpu", "--allow-change", "--set"];
    let output = soda(at, &[&more[..], &["train.steps=3"]].concat());
    succeeds(&output);
    assert!(!text(&output.stderr).contains("last digits"), "the same device");
    // As if it had run on another device so far.
    let starts = std::fs::read_to_string(run.starts()).expect("there");
    std::fs::write(run.starts(), starts.replace("\"device\":\"cpu\"", "\"device\":\"metal\""))
        .expect("writable");
    let output = soda(at, &[&more[..], &["train.steps=4"]].concat());
    succeeds(&output);
    let said = text(&output.stderr);
    assert!(said.contains("so far r ran on metal") && said.contains("last digits"), "{said}");
}

#[test]
fn a_failed_step_is_reported_and_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sets = [
        "train.lr=1e30",
        "train.steps=50",
        "train.clip_norm=0",
        "train.checkpoint_every=50",
        "train.log_every=4",
    ];
    let mut args = vec!["--run", "r"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let output = train(at, &args);
    fails(&output, 1, &["at step", "lr", "seed 1", "soda replay --run r", "train.lr"]);
    let run = RunDir::new(at.join("r"));
    let failed: serde_json::Value = json(&run.failure());
    let step = failed["step"].as_u64().expect("a step");
    assert!(
        newest(&run) < step && !step.is_multiple_of(4),
        "the failed step was saved, or found only by the next row"
    );
    // The step's own rate, not the row's: warmup adds a hundredth per step, and the cosine takes
    // almost nothing away.
    let lr = failed["lr"].as_f64().expect("a rate");
    assert!((lr / (1e28 * step as f64) - 1.0).abs() < 0.02, "{lr} at step {step}");
    let out =
        succeeds(&soda(at, &["replay", "--run", "r", "--device", "cpu", "--json", "replay.json"]));
    assert!(out.contains(&format!("step {step}: ")), "{out}");
    let replayed = json(&at.join("replay.json"));
    assert_eq!((&replayed["step"], &replayed["finite"]), (&step.into(), &false.into()));
    assert_eq!(replayed["images"].as_array().expect("a batch").len(), 8);

    // A good step is replayed with the same loss, bit for bit.
    succeeds(&train(
        at,
        &[
            "--run",
            "good",
            "--set",
            "train.checkpoint_every=1",
            "--set",
            "train.log_every=1",
            "--set",
            "train.keep_checkpoints=0",
        ],
    ));
    succeeds(&soda(
        at,
        &["replay", "--run", "good", "--step", "2", "--device", "cpu", "--json", "replay.json"],
    ));
    let row = RunDir::new(at.join("good")).read_metrics().expect("metrics").rows[1].clone();
    let replayed = json(&at.join("replay.json"));
    assert_eq!(
        (replayed["loss"].as_f64(), replayed["grad_norm"].as_f64()),
        (Some(row.loss), Some(row.grad_norm))
    );
    assert_eq!(replayed["finite"], true);
    fails(&soda(at, &["replay", "--run", "good", "--device", "cpu"]), 2, &["--step"]);
    fails(
        &soda(at, &["replay", "--run", "good", "--step", "99", "--device", "cpu"]),
        2,
        &["--step 99: good has "],
    );
}

#[test]
fn the_best_checkpoint_by_k_nn_is_kept_in_addition_to_the_newest() {
    let folder = tempfile::tempdir().expect("a folder");
    let sets = [
        "train.steps=12",
        "train.checkpoint_every=1",
        "train.keep_checkpoints=2",
        "train.evaluate_every=2",
        "train.evaluate_images=40",
    ];
    let mut args = vec!["--run", "r"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    succeeds(&train(folder.path(), &args));
    let run = RunDir::new(folder.path().join("r"));
    let all: Vec<u64> = (1..=12).collect();
    let best = run.read_metrics().expect("metrics").best(&all).expect("scores").step;
    let kept = run.checkpoints();
    assert!(
        kept.contains(&best) && kept.contains(&11) && kept.contains(&12) && kept.len() <= 3,
        "{kept:?}, best {best}"
    );

    // The log is removed, and there are no new scores.
    std::fs::remove_file(run.metrics()).expect("there");
    let more = ["--set", "train.steps=16", "--set", "train.evaluate_every=0", "--allow-change"];
    succeeds(&soda(
        folder.path(),
        &[&["train", "--resume", "--run", "r", "--device", "cpu"], &more[..]].concat(),
    ));
    let kept = run.checkpoints();
    assert!(
        kept.contains(&best) && kept.contains(&15) && kept.contains(&16) && kept.len() == 3,
        "{kept:?}, best {best}"
    );
}

#[test]
fn a_run_that_starts_from_weights_has_exactly_those_before_its_first_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "first"]));
    let weights = "first/checkpoints/step_2/ema.safetensors";
    // With a rate of almost zero the weights don't change.
    let sets = ["--set", "train.lr=1e-30", "--set", "train.steps=1"];
    let from =
        [&["train", "--device", "cpu", "--from", weights, "--run", "second"][..], &sets].concat();
    succeeds(&soda(at, &from));
    let read = |run: &str, step: u64, file: &str| {
        let (tensors, _) =
            soda::model::weights::read(&at.join(format!("{run}/checkpoints/step_{step}/{file}")))
                .expect("weights");
        let weights =
            tensors.into_iter().filter(|(name, ..)| !soda::model::parameters::is_statistic(name));
        weights
            .map(|(name, _, values)| (name, values))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let began = read("second", 1, "model.safetensors");
    assert!(began == read("first", 2, "ema.safetensors"), "other weights than those named");
    assert!(
        began != read("first", 2, "model.safetensors"),
        "the EMA and the last weights are the same"
    );
    let starts = RunDir::new(at.join("second")).read_starts();
    assert_eq!(starts[0].from.as_ref().expect("recorded").len(), 64);
    // Other networks are refused.
    let other = [
        &["train", "--device", "cpu", "--from", weights, "--run", "third"][..],
        &["--set", "model.z_dim=16"],
    ]
    .concat();
    fails(&soda(at, &other), 2, &["[model]", weights]);
    assert!(!at.join("third").exists());
    // Without a checkpoint, a resumed run starts from the same weights again.
    let second = RunDir::new(at.join("second"));
    std::fs::remove_dir_all(second.path.join("checkpoints")).expect("there");
    let resume = ["train", "--device", "cpu", "--run", "second", "--resume"];
    succeeds(&soda(at, &resume));
    assert!(read("second", 1, "model.safetensors") == began, "other weights than before");
    // If they are gone or changed, --from must name them.
    std::fs::remove_dir_all(second.path.join("checkpoints")).expect("there");
    std::fs::copy(
        at.join("first/checkpoints/step_2/model.safetensors"),
        at.join("other.safetensors"),
    )
    .expect("there");
    fails(
        &soda(at, &[&resume[..], &["--from", "other.safetensors"]].concat()),
        2,
        &["other weights", "--from"],
    );
    std::fs::rename(at.join("first"), at.join("moved")).expect("there");
    fails(&soda(at, &resume), 2, &["second", "first/checkpoints/step_2/ema.safetensors", "--from"]);
}

#[test]
fn a_cooldown_ends_a_copy_of_a_run_that_can_itself_be_resumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sets = [
        "train.lr_schedule=constant",
        "train.steps=40",
        "train.checkpoint_every=4",
        "train.log_every=1",
        "train.warmup_steps=1",
    ];
    let long = |run: &str, steps: &str| {
        let mut args = vec!["--run", run];
        args.extend(sets.iter().chain(&[steps]).flat_map(|set| ["--set", set]));
        train(at, &args)
    };
    // As if it had been stopped after four of its steps.
    succeeds(&long("r", "train.steps=4"));
    let resume = |run: &str, more: &[&str]| {
        soda(at, &[&["train", "--resume", "--device", "cpu", "--run", run], more].concat())
    };
    let cool = |run: &str, length: &str| resume(run, &["--cooldown", length]);
    let out = succeeds(&cool("r", "4"));
    assert!(out.contains("r-cooldown-4"), "{out}");
    let (run, cooled) = (RunDir::new(at.join("r")), RunDir::new(at.join("r-cooldown-4")));
    assert_eq!((run.checkpoints(), newest(&cooled)), (vec![4], 8));
    let listed = succeeds(&soda(at, &["runs", "r-cooldown-4"]));
    let row = listed.lines().nth(1).expect("a row");
    assert!(row.split_whitespace().any(|word| word == "r"), "its run isn't named: {listed}");
    let rates = |run: &RunDir| {
        run.read_metrics().expect("metrics").rows.iter().map(|r| r.lr).collect::<Vec<_>>()
    };
    let (before, after) = (rates(&run), rates(&cooled));
    assert_eq!((before.len(), &after[..4]), (4, &before[..]), "its log lacks the steps before");
    let share = [0.25f64, 0.5, 0.75, 1.0].map(|over| before[3] * (1.0 - over.sqrt()));
    assert!(after[4..].iter().zip(share).all(|(lr, want)| (lr - want).abs() < 1e-9), "{after:?}");
    // The long run resumes as if nothing had happened.
    let on = ["--allow-change", "--set", "train.steps=6"];
    succeeds(&resume("r", &on));
    succeeds(&long("uninterrupted", "train.steps=6"));
    let tensors = |run: &str| {
        let file = at.join(run).join("checkpoints/step_6/model.safetensors");
        let tensors = soda::model::weights::read(&file).expect("weights").0;
        tensors
            .into_iter()
            .map(|(name, _, values)| (name, values))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    assert!(tensors("r") == tensors("uninterrupted"));
    // A call that fails before it trains leaves no copy behind.
    let args = ["train", "--resume", "--run", "r", "--cooldown", "2"];
    fails(&soda(at, &[&args[..], &["--device", "nope"]].concat()), 2, &["nope"]);
    assert!(!at.join("r-cooldown-6").exists());
    std::fs::create_dir(at.join("r-cooldown-6")).expect("a folder");
    fails(&cool("r", "2"), 2, &["r-cooldown-6 already exists and holds no run"]);
    std::fs::remove_dir(at.join("r-cooldown-6")).expect("an empty folder");
    // A cooldown is refused for a run that is one itself, if the copy exists already, or without a
    // constant rate.
    let again = cool("r-cooldown-4", "4");
    fails(&again, 2, &["already falls"]);
    succeeds(&cool("r", "0.25"));
    assert_eq!(
        RunDir::new(at.join("r-cooldown-6")).read_config().expect("a recipe").train.steps,
        8
    );
    fails(&cool("r", "2"), 2, &["r-cooldown-6 already exists", "--resume --run"]);
    succeeds(&train(at, &["--run", "cosine"]));
    fails(&cool("cosine", "2"), 2, &["already falls"]);
    fails(&cool("nothing", "2"), 2, &["nothing does not exist", "name a run directory"]);
    assert_eq!(
        soda(at, &["train", "--run", "r", "--cooldown", "2"]).status.code(),
        Some(2),
        "--cooldown without --resume is accepted"
    );
}

#[test]
fn auto_batch_finds_how_many_images_fit_and_keeps_the_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sets = ["train.batch_size=1024", "train.steps=1", "data.threads=1"];
    let mut command = command(at, "r", &sets);
    command.arg("--auto-batch");
    // Address space for only a part of the batch. (The rest of the training may then need too much;
    // on a GPU that is separate memory.)
    let mut shell = limited(&command, "ulimit -v 800000");
    // The stacks and arenas of many threads would take all of it.
    shell.env("RAYON_NUM_THREADS", "2").env("MALLOC_ARENA_MAX", "1");
    let said = text(&shell.output().expect("starts").stderr);
    #[cfg(target_os = "linux")] // other systems don't enforce such a limit
    assert!(
        said.contains("1024 images at once are too many") && said.contains("of batches of 1024"),
        "{said}"
    );

    // With enough memory there are no micro-batches.
    let recipe = recipe();
    let mut args = vec![
        "train",
        "--resume",
        "--run",
        "s",
        "--auto-batch",
        "--device",
        "cpu",
        "--config",
        &recipe,
    ];
    TINY.iter().chain(&["train.steps=1"]).for_each(|set| args.extend(["--set", set]));
    let said = text(&soda(at, &args).stderr);
    assert!(said.contains("processing 8 images at once, of batches of 8"), "{said}");
    assert_eq!(
        RunDir::new(at.join("s")).read_config().expect("a recipe").train.micro_batch,
        MicroBatch::default()
    );
}
