//! What every sampler must do: return x_0 for the exact noise, and stay close to the exact solution
//! for Gaussian data, whose optimal eps and whose path are known.

mod levels;

use super::*;
use crate::config::{DiffusionConfig, Levels, Prediction, ScheduleKind};
use crate::diffusion::forward;
use burn::tensor::Device;

const SCHEDULES: [ScheduleKind; 3] =
    [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::InvertedCosine];
/// Standard deviation of the Gaussian data.
const DEVIATION: f64 = 0.2;

fn schedule(schedule: ScheduleKind) -> Schedule {
    Schedule::new(&DiffusionConfig::new(schedule, 1000))
}

/// The same for networks that predict v and are trained on pure noise.
fn of_v(schedule: ScheduleKind) -> Schedule {
    let (prediction, levels, high_noise) = (Prediction::V, Levels::Continuous, 0.1);
    Schedule::new(&DiffusionConfig {
        prediction,
        levels,
        high_noise,
        ..DiffusionConfig::new(schedule, 1000)
    })
}

/// Every schedule, for networks that predict eps and for those that predict v.
fn schedules() -> impl Iterator<Item = (ScheduleKind, Schedule)> {
    SCHEDULES.into_iter().flat_map(|kind| [(kind, schedule(kind)), (kind, of_v(kind))])
}

fn images(index: u64) -> Tensor<4> {
    let values = rng::normal(&mut rng::stream(1, Purpose::Test, index), 2 * 3 * 32 * 32);
    Tensor::from_data(TensorData::new(values, [2, 3, 32, 32]), &Device::flex())
}

fn finite(x: Tensor<4>) -> Vec<f32> {
    let values = x.into_data().try_to_vec::<f32>().expect("f32");
    assert!(values.iter().all(|v| v.is_finite()));
    values
}

fn largest(x: Tensor<4>) -> f32 {
    finite(x).into_iter().map(f32::abs).fold(0.0, f32::max)
}

/// Root mean square.
fn rms(x: Tensor<4>) -> f32 {
    let values = finite(x);
    (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt()
}

/// What a network predicts for `x` when the clean image is `x_0`.
fn exact(schedule: &Schedule, x_0: &Tensor<4>, x: Tensor<4>, t: usize) -> Tensor<4> {
    let a = schedule.alpha_bar(t);
    let eps = (x - x_0.clone() * a.sqrt()) / (1.0 - a).sqrt();
    as_output(schedule, eps, x_0, a)
}

/// The network output that stands for this noise and this image.
fn as_output(schedule: &Schedule, eps: Tensor<4>, x_0: &Tensor<4>, a: f64) -> Tensor<4> {
    match schedule.prediction() {
        Prediction::Eps => eps,
        Prediction::V => eps * a.sqrt() - x_0.clone() * (1.0 - a).sqrt(),
    }
}

/// The means of the Gaussian data, different for each pixel.
fn means() -> Tensor<4> {
    images(0).clamp(-1.0, 1.0) * 0.6
}

/// E[eps | x_t], or E[v | x_t], for independent pixels x_0 ~ N(mean, deviation^2).
fn gaussian(schedule: &Schedule, deviation: f64) -> impl FnMut(Tensor<4>, usize) -> Tensor<4> + '_ {
    let means = means();
    move |x, t| {
        let a = schedule.alpha_bar(t);
        let (variance, from_mean) =
            (a * deviation * deviation + 1.0 - a, x - means.clone() * a.sqrt());
        let x_0 = means.clone() + from_mean.clone() * (a.sqrt() * deviation * deviation / variance);
        as_output(schedule, from_mean * ((1.0 - a).sqrt() / variance), &x_0, a)
    }
}

