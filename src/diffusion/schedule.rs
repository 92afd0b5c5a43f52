//! Noise schedules, in f64.

use crate::config::{DiffusionConfig, Levels, Prediction, ScheduleKind};

/// The alpha_bar below which `diffusion.high_noise` puts its share of the draws: the inverted cosine with T = 1000 has a single level
/// there.
pub const HIGH_NOISE: f64 = 0.02;

/// A noise level: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// t / T, what the denoiser is told.
    pub time: f32,
    /// The image's share of the variance.
    pub alpha_bar: f64,
}

/// alpha_bar of the T noise levels: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps for t = 1..=T; and of what lies between
/// them, where training draws that.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    alpha_bar: Vec<f64>,
    config: DiffusionConfig,
}

impl Schedule {
    /// Smallest alpha_bar: keeps x_0 and the log-SNR finite where a formula reaches 0. v at continuous levels knows none.
    pub const FLOOR: f64 = 1e-4;

    /// `config.steps` levels of the schedule `config.schedule`.
    pub fn new(config: &DiffusionConfig) -> Self {
        let n = config.steps;
        let alpha_bar = match config.schedule {
            ScheduleKind::Linear => linear(n),
            ScheduleKind::Cosine | ScheduleKind::InvertedCosine => {
                (1..=n).map(|t| formula(config.schedule, t as f64 / n as f64).max(floor(config))).collect()
            }
        };
        Self { alpha_bar, config: config.clone() }
    }

    /// Number of noise levels, T.
    pub fn steps(&self) -> usize {
        self.alpha_bar.len()
    }

    /// What the denoiser puts out.
    pub fn prediction(&self) -> Prediction {
        self.config.prediction
    }

    /// alpha_bar at t in 0..=T; 1 at t = 0, the clean image.
    ///
    /// # Panics
    /// If t > T.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        if t == 0 { 1.0 } else { self.alpha_bar[t - 1] }
    }

    /// t / T, what the denoiser is told.
    pub fn time(&self, t: usize) -> f32 {
        (t as f64 / self.steps() as f64) as f32
    }

    /// The level t in 1..=T.
    pub fn level(&self, t: usize) -> Level {
        Level { time: self.time(t), alpha_bar: self.alpha_bar(t) }
    }

    /// Whether the levels between those of 1..=T are drawn too.
    pub fn is_continuous(&self) -> bool {
        self.config.levels == Levels::Continuous
    }

    /// Whether samplers begin at t = T, with the x_0 that the network sees in pure noise: where it was taught to (high noise has a
    /// share of the draws) and can (v stays finite).
    pub fn begins_at_pure_noise(&self) -> bool {
        self.prediction() == Prediction::V && self.config.high_noise > 0.0
    }

    /// alpha_bar at any time in [0, 1], t = 1..=T being the times t / T.
    fn between(&self, time: f64) -> f64 {
        match self.config.schedule {
            // Between two levels linear in its logarithm.
            ScheduleKind::Linear => {
                let t = time * self.steps() as f64;
                let (before, after) = (t.floor() as usize, (t.ceil() as usize).min(self.steps()));
                let [a, b] = [before, after].map(|t| self.alpha_bar(t).ln());
                (a + (b - a) * (t - t.floor())).exp()
            }
            kind => formula(kind, time).max(floor(&self.config)),
        }
    }

    /// The time at which alpha_bar falls to `wanted`, or 1.
    fn time_of(&self, wanted: f64) -> f64 {
        let (mut above, mut below) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (above + below);
            if self.between(middle) > wanted { above = middle } else { below = middle }
        }
        below
    }

    /// The level at `position` in [0, 1). Uniform positions give the levels that training draws. Discrete levels rise with it; continuous ones begin with the high noise, where that has a share, and fall.
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

    /// The mean of `f` over the levels that training draws.
    pub fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        // Few named levels say little of what lies between them.
        let n = if self.is_continuous() { self.steps().max(1000) } else { self.steps() };
        (0..n).map(|i| f(self.quantile((i as f64 + 0.5) / n as f64).alpha_bar)).sum::<f64>() / n as f64
    }
}

/// Smallest alpha_bar of a recipe.
fn floor(config: &DiffusionConfig) -> f64 {
    if config.prediction == Prediction::V && config.levels == Levels::Continuous { 0.0 } else { Schedule::FLOOR }
}

/// The formula of the cosine schedules at a time in [0, 1].
fn formula(kind: ScheduleKind, time: f64) -> f64 {
    match kind {
        ScheduleKind::InvertedCosine => inverted_cosine(time),
        _ => (cosine(time) / cosine(0.0)).min(1.0),
    }
}

/// The product of 1 - beta, beta linear from 1e-4 to 0.02 over 1000 steps (Ho et al. 2020); other lengths scale the betas
/// by 1000 / n, so that the whole path destroys as much signal.
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

