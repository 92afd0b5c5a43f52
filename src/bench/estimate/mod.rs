//! How long a training step takes on a card that isn't here: an estimate.
//!
//! The launches are those that the step makes ([`recorded`]), with the kernels of such a card. Each
//! takes `max(operations / (share * peak), bytes / bandwidth) + launch`. The share is that of
//! multiply-adds among a shader's instructions, as the compiler of such a card makes them
//! ([`shares`]); peak and bandwidth stand in assets/cards.toml ([`card`]). [`mod@check`] holds the
//! method against devices that are here.

pub mod card;
pub mod check;
pub mod shares;
pub mod text;

use crate::config::{Config, Precision};
use crate::device::{self, Class, Extensions, Kind, MatrixSize, Profile, Selected};
use crate::error::{Error, Result};
use crate::kernels::record::{Launch, Recording};
use crate::train::trial::recorded;
use card::{Assumed, Card};
use serde::Serialize;
use shares::Shares;
use std::collections::BTreeMap;

/// One kernel of an estimated step. Pairs are the ends of a range, the fast one first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelEstimate {
    /// As profiles call it.
    pub name: String,
    /// How often it is launched.
    pub launches: u64,
    /// 1e9 floating-point operations.
    pub gflop: f64,
    /// 1e9 bytes, the fewest.
    pub gb: f64,
    /// Multiply-adds among the shaders' instructions, largest and smallest, 0 to 1; null where
    /// memory decides.
    pub share: Option<[f64; 2]>,
    /// Milliseconds.
    pub ms: [f64; 2],
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// By falling time.
    pub kernels: Vec<KernelEstimate>,
    /// Milliseconds.
    pub step_ms: [f64; 2],
    /// Milliseconds that it would take if nothing but arithmetic took time; nothing but memory
    /// traffic; nothing but launches.
    pub limits_ms: [[f64; 2]; 3],
    /// Images a second.
    pub images_per_s: [f64; 2],
    /// Launches.
    pub launches: u64,
    /// Bytes of the tensors that live at a time, at most.
    pub live_bytes: u64,
}

/// Returns what a step of `config` launches on `card`: recorded on any adapter of this machine, a
/// software one too. In mixed precision every card is taken to have shader-f16.
///
/// # Errors
/// If this machine has none.
pub fn launches(config: &Config, card: &Card) -> Result<Recording> {
    let kind = if card.integrated { Kind::IntegratedGpu } else { Kind::DiscreteGpu };
    let mut profile = Profile { kind, vendor: card.vendor, ..Profile::least(Class::Gpu) };
    if config.train.precision == Precision::Mixed {
        profile.extensions.f16 = true;
        if card.matrix_tflops.is_some() {
            profile.extensions =
                Extensions { f16: true, subgroups: true, cooperative_matrix: true };
            profile.matrices =
                vec![MatrixSize { size: [16; 3], factors_f16: true, sums_f16: false }];
            profile.limits.subgroup_size = [32, 32];
        }
    }
    recorded(config, &recorder()?, profile)
}

/// The adapter that launches are recorded on: one that nobody else uses, where there is such a one.
fn recorder() -> Result<Selected> {
    let adapters = device::adapters();
    let any = adapters.iter().find(|adapter| adapter.kind == Kind::Software).or(adapters.first());
    let none = || {
        Error::failed(
            "a step's launches are recorded on a graphics adapter, and this machine has none: a software one will do (Mesa's lavapipe; on Debian mesa-vulkan-drivers)",
        )
    };
    device::select(&any.ok_or_else(none)?.selector())
}

/// Estimates a step of `images` that launches what was recorded.
pub fn estimate(
    recording: &Recording,
    images: usize,
    card: &Card,
    shares: &Shares,
    assumed: &Assumed,
) -> Estimate {
    let mut kernels: BTreeMap<&'static str, KernelEstimate> = BTreeMap::new();
    let mut limits_ms = [[0.0; 2]; 3];
    for launch in &recording.launches {
        let (peak, share) = match card.matrix_tflops.zip(shares.of_matrices(launch)) {
            Some((peak, busy)) => (peak, Some([busy; 2])),
            None => (card.tflops, shares.of(card.compiler.as_deref(), launch)),
        };
        let kernel = kernels.entry(launch.name).or_insert_with(|| KernelEstimate {
            name: launch.name.to_owned(),
            launches: 0,
            gflop: 0.0,
            gb: 0.0,
            share: None,
            ms: [0.0; 2],
        });
        kernel.launches += launch.launches;
        kernel.gflop += launch.work.operations / 1e9;
        kernel.gb += launch.work.bytes / 1e9;
        if let Some([high, low]) = share {
            let [h, l] = kernel.share.unwrap_or([high, low]);
            kernel.share = Some([h.max(high), l.min(low)]);
        }
        for (end, ms) in kernel.ms.iter_mut().enumerate() {
            let limits = limits(launch, share.map(|share| peak * share[end]), card, assumed, end);
            *ms += 1e3 * seconds(limits);
            limits_ms.iter_mut().zip(limits).for_each(|(sum, limit)| sum[end] += 1e3 * limit);
        }
    }
    let mut kernels: Vec<KernelEstimate> = kernels.into_values().collect();
    kernels.sort_by(|a, b| b.ms[1].total_cmp(&a.ms[1]));
    let step_ms = [0, 1].map(|end| kernels.iter().map(|kernel| kernel.ms[end]).sum::<f64>());
    Estimate {
        kernels,
        step_ms,
        limits_ms,
        images_per_s: step_ms.map(|ms| 1e3 * images as f64 / ms),
        launches: recording.count(),
        live_bytes: recording.live_bytes,
    }
}

