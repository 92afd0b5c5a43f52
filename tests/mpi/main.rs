//! Training by several processes over MPI, started with `mpirun`; scripts/mpi.sh runs these tests.
//! (Linux only: processes are found in /proc.)

#[path = "../common/mod.rs"]
mod common;

#[path = "../recovery/faults/inject.rs"]
#[allow(dead_code, reason = "the tests of recovery inject more")]
mod inject;

use common::program::{TINY, fails, program, recipe, text};
use common::run::{newest, wait_for};
use inject::{Fault, inject};
use soda::model::parameters;
use soda::run_dir::RunDir;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Returns the arguments of a run of the tiny networks, without its run directory.
fn arguments(sets: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["train", "--config", &recipe(), "--device", "cpu"].map(str::to_owned).into();
    for set in TINY
        .iter()
        .chain(&["train.log_every=5", "train.sample_every=0", "train.checkpoint_every=5"])
        .chain(sets)
    {
        arguments.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    arguments
}

/// Returns mpirun's command for a container: root, fewer cores than processes.
fn mpirun(at: &Path, more: &[&str]) -> Command {
    let program = program(at);
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]);
    // For containers that forbid processes to read each other's memory.
    command.args(["--mca", "btl_vader_single_copy_mechanism", "none"]);
    command.args(more).current_dir(at).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "RAYON_NUM_THREADS"] {
        command.env(name, "1");
    }
    command
}

/// Returns the command of a run with `ranks` ranks.
fn by_ranks(at: &Path, ranks: usize, run: &str, more: &[&str], sets: &[&str]) -> Command {
    let mut command = mpirun(at, &["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_soda")]);
    command.args(arguments(sets)).args(["--run", run]).args(more);
    command
}

/// Runs one process.
fn alone(at: &Path, run: &str, more: &[&str], sets: &[&str]) -> Output {
    program(at)
        .args(arguments(sets))
        .args(["--run", run])
        .args(more)
        .output()
        .expect("the program starts")
}

/// Asserts that mpirun succeeded; returns what it printed.
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Tensors by file and name.
type Tensors = BTreeMap<(&'static str, String), Vec<f32>>;

/// Returns the Euclidean distance of the weights in training.
fn distance(a: &Tensors, b: &Tensors) -> f64 {
    let weights = a.iter().filter(|((file, name), _)| {
        *file == "model.safetensors" && !parameters::is_statistic(name)
    });
    let pairs = weights.flat_map(|(key, values)| values.iter().zip(&b[key]));
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// Returns weights, EMA and moments of the newest checkpoint.
fn tensors(at: &Path, run: &str) -> Tensors {
    let run = RunDir::new(at.join(run));
    let step = newest(&run);
    let files = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
    let read =
        |file| soda::model::weights::read(&run.checkpoint(step).join(file)).expect("readable").0;
    let named = |file| read(file).into_iter().map(move |(name, _, values)| ((file, name), values));
    files.into_iter().flat_map(named).collect()
}

/// Finds the process of `rank` of the run `run` by its environment.
fn process(at: &Path, run: &str, rank: usize) -> Option<u32> {
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| {
            let read =
                |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let holds = |bytes: &[u8], word: &str| {
                bytes.split(|b| *b == 0).any(|part| part == word.as_bytes())
            };
            let here = std::fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| Some(cwd) == at.canonicalize().ok());
            here && holds(&read("environ"), &wanted) && holds(&read("cmdline"), run)
        })
}

fn kill(pid: u32, signal: &str) {
    assert!(
        Command::new("kill")
            .args([&format!("-{signal}"), &pid.to_string()])
            .status()
            .expect("kill runs")
            .success()
    );
}

/// Starts a long run with two ranks and waits for its first checkpoint.
fn under_way(at: &Path, run: &str) -> Child {
    let child = by_ranks(at, 2, run, &[], &["train.steps=1000000"]).spawn().expect("mpirun starts");
    wait_for("a checkpoint", || newest(&RunDir::new(at.join(run))) > 0);
    child
}

