//! `soda train --auto-batch`: finds how many images the device can process at once.

use crate::cli::args::Common;
use soda::config::{Config, MicroBatch};
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::progress::say;
use soda::train::limits;
use soda::train::trial::Trial;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The time limit of one trial, in case the driver hangs. It includes the compilation of every
/// shader.
const LIMIT: Duration = Duration::from_secs(600);
/// The factor by which a step of half as many images must be faster to be preferred. Where a driver
/// silently spills to main memory (as on Windows), steps take many times as long.
const FASTER: f64 = 1.5;

/// The result of one trial.
#[derive(Clone, Debug, PartialEq)]
enum Tried {
    /// The size fits; the seconds of a step.
    Fits(f64),
    /// The size fails; the reason.
    Fails(String),
}

/// Finds the largest `train.micro_batch` out of the whole batch (0), a half, a quarter, .. with
/// which two training steps succeed; on a GPU a smaller one if that is faster. Each size is tried
/// in a separate process, because a process can no longer use a device that has run out of memory.
///
/// # Errors
/// If not even one image fits, or no process can be started.
pub fn find(config: &Config, common: &Common, device: &Selected) -> Result<usize> {
    search(config.train.batch_size, device.gpu, |size| try_in_a_process(config, size, common))
}

fn search(
    whole: usize,
    compare: bool,
    mut tries: impl FnMut(usize) -> Result<Tried>,
) -> Result<usize> {
    // Equal parts, because BatchNorm normalises each part separately.
    let (mut size, mut parts) = (whole, 1);
    let mut seconds = loop {
        match tries(size)? {
            Tried::Fits(seconds) => break seconds,
            Tried::Fails(why) if size == 1 => {
                return Err(Error::failed(format!(
                    "not even one image fits into the device's memory; choose a smaller \
                     model.unet.base or another --device ({why})"
                )));
            }
            Tried::Fails(_) => say(&format!("{size} images at once are too many for the device")),
        }
        parts *= 2;
        size = whole.div_ceil(parts);
    };
    while compare && size > 1 {
        let half = whole.div_ceil(2 * parts);
        match tries(half)? {
            Tried::Fits(faster) if FASTER * faster < seconds => {
                say(&format!(
                    "{size} images at once are slower ({seconds:.1} s per step) than {half} \
                     ({faster:.1} s)"
                ));
                (size, parts, seconds) = (half, 2 * parts, faster);
            }
            _ => break,
        }
    }
    say(&format!("processing {size} images at once, of batches of {whole}"));
    Ok(if size == whole { 0 } else { size })
}

/// Tries micro-batches of `size` images in a separate process.
fn try_in_a_process(config: &Config, size: usize, common: &Common) -> Result<Tried> {
    let failed = |e: std::io::Error| {
        Error::failed(format!("--auto-batch: cannot try a step in another process: {e}"))
    };
    let mut config = config.clone();
    config.train.micro_batch = MicroBatch::Size(size);
    let mut recipe = tempfile::Builder::new().suffix(".toml").tempfile().map_err(failed)?;
    recipe.write_all(config.to_toml().as_bytes()).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .args(["train", "--try-step", "--device", &common.device, "--config"])
        .arg(recipe.path());
    let Some((status, [out, said])) = output_within(LIMIT, &mut command).map_err(failed)? else {
        return Ok(Tried::Fails(format!("two steps were not done after {} s", LIMIT.as_secs())));
    };
    if status.success() {
        let seconds = out
            .trim()
            .parse()
            .map_err(|_| Error::failed(format!("--auto-batch: a trial answered {out:?}")))?;
        return Ok(Tried::Fits(seconds));
    }
    let error = said.lines().rev().find_map(|line| line.strip_prefix("error: "));
    Ok(Tried::Fails(
        error.map_or_else(|| format!("the process ended with {status}"), str::to_owned),
    ))
}

