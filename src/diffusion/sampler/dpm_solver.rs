//! DPM-Solver++(2M) (Lu et al. 2022).

use super::Schedule;
use burn::tensor::Tensor;

/// Settings of [`dpm_solver_pp_2m`].
#[derive(Clone, Copy, Debug)]
pub struct DpmSolver {
    /// Number of evaluations of predict; 10 to 25 are enough.
    pub steps: usize,
    /// Whether to clip the predicted x_0 to [-1, 1].
    pub clip_x0: bool,
}

/// Returns lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), half the log-SNR.
fn lambda(alpha_bar: f64) -> f64 {
    0.5 * (alpha_bar / (1.0 - alpha_bar)).ln()
}

/// Returns `steps` timesteps in descending order, as evenly spaced in lambda (half the log-SNR) as
/// whole timesteps allow, down to t = 1; the last step goes to t = 0.
///
/// They start at the noisiest level whose alpha_bar is above the schedules' floor. This leaves out
/// level T of the cosine schedules, where x_0 would be a guess multiplied by 100. On data whose eps
/// is known (the tests), 10 to 25 of these timesteps leave less than half the error of as many
/// that are uniform in t on the linear and the inverted cosine schedule, and about the same error
/// on the cosine schedule.
pub fn log_snr_timesteps(schedule: &Schedule, steps: usize) -> Vec<usize> {
    log_snr_timesteps_from(schedule, schedule.steps(), steps)
}

/// Returns [`log_snr_timesteps`] that start at level `from`, or, if `from` is on the floor, at the
/// noisiest level below it that isn't.
pub fn log_snr_timesteps_from(schedule: &Schedule, from: usize, steps: usize) -> Vec<usize> {
    let steps = steps.clamp(1, from);
    let above_floor =
        (1..=from).rev().find(|&t| schedule.alpha_bar(t) > Schedule::FLOOR).unwrap_or(from);
    let first = above_floor.max(steps);
    let level = |t: usize| lambda(schedule.alpha_bar(t));
    let spacing = (level(1) - level(first)) / (steps - 1).max(1) as f64;
    let mut times = vec![first];
    for i in 1..steps {
        let wanted = level(first) + spacing * i as f64;
        // Levels are sparse where the schedule is steep: each step needs a timestep of its own, and
        // enough must remain for the following steps.
        let (low, high) = (steps - i, times[i - 1] - 1);
        let nearest = (low..=high)
            .min_by(|&a, &b| (level(a) - wanted).abs().total_cmp(&(level(b) - wanted).abs()));
        times.push(nearest.unwrap_or(low));
    }
    times
}

/// Samples by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2: second order, multistep, predicting
/// x_0) over [`log_snr_timesteps`]: from `x_T` `[B, 3, side, side]` to x_0. Deterministic.
///
/// The first step, which has no predecessor, and the last, which ends at infinite lambda, are
/// first-order steps like DDIM's; the last one returns the predicted x_0.
pub fn dpm_solver_pp_2m(
    schedule: &Schedule,
    x_t: Tensor<4>,
    settings: DpmSolver,
    predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    over(&log_snr_timesteps(schedule, settings.steps), schedule, x_t, settings.clip_x0, predict)
}

/// Runs [`dpm_solver_pp_2m`] over `times`.
pub(super) fn over(
    times: &[usize],
    schedule: &Schedule,
    x_t: Tensor<4>,
    clip_x0: bool,
    mut predict: impl FnMut(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let mut x = x_t;
    // The previous prediction of x_0 and the step in lambda that used it.
    let mut previous: Option<(Tensor<4>, f64)> = None;
    for (i, &t) in times.iter().enumerate() {
        let next = times.get(i + 1).copied().unwrap_or(0);
        let (a, a_next) = (schedule.alpha_bar(t), schedule.alpha_bar(next));
        let output = predict(x.clone(), t);
        let x_0 = schedule.prediction().x_0(&x, output, a, clip_x0);
        // sigma_next / sigma. alpha_next e^-h equals this times alpha, a form that stays finite at
        // t = 0.
        let shrink = ((1.0 - a_next) / (1.0 - a)).sqrt();
        let of_x_0 = a_next.sqrt() - shrink * a.sqrt();
        let h = lambda(a_next) - lambda(a);
        let target = match &previous {
            // x_0 extrapolated to the middle of the step: (1 + 1 / 2r) x_0 - 1 / 2r x_0_previous
            // with r = h_previous / h. Two levels on the floor of alpha_bar have h_previous = 0 and
            // are excluded. After a step from alpha_bar = 0, h_previous is infinite and the
            // correction vanishes. The linear schedule ends at 4e-5, so its first step does
            // contribute.
            Some((before, h_before)) if next > 0 && *h_before > 0.0 => {
                x_0.clone() + (x_0.clone() - before.clone()) * (h / (2.0 * h_before))
            }
            _ => x_0.clone(),
        };
        x = x * shrink + target * of_x_0;
        previous = Some((x_0, h));
    }
    x
}