/// Asserts that a run ends within a minute, with one error that contains all of `parts` and the
/// command that resumes it, and with an intact checkpoint.
fn ends(at: &Path, run: &str, device: &str, child: Child, parts: &[&str]) {
    let clock = Instant::now();
    let output = child.wait_with_output().expect("mpirun ends");
    let said = text(&output.stderr);
    assert!(clock.elapsed() < Duration::from_secs(60), "{:?}: {said}", clock.elapsed());
    assert!(!output.status.success(), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    let resume = format!("mpirun -n 2 soda train --resume --run {run} --device {device}");
    for part in parts.iter().chain(&[resume.as_str()]) {
        assert!(errors[0].contains(part), "{part}: {said}");
    }
    let run = RunDir::new(at.join(run));
    assert!(
        soda::train::checkpoint::damage(&run.checkpoint(newest(&run))).expect("readable").is_none()
    );
}

#[test]
fn two_and_three_ranks_end_bit_for_bit_where_one_process_does_and_resume_with_any_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let (mut before, mut at_six) = (BTreeMap::new(), BTreeMap::new());
    // 2 ranks, then 1, then 3; the batch of 8 isn't divided evenly among 3.
    for (ranks, steps, parts) in [(2, 6, "4"), (1, 11, "0"), (3, 16, "3")] {
        let (steps, cut) = (format!("train.steps={steps}"), format!("train.micro_batch={parts}"));
        let more: &[&str] = if before.is_empty() { &[] } else { &["--resume", "--allow-change"] };
        common::program::succeeds(&alone(at, "one", more, &[&steps, &cut]));
        let printed = match ranks {
            1 => common::program::succeeds(&alone(at, "many", more, &[&steps])),
            _ => {
                let more = [more, &["--json", "many.json"]].concat();
                succeeds(
                    &by_ranks(at, ranks, "many", &more, &[&steps]).output().expect("mpirun starts"),
                )
            }
        };
        // Only rank 0 prints.
        assert_eq!(printed.lines().count(), 2, "{printed}");
        let (one, many) = (tensors(at, "one"), tensors(at, "many"));
        assert!(one == many && !one.is_empty(), "{ranks} ranks");
        assert!(one != before);
        if before.is_empty() {
            at_six = one.clone();
        }
        before = one;
    }
    // Only rank 0 writes files.
    assert_eq!(common::program::json(&at.join("many.json"))["steps"], 16);
    // Negative control: the whole batch at once gives something else.
    common::program::succeeds(&alone(at, "whole", &[], &["train.steps=6"]));
    assert!(tensors(at, "whole") != at_six);
    // Sending f16, which has 11 bits, gives something else, too, but near: measured 7e-4 of what
    // five steps change.
    succeeds(
        &by_ranks(at, 2, "half", &["--wire", "f16"], &["train.steps=6"])
            .output()
            .expect("mpirun starts"),
    );
    assert_eq!(newest(&RunDir::new(at.join("half"))), 6);
    common::program::succeeds(&alone(at, "start", &[], &["train.steps=1"]));
    let (half, start) = (tensors(at, "half"), tensors(at, "start"));
    assert!(half != at_six, "--wire f16 has no effect");
    let (apart, moved) = (distance(&half, &at_six), distance(&start, &at_six));
    println!("f16: {apart:.2e} apart after moving by {moved:.2e}");
    assert!(apart.is_finite() && moved > 0.0 && apart < 0.01 * moved, "{apart} and {moved}");
}

