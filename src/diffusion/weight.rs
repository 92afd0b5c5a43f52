//! The weight of a noise level in the loss.

use super::Schedule;
use super::forward::column;
use super::schedule::Level;
use crate::config::{LossWeight, Prediction};
use burn::tensor::{Device, Tensor};
use std::sync::{Mutex, PoisonError};

/// The exponent of PDAE's weight.
const PDAE_GAMMA: f64 = 0.1;
/// The largest weight that min-SNR gives the squared error of x_0.
const MIN_SNR_GAMMA: f64 = 5.0;

/// Returns the weight of the squared prediction error at `alpha_bar`, before division by its mean.
///
/// PDAE's weight was designed for eps and is used unchanged for v. min-SNR weights errors of x_0 by
/// min(SNR, 5), which translates to different weights for errors of eps and of v.
pub fn weight(kind: LossWeight, prediction: Prediction, alpha_bar: f64) -> f64 {
    let (signal, noise) = (alpha_bar, 1.0 - alpha_bar);
    match (kind, prediction) {
        (LossWeight::Uniform, _) => 1.0,
        (LossWeight::OneMinusAlphaBar, _) => noise,
        (LossWeight::Pdae, _) => noise.powf(1.0 - PDAE_GAMMA) * signal.powf(PDAE_GAMMA),
        // min(SNR, 5) / SNR and min(SNR, 5) / (SNR + 1), rearranged so that no divisor can be 0.
        (LossWeight::MinSnr, Prediction::Eps) => (MIN_SNR_GAMMA * noise / signal).min(1.0),
        (LossWeight::MinSnr, Prediction::V) => signal.min(MIN_SNR_GAMMA * noise),
    }
}

/// The kind and schedule of the last call, and the mean of their weights; every micro-batch of
/// every step needs the same.
static LAST: Mutex<Option<(LossWeight, Schedule, f64)>> = Mutex::new(None);

/// Returns the mean weight over the levels that training samples.
fn mean(kind: LossWeight, schedule: &Schedule) -> f64 {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((other, of, mean)) if *other == kind && of == schedule => *mean,
        _ => {
            let mean = schedule.mean(|alpha_bar| weight(kind, schedule.prediction(), alpha_bar));
            *last = Some((kind, schedule.clone(), mean));
            mean
        }
    }
}

/// Returns the weights of `levels`, `[B, 1, 1, 1]`, whose mean over the levels that training
/// samples is 1; `None` if all levels have the same weight.
pub fn weights(
    kind: LossWeight,
    schedule: &Schedule,
    levels: &[Level],
    device: &Device,
) -> Option<Tensor<4>> {
    if kind == LossWeight::Uniform {
        return None;
    }
    let of = |alpha_bar| weight(kind, schedule.prediction(), alpha_bar);
    let mean = mean(kind, schedule);
    Some(column(levels, |alpha_bar| of(alpha_bar) / mean, device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiffusionConfig, Levels, ScheduleKind};

    const KINDS: [LossWeight; 4] =
        [LossWeight::Uniform, LossWeight::OneMinusAlphaBar, LossWeight::Pdae, LossWeight::MinSnr];

    #[test]
    fn weights_are_those_of_the_papers() {
        for alpha_bar in [1e-4, 0.02, 0.3, 0.5, 0.8, 0.9, 0.999] {
            let snr: f64 = alpha_bar / (1.0 - alpha_bar);
            let near = |kind, prediction, want: f64| {
                let got = weight(kind, prediction, alpha_bar);
                assert!(
                    (got - want).abs() < 1e-12,
                    "{kind:?}, {prediction:?} at {alpha_bar}: {got}, not {want}"
                );
            };
            near(LossWeight::OneMinusAlphaBar, Prediction::Eps, 1.0 / (1.0 + snr));
            near(
                LossWeight::Pdae,
                Prediction::Eps,
                (1.0 / (1.0 + snr)).powf(0.9) * (snr / (1.0 + snr)).powf(0.1),
            );
            near(LossWeight::MinSnr, Prediction::Eps, snr.min(5.0) / snr);
            near(LossWeight::MinSnr, Prediction::V, snr.min(5.0) / (snr + 1.0));
            // The squared error of v is that of eps over alpha_bar: the two forms give errors of
            // x_0 the same weight.
            near(
                LossWeight::MinSnr,
                Prediction::V,
                alpha_bar * weight(LossWeight::MinSnr, Prediction::Eps, alpha_bar),
            );
        }
        assert_eq!(weight(LossWeight::MinSnr, Prediction::V, 0.0), 0.0);
        assert_eq!(weight(LossWeight::OneMinusAlphaBar, Prediction::V, 0.0), 1.0);
    }

    #[test]
    fn weights_have_a_mean_of_1_over_the_sampled_levels() {
        for (schedule, levels) in
            [ScheduleKind::Linear, ScheduleKind::InvertedCosine].into_iter().flat_map(|schedule| {
                [Levels::Discrete, Levels::Continuous].map(|levels| (schedule, levels))
            })
        {
            let high_noise = if levels == Levels::Continuous { 0.2 } else { 0.0 };
            let config = DiffusionConfig {
                prediction: Prediction::V,
                levels,
                high_noise,
                ..DiffusionConfig::new(schedule, 1000)
            };
            let schedule = Schedule::new(&config);
            // These are not the positions over which the mean is computed.
            let drawn: Vec<Level> =
                (0..20_000).map(|i| schedule.quantile((f64::from(i) + 0.3) / 20_000.0)).collect();
            for kind in KINDS {
                let Some(weights) = weights(kind, &schedule, &drawn, &Device::flex()) else {
                    assert_eq!(kind, LossWeight::Uniform);
                    continue;
                };
                let weights = weights.into_data().try_to_vec::<f32>().expect("f32");
                let mean =
                    weights.iter().map(|w| f64::from(*w)).sum::<f64>() / weights.len() as f64;
                assert!((mean - 1.0).abs() < 2e-3, "{kind:?}, {config:?}: {mean}");
                assert!(
                    weights.iter().any(|w| *w > 1.1) && weights.iter().any(|w| *w < 0.9),
                    "{kind:?}: all the same"
                );
            }
        }
    }
}
