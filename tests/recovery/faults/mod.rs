//! Faults from below the program: a driver that loses its device, has little memory or computes
//! wrongly, a disk that is full, read-only or forbidden, a clock that jumps. Two small libraries
//! inject them, one between the program and the Vulkan driver, one between it and libc; the program
//! under test is the one that users have. (Linux only, because of how the libraries are loaded.)

#![cfg(target_os = "linux")]

mod inject;

use crate::common::program::{TINY, fails, program, recipe, succeeds, text};
use crate::common::run::{newest, signal, wait_for};
use inject::{Fault, inject};
use soda::run_dir::RunDir;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Returns the name of the adapter that the tests run on.
fn adapter() -> String {
    soda::device::select("wgpu").expect("an adapter; scripts/test.sh installs a software one").name
}

/// The cache that records that the adapter has passed the self test, for tests of other things: the
/// self test takes longer than most of them.
const TESTED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/tested");

/// Returns the command `soda train` with the tiny networks into `run` (empty: a new run), on a
/// graphics adapter unless `more` says otherwise.
fn train(at: &Path, run: &str, more: &[&str], sets: &[&str]) -> Command {
    let mut command = program(at);
    command.args(["train", "--config", &recipe()]);
    if !run.is_empty() {
        command.args(["--resume", "--run", run]);
    }
    if !more.contains(&"--device") {
        command.args(["--device", "wgpu"]);
    }
    for set in TINY
        .iter()
        .chain(&["train.log_every=1", "train.sample_every=0", "train.checkpoint_every=5"])
        .chain(sets)
    {
        command.args(["--set", set]);
    }
    command.args(more).env("XDG_CACHE_HOME", TESTED).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns weights, EMA and moments of the newest checkpoint.
fn tensors(run: &RunDir) -> Vec<Vec<u8>> {
    tensors_at(run, newest(run))
}

/// Returns weights, EMA and moments of the checkpoint of `step`.
fn tensors_at(run: &RunDir, step: u64) -> Vec<Vec<u8>> {
    let path = run.checkpoint(step);
    ["model.safetensors", "ema.safetensors", "optimizer.safetensors"]
        .map(|name| std::fs::read(path.join(name)).expect("there"))
        .into()
}

#[test]
fn a_lost_device_ends_training_with_the_command_that_resumes_it_and_costs_no_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let run = RunDir::new(at.join("r"));
    let sets = ["train.steps=10", "train.checkpoint_every=2"];
    let mut command = train(at, "r", &[], &sets);
    // Once the first checkpoint exists: in one of the next steps, or, if those are fast, in the
    // pictures after them.
    let output = inject(&mut command, Fault::Lost, Some(&run.checkpoint(2).join("COMPLETE")))
        .output()
        .expect("starts");
    fails(
        &output,
        1,
        &["lost", "checkpoints are intact", "soda train --resume --run r --device wgpu"],
    );
    let step = newest(&run);
    assert!((2..=10).contains(&step), "{step}");

    // The command in the message resumes the run, which ends where a run without the fault does.
    let mut named = program(at);
    named
        .args(["train", "--resume", "--run", "r", "--device", "wgpu"])
        .env("XDG_CACHE_HOME", TESTED);
    succeeds(&named.output().expect("starts"));
    succeeds(&train(at, "straight", &[], &sets).output().expect("starts"));
    let straight = RunDir::new(at.join("straight"));
    assert_eq!((newest(&run), newest(&straight)), (10, 10));
    assert!(tensors(&run) == tensors(&straight), "the resumed run ended elsewhere");
}

#[test]
fn a_device_whose_loss_only_waiting_calls_report_ends_the_program_with_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let run = RunDir::new(at.join("r"));
    let lost = run.checkpoint(2).join("COMPLETE");
    let mut command = train(at, "r", &[], &["train.steps=1000", "train.checkpoint_every=2"]);
    let child = inject(&mut command, Fault::LostWait, Some(&lost)).spawn().expect("starts");
    wait_for("a checkpoint", || lost.exists());
    let clock = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert!(clock.elapsed() < Duration::from_secs(60), "{:?}", clock.elapsed());
    let resume = "`soda train --resume --run r --device wgpu";
    let parts = [
        "checkpoints are intact",
        &format!("{resume} --set train.micro_batch=4 --allow-change`"),
        &format!("{resume}`"),
    ];
    fails(&output, 1, &[&parts[..], &["lost", "--auto-batch`", "preempt_timeout_ms"]].concat());
    let step = newest(&run);
    assert!(
        step >= 2
            && soda::train::checkpoint::damage(&run.checkpoint(step)).expect("readable").is_none()
    );
}

