//! Where results go: files of several kinds, standard output, pipes and devices; only regular files
//! are ever replaced.

#![cfg(unix)]

use crate::common::program::{fails, json, program, soda, succeeds, text, train};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// A run of two steps.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(&train(folder.path(), &["--run", "r"]));
    folder
});

fn at(name: &str) -> std::path::PathBuf {
    RUN.path().join(name)
}

fn run(args: &[&str]) -> Output {
    // `soda devices` has no --device.
    let device: &[&str] = if args[0] == "devices" { &[] } else { &["--device", "cpu"] };
    soda(RUN.path(), &[args, device].concat())
}

fn reconstruct(more: &[&str]) -> Output {
    run(&[&["reconstruct", "--run", "r", "-n", "2", "--steps", "1"], more].concat())
}

fn parse(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", text(bytes)))
}

fn is_png(bytes: &[u8]) -> bool {
    image::guess_format(bytes).is_ok_and(|f| f == image::ImageFormat::Png)
        && image::load_from_memory(bytes).is_ok()
}

/// Returns `command`'s output, and what it writes to a pipe called `name`.
fn through_pipe(name: &str, command: impl FnOnce() -> Output) -> (Output, Vec<u8>) {
    assert!(Command::new("mkfifo").arg(at(name)).status().expect("mkfifo runs").success());
    let path = at(name);
    let reader = std::thread::spawn(move || std::fs::read(path).expect("a pipe"));
    let output = command();
    if !output.status.success() {
        // Nothing else will write: the reader would wait forever.
        std::fs::OpenOptions::new().write(true).open(at(name)).expect("a pipe");
    }
    let bytes = reader.join().expect("read");
    assert!(
        at(name).symlink_metadata().expect("there").file_type().is_fifo(),
        "{name} was replaced"
    );
    (output, bytes)
}

#[test]
fn json_is_alone_on_standard_output() {
    for args in [
        &["devices"][..],
        &["reconstruct", "--run", "r", "-n", "2", "--steps", "1", "--out", "j.png"],
    ] {
        let plain = run(args);
        let lines = succeeds(&plain);
        let output = run(&[args, &["--json", "-"]].concat());
        assert_eq!(parse(succeeds(&output).as_bytes())["command"], args[0]);
        // The usual output goes to standard error instead.
        let err = text(&output.stderr);
        assert!(
            !lines.is_empty() && lines.lines().all(|line| err.contains(line)),
            "{lines}\n{err}"
        );
        let named = run(&[args, &["--json", "/dev/stdout"]].concat());
        assert_eq!(parse(&named.stdout)["command"], args[0]);
    }
    assert!(
        !at("-").exists()
            && Path::new("/dev/stdout").symlink_metadata().expect("there").is_symlink()
    );
    // If standard output is a file, it isn't replaced.
    let file = std::fs::File::create(at("stdout.json")).expect("a file");
    let mut command = program(RUN.path());
    let child =
        command.args(["devices", "--json", "/dev/stdout"]).stdout(file).stderr(Stdio::null());
    assert!(child.status().expect("starts").success());
    assert_eq!(json(&at("stdout.json"))["command"], "devices");
}