/// Every sampler with and without clipping; DDIM also with noise.
fn all(steps: usize) -> Vec<Sampling> {
    let kinds = [
        (Sampler::Ddim, 0.0),
        (Sampler::Ddim, 0.5),
        (Sampler::Ddpm, 0.0),
        (Sampler::DpmSolver, 0.0),
    ];
    let both = |(kind, eta)| {
        [false, true].map(|clip_x0| Sampling {
            kind,
            steps,
            from: Begin::Noise,
            eta,
            clip_x0,
            seed: 3,
        })
    };
    kinds.into_iter().flat_map(both).collect()
}

#[test]
fn every_sampler_returns_x_0_for_the_exact_noise() {
    let x_0 = images(0).clamp(-1.0, 1.0);
    for (kind, schedule) in schedules() {
        for settings in [1, 2, 3, 10, 20, 100, 1000].into_iter().flat_map(all) {
            let mut evaluations = 0;
            let out = sample(&schedule, images(1), settings, |x, t| {
                evaluations += 1;
                exact(&schedule, &x_0, x, t)
            });
            // f32 rounding, amplified by 1 / sqrt(alpha_bar_T) <= 158 in the first step.
            let error = largest(out - x_0.clone());
            assert!(error < 2e-4, "{kind:?}, {settings:?}: {error}");
            assert_eq!(evaluations, settings.steps);
        }
    }
}

#[test]
fn every_sampler_misses_x_0_for_a_wrong_noise() {
    let x_0 = images(0).clamp(-1.0, 1.0);
    let kind = ScheduleKind::Linear;
    for (schedule, settings) in
        all(20).into_iter().flat_map(|s| [(schedule(kind), s), (of_v(kind), s)])
    {
        let out = sample(&schedule, images(1), settings, |x, t| exact(&schedule, &x_0, x, t) * 0.9);
        // DPM-Solver ends at t = 1, where a tenth of the noise is a hundredth of the image. The
        // bound is still 25 times the error above.
        let error = largest(out - x_0.clone());
        assert!(error > 0.005, "{settings:?}: {error}");
    }
}

#[test]
fn clipping_keeps_the_last_x_0_in_range() {
    let schedule = schedule(ScheduleKind::Cosine);
    for settings in all(10) {
        let out = largest(sample(&schedule, images(1), settings, |x, t| {
            exact(&schedule, &images(2), x, t)
        }));
        assert_eq!(settings.clip_x0, out <= 1.0, "{settings:?}: {out}");
    }
}

#[test]
fn ddpm_is_ddim_with_eta_1() {
    for ((kind, schedule), steps) in schedules().flat_map(|of| [(of.clone(), 10), (of, 1000)]) {
        for clip_x0 in [false, true] {
            let ddpm = ddpm(
                &schedule,
                images(1),
                Ddpm { steps, clip_x0, seed: 3 },
                gaussian(&schedule, DEVIATION),
            );
            let ddim = |eta, seed| {
                ddim(
                    &schedule,
                    images(1),
                    Ddim { steps, eta, clip_x0, seed },
                    gaussian(&schedule, DEVIATION),
                )
            };
            // Two forms of the same values in f32; the clipped one also divides by
            // sqrt(1 - alpha_bar) >= 0.01.
            let error = largest(ddpm.clone() - ddim(1.0, 3));
            assert!(error < 1e-4, "{kind:?}, {steps} steps, clip {clip_x0}: {error}");
            assert!(
                largest(ddpm.clone() - ddim(1.0, 4)) > 0.01 && largest(ddpm - ddim(0.0, 3)) > 0.01
            );
        }
    }
}

#[test]
fn ddpm_draws_data_of_the_right_deviation() {
    let schedule = schedule(ScheduleKind::Linear);
    let draw = |deviation| {
        let out = ddpm(
            &schedule,
            images(1),
            Ddpm { steps: 1000, clip_x0: false, seed: 3 },
            gaussian(&schedule, deviation),
        );
        rms(out - means())
    };
    // 6,144 draws: a standard error of 0.9 %. The posterior's variance is exact only for data of a
    // single value, hence the wider bound.
    let found = f64::from(draw(DEVIATION));
    assert!((found / DEVIATION - 1.0).abs() < 0.05, "{found}");
    assert!(
        (f64::from(draw(1.2 * DEVIATION)) / DEVIATION - 1.0).abs() > 0.1,
        "a wrong eps is detected"
    );
}