#[test]
fn ranks_that_have_nothing_to_do_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    common::program::succeeds(&alone(at, "runs/a", &[], &["train.steps=2"]));
    let clock = Instant::now();
    // Without --run: the newest unfinished run, of which there is none.
    let mut nothing = mpirun(
        at,
        &["-n", "2", env!("CARGO_BIN_EXE_soda"), "train", "--resume", "--device", "cpu"],
    );
    succeeds(&nothing.output().expect("mpirun starts"));
    // With --run: a finished run.
    let printed = succeeds(
        &by_ranks(at, 2, "runs/a", &["--resume"], &["train.steps=2"])
            .output()
            .expect("mpirun starts"),
    );
    assert!(printed.contains("no step is left to resume"), "{printed}");
    assert!(clock.elapsed() < Duration::from_secs(120), "{:?}", clock.elapsed());
}

#[test]
fn a_rank_that_dies_ends_all_with_one_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (rank, run) in [(1, "first"), (0, "second")] {
        let child = under_way(at, run);
        kill(process(at, run, rank).expect("the rank"), "KILL");
        ends(
            at,
            run,
            "cpu",
            child,
            &[&format!("rank {rank} of 2"), "ended without an error message"],
        );
    }
    // The run can be resumed.
    let (run, sets) = ("first", ["train.steps=1000000"]);
    let step = newest(&RunDir::new(at.join(run)));
    let child = by_ranks(at, 2, run, &["--resume"], &sets).spawn().expect("mpirun starts");
    wait_for("another checkpoint", || newest(&RunDir::new(at.join(run))) > step);
    // Two signals that come together, as `timeout` sends them, count as one: all ranks end with a
    // checkpoint.
    let pid = process(at, run, 1).expect("the rank");
    kill(pid, "STOP");
    kill(pid, "TERM");
    kill(pid, "INT");
    kill(pid, "CONT");
    let output = child.wait_with_output().expect("mpirun ends");
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && !said.contains("error: "), "{said}");
    assert!(out.contains("stopped at step") && out.contains("checkpoint written"), "{out}");
}

/// The cache that records that the adapter has passed the self test, which takes longer than these
/// tests.
const TESTED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/tested");

/// Starts a run on an adapter with two ranks, the second of which has a driver with `fault` while
/// the file `when` exists, or always.
fn with_a_failing_driver(at: &Path, run: &str, fault: Fault, when: Option<&Path>) -> Child {
    let mut faulty = Command::new("none");
    inject(&mut faulty, fault, when);
    let variable = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
        let text = |os: &std::ffi::OsStr| os.to_str().expect("text").to_owned();
        Some(["-x".to_owned(), format!("{}={}", text(name), text(value?))])
    };
    let variables: Vec<String> = faulty.get_envs().filter_map(variable).flatten().collect();
    let mut one: Vec<String> = [env!("CARGO_BIN_EXE_soda")].map(str::to_owned).into();
    one.extend(
        arguments(&["train.steps=1000000"]).into_iter().chain(["--run".to_owned(), run.to_owned()]),
    );
    *one.iter_mut().find(|word| *word == "cpu").expect("a device") = "wgpu".into();
    let first = ["-n".to_owned(), "1".to_owned()].into_iter().chain(one.clone());
    let second = [":", "-n", "1"].map(str::to_owned).into_iter().chain(variables).chain(one);
    let words: Vec<String> = first.chain(second).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    mpirun(at, &words).env("XDG_CACHE_HOME", TESTED).spawn().expect("mpirun starts")
}

#[test]
fn a_rank_whose_device_fails_is_reported_and_nothing_is_restarted() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let saved = RunDir::new(at.join("lost")).checkpoint(5).join("COMPLETE");
    let child = with_a_failing_driver(at, "lost", Fault::Lost, Some(&saved));
    wait_for("a checkpoint", || saved.exists());
    ends(at, "lost", "wgpu", child, &["rank 1 of 2", "lost"]);

    // The weights alone take more. A single process would start again to find out how many images
    // fit.
    let child = with_a_failing_driver(at, "little", Fault::Memory(100_000), None);
    let output = child.wait_with_output().expect("mpirun ends");
    let said = text(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(!output.status.success() && errors.len() == 1, "{said}");
    assert!(
        errors[0].contains("rank 1 of 2") && errors[0].to_lowercase().contains("memory"),
        "{said}"
    );
    assert!(!said.contains("finding out how many images"), "{said}");
}