/// cos^2((u + s) / (1 + s) * pi / 2), s = 0.008 (Nichol and Dhariwal 2021).
fn cosine(u: f64) -> f64 {
    ((u + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
}

/// (2 / pi) arccos(sqrt(u)) (SODA): steepest at both ends, flat at medium noise.
fn inverted_cosine(u: f64) -> f64 {
    u.sqrt().acos() * std::f64::consts::FRAC_2_PI
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(schedule: ScheduleKind, steps: usize) -> Schedule {
        Schedule::new(&DiffusionConfig::new(schedule, steps))
    }

    #[test]
    fn every_schedule_falls_from_near_1_to_near_0() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::InvertedCosine] {
            let s = schedule(kind, 1000);
            assert_eq!(s.alpha_bar(0), 1.0);
            for t in 1..=1000 {
                assert!(s.alpha_bar(t) <= s.alpha_bar(t - 1), "{kind:?} rises at {t}");
                assert!(s.alpha_bar(t) > 0.0 && s.alpha_bar(t) <= 1.0);
            }
            assert!(s.alpha_bar(1) > 0.97 && s.alpha_bar(1000) < 1e-3, "{kind:?}: {} .. {}", s.alpha_bar(1), s.alpha_bar(1000));
        }
    }

    #[test]
    fn known_values() {
        // The product over 1000 linear betas is 4.0358e-5 (DDPM's published terminal alpha_bar).
        assert!((schedule(ScheduleKind::Linear, 1000).alpha_bar(1000) - 4.0358e-5).abs() < 1e-8);
        // Both cosine forms are 1/2 at u = 1/2 (the plain one up to its offset).
        let inverted = schedule(ScheduleKind::InvertedCosine, 1000);
        assert!((inverted.alpha_bar(500) - 0.5).abs() < 1e-12);
        assert!((schedule(ScheduleKind::Cosine, 1000).alpha_bar(500) - 0.4938).abs() < 1e-3);
        // The other form of the formula, arccos(2u - 1) / pi.
        for t in 1..1000 {
            let u = t as f64 / 1000.0;
            assert!((inverted.alpha_bar(t) - (2.0 * u - 1.0).acos() / std::f64::consts::PI).abs() < 1e-12);
        }
        assert_eq!(inverted.alpha_bar(1000), Schedule::FLOOR);
    }

    #[test]
    fn the_inverted_schedule_spends_more_steps_at_medium_noise() {
        let medium = |kind| {
            let s = schedule(kind, 1000);
            (1..=1000).filter(|&t| (0.3..0.7).contains(&s.alpha_bar(t))).count()
        };
        assert!(medium(ScheduleKind::InvertedCosine) > 500);
        assert!(medium(ScheduleKind::Linear) < 250);
    }

    const KINDS: [ScheduleKind; 3] = [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::InvertedCosine];

    /// v or eps at continuous levels.
    fn continuous(kind: ScheduleKind, prediction: Prediction, high_noise: f64) -> Schedule {
        Schedule::new(&DiffusionConfig { prediction, levels: Levels::Continuous, high_noise, ..DiffusionConfig::new(kind, 1000) })
    }

    #[test]
    fn v_at_continuous_levels_ends_in_pure_noise_and_eps_on_the_floor() {
        for kind in KINDS {
            let [v, eps] = [Prediction::V, Prediction::Eps].map(|prediction| continuous(kind, prediction, 0.1));
            let last = v.alpha_bar(1000);
            assert!(if kind == ScheduleKind::Linear { last < 1e-4 } else { last < 1e-12 }, "{kind:?}: {last}");
            assert!(eps.alpha_bar(1000) > 4e-5 && v.begins_at_pure_noise() && !eps.begins_at_pure_noise());
            assert!(!continuous(kind, Prediction::V, 0.0).begins_at_pure_noise(), "taught to few");
            // All other levels are those of the discrete schedule.
            assert!((1..1000).all(|t| v.level(t) == schedule(kind, 1000).level(t) || v.alpha_bar(t) < Schedule::FLOOR));
        }
    }

    #[test]
    fn positions_reach_the_levels_of_training_each_in_its_share() {
        let discrete = schedule(ScheduleKind::InvertedCosine, 1000);
        assert!((0..1000).all(|i| discrete.quantile((i as f64 + 0.5) / 1000.0) == discrete.level(i + 1)));
        for kind in KINDS {
            let share = 0.1;
            let schedule = continuous(kind, Prediction::V, share);
            let levels: Vec<Level> = (0..10_000).map(|i| schedule.quantile(i as f64 / 10_000.0)).collect();
            // The first tenth has alpha_bar from 0 to .02, as evenly as its positions.
            for (i, level) in levels[..1000].iter().enumerate() {
                assert!((level.alpha_bar - HIGH_NOISE * i as f64 / 1000.0).abs() < 1e-12, "{kind:?}: {level:?}");
                let found = schedule.between(f64::from(level.time));
                // Times are told in 32 bits: near 1 they are 6e-8 apart, where the inverted cosine rises like the square root.
                assert!((found - level.alpha_bar).abs() < 3e-4, "{kind:?}: {found} for {level:?}");
            }
            // The others are every time of the schedule.
            for (i, level) in levels[1000..].iter().enumerate() {
                let time = 1.0 - i as f64 / 9000.0;
                assert!((f64::from(level.time) - time).abs() < 1e-6 && (0.0..=1.0).contains(&level.alpha_bar));
                assert!((level.alpha_bar - schedule.between(time)).abs() < 1e-9);
            }
        }
        // The discrete inverted cosine has one level of a thousand there.
        assert_eq!((1..=1000).filter(|&t| discrete.alpha_bar(t) < HIGH_NOISE).count(), 1);
    }

    #[test]
    fn what_lies_between_two_levels_is_between_their_alpha_bars() {
        for kind in KINDS {
            let schedule = continuous(kind, Prediction::V, 0.0);
            for t in [1, 10, 500, 900, 999] {
                let [at, between, next] = [0.0, 0.5, 1.0].map(|part| schedule.between((t as f64 + part) / 1000.0));
                assert!((at - schedule.alpha_bar(t)).abs() < 1e-9 && at > between && between > next, "{kind:?} at {t}");
            }
        }
    }
}