/// Runs `command` to its end, or kills it after `limit` and returns `None`. Returns its standard
/// output and standard error.
fn output_within(
    limit: Duration,
    command: &mut Command,
) -> std::io::Result<Option<(ExitStatus, [String; 2])>> {
    // Files, because a pipe could fill up and block the process.
    let mut files = [tempfile::tempfile()?, tempfile::tempfile()?];
    command.stdin(Stdio::null()).stdout(files[0].try_clone()?).stderr(files[1].try_clone()?);
    let (mut child, clock) = (command.spawn()?, Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if clock.elapsed() > limit {
            // No wait: a process that hangs in a driver may not even die.
            child.kill()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut texts = [String::new(), String::new()];
    for (file, text) in files.iter_mut().zip(&mut texts) {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }
    Ok(Some((status, texts)))
}

/// Runs two steps and prints the seconds of the second one, which uses as much memory as any later
/// step.
///
/// # Errors
/// If the device fails, leaves out work, or can't bind the buffers the recipe needs.
pub fn try_step(config: &Config, device: &Selected) -> Result<()> {
    limits::check(config, device)?;
    let mut trial = Trial::new(config, device);
    trial.step(config.train.batch_size)?;
    outln!("{}", trial.step(config.train.batch_size)?.as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(if_so: bool) -> Result<Tried> {
        Ok(if if_so { Tried::Fits(1.0) } else { Tried::Fails("it is too small".into()) })
    }

    #[test]
    fn the_batch_is_halved_until_it_fits() {
        let mut tried = Vec::new();
        let found = search(100, false, |size| {
            tried.push(size);
            fits(size <= 20)
        });
        assert_eq!((found.expect("fits"), tried), (13, vec![100, 50, 25, 13]));
        assert_eq!(search(100, false, |_| fits(true)).expect("fits"), 0, "the whole batch");
        let message = search(100, false, |_| fits(false)).unwrap_err().to_string();
        assert!(
            message.contains("not even one image") && message.contains("it is too small"),
            "{message}"
        );
    }

    #[test]
    fn a_slow_size_gives_way_to_half_of_it() {
        // From 100 images the driver spills memory; fewer than 25 don't fill the device.
        let seconds =
            |size: usize| if size >= 100 { 40.0 } else { 4.0 + if size < 25 { 10.0 } else { 0.0 } };
        let found = |compare: bool| search(200, compare, |size| Ok(Tried::Fits(seconds(size))));
        assert_eq!(
            (found(true).expect("fits"), found(false).expect("fits")),
            (0, 0),
            "half is as slow"
        );
        let seconds = |size: usize| if size > 100 { 40.0 } else { 4.0 };
        assert_eq!(search(200, true, |size| Ok(Tried::Fits(seconds(size)))).expect("fits"), 100);
        // Slightly faster doesn't count, because times vary.
        let seconds = |size: usize| if size > 100 { 5.0 } else { 4.0 };
        assert_eq!(search(200, true, |size| Ok(Tried::Fits(seconds(size)))).expect("fits"), 0);
        // A size that fails is not faster.
        let tries = |size| if size == 200 { Ok(Tried::Fits(4.0)) } else { fits(false) };
        assert_eq!(search(200, true, tries).expect("fits"), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_hangs_is_ended() {
        let run = |limit: u64, script: &str| {
            let clock = Instant::now();
            let output = output_within(
                Duration::from_millis(limit),
                Command::new("sh").args(["-c", script]),
            );
            (output.expect("starts"), clock.elapsed())
        };
        let (nothing, took) = run(50, "exec sleep 100");
        assert!(nothing.is_none() && took < Duration::from_secs(20), "{took:?}");
        let (output, _) = run(60_000, "echo 1.5; echo no >&2; exit 3");
        let (status, texts) = output.expect("it ended");
        assert_eq!((status.code(), texts), (Some(3), ["1.5\n".to_owned(), "no\n".to_owned()]));
    }
}
