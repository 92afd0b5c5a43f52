//! Runs that survive: what a kill, a full disk, damaged files, a second process or a closed
//! terminal may cost, and what it may not.

#![cfg(unix)] // signals, links, limits of the shell

use crate::common::program::{fails, program, soda, succeeds, text, train};
use crate::common::run::{command, limited, newest, signal, wait_for};
use soda::device::Selected;
use soda::run_dir::RunDir;
use soda::train::checkpoint;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn load(run: &RunDir, said: &mut Vec<String>) -> soda::error::Result<Option<checkpoint::State>> {
    let config = run.read_config().expect("the run's recipe");
    checkpoint::load(run, &config, &Selected::cpu("a test").device, &mut |line| {
        said.push(line.to_owned())
    })
}

/// Flips one bit in the middle of `path`.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn a_hundred_kills_at_random_moments_lose_at_most_an_interval_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("r"));
    let interval = 2;
    let mut moments = soda::rng::stream(5, soda::rng::Purpose::Test, 0);
    let (mut kills, mut reached, mut within_a_save) = (0, 0, 0);
    while kills < 150 {
        let mut child =
            command(folder.path(), "r", &["train.checkpoint_every=2", "train.keep_checkpoints=2"])
                .spawn()
                .expect("starts");
        let before = reached;
        // Every third process runs until it has saved something, so that the run progresses, and
        // every third is killed as it starts. Until a kill has hit a save, one is aimed at it.
        let aim = kills % 3 == 1 && within_a_save == 0;
        wait_for("a step", || {
            assert!(
                child.try_wait().expect("a process").is_none(),
                "training ended by itself after {kills} kills"
            );
            match kills % 3 {
                0 => newest(&run) > before,
                1 if aim => !run.leftovers(soda::run_dir::PARTIAL).is_empty(),
                1 => {
                    run.read_metrics().is_ok_and(|m| m.rows.last().is_some_and(|r| r.step > before))
                }
                _ => true,
            }
        });
        let moment = rand::RngExt::random_range(&mut moments, 0..100_000);
        std::thread::sleep(Duration::from_micros(if aim { 0 } else { moment }));
        child.kill().expect("SIGKILL");
        child.wait().expect("dead");
        kills += 1;
        within_a_save += usize::from(!run.leftovers(soda::run_dir::PARTIAL).is_empty());
        // The steps in the log, whose last line may be truncated.
        let trained = run
            .read_metrics()
            .expect("every line but the last is whole")
            .rows
            .last()
            .map_or(0, |r| r.step);
        let mut said = Vec::new();
        let state = load(&run, &mut said).expect("the newest whole checkpoint");
        let found = state.map_or(0, |s| s.position.step);
        // At most one interval, and the steps during the writing of a checkpoint, which are at most
        // another.
        assert!(
            found >= before && trained <= found + 2 * interval,
            "{trained} trained, {found} found after {kills} kills"
        );
        assert!(
            said.len() <= 1 && said.iter().all(|line| line.contains("not completely written")),
            "{said:?}"
        );
        reached = found;
    }
    assert!(reached >= 100, "{kills} kills left step {reached}");
    assert!(within_a_save > 0, "no kill hit a save");
    println!("{kills} kills survived, {within_a_save} of them during a save; step {reached}");
}

#[test]
fn an_interrupt_finishes_the_step_saves_and_exits_0_and_a_second_one_exits_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["INT", "TERM"] {
        let run = RunDir::new(folder.path().join(name));
        let mut command = command(folder.path(), name, &["train.checkpoint_every=1000000"]);
        let child = command.stdout(Stdio::piped()).spawn().expect("starts");
        wait_for("a step", || run.read_metrics().is_ok_and(|m| !m.rows.is_empty()));
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name}: {out}");
        assert!(out.contains(&format!("soda train --resume --run {name} --device cpu")), "{out}");
        let last = run.read_metrics().expect("metrics").rows.last().expect("a row").step;
        assert_eq!(newest(&run), last, "the last step is saved");
    }
    // During a step that takes minutes, on any machine, a second signal doesn't wait for the step.
    let slow = [
        "train.batch_size=512",
        "train.micro_batch=8",
        "train.denoisings=64",
        "model.encoder.base=32",
        "model.unet.base=32",
        "train.log_every=1000",
    ];
    let mut child = command(folder.path(), "slow", &slow).spawn().expect("starts");
    wait_for("the start", || folder.path().join("slow/metrics.jsonl").exists());
    std::thread::sleep(Duration::from_millis(300));
    let clock = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().expect("a process") {
            break status.code();
        }
        // If the second signal arrives before the first is handled, they count as one.
        let _ = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(code, Some(130), "it ended without the second signal");
    assert!(clock.elapsed() < Duration::from_secs(30), "{:?}", clock.elapsed());
}

