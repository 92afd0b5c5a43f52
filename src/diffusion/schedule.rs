//! Noise schedules, in f64.

use crate::config::{DiffusionConfig, Levels, Prediction, ScheduleKind};

/// The alpha_bar below which `diffusion.high_noise` puts its share of the samples; the inverted
/// cosine schedule with T = 1000 has a single level there.
pub const HIGH_NOISE: f64 = 0.02;

/// A noise level: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// t / T, the denoiser's time input.
    pub time: f32,
    /// The image's share of the variance.
    pub alpha_bar: f64,
}

/// alpha_bar of the T noise levels, x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps for
/// t = 1..=T, and of the levels between them if training samples those.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    alpha_bar: Vec<f64>,
    config: DiffusionConfig,
}

impl Schedule {
    /// The smallest alpha_bar, which keeps x_0 and the log-SNR finite where a formula reaches 0. It
    /// does not apply to v at continuous levels, nor to the linear schedule, whose last levels lie
    /// below it.
    pub const FLOOR: f64 = 1e-4;

    /// Builds the `config.steps` levels of the schedule `config.schedule`.
    pub fn new(config: &DiffusionConfig) -> Self {
        let n = config.steps;
        let alpha_bar = match config.schedule {
            ScheduleKind::Linear => {
                linear(n).into_iter().map(|alpha_bar| shifted(alpha_bar, config)).collect()
            }
            ScheduleKind::Cosine | ScheduleKind::InvertedCosine => {
                (1..=n).map(|t| formula(config, t as f64 / n as f64).max(floor(config))).collect()
            }
        };
        Self { alpha_bar, config: config.clone() }
    }

    /// Returns the number of noise levels, T.
    pub fn steps(&self) -> usize {
        self.alpha_bar.len()
    }

    /// Returns what the denoiser predicts.
    pub fn prediction(&self) -> Prediction {
        self.config.prediction
    }

    /// Returns alpha_bar at t in 0..=T; 1 at t = 0, the clean image.
    ///
    /// # Panics
    /// If t > T.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        if t == 0 { 1.0 } else { self.alpha_bar[t - 1] }
    }

    /// Returns t / T, the denoiser's time input.
    pub fn time(&self, t: usize) -> f32 {
        (t as f64 / self.steps() as f64) as f32
    }

    /// Returns the level t in 1..=T.
    pub fn level(&self, t: usize) -> Level {
        Level { time: self.time(t), alpha_bar: self.alpha_bar(t) }
    }

    /// Checks whether training also samples the levels between those of 1..=T.
    pub fn is_continuous(&self) -> bool {
        self.config.levels == Levels::Continuous
    }

    /// Checks whether samplers start at t = T, with the x_0 that the network predicts from pure
    /// noise. They do if it was trained there (high noise has a share of the samples) and its
    /// prediction stays finite there (v).
    pub fn begins_at_pure_noise(&self) -> bool {
        self.prediction() == Prediction::V && self.config.high_noise > 0.0
    }

    /// Returns alpha_bar at any time in [0, 1]; the level t has time t / T.
    fn between(&self, time: f64) -> f64 {
        match self.config.schedule {
            // Between two levels, ln(alpha_bar) is interpolated linearly.
            ScheduleKind::Linear => {
                let t = time * self.steps() as f64;
                let (before, after) = (t.floor() as usize, (t.ceil() as usize).min(self.steps()));
                let [a, b] = [before, after].map(|t| self.alpha_bar(t).ln());
                (a + (b - a) * (t - t.floor())).exp()
            }
            _ => formula(&self.config, time).max(floor(&self.config)),
        }
    }

    /// Returns the time at which alpha_bar falls to `wanted`, or 1 if it never does.
    fn time_of(&self, wanted: f64) -> f64 {
        let (mut above, mut below) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (above + below);
            if self.between(middle) > wanted { above = middle } else { below = middle }
        }
        below
    }

    /// Returns the level at `position` in [0, 1). Uniform positions give the distribution of levels
    /// that training samples. With discrete levels the noise grows with the position. With
    /// continuous levels the high noise comes first, if it has a share, and the noise decreases.
    pub fn quantile(&self, position: f64) -> Level {
        if !self.is_continuous() {
            let t = 1 + (position * self.steps() as f64) as usize;
            return self.level(t.min(self.steps()));
        }
        let share = self.config.high_noise;
        if position < share {
            let alpha_bar = (HIGH_NOISE * position / share).max(floor(&self.config));
            return Level { time: self.time_of(alpha_bar) as f32, alpha_bar };
        }
        let time = 1.0 - (position - share) / (1.0 - share);
        Level { time: time as f32, alpha_bar: self.between(time) }
    }

    /// Returns the mean of `f` of alpha_bar over the levels that training samples.
    pub fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        // A small T says little about the levels in between.
        let n = if self.is_continuous() { self.steps().max(1000) } else { self.steps() };
        (0..n).map(|i| f(self.quantile((i as f64 + 0.5) / n as f64).alpha_bar)).sum::<f64>()
            / n as f64
    }
}

/// Returns the smallest alpha_bar of a recipe.
fn floor(config: &DiffusionConfig) -> f64 {
    if config.prediction == Prediction::V && config.levels == Levels::Continuous {
        0.0
    } else {
        Schedule::FLOOR
    }
}

/// Evaluates the formula of the cosine schedules at a time in [0, 1].
fn formula(config: &DiffusionConfig, time: f64) -> f64 {
    let alpha_bar = match config.schedule {
        ScheduleKind::InvertedCosine => inverted_cosine(time),
        _ => (cosine(time) / cosine(0.0)).min(1.0),
    };
    shifted(alpha_bar, config)
}

/// Shifts the log-SNR of `alpha_bar` by `config.log_snr_shift`.
fn shifted(alpha_bar: f64, config: &DiffusionConfig) -> f64 {
    match config.log_snr_shift {
        0.0 => alpha_bar,
        shift => alpha_bar / (alpha_bar + (1.0 - alpha_bar) * (-shift).exp()),
    }
}

/// Returns the cumulative products of 1 - beta, with beta linear from 1e-4 to 0.02 over 1000 steps
/// (Ho et al. 2020). Other lengths scale the betas by 1000 / n, so that the whole path destroys as
/// much signal.
fn linear(n: usize) -> Vec<f64> {
    let scale = 1000.0 / n as f64;
    let mut product = 1.0;
    (0..n)
        .map(|i| {
            let position = if n == 1 { 1.0 } else { i as f64 / (n - 1) as f64 };
            product *= 1.0 - (scale * (1e-4 + (0.02 - 1e-4) * position)).min(0.999);
            product
        })
        .collect()
}

/// Returns cos^2((u + s) / (1 + s) * pi / 2), s = 0.008 (Nichol and Dhariwal 2021).
fn cosine(u: f64) -> f64 {
    ((u + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
}

/// Returns (2 / pi) arccos(sqrt(u)) (SODA): steepest at both ends, flat at medium noise.
fn inverted_cosine(u: f64) -> f64 {
    u.sqrt().acos() * std::f64::consts::FRAC_2_PI
}

#[cfg(test)]
mod tests;
