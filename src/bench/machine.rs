//! The machine, as far as the system tells.

use serde_json::{Value, json};

/// {os, arch, cpu, threads, memory_mib}; null for what isn't known.
pub fn describe() -> Value {
    json!({
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu": field("/proc/cpuinfo", "model name").map(|v| v.trim_start_matches(':').trim().to_owned()),
        "threads": std::thread::available_parallelism().map(usize::from).ok(),
        "memory_mib": kibibytes("/proc/meminfo", "MemTotal:").map(|k| (k / 1024.0).round()),
    })
}

/// Peak resident memory of this process in MiB, where the system tells (Linux).
pub fn peak_resident_mib() -> Option<f64> {
    kibibytes("/proc/self/status", "VmHWM:").map(|k| k / 1024.0)
}

fn kibibytes(path: &str, key: &str) -> Option<f64> {
    field(path, key)?.strip_suffix("kB")?.trim().parse().ok()
}

fn field(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
}