#[test]
fn damage_of_every_kind_to_the_newest_checkpoint_falls_back_to_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let files =
        ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "COMPLETE"];
    let sets = [
        "--set",
        "train.steps=4",
        "--set",
        "train.checkpoint_every=2",
        "--set",
        "train.keep_checkpoints=2",
    ];
    succeeds(&train(folder.path(), &[&["--run", "r"][..], &sets].concat()));
    let whole = RunDir::new(folder.path().join("r"));
    assert_eq!(whole.checkpoints(), [2, 4]);
    let mut faults = 0;
    for file in files {
        for (kind, damage) in [
            ("a flipped bit", (|path| flip(path)) as fn(&Path)),
            ("truncation", |path| {
                std::fs::write(path, &std::fs::read(path).expect("there")[..100]).expect("writable")
            }),
            ("a missing file", |path| std::fs::remove_file(path).expect("there")),
            ("an empty file", |path| std::fs::write(path, b"").expect("writable")),
        ] {
            let copy = folder.path().join("copy");
            let _ = std::fs::remove_dir_all(&copy);
            copy_folder(&whole.path, &copy);
            let run = RunDir::new(&copy);
            damage(&run.checkpoint(4).join(file));
            if file == "ema.safetensors" && kind == "a flipped bit" {
                fails(
                    &soda(
                        folder.path(),
                        &[
                            "embed", "--split", "test", "--run", "copy", "--limit", "5", "--out",
                            "z.npy",
                        ],
                    ),
                    1,
                    &["ema.safetensors is damaged", "checksum"],
                );
            }
            let mut said = Vec::new();
            let state = load(&run, &mut said).expect("falls back").expect("a state");
            assert_eq!(state.position.step, 2, "{kind} of {file}");
            // A damaged marker makes the file with the changed checksum look damaged.
            let named =
                said[0].contains(file) || (file == "COMPLETE" && said[0].contains("step_4"));
            assert!(said.len() == 1 && named && said[0].contains("going back"), "{said:?}");
            // The damaged checkpoint is moved aside: the next call reports nothing.
            said.clear();
            load(&run, &mut said).expect("loads").expect("a state");
            assert!(
                said.is_empty() && run.checkpoint(4).with_extension("damaged").exists(),
                "{said:?}"
            );
            faults += 1;
        }
    }
    assert_eq!(faults, 20);
    // A complete one is loaded silently.
    let mut said = Vec::new();
    assert_eq!(load(&whole, &mut said).expect("loads").expect("a state").position.step, 4);
    assert!(said.is_empty());
    // Without a marker a checkpoint is damaged; if all are damaged, that is an error.
    std::fs::remove_file(whole.checkpoint(4).join(soda::run_dir::COMPLETE)).expect("there");
    flip(&whole.checkpoint(2).join("model.safetensors"));
    // Every time: a run isn't restarted because all of its checkpoints are damaged.
    for _ in 0..2 {
        let message = load(&whole, &mut said).err().expect("nothing whole is left").to_string();
        assert!(
            message.contains("COMPLETE is missing") && message.contains("no whole checkpoint"),
            "{message}"
        );
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn a_second_process_is_refused_and_the_lock_of_a_dead_one_is_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("r"));
    let mut first = command(folder.path(), "r", &[]).spawn().expect("starts");
    wait_for("a step", || run.read_metrics().is_ok_and(|m| !m.rows.is_empty()));
    let resume = ["train", "--device", "cpu", "--run", "r", "--resume"];
    fails(
        &soda(folder.path(), &resume),
        2,
        &["being trained by", &format!("process {}", first.id()), "--run"],
    );
    first.kill().expect("SIGKILL");
    first.wait().expect("dead");
    let more = ["--set", "train.steps=1", "--allow-change"];
    succeeds(&soda(folder.path(), &[&resume[..], &more].concat()));
}

#[test]
fn a_run_without_its_recipe_is_not_restarted() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    let run = RunDir::new(at.join("r"));
    std::fs::remove_file(run.config()).expect("there");
    let before = std::fs::read(run.metrics()).expect("there");
    for more in [&["--run", "r"][..], &["--run", "r", "--resume", "--set", "train.batch_size=4"]] {
        fails(
            &train(at, more),
            2,
            &["no config.toml", "--from r/checkpoints/step_2/ema.safetensors"],
        );
    }
    assert_eq!(
        (run.checkpoints(), std::fs::read(run.metrics()).expect("there")),
        (vec![2], before)
    );
}

