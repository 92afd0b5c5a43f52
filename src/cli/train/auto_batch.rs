//! `soda train --auto-batch`: how many images the device takes at once.

use crate::cli::Common;
use crate::config::Config;
use crate::device::Selected;
use crate::error::{Error, Result};
use crate::progress::say;
use crate::train::trial::Trial;
use std::io::Write;
use std::process::{Command, Stdio};

/// The largest `train.micro_batch` out of the whole batch (0), a half, a quarter, .. that two steps of training succeed with. Each
/// is tried in a process of its own: a device that ran out of memory is of no more use to the one it failed.
///
/// # Errors
/// If not even one image fits, or no process can be started.
pub fn find(config: &Config, common: &Common) -> Result<usize> {
    let mut said = String::new();
    search(config.train.batch_size, |size| {
        said = try_in_a_process(config, size, common)?;
        Ok(said.is_empty())
    })
    .map_err(|e| Error::failed(format!("{e} ({said})")))
}

fn search(whole: usize, mut fits: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    let (mut size, mut parts) = (whole, 1);
    loop {
        if fits(size)? {
            say(&format!("{size} images go through the networks at once, of batches of {whole}"));
            return Ok(if size == whole { 0 } else { size });
        }
        say(&format!("{size} images at once are too many for the device"));
        if size == 1 {
            return Err(Error::failed(
                "not even one image fits into the device's memory; take a smaller model.unet.base or another --device",
            ));
        }
        // Equal parts, as BatchNorm sees each by itself.
        parts *= 2;
        size = whole.div_ceil(parts);
    }
}

/// What went wrong with parts of `size` images; empty where nothing did.
fn try_in_a_process(config: &Config, size: usize, common: &Common) -> Result<String> {
    let failed = |e: std::io::Error| Error::failed(format!("--auto-batch: cannot try a step in another process: {e}"));
    let mut config = config.clone();
    config.train.micro_batch = size;
    let mut recipe = tempfile::Builder::new().suffix(".toml").tempfile().map_err(failed)?;
    recipe.write_all(config.to_toml().as_bytes()).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["train", "--try-step", "--device", &common.device, "--config"]).arg(recipe.path());
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::new());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().rev().find_map(|line| line.strip_prefix("error: "));
    Ok(error.map_or_else(|| format!("the process ended with {}", output.status), str::to_owned))
}

/// Two steps, the second of which has everything in memory that later ones have.
///
/// # Errors
/// If the device fails.
pub fn try_step(config: &Config, device: &Selected) -> Result<()> {
    let mut trial = Trial::new(config, device);
    for _ in 1..=2 {
        trial.step(config.train.batch_size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_is_halved_until_it_fits() {
        let mut tried = Vec::new();
        let found = search(100, |size| {
            tried.push(size);
            Ok(size <= 20)
        });
        assert_eq!((found.expect("fits"), tried), (13, vec![100, 50, 25, 13]));
        assert_eq!(search(100, |_| Ok(true)).expect("fits"), 0, "the whole batch");
        assert!(search(100, |_| Ok(false)).unwrap_err().to_string().contains("not even one image"));
    }
}