#[test]
fn work_that_the_device_silently_skips_is_detected_before_a_checkpoint_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // With a row for every step; and with none before the next checkpoint.
    for (name, rows) in [("rows", "train.log_every=1"), ("no_rows", "train.log_every=1000")] {
        let run = RunDir::new(at.join(name));
        let sets =
            ["train.steps=1000", "train.checkpoint_every=4", "train.keep_checkpoints=0", rows];
        let mut command = train(at, name, &[], &sets);
        let when = run.checkpoint(4).join("COMPLETE");
        let output = inject(&mut command, Fault::Silent(0), Some(&when)).output().expect("starts");
        fails(&output, 1, &["silently left out", "checkpoints are intact", "train.micro_batch=4"]);
        // The checkpoints from before the fault, whenever it happened.
        let (step, metrics) = (newest(&run), run.read_metrics().expect("metrics"));
        let row = metrics.rows.last().map_or(0, |row| row.step);
        assert!((4..1000).contains(&step) && row < 1000, "{step}, {row}");
        assert!(!run.failure().exists(), "a failed step is recorded");
        // They hold what a run without the fault computes.
        let straight = RunDir::new(at.join(format!("{name}_straight")));
        let path = straight.path.to_str().expect("a name");
        let child = train(at, path, &[], &sets).spawn().expect("starts");
        wait_for("as many steps", || newest(&straight) >= step);
        signal(&child, "INT");
        succeeds(&child.wait_with_output().expect("it ends"));
        for step in run.checkpoints() {
            let same = tensors_at(&run, step) == tensors_at(&straight, step);
            assert!(same, "{name}: work is missing in the checkpoint of step {step}");
        }
    }
}

#[test]
fn a_device_that_skips_what_is_too_large_gets_micro_batches_from_auto_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, "first", &[], &["train.steps=1"]).output().expect("starts"));
    let mut command = train(
        at,
        "r",
        &["--auto-batch", "--device", "wgpu"],
        &["train.batch_size=16", "train.steps=1"],
    );
    let output = inject(&mut command, Fault::Silent(60_000_000), None).output().expect("starts");
    let said = text(&output.stderr);
    assert!(said.contains("16 images at once are too many for the device"), "{said}");
    succeeds(&output);
    let run = RunDir::new(at.join("r"));
    let parts = run.read_config().expect("a recipe").train.at_once();
    assert!((1..16).contains(&parts), "{parts}");
    // The log has the memory that it takes on the adapter.
    let row = &run.read_metrics().expect("metrics").rows[0];
    let [reserved, used] =
        [row.pool_bytes, row.pool_bytes_used].map(|bytes| bytes.expect("an adapter has pools"));
    assert!(used > 100_000 && reserved >= used && reserved < 60_000_000, "{reserved}, {used}");
}

#[test]
fn a_device_with_too_little_memory_says_how_many_images_fit_and_auto_batch_trains_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // The self test, once per adapter, takes more.
    succeeds(&train(at, "first", &[], &["train.steps=1"]).output().expect("starts"));
    let little = Fault::Memory(60_000_000);
    let sets = ["train.batch_size=16", "train.steps=2"];
    // The program picks the run's name, since the command line doesn't.
    let output = inject(&mut train(at, "", &[], &sets), little, None).output().expect("starts");
    fails(
        &output,
        1,
        &[
            "Out of Memory",
            "images at once, not 16",
            "`soda train --resume --run runs/quick-1 --device wgpu --auto-batch`",
        ],
    );
    let said = text(&output.stderr);
    let number = |before: &str| {
        said.split(before).nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok())
    };
    let fits = number("has memory for ").expect("a number");
    assert!((1..16).contains(&fits) && said.lines().count() < 10, "{said}");

    let mut command = program(at);
    command.args([
        "train",
        "--resume",
        "--run",
        "runs/quick-1",
        "--device",
        "wgpu",
        "--auto-batch",
    ]);
    command.env("XDG_CACHE_HOME", TESTED);
    succeeds(&inject(&mut command, little, None).output().expect("starts"));
    let run = RunDir::new(at.join("runs/quick-1"));
    let config = run.read_config().expect("a recipe");
    assert_eq!((newest(&run), config.train.batch_size, config.train.at_once()), (2, 16, fits));
}

