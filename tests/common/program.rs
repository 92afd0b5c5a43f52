//! Runs the program in a separate folder, with small networks, and checks its output.

use std::path::Path;
use std::process::{Command, Output};

/// Networks that train in a moment.
pub const TINY: [&str; 11] = [
    "model.z_dim=8",
    "model.encoder.base=4",
    "model.unet.base=8",
    "model.unet.multipliers=[1,2]",
    "model.unet.groups=2",
    "model.unet.final_groups=2",
    "train.batch_size=8",
    "sample.sampler=ddim",
    "sample.steps=2",
    // Pure noise: otherwise the linear decoder would be fitted to all bundled images each time.
    "sample.start=1",
    "probe.epochs=1",
];

/// Returns the program's command in `folder`, which is also its home.
pub fn program(folder: &Path) -> Command {
    at_home(Command::new(env!("CARGO_BIN_EXE_soda")), folder)
}

/// Returns a shell in `folder`, which is also its home, that runs `script` and has the program in
/// its path as `soda`.
#[cfg(unix)]
pub fn shell(folder: &Path, script: &str) -> Command {
    let found = Path::new(env!("CARGO_BIN_EXE_soda")).parent().expect("a folder").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([found].into_iter().chain(std::env::split_paths(&others)))
        .expect("no colon in a folder");
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PATH", path);
    at_home(command, folder)
}

fn at_home(mut command: Command, folder: &Path) -> Command {
    // Mesa's cache of compiled shaders isn't the program's: without this, every shader would be
    // compiled again for each home.
    command.env("MESA_SHADER_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/shaders"));
    command.current_dir(folder).env("HOME", folder).env("XDG_CACHE_HOME", folder.join("cache"));
    // What a launcher or the user of the tests has set, which tests set themselves where they need
    // it.
    for name in [
        "SODA_DATA",
        "SODA_PROGRESS",
        "SODA_SIMD",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "OMPI_COMM_WORLD_SIZE",
        "PMI_SIZE",
        "SLURM_NTASKS",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs [`program`].
pub fn soda(folder: &Path, args: &[&str]) -> Output {
    program(folder).args(args).output().expect("the program starts")
}

/// Returns the path of configs/quick.toml.
pub fn recipe() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quick.toml").to_owned()
}

/// Runs `soda train` with the tiny networks, on the CPU unless `more` says otherwise.
pub fn train(folder: &Path, more: &[&str]) -> Output {
    let recipe = recipe();
    let mut args = vec!["train", "--config", &recipe];
    if !more.contains(&"--device") {
        args.extend(["--device", "cpu"]);
    }
    for set in TINY.iter().chain(&["train.steps=2"]) {
        args.extend(["--set", set]);
    }
    args.extend(more);
    soda(folder, &args)
}

/// Returns output as a string.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts that the error is one line on stderr that contains all of `parts`, with exit status
/// `code` and no panic.
#[track_caller]
pub fn fails(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|l| l.starts_with("error: ") && !l.contains("XDG_RUNTIME_DIR"))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    // A list may follow in lines of its own.
    let message = &stderr[stderr.find(errors[0]).expect("it is there")..];
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Asserts that a run succeeded; returns what it printed.
#[track_caller]
pub fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Reads a JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("the JSON file")).expect("JSON")
}