#[test]
fn pictures_features_and_weights_go_to_standard_output() {
    let output = reconstruct(&["--out", "-", "--json", "o.json"]);
    assert!(output.status.success() && is_png(&output.stdout), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("; picture standard output"));
    assert_eq!((&json(&at("o.json"))["out"], &json(&at("o.json"))["n"]), (&"-".into(), &2.into()));

    let output = run(&["embed", "--split", "test", "--limit", "3", "--run", "r", "--out", "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.starts_with(b"\x93NUMPY") && output.stdout.len() % 64 == 3 * 8 * 4 % 64);
    assert!(text(&output.stderr).contains("3 x 8 features (z) in standard output at "));

    let export = ["export", "--run", "r", "--half"];
    let output = run(&[&export[..], &["--out", "-"]].concat());
    assert!(
        output.status.success() && text(&output.stderr).contains("z of 100 test images"),
        "{}",
        text(&output.stderr)
    );
    succeeds(&run(&[&export[..], &["--out", "half.safetensors"]].concat()));
    assert!(
        output.stdout == std::fs::read(at("half.safetensors")).expect("written"),
        "the file differs"
    );

    fails(
        &reconstruct(&["--out", "-", "--json", "-"]),
        2,
        &["--json and --out", "standard output"],
    );
    fails(
        &reconstruct(&["--out", "same.png", "--json", "./same.png"]),
        2,
        &["--json and --out", "same.png"],
    );
    assert!(!at("same.png").exists());
}

#[test]
fn pipes_are_written_to_and_closed_at_the_end() {
    let (output, bytes) = through_pipe("picture", || reconstruct(&["--out", "picture"]));
    assert!(succeeds(&output).contains("picture picture") && is_png(&bytes));
    let (output, bytes) =
        through_pipe("report.json", || run(&["devices", "--json", "report.json"]));
    assert!(succeeds(&output).contains("auto takes") && parse(&bytes)["adapters"].is_array());
    let embed = ["embed", "--split", "test", "--limit", "3", "--run", "r", "--out"];
    let (output, bytes) = through_pipe("features", || run(&[&embed[..], &["features"]].concat()));
    succeeds(&output);
    succeeds(&run(&[&embed[..], &["features.npy"]].concat()));
    assert!(bytes == std::fs::read(at("features.npy")).expect("written"));
    // A reader that closes the pipe early isn't a failure, for printed results either.
    for script in [
        "soda devices --json - | head -c 1",
        "soda devices | true; soda devices --json last.json | true",
    ] {
        let output = crate::common::program::shell(RUN.path(), script).output().expect("a shell");
        assert!(
            output.status.success() && !text(&output.stderr).contains("error"),
            "{}",
            text(&output.stderr)
        );
    }
    assert_eq!(json(&at("last.json"))["command"], "devices");
}

#[test]
fn links_and_devices_are_not_replaced() {
    std::fs::create_dir_all(at("kept")).expect("a folder");
    std::fs::write(at("kept/r.json"), "old").expect("written");
    symlink("kept/r.json", at("latest.json")).expect("linked");
    symlink("kept/p.jpg", at("latest.jpg")).expect("linked");
    symlink("/dev/null", at("null")).expect("linked");
    succeeds(&reconstruct(&["--out", "latest.jpg", "--json", "latest.json"]));
    assert_eq!(json(&at("kept/r.json"))["command"], "reconstruct");
    assert!(std::fs::read(at("kept/p.jpg")).expect("the target").starts_with(&[0xff, 0xd8]));
    for link in ["latest.json", "latest.jpg"] {
        assert!(at(link).symlink_metadata().expect("there").is_symlink(), "{link}");
    }
    // Through a link, because a command that replaced the file would replace the device for all
    // programs.
    succeeds(&reconstruct(&["--out", "null", "--json", "null"]));
    assert!(at("null").symlink_metadata().expect("there").is_symlink());
    assert!(std::fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    if cfg!(target_os = "linux") {
        symlink("/dev/full", at("full")).expect("linked");
        fails(&run(&["devices", "--json", "full"]), 1, &["cannot write full", "No space left"]);
        let full = std::fs::File::create("/dev/full").expect("a device");
        let mut command = program(RUN.path());
        let child = command
            .args(["devices", "--json", "-"])
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        fails(
            &child.wait_with_output().expect("it ends"),
            1,
            &["to standard output", "No space left"],
        );
    }
}

#[test]
fn the_name_of_a_picture_selects_its_format_and_others_are_refused_before_the_work() {
    use image::ImageFormat::{Bmp, Jpeg, Png, WebP};
    for (name, format) in
        [("p.png", Png), ("p.jpg", Jpeg), ("p.JPEG", Jpeg), ("p.webp", WebP), ("p.bmp", Bmp)]
    {
        succeeds(&reconstruct(&["--out", name]));
        assert_eq!(
            image::guess_format(&std::fs::read(at(name)).expect("written")).expect("a picture"),
            format,
            "{name}"
        );
    }
    for name in ["p.tiff", "p", "p.gif"] {
        let output = reconstruct(&["--out", name, "--json", "never.json"]);
        fails(&output, 2, &["--out", name, ".png, .jpg, .jpeg, .webp or .bmp"]);
        assert!(!text(&output.stderr).contains("reconstruct with"), "refused only after the work");
        assert!(!at(name).exists() && !at("never.json").exists());
    }
    fails(&run(&["bench", "--plot", "bars.txt"]), 2, &["--plot bars.txt", ".png"]);
    // Every output path is checked before anything is done.
    let output = reconstruct(&["--out", "q.png", "--json", "p.png/x.json"]);
    fails(&output, 1, &["p.png/x.json"]);
    assert!(!at("q.png").exists());
    fails(&run(&["devices", "--json", "r"]), 2, &["r is a folder"]);
    symlink("circle", at("circle")).expect("linked");
    fails(&run(&["devices", "--json", "circle"]), 2, &["circle", "leads back to itself"]);
}

#[test]
fn a_run_directory_that_links_to_another_disk_is_resumed_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    std::fs::create_dir_all(here.join("disk/checkpoints")).expect("a folder");
    std::fs::create_dir_all(here.join("r")).expect("a folder");
    for name in ["checkpoints", "metrics.jsonl", "starts.jsonl", "config.toml", "loss.png"] {
        symlink(here.join("disk").join(name), here.join("r").join(name)).expect("linked");
    }
    let half = here.join("disk/metrics.jsonlAb12Cd.partial");
    for steps in ["train.steps=1", "train.steps=2"] {
        // A partial file, as after a kill.
        std::fs::write(&half, "{").expect("written");
        succeeds(&train(here, &["--run", "r", "--resume", "--allow-change", "--set", steps]));
        for name in ["checkpoints", "metrics.jsonl", "starts.jsonl", "config.toml", "loss.png"] {
            assert!(
                here.join("r").join(name).symlink_metadata().expect("there").is_symlink(),
                "{name} after {steps}"
            );
            assert!(here.join("disk").join(name).exists(), "{name} after {steps}");
        }
        assert!(
            steps.ends_with('1') || !half.exists(),
            "the partial file isn't removed from the other disk"
        );
    }
    let metrics = std::fs::read_to_string(here.join("disk/metrics.jsonl")).expect("there");
    assert!(metrics.contains("\"step\":1,") && metrics.contains("\"step\":2,"), "{metrics}");
}

#[test]
fn names_that_are_not_unicode_are_refused_before_the_work() {
    let name = std::ffi::OsStr::from_bytes(b"r\xe9.png");
    let args = ["reconstruct", "--run", "r", "--device", "cpu", "-n", "1", "--out"];
    let output = program(RUN.path()).args(args).arg(name).output().expect("starts");
    fails(&output, 2, &["isn't valid UTF-8"]);
}