#[test]
fn other_commands_say_that_the_device_is_lost_or_lacks_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (fault, parts) in [
        (
            Fault::Lost,
            [
                "The device was lost, as drivers end work that takes too long",
                "run the command again",
            ],
        ),
        (
            Fault::LostWait,
            [
                "The device was lost, as drivers end work that takes too long",
                "run the command again",
            ],
        ),
        (Fault::Memory(3_000_000), ["emory", "process less at once"]),
    ] {
        for args in
            [&["embed", "--split", "test", "--limit", "8", "--out", "z.npy"][..], &["selftest"]]
        {
            let mut command = program(at);
            command.args(args).args(["--device", "wgpu"]);
            let output = inject(&mut command, fault, None).output().expect("starts");
            fails(&output, 1, &parts);
            assert!(
                !text(&output.stderr).contains("wrongly"),
                "a lost device is reported as one that computes wrongly"
            );
        }
        assert!(!at.join("z.npy").exists());
    }
}

#[test]
fn a_driver_that_computes_wrongly_is_refused_by_name_before_the_first_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let adapter = adapter();
    let name = adapter.as_str();
    let wrong = Fault::Wrong(50);
    let mut untested = train(at, "r", &[], &["train.steps=1"]);
    untested.env("XDG_CACHE_HOME", at.join("cache"));
    fails(&inject(&mut untested, wrong, None).output().expect("starts"), 1, &[name, "wrongly"]);
    assert!(!at.join("r").exists(), "training started on a driver that computes wrongly");
    let selftest = |fault: Option<&Path>| -> Output {
        let mut command = program(at);
        command.args(["selftest", "--device", "wgpu"]);
        inject(&mut command, wrong, fault).output().expect("starts")
    };
    fails(&selftest(None), 1, &[name, "wrongly"]);
    // With the layer in place but no fault it passes.
    succeeds(&selftest(Some(&at.join("never"))));
}

/// Returns the submissions, dispatches and buffer copies of a run of `steps` steps, on the adapter
/// as if it were a real GPU.
fn counts(at: &Path, steps: usize) -> [f64; 3] {
    let path = at.join(format!("counts_{steps}"));
    let (run, steps) = (format!("r{steps}"), format!("train.steps={steps}"));
    let mut command = program(at);
    command.args(["train", "--config", &recipe(), "--run", &run, "--device", "wgpu"]);
    for set in TINY.iter().chain(&[
        "train.batch_size=2",
        "train.checkpoint_every=1000",
        "train.sample_every=0",
        &steps,
    ]) {
        command.args(["--set", set]);
    }
    command
        .env("FAULT_COUNTS", &path)
        .env("SODA_CLASS", "gpu")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    succeeds(&inject(&mut command, Fault::Count, None).output().expect("starts"));
    let text = std::fs::read_to_string(path).expect("the counts");
    let numbers: Vec<f64> = text.split(' ').map(|n| n.parse().expect("a number")).collect();
    numbers.try_into().expect("three counts")
}

/// Submissions and copies cost driver time. (A step of configs/quick.toml at 8 channels: 88
/// submissions, 1,857 dispatches, 41 copies.)
#[test]
fn a_step_on_a_gpu_takes_few_submissions() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // The self test, once per adapter, comes first.
    counts(at, 1);
    let (few, many) = (counts(at, 2), counts(at, 4));
    let [submissions, dispatches, copies] = [0, 1, 2].map(|i| (many[i] - few[i]) / 2.0);
    println!("a step: {submissions} submissions, {dispatches} dispatches, {copies} copies");
    // Checks that the counts are plausible.
    assert!(
        dispatches > 300.0 && submissions >= 1.0,
        "{submissions} submissions, {dispatches} dispatches"
    );
    assert!(
        submissions < 100.0 && submissions < dispatches / 16.0,
        "{submissions} submissions a step, {dispatches} dispatches, {copies} copies"
    );
    assert!(copies < dispatches / 16.0, "{copies} copies a step, {dispatches} dispatches");
}

