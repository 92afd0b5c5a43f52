//! What `soda train` reports before and while it starts: what a run needs, which recipes there are,
//! when it ends.

use crate::common::program::{TINY, fails, program, recipe, soda, succeeds, text, train};
use soda::config::Config;
use std::path::Path;
use std::time::{Duration, Instant};

/// Puts `--set` before each of `sets`.
fn set<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    sets.iter().flat_map(|set| ["--set", *set]).collect()
}

#[test]
fn without_a_recipe_a_cpu_gets_two_commands_and_no_run_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let output = soda(at, &["train", "--device", "cpu", "--data", "bundled"]);
    fails(&output, 2, &["`soda train` without --config", "configs/cifar10.toml"]);
    let said = text(&output.stderr);
    let commands: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("  soda ")).collect();
    assert_eq!(commands.len(), 2, "{said}");
    for (command, wanted) in
        commands.iter().zip(["--config quick ", "--config small --max-minutes 120 "])
    {
        assert!(command.contains(wanted), "{command}");
        // The command as printed, without the remark after it.
        let mut words =
            shlex::split(command.split("    (").next().expect("a command")).expect("whole quotes");
        assert!(
            words.ends_with(&["--data", "bundled", "--device", "cpu"].map(str::to_owned)),
            "{words:?}"
        );
        words.extend(set(&TINY).iter().map(|word| (*word).to_owned()).chain(["--dry-run".into()]));
        succeeds(&program(at).args(&words).output().expect("starts"));
    }
    assert!(!at.join("runs").exists());
    // Naming the recipe starts it.
    let mut args = vec!["train", "--device", "cpu", "--config", "cifar10"];
    args.extend(set(&TINY));
    args.extend(set(&["train.steps=1", "train.evaluate_every=0"]));
    succeeds(&soda(at, &args));
    assert!(at.join("runs/cifar10-1/config.toml").exists());
}

#[test]
fn a_new_run_takes_no_folder_of_other_things_and_resuming_needs_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::create_dir_all(at.join("photos/cat")).expect("a folder");
    let mut args = vec!["train", "--config", "quick", "--device", "cpu", "--run", "photos"];
    args.extend(set(&TINY));
    fails(&soda(at, &args), 2, &["--run photos: this folder holds photos/cat and no run"]);
    let quick = ["quickstart", "--out", "photos", "--device", "cpu"];
    fails(&soda(at, &quick), 2, &["--out photos: this folder holds photos/cat and no run"]);
    assert_eq!(std::fs::read_dir(at.join("photos")).expect("there").count(), 1);
    let resume = |run: &str| soda(at, &["train", "--resume", "--device", "cpu", "--run", run]);
    fails(&resume("photos"), 2, &["--resume: photos holds no run"]);
    fails(&resume("none"), 2, &["--resume: none does not exist"]);
    // The log of a launcher does no harm.
    std::fs::create_dir_all(at.join("r")).expect("a folder");
    std::fs::write(at.join("r/log.txt"), "a line").expect("written");
    args[6] = "r";
    args.extend(set(&["train.steps=1", "train.evaluate_every=0"]));
    succeeds(&soda(at, &args));
}

#[test]
fn a_batch_beyond_the_adapters_buffers_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut args = vec!["train", "--config", "quick", "--device", "wgpu", "--run", "r"];
    args.extend(set(&TINY));
    // The widest map, concatenated with its skip connection, takes 3 GiB or more.
    args.extend(set(&["model.unet.base=64", "train.batch_size=5000"]));
    fails(
        &soda(folder.path(), &args),
        2,
        &["5000 images at once make a tensor of", "--set train.micro_batch=", "--auto-batch"],
    );
    assert!(!folder.path().join("r/config.toml").exists());
}

#[test]
fn a_dry_run_prints_the_recipe_and_reports_what_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut args =
        vec!["train", "--dry-run", "--config", "tiny", "--device", "cpu", "--max-minutes", "0.2"];
    args.extend(set(&TINY));
    let output = soda(folder.path(), &args);
    let recipe = Config::parse(&succeeds(&output), "standard output", &[])
        .expect("a recipe and nothing else");
    let sets = TINY.map(str::to_owned);
    assert_eq!(recipe, Config::load(Path::new("configs/tiny.toml"), &sets).expect("the recipe"));
    let said = text(&output.stderr);
    let line = |name: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        found.unwrap_or_else(|| panic!("no {name} in {said}")).to_owned()
    };
    assert!(line("device").starts_with("cpu: CPU"), "{said}");
    assert!(line("data").contains("5,000 training"), "{said}");
    assert_eq!(line("steps"), "80,000 of 8 images (128 epochs)");
    assert!(line("parameters").ends_with("(encoder + denoiser)"), "{said}");
    assert!(line("memory").ends_with("MiB"), "{said}");
    assert!(line("disk").contains("3 checkpoints of 1 MiB"), "not two and the best one: {said}");
    assert!(line("rate").contains(" images/s"), "{said}");
    assert!(
        line("time").starts_with("ends after 0.2 minutes (--max-minutes), near step "),
        "{said}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("readable").count(),
        0,
        "something was written"
    );
    // What the run would refuse.
    let other = ["train", "--dry-run", "--config", "tiny", "--from", "shipped", "--device", "cpu"];
    fails(
        &soda(folder.path(), &other),
        2,
        &["differs from the recipe in [model]", "layer_modulation: false -> true"],
    );
}

