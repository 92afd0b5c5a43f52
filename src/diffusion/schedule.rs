//! Noise schedules, in f64.

use crate::config::{DiffusionConfig, ScheduleKind};

/// alpha_bar of the T noise levels: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps for t = 1..=T.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    alpha_bar: Vec<f64>,
}

impl Schedule {
    /// Smallest alpha_bar: keeps x_0 and the log-SNR finite where a formula reaches 0.
    pub const FLOOR: f64 = 1e-4;

    /// `config.steps` levels of the schedule `config.schedule`.
    pub fn new(config: &DiffusionConfig) -> Self {
        let n = config.steps;
        let alpha_bar = match config.schedule {
            ScheduleKind::Linear => linear(n),
            ScheduleKind::Cosine => {
                (1..=n).map(|t| cosine(t as f64 / n as f64) / cosine(0.0)).map(|a| a.clamp(Self::FLOOR, 1.0)).collect()
            }
            ScheduleKind::InvertedCosine => (1..=n).map(|t| inverted_cosine(t as f64 / n as f64).max(Self::FLOOR)).collect(),
        };
        Self { alpha_bar }
    }

    /// Number of noise levels, T.
    pub fn steps(&self) -> usize {
        self.alpha_bar.len()
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
        Schedule::new(&DiffusionConfig { schedule, steps })
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
}
