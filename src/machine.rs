//! Information about the machine and the program, as far as the system provides it.

use serde_json::{Value, json};
use std::path::Path;

/// Returns {os, arch, cpu, threads, memory_mib}; null for what isn't known.
pub fn describe() -> Value {
    json!({
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu": field("/proc/cpuinfo", "model name").map(|v| v.trim_start_matches(':').trim().to_owned()),
        "threads": std::thread::available_parallelism().map(usize::from).ok(),
        "memory_mib": kibibytes("/proc/meminfo", "MemTotal:").map(|k| (k / 1024.0).round()),
    })
}

/// Returns the peak resident memory of this process in MiB, where available (Linux).
pub fn peak_resident_mib() -> Option<f64> {
    kibibytes("/proc/self/status", "VmHWM:").map(|k| k / 1024.0)
}

/// Returns the CPU time of this process in seconds, summed over all of its threads, where
/// available.
pub fn processor_seconds() -> Option<f64> {
    cpu_time::ProcessTime::try_now().ok().map(|time| time.as_duration().as_secs_f64())
}

/// Returns the commit of the source tree that contains this binary (or `SODA_COMMIT` at build
/// time); `None` for an installed binary.
pub fn commit() -> Option<String> {
    if let Some(commit) = option_env!("SODA_COMMIT") {
        return Some(commit.to_owned());
    }
    let program = std::env::current_exe().ok()?;
    let git = |args: &[&str]| {
        let out = std::process::Command::new("git")
            .arg("-C")
            .arg(program.parent()?)
            .args(args)
            .output()
            .ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    // An installed binary may lie in some other repository.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if !Path::new(&root).join("shaders/ada_gn_forward.wgsl").exists() {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    Some(if changed { format!("{commit}+changes") } else { commit })
}

fn kibibytes(path: &str, key: &str) -> Option<f64> {
    field(path, key)?.strip_suffix("kB")?.trim().parse().ok()
}

fn field(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
}