#[test]
fn output_that_cannot_be_printed_is_an_error_unless_the_reader_has_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let print = |stdout: Stdio| {
        let mut command = program(folder.path());
        command
            .args(["train", "--dry-run", "--config", "configs/quick.toml"])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let mut gone = print(Stdio::piped());
    drop(gone.stdout.take());
    assert!(gone.wait().expect("ends").success());
    if cfg!(target_os = "linux") {
        let full = std::fs::File::create("/dev/full").expect("a device");
        fails(
            &print(full.into()).wait_with_output().expect("ends"),
            1,
            &["can't be printed", "No space left"],
        );
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one_and_sets_the_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    let run = RunDir::new(at.join("r"));
    let before = std::fs::read(run.checkpoint(2).join("model.safetensors")).expect("there");
    let again = |policy: &str| {
        let (policy, steps) = (format!("train.on_save_error={policy}"), "train.steps=8");
        let mut command = command(at, "r", &[&policy, steps, "train.checkpoint_every=2"]);
        command.arg("--allow-change");
        // 200 blocks of 512 bytes: enough for recipe, log and loss curve, but not for the weights
        // (180 KB).
        limited(&command, "trap '' XFSZ; ulimit -f 200").output().expect("starts")
    };
    let output = again("stop");
    fails(&output, 1, &["cannot write the checkpoint of step 4 in"]);
    let last = run.read_metrics().expect("metrics").rows.last().expect("a row").step;
    assert!(last < 8, "training continued to step {last}");

    let output = again("continue");
    fails(&output, 1, &["cannot write the checkpoint of step 8 in"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("cannot write the checkpoint of step 4 in")
            && said.contains("training continues"),
        "{said}"
    );
    assert_eq!(run.read_metrics().expect("metrics").rows.last().expect("a row").step, 8);

    // The old checkpoint is intact, and with enough space the run resumes from it.
    assert_eq!(run.checkpoints(), [2]);
    assert_eq!(std::fs::read(run.checkpoint(2).join("model.safetensors")).expect("there"), before);
    succeeds(&soda(at, &["train", "--device", "cpu", "--run", "r", "--resume"]));
    assert_eq!(newest(&run), 8);
}

#[test]
fn a_file_in_the_way_of_the_checkpoints_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("r")).expect("writable");
    std::fs::write(folder.path().join("r/checkpoints"), b"in the way").expect("writable");
    // Detected before training, not after it.
    fails(&train(folder.path(), &["--run", "r"]), 1, &["cannot read", "checkpoints"]);
}

#[test]
fn a_full_disk_for_the_log_does_not_end_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let run = RunDir::new(at.join("r"));
    let mut child = command(at, "r", &["train.checkpoint_every=2"]).spawn().expect("starts");
    wait_for("a step", || run.read_metrics().is_ok_and(|m| !m.rows.is_empty()));
    // Writing to /dev/full fails with no space left.
    let moved = at.join("moved.jsonl");
    std::fs::hard_link(run.metrics(), &moved).expect("kept");
    std::os::unix::fs::symlink("/dev/full", at.join("full")).expect("linked");
    std::fs::rename(at.join("full"), run.metrics()).expect("in its place at once");
    let step = newest(&run);
    wait_for("more steps", || newest(&run) > step + 4);
    assert!(child.try_wait().expect("a process").is_none(), "training ended");
    // With space again, rows follow, each on its own line.
    std::fs::remove_file(run.metrics()).expect("there");
    wait_for("a row", || run.read_metrics().is_ok_and(|m| m.rows.len() > 3));
    signal(&child, "INT");
    assert!(child.wait().expect("it ends").success());
    for file in [run.metrics(), moved] {
        for line in std::fs::read_to_string(file).expect("there").lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("every line is JSON");
        }
    }
}

#[test]
fn a_closed_terminal_and_a_moved_log_do_not_end_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("r"));
    let mut command = command(
        folder.path(),
        "r",
        &["train.evaluate_every=3", "train.evaluate_images=40", "train.checkpoint_every=2"],
    );
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // Nothing reads its output any more.
    drop((child.stdout.take(), child.stderr.take()));
    wait_for("a step", || run.read_metrics().is_ok_and(|m| !m.rows.is_empty()));
    signal(&child, "HUP");
    std::fs::rename(run.metrics(), folder.path().join("metrics.jsonl.1")).expect("rotated");
    wait_for("new rows", || {
        run.read_metrics().is_ok_and(|m| m.rows.len() > 3 && m.evaluations.len() > 1)
    });
    assert!(child.try_wait().expect("a process").is_none(), "training ended");
    let rows = |path: &Path| std::fs::read_to_string(path).expect("there").lines().count();
    assert!(rows(&folder.path().join("metrics.jsonl.1")) > 0);
    child.kill().expect("SIGKILL");
    child.wait().expect("dead");
    // Resuming reads what is there.
    let mut again = self::command(folder.path(), "r", &[]);
    again.args(["--set", "train.steps=1", "--allow-change"]);
    assert!(again.status().expect("starts").success());
}

#[test]
fn a_clock_that_jumps_changes_nothing_but_the_times_of_starts() {
    // Steps are timed with a monotonic clock; only starts.jsonl has the time of day.
    for file in [
        "run.rs",
        "run/start.rs",
        "run/bookkeeping.rs",
        "run/log.rs",
        "step.rs",
        "optim.rs",
        "checkpoint.rs",
        "saver.rs",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/train").join(file);
        let text = std::fs::read_to_string(path).expect("there");
        let wall: Vec<&str> =
            text.lines().filter(|l| l.contains("SystemTime") || l.contains("Timestamp")).collect();
        let allowed = if file == "run/start.rs" { 1 } else { 0 };
        assert_eq!(wall.len(), allowed, "{file}: {wall:?}");
    }
}
