//! The levels that samplers pass through: where they start, and how they are spaced.

use super::*;

#[test]
fn timesteps_are_the_middles_of_equal_parts() {
    let schedule = schedule(ScheduleKind::Linear);
    assert_eq!(timesteps(&schedule, 4), [875, 625, 375, 125]);
    assert_eq!(timesteps(&schedule, 1000), (1..=1000).rev().collect::<Vec<_>>());
    assert_eq!(timesteps(&schedule, 3), [834, 500, 167]);
    assert_eq!(timesteps(&schedule, 1), [500]);
}

#[test]
fn log_snr_timesteps_fall_to_1_above_the_floor() {
    for (kind, levels) in
        SCHEDULES.into_iter().flat_map(|kind| [1, 2, 7, 50, 1000].map(|levels| (kind, levels)))
    {
        let schedule = Schedule::new(&DiffusionConfig::new(kind, levels));
        for steps in [1, 2, 5, 20, levels, levels + 1] {
            let times = log_snr_timesteps(&schedule, steps);
            assert_eq!(times.len(), steps.min(levels));
            assert!(
                times.windows(2).all(|t| t[0] > t[1]),
                "{kind:?}, {steps} of {levels}: {times:?}"
            );
            assert!(times[0] <= levels && *times.last().unwrap() >= 1);
            if steps > 1 {
                assert_eq!(*times.last().unwrap(), 1, "{kind:?}, {steps} of {levels}: {times:?}");
            }
        }
    }
    // Where levels are dense enough, the spacing is even in lambda = ln(alpha_bar / (1 -
    // alpha_bar)) / 2.
    let schedule = schedule(ScheduleKind::Linear);
    let level = |t: usize| 0.5 * (schedule.alpha_bar(t) / (1.0 - schedule.alpha_bar(t))).ln();
    let times = log_snr_timesteps(&schedule, 20);
    assert!(
        schedule.alpha_bar(times[0]) > Schedule::FLOOR
            && schedule.alpha_bar(times[0] + 1) <= Schedule::FLOOR
    );
    let mean = (level(1) - level(times[0])) / 19.0;
    for t in times[..15].windows(2) {
        assert!(((level(t[1]) - level(t[0])) / mean - 1.0).abs() < 0.1, "{t:?} of {times:?}");
    }
    assert_eq!(
        log_snr_timesteps(
            &Schedule::new(&DiffusionConfig::new(ScheduleKind::InvertedCosine, 1000)),
            2
        )[0],
        999
    );
}

#[test]
fn every_sampler_starts_at_the_given_level() {
    let x_0 = images(0).clamp(-1.0, 1.0);
    for (kind, schedule) in schedules() {
        for (from, steps) in [(400, 10), (400, 1), (5, 20), (1000, 30)] {
            for settings in all(steps) {
                let a = schedule.alpha_bar(from);
                let start = x_0.clone() * a.sqrt() + images(1) * (1.0 - a).sqrt();
                let mut asked = Vec::new();
                let settings = Sampling { from: Begin::Level(from), ..settings };
                let out = sample(&schedule, start, settings, |x, t| {
                    asked.push(t);
                    exact(&schedule, &x_0, x, t)
                });
                let error = largest(out - x_0.clone());
                assert!(error < 2e-4, "{kind:?}, {settings:?}: {error}");
                // Levels whose alpha_bar is on the floor or below are left out.
                assert!(asked[0] == from || (from == 1000 && asked[0] > 900), "{asked:?}");
                assert!(
                    asked.len() == steps.min(from)
                        && asked.is_sorted_by(|a, b| a > b)
                        && asked.last() >= Some(&1)
                );
                assert!(
                    steps == 1 || asked.last() == Some(&1),
                    "down to the least noise: {asked:?}"
                );
            }
        }
    }
}

#[test]
fn only_networks_trained_on_pure_noise_are_evaluated_there_and_then_first() {
    for kind in SCHEDULES {
        let [v, eps] = [of_v(kind), schedule(kind)];
        for settings in [1, 2, 12].into_iter().flat_map(all) {
            let asked = |schedule: &Schedule, settings| {
                let mut asked = Vec::new();
                let out = sample(schedule, images(1), settings, |x, t| {
                    asked.push(t);
                    exact(schedule, &images(2), x, t)
                });
                assert!(largest(out) > 0.5);
                asked
            };
            let first = asked(&v, settings);
            assert_eq!(
                (first[0], first.len()),
                (1000, settings.steps),
                "{kind:?}, {settings:?}: {first:?}"
            );
            // An x_T that an inversion found lies at the first of the inversion's timesteps.
            let inverted =
                asked(&v, Sampling { kind: Sampler::Ddim, from: Begin::Inverted, ..settings });
            assert_eq!(inverted, timesteps(&v, settings.steps));
            assert!(asked(&eps, settings)[0] < 1000);
        }
        for (sampler, steps) in [Sampler::Ddim, Sampler::DpmSolver]
            .into_iter()
            .flat_map(|s| [1, 2, 3, 50, 500, 998, 999, 1000].map(|n| (s, n)))
        {
            let times = from_pure_noise(&v, sampler, steps);
            assert!(
                times.len() == steps && times.is_sorted_by(|a, b| a > b),
                "{kind:?}, {sampler:?}: {times:?}"
            );
            assert!(times[0] == 1000 && *times.last().unwrap() >= 1);
        }
    }
}

#[test]
fn from_pure_noise_v_generates_what_eps_generates_for_the_same_data() {
    for kind in SCHEDULES {
        let (v, eps) = (of_v(kind), schedule(kind));
        for settings in all(50) {
            let drawn = |schedule: &Schedule, deviation| {
                let out = sample(schedule, images(1), settings, gaussian(schedule, deviation));
                (rms(out.clone() - means()), out)
            };
            let ((of_v, image), (of_eps, other)) = (drawn(&v, DEVIATION), drawn(&eps, DEVIATION));
            // The two pass through different levels, so they don't agree to the last digit.
            assert!(
                (of_v / of_eps - 1.0).abs() < 0.12,
                "{kind:?}, {settings:?}: {of_v} against {of_eps}"
            );
            assert!(
                (drawn(&v, 1.5 * DEVIATION).0 / of_eps - 1.0).abs() > 0.2,
                "{kind:?}: another network generates other images"
            );
            if settings.eta == 0.0 && settings.kind != Sampler::Ddpm {
                let apart = rms(image - other);
                assert!(
                    apart < 0.12 * of_eps,
                    "{kind:?}, {settings:?}: {apart} of {of_eps} apart, from the same noise"
                );
            }
        }
    }
}