#[test]
fn dpm_solver_is_nearer_to_the_fine_solution_than_ddim() {
    for kind in SCHEDULES {
        let schedule = schedule(kind);
        let decode = |steps| {
            let settings = Ddim { steps, eta: 0.0, clip_x0: false, seed: 3 };
            ddim(&schedule, images(1), settings, gaussian(&schedule, DEVIATION))
        };
        let fine = decode(1000);
        for steps in [10, 15, 20, 25] {
            let solve = |times: &[usize]| {
                let out = dpm_solver::over(
                    times,
                    &schedule,
                    images(1),
                    false,
                    gaussian(&schedule, DEVIATION),
                );
                rms(out - fine.clone())
            };
            let uniform = solve(&timesteps(&schedule, steps));
            let ours = solve(&log_snr_timesteps(&schedule, steps));
            let ddim = rms(decode(steps) - fine.clone());
            println!(
                "{kind:?}, {steps} steps: DDIM {ddim:.5}, uniform in t {uniform:.5}, \
                 in lambda {ours:.5}"
            );
            // A first-order solver over the same times would not be 3 times as accurate.
            assert!(ours * 3.0 < ddim, "{kind:?}, {steps} steps: {ours} against DDIM's {ddim}");
            // The cosine schedule is smooth enough for either spacing.
            let factor = if kind == ScheduleKind::Cosine { 1.5 } else { 0.5 };
            assert!(ours < factor * uniform, "{kind:?}, {steps} steps: {ours} against {uniform}");
        }
    }
}

#[test]
fn ddim_after_inversion_is_the_identity_for_the_exact_noise() {
    let x_0 = images(0).clamp(-1.0, 1.0);
    for (kind, schedule) in schedules() {
        for (steps, refinements) in [(1, 0), (20, 0), (20, 2), (100, 0), (1000, 0)] {
            let mut evaluations = 0;
            let x_t =
                ddim_inversion(&schedule, x_0.clone(), Inversion { steps, refinements }, |x, t| {
                    evaluations += 1;
                    exact(&schedule, &x_0, x, t)
                });
            assert_eq!(evaluations, steps * (1 + refinements));
            let settings = Ddim { steps, eta: 0.0, clip_x0: false, seed: 3 };
            let back = ddim(&schedule, x_t, settings, |x, t| exact(&schedule, &x_0, x, t));
            let error = largest(back - x_0.clone());
            // f32 rounding, as above.
            assert!(error < 2e-4, "{kind:?}, {steps} steps: {error}");
        }
    }
}

/// Inverts images of the Gaussian data and decodes them: (error of the image, error of x_T against
/// that of the exact path), both rms.
fn there_and_back(schedule: &Schedule, settings: Inversion, decoder_deviation: f64) -> (f32, f32) {
    let x_0 = means() + images(5) * DEVIATION;
    let x_t = ddim_inversion(schedule, x_0.clone(), settings, gaussian(schedule, DEVIATION));
    // The path keeps (x_t - sqrt(alpha_bar) mean) / deviation of x_t.
    let a = schedule.alpha_bar(timesteps(schedule, settings.steps)[0]);
    let exact = means() * a.sqrt() + images(5) * (a * DEVIATION * DEVIATION + 1.0 - a).sqrt();
    let decode = Ddim { steps: settings.steps, eta: 0.0, clip_x0: false, seed: 3 };
    let back = ddim(schedule, x_t.clone(), decode, gaussian(schedule, decoder_deviation));
    (rms(back - x_0), rms(x_t - exact))
}

