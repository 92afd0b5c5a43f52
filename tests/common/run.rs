//! Training in a separate process, which tests interrupt.

use super::program::{TINY, program, recipe};
use soda::run_dir::RunDir;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Returns the command `soda train --resume` with the tiny networks, on the CPU, into `run`.
pub fn command(folder: &Path, run: &str, sets: &[&str]) -> Command {
    let mut command = program(folder);
    command.args(["train", "--resume", "--device", "cpu", "--run", run, "--config", &recipe()]);
    for set in TINY
        .iter()
        .chain(&["train.steps=1000000", "train.log_every=1", "train.sample_every=0"])
        .chain(sets)
    {
        command.args(["--set", set]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Returns `command` in a shell that first runs `limits` (ulimit, for example).
pub fn limited(command: &Command, limits: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("{limits}; exec \"$@\""))
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    shell.current_dir(command.get_current_dir().expect("a folder"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Waits until `there` returns true; panics after two minutes.
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let clock = Instant::now();
    while !there() {
        assert!(clock.elapsed() < Duration::from_secs(120), "{what} didn't happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal, for example `INT`.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(sent.success());
}

/// Returns the step of the newest complete checkpoint, or 0 if there is none.
pub fn newest(run: &RunDir) -> u64 {
    run.checkpoints().last().copied().unwrap_or(0)
}
