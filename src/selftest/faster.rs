//! The choice between an integrated GPU and the CPU, by speed.

use super::outcome::key;
use crate::config::Config;
use crate::device::Selected;
use crate::error::{Error, Result};
use crate::files::{kept, write_atomically};
use crate::model::Soda;
use crate::progress::say;
use crate::units::about;
use burn::tensor::{Device, Tensor};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Images encoded for the comparison.
const IMAGES: usize = 32;

/// Returns `gpu`, or the CPU backend if that encodes images faster. This is measured once for each
/// adapter and driver, and kept in the user's cache folder.
///
/// # Errors
/// If the CPU fails; a GPU that fails is not chosen.
pub fn faster(gpu: Selected) -> Result<Selected> {
    let kept_at =
        key(&gpu).zip(dirs::cache_dir()).map(|(key, folder)| folder.join("soda/faster").join(key));
    faster_by(gpu, kept_at, race)
}

fn faster_by(
    gpu: Selected,
    kept_at: Option<PathBuf>,
    race: impl FnOnce(&Selected, &Selected) -> Result<bool>,
) -> Result<Selected> {
    let cpu = Selected::cpu("faster here than the integrated GPU");
    let read = |path: &Path| match std::fs::read_to_string(path).ok()?.trim() {
        "gpu" => Some(true),
        "cpu" => Some(false),
        _ => None,
    };
    let write = |takes_gpu: &bool, path: &Path| {
        write_atomically(path, if *takes_gpu { b"gpu\n" } else { b"cpu\n" })
    };
    let takes_gpu =
        kept("the faster device", kept_at.as_deref(), read, || race(&gpu, &cpu), write)?;
    Ok(if takes_gpu { gpu } else { cpu })
}

/// Measures whether `gpu` is faster than `cpu`, and prints the times of both.
fn race(gpu: &Selected, cpu: &Selected) -> Result<bool> {
    let on_cpu = seconds(&cpu.device)?;
    let on_gpu = seconds(&gpu.device).unwrap_or(f64::INFINITY);
    let takes_gpu = on_gpu < on_cpu;
    let time = |seconds: f64| {
        if seconds.is_finite() { about(Duration::from_secs_f64(seconds)) } else { "forever".into() }
    };
    say(&format!(
        "encoding {IMAGES} images takes {} on {} and {} on the CPU: auto takes {} from now on",
        time(on_gpu),
        gpu.describe(),
        time(on_cpu),
        if takes_gpu { "the GPU" } else { "the CPU" }
    ));
    Ok(takes_gpu)
}

/// Returns the time of encoding once the shaders are compiled.
fn seconds(device: &Device) -> Result<f64> {
    let config = Config::built_in("tiny", &[])?;
    let model = Soda::new(&config.model, config.seed, device);
    let side = config.model.sides.source;
    let encode = || {
        let z = model.encode(Tensor::zeros([IMAGES, 3, side, side], device));
        z.try_into_vec_as::<f32>().map_err(|e| Error::device("encoding a few images", &e))
    };
    encode()?;
    let clock = Instant::now();
    encode()?;
    Ok(clock.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_device_is_chosen_and_the_choice_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept_at = |name: &str| Some(folder.path().join("soda/faster").join(name));
        let gpu = || {
            crate::device::select("wgpu")
                .expect("an adapter; scripts/test.sh installs a software one")
        };
        for (takes_gpu, kept) in [(false, "cpu\n"), (true, "gpu\n")] {
            let chosen = faster_by(gpu(), kept_at(kept.trim()), |_, _| Ok(takes_gpu));
            assert_eq!(chosen.expect("both work").backend != "cpu", takes_gpu);
            let path = kept_at(kept.trim()).expect("named");
            assert_eq!(std::fs::read_to_string(path).expect("kept"), kept);
            let again = faster_by(gpu(), kept_at(kept.trim()), |_, _| unreachable!("kept"));
            assert_eq!(again.expect("nothing is measured").backend != "cpu", takes_gpu);
        }
    }

    #[test]
    fn a_race_measures_both_devices() {
        let slow = crate::device::select("wgpu").expect("an adapter");
        race(&slow, &Selected::cpu("")).expect("both work");
    }
}