#[test]
fn inversion_errors_fall_with_steps_and_refinements_for_gaussian_data() {
    for (kind, schedule) in schedules() {
        let at = |steps, refinements| {
            there_and_back(&schedule, Inversion { steps, refinements }, DEVIATION)
        };
        let errors = [10, 20, 40, 80, 160].map(|steps| at(steps, 0));
        let refined = [0, 1, 3, 9].map(|refinements| at(20, refinements).0);
        println!("{kind:?}: {errors:.5?}, refined {refined:.6?}");
        // Second order: twice the steps, a quarter of the error. The inverted cosine schedule has
        // infinite slope at t = 0.
        let (falls_to, image, x_t, last) = match kind {
            ScheduleKind::InvertedCosine => (0.9, 0.06, 0.1, 0.01),
            _ => (0.5, 0.001, 0.05, 1e-4),
        };
        assert!(errors.windows(2).all(|e| e[1].0 < falls_to * e[0].0), "{kind:?}: {errors:?}");
        if kind != ScheduleKind::InvertedCosine {
            assert!(errors[2..].windows(2).all(|e| e[1].0 < 0.29 * e[0].0), "{kind:?}: {errors:?}");
        }
        assert!(errors[4].0 < image && errors[4].1 < x_t, "{kind:?}: {errors:?}");
        assert!(
            refined.windows(2).all(|e| e[1] < 0.8 * e[0]) && refined[3] < last,
            "{kind:?}: {refined:?}"
        );
        let foreign =
            there_and_back(&schedule, Inversion { steps: 160, refinements: 0 }, 2.5 * DEVIATION);
        assert!(foreign.0 > 0.15, "another network doesn't decode it: {}", foreign.0);
    }
}

#[test]
fn samplers_are_selected_by_name() {
    let all = [Sampler::Ddim, Sampler::Ddpm, Sampler::DpmSolver];
    for (kind, name) in all.into_iter().zip(["ddim", "ddpm", "dpm-solver"]) {
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
        assert_eq!(serde_json::from_value::<Sampler>(name.into()).unwrap(), kind);
    }
    assert!(serde_json::from_value::<Sampler>("euler".into()).is_err());

    let schedule = schedule(ScheduleKind::Cosine);
    let draw = |kind| {
        let settings =
            Sampling { kind, steps: 7, from: Begin::Noise, eta: 0.5, clip_x0: true, seed: 3 };
        sample(&schedule, images(1), settings, gaussian(&schedule, DEVIATION))
    };
    let (x, eps) = (|| images(1), || gaussian(&schedule, DEVIATION));
    let ddim = ddim(&schedule, x(), Ddim { steps: 7, eta: 0.5, clip_x0: true, seed: 3 }, eps());
    let ddpm = ddpm(&schedule, x(), Ddpm { steps: 7, clip_x0: true, seed: 3 }, eps());
    let solver = dpm_solver_pp_2m(&schedule, x(), DpmSolver { steps: 7, clip_x0: true }, eps());
    assert!(
        largest(ddim.clone() - ddpm.clone()) > 0.01
            && largest(ddim.clone() - solver.clone()) > 0.01
    );
    for (kind, out) in all.into_iter().zip([ddim, ddpm, solver]) {
        assert_eq!(largest(draw(kind) - out), 0.0, "{kind:?}");
    }
}

#[test]
fn q_sample_has_the_stated_moments() {
    let schedule = schedule(ScheduleKind::InvertedCosine);
    let times = forward::times(&schedule, &[500, 1000], &Device::flex());
    let x_t = forward::q_sample(Tensor::ones([2, 3, 32, 32], &Device::flex()), &times, images(0));
    let first = x_t.clone().narrow(0, 0, 1);
    let mean = first.clone().mean().into_scalar::<f32>();
    let deviation = (first - mean).square().mean().sqrt().into_scalar::<f32>();
    // The standard error of a mean over 3,072 pixels is 0.013.
    assert!(
        (mean - 0.5f32.sqrt()).abs() < 0.065 && (deviation - 0.5f32.sqrt()).abs() < 0.05,
        "{mean} {deviation}"
    );
}