/// The seconds of one launch at an end of the range, 0: fast, 1: slow: of its arithmetic at
/// `tflops`, of its memory traffic, of launching it. Without a rate its operations take no time.
fn limits(
    launch: &Launch,
    tflops: Option<f64>,
    card: &Card,
    assumed: &Assumed,
    end: usize,
) -> [f64; 3] {
    let arithmetic = tflops
        .map_or(0.0, |tflops| launch.work.operations / (tflops * assumed.arithmetic[end] * 1e12));
    let memory = launch.work.bytes / (assumed.bandwidth[end] * card.gb_per_s * 1e9);
    [arithmetic, memory, launch.launches as f64 * assumed.launch_us[end] * 1e-6]
}

/// The time of a launch of these limits.
fn seconds([arithmetic, memory, launching]: [f64; 3]) -> f64 {
    arithmetic.max(memory) + launching
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::launch::Work;

    fn card() -> Card {
        Card {
            compiler: Some("sm_86".into()),
            ..card::known().expect("the file").cards["a40"].clone()
        }
    }

    fn launch(operations: f64, bytes: f64) -> Launch {
        let shader = Some(("conv2d_tiled", "Tiled { tile: Tile { bm: 1 } }".to_owned()));
        Launch { name: "conv2d forward", shader, work: Work { bytes, operations }, launches: 1 }
    }

    #[test]
    fn the_slower_of_arithmetic_and_memory_decides() {
        let card = Card { gb_per_s: 100.0, ..card() };
        let assumed =
            Assumed { arithmetic: [1.0, 0.5], bandwidth: [1.0, 0.5], launch_us: [0.0, 1e6] };
        // 1e12 operations at 8e12 a second.
        let of = |launch: &Launch, end| seconds(limits(launch, Some(8.0), &card, &assumed, end));
        assert_eq!(of(&launch(1e12, 0.0), 0), 0.125);
        assert_eq!(of(&launch(1e12, 0.0), 1), 0.25 + 1.0);
        assert_eq!(of(&launch(1e12, 1e12), 0), 10.0);
        // Where no compiler counted multiply-adds, memory decides.
        assert_eq!(seconds(limits(&launch(1e12, 1e11), None, &card, &assumed, 0)), 1.0);
        // What is another launch's traffic costs no launch.
        assert_eq!(
            seconds(limits(&Launch { launches: 0, ..launch(0.0, 1e11) }, None, &card, &assumed, 1)),
            2.0
        );
    }

    #[test]
    fn a_step_is_the_sum_of_its_kernels() {
        let recording = Recording {
            launches: vec![launch(1e12, 1e9), launch(2e12, 1e9)],
            ..Recording::default()
        };
        let cards = card::known().expect("the file");
        let estimate = estimate(
            &recording,
            256,
            &card(),
            &Shares::known().expect("the table"),
            &cards.assumed,
        );
        let [kernel] = estimate.kernels.as_slice() else { panic!("{estimate:?}") };
        assert_eq!((kernel.launches, kernel.gflop, kernel.gb), (2, 3000.0, 2.0));
        assert_eq!(estimate.step_ms, kernel.ms);
        let [arithmetic, memory, launching] = estimate.limits_ms;
        assert!(
            arithmetic[0] > memory[0] && (arithmetic[0] + launching[0] - kernel.ms[0]).abs() < 1e-9
        );
        assert!(
            estimate.step_ms[0] < estimate.step_ms[1]
                && estimate.images_per_s[0] > estimate.images_per_s[1]
        );
        assert!((estimate.images_per_s[0] * estimate.step_ms[0] / 1e3 - 256.0).abs() < 1e-9);
    }
}
