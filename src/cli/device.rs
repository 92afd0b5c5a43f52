//! The choice of a device from the command line and the environment.

use crate::cli::args::Common;
use soda::device::{Adapter, Kind, Selected};
use soda::error::{Error, Result};
use soda::progress;

/// Returns the device named by `--device`. `auto` selects an integrated GPU only if it is faster
/// than the CPU.
///
/// # Errors
/// If there is no such device.
pub fn chosen(common: &Common) -> Result<Selected> {
    chosen_nth(common, 0)
}

/// Like [`chosen`], for process number `nth` of several on this machine.
///
/// # Errors
/// If there is no such device.
pub fn chosen_nth(common: &Common, nth: usize) -> Result<Selected> {
    let device = soda::device::select_nth(&common.device, nth, environment).map_err(|e| {
        let hidden = hidden().map_or(String::new(), |hidden| format!("; {hidden}"));
        Error::usage(format!("--device: {e}{hidden}"))
    })?;
    match &device.adapter {
        Some(adapter) if common.device == "auto" && adapter.kind == Kind::IntegratedGpu => {
            soda::selftest::faster(device)
        }
        _ => Ok(device),
    }
}

/// Returns the device named by `--device`, and warns if there is a GPU that `auto` can't use.
///
/// # Errors
/// If there is no such device.
pub fn selected(common: &Common) -> Result<Selected> {
    let device = chosen(common)?;
    if let Some(why) = &device.missed {
        progress::warn(&format!("warning: {why}; using the CPU"));
    }
    Ok(device)
}

/// Returns a variable of this process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Describes which environment variables hide every adapter of this machine. Returns `None` if an
/// adapter is visible, or if there is none even without these variables.
pub fn hidden() -> Option<String> {
    if !adapters().is_empty() {
        return None;
    }
    let set = ["WGPU_BACKEND", "WGPU_ADAPTER_NAME"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", environment(name)?)))
        .collect::<Vec<_>>();
    let all = soda::device::adapters();
    let first = all.first().filter(|_| !set.is_empty())?;
    let (hide, it) = if set.len() == 1 { ("hides", "it") } else { ("hide", "them") };
    let (set, name) = (set.join(" and "), &first.name);
    Some(format!("{set} in the environment {hide} every adapter, such as {name}; unset {it}"))
}

/// Returns the adapters that the environment variables don't hide.
pub fn adapters() -> Vec<Adapter> {
    soda::device::adapters_in(environment)
}

/// Selects a device like [`soda::device::select`], but takes the environment into account.
///
/// # Errors
/// If there is no such device.
pub fn select(selection: &str) -> Result<Selected> {
    soda::device::select_nth(selection, 0, environment)
}
