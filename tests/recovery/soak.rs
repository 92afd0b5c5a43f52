//! Long runs: memory and open files don't grow. (Linux only: both are read from /proc.)

#![cfg(target_os = "linux")]

use crate::common::program::{TINY, program, recipe};
use soda::run_dir::RunDir;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// The memory and handles of a process after a number of steps.
#[derive(Clone, Copy, Debug)]
struct Sample {
    step: u64,
    /// Resident memory, in KiB; a software adapter's device memory is part of it.
    resident: f64,
    /// Open files, sockets, devices.
    handles: usize,
}

/// Trains the tiny networks for `steps` steps on `device`, with checkpoints, and takes samples of
/// the process.
fn watch(device: &str, steps: u64) -> Vec<Sample> {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("r"));
    let (last, checkpoints) =
        (format!("train.steps={steps}"), format!("train.checkpoint_every={}", steps / 20));
    let sets = [
        "train.log_every=10",
        "train.sample_every=0",
        "train.keep_checkpoints=1",
        &last,
        &checkpoints,
    ];
    let train = |run: &str, more: &[&str]| {
        let mut command = program(folder.path());
        command.args(["train", "--device", device, "--run", run, "--config", &recipe()]);
        for set in TINY.iter().chain(&sets).chain(more) {
            command.args(["--set", set]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // The self test before the first step on an adapter takes 130 MiB, and the next 250 steps
    // refill what it frees (9 MiB). It runs once per adapter; here another process runs it first.
    assert!(train("first", &["train.steps=1"]).status().expect("starts").success());
    let mut child = train("r", &[]).spawn().expect("starts");
    let proc = Path::new("/proc").join(child.id().to_string());
    let mut samples: Vec<Sample> = Vec::new();
    while child.try_wait().expect("a process").is_none() {
        std::thread::sleep(Duration::from_millis(20));
        let step = run.read_metrics().ok().and_then(|m| m.rows.last().map(|r| r.step)).unwrap_or(0);
        let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let handles = std::fs::read_dir(proc.join("fd")).map_or(0, |files| files.count());
        if let Some(resident) = resident
            && samples.last().is_none_or(|s| s.step < step)
        {
            samples.push(Sample { step, resident, handles });
        }
    }
    assert!(child.wait().expect("ends").success(), "training failed");
    assert_eq!(run.read_metrics().expect("metrics").rows.last().expect("rows").step, steps);
    samples
}

/// Returns the growth of resident memory in KiB per thousand steps: the median slope between pairs
/// of samples (Theil 1950), which is robust to single peaks (a checkpoint being written).
fn slope(samples: &[Sample]) -> f64 {
    let pairs =
        samples.iter().enumerate().flat_map(|(i, a)| samples[i + 1..].iter().map(move |b| (a, b)));
    let mut slopes: Vec<f64> =
        pairs.map(|(a, b)| 1000.0 * (b.resident - a.resident) / (b.step - a.step) as f64).collect();
    slopes.sort_by(f64::total_cmp);
    slopes[slopes.len() / 2]
}

/// Asserts that after the first third, in which pools and caches fill, a thousand steps add less
/// than `tolerated` KiB, and no handles.
fn stays_flat(device: &str, steps: u64, tolerated: f64) {
    let samples = watch(device, steps);
    let settled: Vec<Sample> = samples.into_iter().filter(|s| s.step > steps / 3).collect();
    assert!(settled.len() >= 8, "{device}: {} samples are too few", settled.len());
    let (slope, first, last) = (slope(&settled), settled[0], settled[settled.len() - 1]);
    let handles = |part: &[Sample]| part.iter().map(|s| s.handles).max().expect("samples");
    let (early, late) = settled.split_at(settled.len() / 2);
    println!(
        "{device}: {steps} steps, {slope:+.0} KiB per 1,000 steps, {} -> {} handles at most",
        handles(early),
        handles(late)
    );
    // More may be open while a checkpoint is being written.
    assert!(handles(late) <= handles(early) + 2, "{device}: {first:?} .. {last:?}");
    assert!(slope < tolerated, "{device}: {slope:+.0} KiB per 1,000 steps; {first:?} .. {last:?}");
}

#[test]
fn two_thousand_steps_on_the_cpu_leave_memory_flat() {
    // A leak of one tensor per step (32 KiB or more) would add 32 MiB; allocators keep a few pages
    // here and there.
    stays_flat("cpu", 2000, 2048.0);
}

#[test]
fn three_hundred_steps_on_a_graphics_adapter_leave_memory_flat() {
    // As above; fewer steps give a less certain slope.
    stays_flat("wgpu", 300, 8192.0);
}

#[test]
fn growth_is_detected() {
    let leak = |kib_a_step: f64| -> Vec<Sample> {
        let noise =
            |step: u64| if step.is_multiple_of(70) { 30_000.0 } else { 100.0 * (step % 3) as f64 };
        let sample = |i: u64| Sample {
            step: 10 * i,
            resident: 5e5 + 10.0 * i as f64 * kib_a_step + noise(10 * i),
            handles: 9,
        };
        (0..60).map(sample).collect()
    };
    assert!(slope(&leak(0.0)).abs() < 200.0, "peaks aren't growth");
    assert!(slope(&leak(32.0)) > 30_000.0);
}