#[test]
fn a_clock_that_jumps_by_days_changes_nothing_but_the_times_of_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sets = ["train.steps=12", "train.evaluate_every=6", "train.evaluate_images=40"];
    let day = 86_400;
    let mut jumping = train(at, "jumping", &["--device", "cpu"], &sets);
    succeeds(&inject(&mut jumping, Fault::Clock(100 * day), None).output().expect("starts"));
    succeeds(&train(at, "steady", &["--device", "cpu"], &sets).output().expect("starts"));
    let (jumping, steady) = (RunDir::new(at.join("jumping")), RunDir::new(at.join("steady")));
    assert!(tensors(&jumping) == tensors(&steady), "the clock changed the training");
    let (rows, others) =
        (jumping.read_metrics().expect("rows"), steady.read_metrics().expect("rows"));
    let losses = |metrics: &soda::run_dir::Metrics| {
        metrics.rows.iter().map(|r| (r.step, r.loss)).collect::<Vec<_>>()
    };
    assert_eq!(losses(&rows), losses(&others));
    assert_eq!(rows.evaluations.len(), 2);
    // The seconds increase and are plausible.
    let seconds: Vec<f64> = rows.rows.iter().map(|r| r.seconds).collect();
    assert!(
        seconds.windows(2).all(|pair| pair[0] < pair[1]) && seconds[0] > 0.0 && seconds[11] < 600.0,
        "{seconds:?}"
    );
    // The clock did jump: the start is dated a hundred days off.
    let start: jiff::Timestamp = jumping.read_starts()[0].time.parse().expect("a time");
    let off = (start.as_second() - jiff::Timestamp::now().as_second()).abs();
    assert!((off - 100 * day).abs() < day, "{off} s off");
}

#[test]
fn a_disk_that_is_full_read_only_or_forbidden_during_a_save_costs_only_that_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Space for the weights but not for the EMA; and for nothing.
    let faults = [
        ("ENOSPC:200000", "No space left"),
        ("ENOSPC:0", "No space left"),
        ("EROFS", "Read-only file system"),
        ("EACCES", "Permission denied"),
    ];
    for (errno, said) in faults {
        for policy in ["stop", "continue"] {
            let name = format!("{}_{policy}", errno.replace(':', "_"));
            let run = RunDir::new(at.join(&name));
            let fails_now = at.join(format!("{name}_now"));
            let policy_set = format!("train.on_save_error={policy}");
            let mut command =
                train(at, &name, &["--device", "cpu"], &["train.steps=1000000", &policy_set]);
            inject(&mut command, Fault::Disk(errno, "/checkpoints/"), Some(&fails_now));
            let child = command.spawn().expect("starts");
            wait_for("a checkpoint", || newest(&run) >= 5);
            std::fs::write(&fails_now, b"").expect("writable");
            let logged = || run.read_metrics().map_or(0, |m| m.rows.last().map_or(0, |r| r.step));
            if policy == "continue" {
                let (step, saved) = (logged(), newest(&run));
                wait_for("steps over three checkpoints", || logged() >= step + 20);
                assert!(newest(&run) <= saved + 10, "checkpoints were written nevertheless");
                let kept = run.checkpoint(newest(&run));
                assert!(soda::train::checkpoint::damage(&kept).expect("readable").is_none());
                assert!(run.leftovers("partial").len() <= 1, "partial checkpoints pile up");
                std::fs::remove_file(&fails_now).expect("there");
                let step = logged();
                wait_for("a checkpoint once there is room", || newest(&run) > step);
                signal(&child, "INT");
                let output = child.wait_with_output().expect("it ends");
                succeeds(&output);
                let said_all = text(&output.stderr);
                assert!(
                    said_all.contains(said) && said_all.contains("training continues"),
                    "{said_all}"
                );
            } else {
                let output = child.wait_with_output().expect("it ends");
                fails(&output, 1, &["cannot write the checkpoint of step", said]);
            }
            std::fs::remove_file(&fails_now).ok();
            // The remaining checkpoints are intact, and the run resumes.
            let step = newest(&run);
            let more = format!("train.steps={}", step + 1);
            succeeds(
                &train(at, &name, &["--device", "cpu", "--allow-change"], &[&more, &policy_set])
                    .output()
                    .expect("starts"),
            );
            assert_eq!(newest(&run), step + 1);
        }
    }
}