#[test]
fn a_dry_run_on_an_adapter_counts_the_tensors_of_a_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = |images: &str| {
        let mut args = vec!["train", "--dry-run", "--config", "quick", "--device", "wgpu"];
        args.extend(set(&TINY));
        args.extend(set(&[images]));
        let output = soda(folder.path(), &args);
        succeeds(&output);
        let said = text(&output.stderr);
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("memory "))
            .unwrap_or_else(|| panic!("{said}"));
        let mib = line
            .trim()
            .strip_prefix("about ")
            .and_then(|line| line.strip_suffix(" MiB on the adapter, in tensors"));
        mib.and_then(|mib| mib.parse::<u64>().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    // Most of it is proportional to the images. Nothing is computed: compiling would take seconds.
    let [few, many] = ["train.batch_size=16", "train.batch_size=64"].map(memory);
    assert!((3 * few..5 * few).contains(&many), "{few} {many}");
}

#[test]
fn built_in_recipes_are_found_by_name_and_a_wrong_name_lists_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let output = soda(at, &["train", "--config", "tinny", "--dry-run"]);
    fails(
        &output,
        1,
        &["tinny", "check the path", "cifar10, cifar10-generate, finetune", "did you mean tiny?"],
    );
    // A file of that name takes precedence.
    std::fs::write(at.join("quick"), "seed = 1").expect("writable");
    fails(&soda(at, &["train", "--config", "quick", "--dry-run"]), 2, &["quick: missing field"]);
    // A folder isn't a recipe.
    std::fs::create_dir(at.join("tiny")).expect("writable");
    let args =
        [&["train", "--config", "tiny", "--dry-run", "--device", "cpu"][..], &set(&TINY)].concat();
    assert!(succeeds(&soda(at, &args)).contains("[model.unet]"));
}

#[test]
fn a_time_limit_ends_a_run_with_its_closing_work_and_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sets = set(&[
        "train.steps=1000000",
        "train.log_every=100000",
        "train.evaluate_every=100000",
        "train.evaluate_images=100",
    ]);
    let clock = Instant::now();
    let output = train(at, &[&["--run", "r", "--max-minutes", "0.05"][..], &sets].concat());
    assert!(clock.elapsed() < Duration::from_secs(60), "{:?}", clock.elapsed());
    let (out, said) = (succeeds(&output), text(&output.stderr));
    for part in [
        "parameters ",
        "taking step 1 of 1,000,000",
        "the first step took",
        "--max-minutes 0.05 ends the run at step ",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    // On a busy machine there may be no time for scores.
    let scored = said.contains("k-NN") || said.contains("the last step isn't scored");
    assert!(said.contains(" (--max-minutes 0.05), near step ") && scored, "{said}");
    let steps: u64 = out.split(' ').next().and_then(|n| n.parse().ok()).expect("steps");
    assert!(steps > 1 && at.join(format!("r/samples/step_{steps}.png")).exists(), "{out}");

    let output =
        train(at, &["--run", "short", "--max-minutes", "0.00001", "--set", "train.steps=1000"]);
    assert!(succeeds(&output).starts_with("1 step"), "{}", text(&output.stdout));
    assert!(
        text(&output.stderr)
            .contains("longer than --max-minutes 0.00001 allows: training takes one step and ends")
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_answered_within_a_second_whatever_a_step_takes() {
    use crate::common::run::{command, signal, wait_for};
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().expect("a folder");
    // A step takes minutes, on any machine.
    let slow = [
        "train.batch_size=512",
        "train.micro_batch=8",
        "train.denoisings=64",
        "model.encoder.base=32",
        "model.unet.base=32",
        "train.log_every=1000",
    ];
    let mut child = command(folder.path(), "slow", &slow)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    wait_for("the start", || folder.path().join("slow/metrics.jsonl").exists());
    let mut lines =
        BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("taking step 1 of 1,000,000")));
    let clock = Instant::now();
    signal(&child, "INT");
    let answer = lines.find(|line| line.starts_with("finishing")).expect("an answer");
    assert!(clock.elapsed() < Duration::from_secs(1), "{:?}", clock.elapsed());
    assert_eq!(answer, "finishing step 1, then saving a checkpoint; Ctrl-C again ends at once");
    // Signals that come together, as `timeout` sends them, count as one; a later one ends the program.
    let code = loop {
        std::thread::sleep(Duration::from_millis(600));
        match child.try_wait().expect("a process") {
            Some(status) => break status.code(),
            None => signal(&child, "INT"),
        }
    };
    assert_eq!(code, Some(130));
    assert!(clock.elapsed() < Duration::from_secs(30), "{:?}", clock.elapsed());
}

#[test]
fn one_of_several_processes_is_refused_by_a_program_without_mpi() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, launcher) in
        [("OMPI_COMM_WORLD_SIZE", "mpirun"), ("SLURM_NTASKS", "srun"), ("PMI_SIZE", "mpiexec")]
    {
        let mut command = program(folder.path());
        command.args([
            "train",
            "--config",
            &recipe(),
            "--device",
            "cpu",
            "--run",
            "r",
            "--set",
            "train.steps=1",
        ]);
        command.args(TINY.iter().flat_map(|set| ["--set", set]));
        fails(
            &command.env(name, "2").output().expect("starts"),
            2,
            &[name, launcher, "without MPI", "--features mpi", "env -u"],
        );
        succeeds(&command.env(name, "1").output().expect("starts"));
        std::fs::remove_dir_all(folder.path().join("r")).expect("there");
    }
    fails(
        &train(folder.path(), &["--run", "r", "--wire", "f16"]),
        2,
        &["--wire", "this is the only one"],
    );
}
