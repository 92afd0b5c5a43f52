//! The forward process: noise levels of a batch, and x_t from x_0.

use super::Schedule;
use super::schedule::Level;
use crate::rng::Stream;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// The noise levels of a batch, as tensors.
#[derive(Clone, Debug)]
pub struct Times {
    /// t / T, `[B]`: the denoiser's time input.
    pub time: Tensor<1>,
    /// sqrt(alpha_bar_t), `[B, 1, 1, 1]`.
    pub signal: Tensor<4>,
    /// sqrt(1 - alpha_bar_t), `[B, 1, 1, 1]`.
    pub noise: Tensor<4>,
}

/// Returns the tensors for the timesteps `t` in 1..=T, one per image.
pub fn times(schedule: &Schedule, t: &[usize], device: &Device) -> Times {
    times_of(&t.iter().map(|&t| schedule.level(t)).collect::<Vec<_>>(), device)
}

/// Returns the tensors for `levels`, one per image.
pub fn times_of(levels: &[Level], device: &Device) -> Times {
    let time: Vec<f32> = levels.iter().map(|level| level.time).collect();
    Times {
        time: Tensor::from_data(TensorData::new(time, [levels.len()]), device),
        signal: column(levels, f64::sqrt, device),
        noise: column(levels, |a| (1.0 - a).sqrt(), device),
    }
}

/// Applies `f` to each level's alpha_bar: `[B, 1, 1, 1]`.
pub(super) fn column(levels: &[Level], f: impl Fn(f64) -> f64, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = levels.iter().map(|level| f(level.alpha_bar) as f32).collect();
    Tensor::from_data(TensorData::new(values, [levels.len(), 1, 1, 1]), device)
}

/// Samples the noise levels of `batch` images, `draws` for each; the levels of one image are
/// adjacent.
///
/// They are independent and uniform, or, if `stratified`, lie at positions (u + i / (batch draws))
/// mod 1 with a single u (VDM, Kingma et al. 2021, appendix I.1), those of one image 1 / draws
/// apart.
pub fn draw_levels(
    schedule: &Schedule,
    [batch, draws]: [usize; 2],
    stratified: bool,
    stream: &mut Stream,
) -> Vec<Level> {
    if stratified {
        let u: f64 = stream.random();
        let position =
            |i: usize| u + (i / draws + i % draws * batch) as f64 / (batch * draws) as f64;
        return (0..batch * draws).map(|i| schedule.quantile(position(i).fract())).collect();
    }
    let one = |_| match schedule.is_continuous() {
        true => schedule.quantile(stream.random()),
        false => schedule.level(stream.random_range(1..=schedule.steps())),
    };
    (0..batch * draws).map(one).collect()
}

/// Returns x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps; all images are
/// `[B, 3, side, side]`.
pub fn q_sample(x_0: Tensor<4>, times: &Times, eps: Tensor<4>) -> Tensor<4> {
    x_0 * times.signal.clone() + eps * times.noise.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiffusionConfig, Levels, Prediction, ScheduleKind};
    use crate::rng::{self, Purpose};

    fn schedule(levels: Levels) -> Schedule {
        let config = DiffusionConfig::new(ScheduleKind::InvertedCosine, 1000);
        Schedule::new(&DiffusionConfig { prediction: Prediction::V, levels, ..config })
    }

    fn stream(index: u64) -> Stream {
        rng::stream(1, Purpose::Time, index)
    }

    #[test]
    fn one_draw_per_image_at_discrete_levels_consumes_the_stream_as_before() {
        let schedule = schedule(Levels::Discrete);
        let mut old = stream(7);
        let want: Vec<Level> =
            (0..32).map(|_| schedule.level(old.random_range(1..=1000))).collect();
        assert_eq!(draw_levels(&schedule, [32, 1], false, &mut stream(7)), want);
        // Further draws continue the same stream, image by image.
        assert_eq!(draw_levels(&schedule, [8, 4], false, &mut stream(7)), want);
        assert_ne!(draw_levels(&schedule, [32, 1], false, &mut stream(8)), want);
    }

    #[test]
    fn stratified_times_fill_equal_strata_and_those_of_one_image_are_spread_out() {
        let (batch, draws) = (8, 4);
        let times = |levels, stratified, index| -> Vec<f64> {
            let levels =
                draw_levels(&schedule(levels), [batch, draws], stratified, &mut stream(index));
            levels.iter().map(|level| f64::from(level.time)).collect()
        };
        // Times lie in (0, 1]; a discrete t stands for the interval that ends at it.
        let parts = |times: &[f64]| {
            let mut parts: Vec<usize> =
                times.iter().map(|time| ((time - 1e-4) * 32.0) as usize).collect();
            parts.sort_unstable();
            parts.dedup();
            parts.len()
        };
        for levels in [Levels::Discrete, Levels::Continuous] {
            let mut mean = 0.0;
            for index in 0..50 {
                let stratified = times(levels, true, index);
                assert!(stratified.iter().all(|time| *time > 0.0 && *time <= 1.0));
                // One u for all: one time in each stratum, except for times on a boundary.
                assert!(parts(&stratified) >= 31, "{levels:?}: {stratified:?}");
                assert!(parts(&times(levels, false, index)) < 29, "independent draws cluster");
                for image in stratified.chunks(draws) {
                    let apart = |a: f64, b: f64| (a - b).abs().min(1.0 - (a - b).abs());
                    assert!(image.windows(2).all(|t| apart(t[0], t[1]) > 0.24), "{image:?}");
                }
                mean += stratified[0] / 50.0;
            }
            // u is random: the first image isn't always at the same time. Standard error 0.04.
            assert!((mean - 0.5).abs() < 0.16, "{mean}");
        }
    }
}