#[test]
fn a_rank_that_is_asked_to_stop_stops_all_with_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for rank in [0, 1] {
        let run = format!("run-{rank}");
        let child = under_way(at, &run);
        kill(process(at, &run, rank).expect("the rank"), "TERM");
        let printed = succeeds(&child.wait_with_output().expect("mpirun ends"));
        let step = newest(&RunDir::new(at.join(&run)));
        let resume = format!("mpirun -n 2 soda train --resume --run {run} --device cpu");
        assert!(
            printed.contains(&format!("stopped at step {step}")) && printed.contains(&resume),
            "{printed}"
        );
    }
}

#[test]
fn a_rank_that_fails_is_reported_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Two programs in one run, the second with a device that doesn't exist.
    let of = |more: &[&str]| {
        let mut words: Vec<String> =
            ["-n", "1", env!("CARGO_BIN_EXE_soda")].map(str::to_owned).into();
        words
            .extend(arguments(&["train.steps=20"]).into_iter().chain(["--run".into(), "r".into()]));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    };
    let both = |second: &[&str]| {
        let all = [of(&[]), vec![":".to_owned()], of(second)].concat();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        mpirun(at, &all).output().expect("mpirun starts")
    };
    let mut words = of(&[]);
    let device = words.iter().position(|word| word == "cpu").expect("a device");
    words[device] = "vulkan:99".into();
    let all = [of(&[]), vec![":".to_owned()], words].concat();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let output = mpirun(at, &all).output().expect("mpirun starts");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("error: rank 1 of 2"), "{said}");
    assert!(said.contains("--device: there is no device \"vulkan:99\""), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    // Nothing was started.
    assert!(!RunDir::new(at.join("r")).exists());

    // The second with other images.
    let data = at.join("data");
    for (class, colour) in [("a", 10), ("b", 200)] {
        std::fs::create_dir_all(data.join(class)).expect("a folder");
        for i in 0..20u8 {
            let image = image::RgbImage::from_pixel(32, 32, image::Rgb([colour, i, i]));
            image.save(data.join(class).join(format!("{i}.png"))).expect("writable");
        }
    }
    let output = both(&["--data", "data"]);
    let said = text(&output.stderr);
    assert!(
        !output.status.success()
            && said.contains("error: rank 0 of 2")
            && said.contains("rank 1 finds other images"),
        "{said}"
    );
}

#[test]
fn a_process_that_finds_no_others_although_there_should_be_some_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for name in ["SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
        let mut command = program(at);
        command.args(arguments(&["train.steps=1"])).args(["--run", "r"]).env(name, "2");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        fails(&command.output().expect("starts"), 2, &[name, "found no others", "env -u"]);
        // As the only process it trains.
        common::program::succeeds(&command.env_remove(name).output().expect("starts"));
        std::fs::remove_dir_all(at.join("r")).expect("there");
    }
    let mut command = program(at);
    command.args(arguments(&["train.steps=1"])).args(["--run", "r", "--shares", "2,1"]);
    fails(&command.output().expect("starts"), 2, &["--shares", "this is the only one"]);
}

#[test]
fn options_for_one_process_are_refused_for_several_before_anything_is_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let refused = |more: &[&str], sets: &[&str], parts: &[&str]| {
        let output = by_ranks(at, 2, "r", more, sets).output().expect("mpirun starts");
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
        assert!(!RunDir::new(at.join("r")).exists());
    };
    refused(&["--auto-batch"], &[], &["--auto-batch is for one process"]);
    refused(&["--shares", "1,1,1"], &[], &["there are 3 shares of a batch for 2 ranks"]);
    refused(&[], &["train.batch_size=1"], &["leaves one of 2 ranks without an image"]);
    refused(&[], &["train.micro_batch=[4,4]"], &["train.micro_batch is a list"]);
}
