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
        assert!(
            s.alpha_bar(1) > 0.97 && s.alpha_bar(1000) < 1e-3,
            "{kind:?}: {} .. {}",
            s.alpha_bar(1),
            s.alpha_bar(1000)
        );
    }
}

#[test]
fn known_values() {
    // The product over 1000 linear betas is 4.0358e-5 (DDPM's published terminal alpha_bar).
    assert!((schedule(ScheduleKind::Linear, 1000).alpha_bar(1000) - 4.0358e-5).abs() < 1e-8);
    // Both cosine schedules are 1/2 at u = 1/2 (the plain one up to its offset).
    let inverted = schedule(ScheduleKind::InvertedCosine, 1000);
    assert!((inverted.alpha_bar(500) - 0.5).abs() < 1e-12);
    assert!((schedule(ScheduleKind::Cosine, 1000).alpha_bar(500) - 0.4938).abs() < 1e-3);
    // The other form of the formula, arccos(2u - 1) / pi.
    for t in 1..1000 {
        let u = t as f64 / 1000.0;
        assert!(
            (inverted.alpha_bar(t) - (2.0 * u - 1.0).acos() / std::f64::consts::PI).abs() < 1e-12
        );
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

#[test]
fn a_shift_moves_the_log_snr_of_every_level_by_the_same_amount() {
    let log_snr = |alpha_bar: f64| (alpha_bar / (1.0 - alpha_bar)).ln();
    for kind in KINDS {
        for levels in [Levels::Discrete, Levels::Continuous] {
            let of = |log_snr_shift| {
                Schedule::new(&DiffusionConfig {
                    levels,
                    log_snr_shift,
                    ..DiffusionConfig::new(kind, 1000)
                })
            };
            let (plain, shifted) = (of(0.0), of(-1.386));
            for position in [0.05, 0.3, 0.5, 0.9] {
                let [before, after] =
                    [&plain, &shifted].map(|schedule| schedule.quantile(position));
                assert_eq!(before.time, after.time);
                let moved = log_snr(after.alpha_bar) - log_snr(before.alpha_bar);
                // Levels between those of the linear schedule are interpolated, and alpha_bar of
                // its cleanest level is 1 - 1e-4.
                assert!(
                    (moved + 1.386).abs() < 1e-3,
                    "{kind:?}, {levels:?} at {position}: {moved}"
                );
            }
            assert_eq!(shifted.alpha_bar(0), 1.0);
            assert!(
                (1..=1000).all(|t| shifted.alpha_bar(t) <= shifted.alpha_bar(t - 1)
                    && shifted.alpha_bar(t) > 0.0)
            );
        }
    }
}

const KINDS: [ScheduleKind; 3] =
    [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::InvertedCosine];

/// v or eps at continuous levels.
fn continuous(kind: ScheduleKind, prediction: Prediction, high_noise: f64) -> Schedule {
    Schedule::new(&DiffusionConfig {
        prediction,
        levels: Levels::Continuous,
        high_noise,
        ..DiffusionConfig::new(kind, 1000)
    })
}

#[test]
fn v_at_continuous_levels_ends_in_pure_noise_and_eps_on_the_floor() {
    for kind in KINDS {
        let [v, eps] =
            [Prediction::V, Prediction::Eps].map(|prediction| continuous(kind, prediction, 0.1));
        let last = v.alpha_bar(1000);
        assert!(
            if kind == ScheduleKind::Linear { last < 1e-4 } else { last < 1e-12 },
            "{kind:?}: {last}"
        );
        assert!(
            eps.alpha_bar(1000) > 4e-5 && v.begins_at_pure_noise() && !eps.begins_at_pure_noise()
        );
        assert!(
            !continuous(kind, Prediction::V, 0.0).begins_at_pure_noise(),
            "without a share of high noise"
        );
        // All other levels are those of the discrete schedule.
        assert!((1..1000).all(
            |t| v.level(t) == schedule(kind, 1000).level(t) || v.alpha_bar(t) < Schedule::FLOOR
        ));
    }
}

#[test]
fn uniform_positions_give_each_level_its_share() {
    let discrete = schedule(ScheduleKind::InvertedCosine, 1000);
    assert!(
        (0..1000).all(|i| discrete.quantile((i as f64 + 0.5) / 1000.0) == discrete.level(i + 1))
    );
    for kind in KINDS {
        let share = 0.1;
        let schedule = continuous(kind, Prediction::V, share);
        let levels: Vec<Level> =
            (0..10_000).map(|i| schedule.quantile(i as f64 / 10_000.0)).collect();
        // The first tenth has alpha_bar from 0 to .02, evenly spaced.
        for (i, level) in levels[..1000].iter().enumerate() {
            assert!(
                (level.alpha_bar - HIGH_NOISE * i as f64 / 1000.0).abs() < 1e-12,
                "{kind:?}: {level:?}"
            );
            let found = schedule.between(f64::from(level.time));
            // Times are f32: near 1 they are 6e-8 apart, and there the inverted cosine rises like
            // the square root.
            assert!((found - level.alpha_bar).abs() < 3e-4, "{kind:?}: {found} for {level:?}");
        }
        // The others cover the times of the schedule evenly.
        for (i, level) in levels[1000..].iter().enumerate() {
            let time = 1.0 - i as f64 / 9000.0;
            assert!(
                (f64::from(level.time) - time).abs() < 1e-6
                    && (0.0..=1.0).contains(&level.alpha_bar)
            );
            assert!((level.alpha_bar - schedule.between(time)).abs() < 1e-9);
        }
    }
    // Of a thousand discrete levels of the inverted cosine schedule, one lies there.
    assert_eq!((1..=1000).filter(|&t| discrete.alpha_bar(t) < HIGH_NOISE).count(), 1);
}

#[test]
fn alpha_bar_between_two_levels_lies_between_theirs() {
    for kind in KINDS {
        let schedule = continuous(kind, Prediction::V, 0.0);
        for t in [1, 10, 500, 900, 999] {
            let [at, between, next] =
                [0.0, 0.5, 1.0].map(|part| schedule.between((t as f64 + part) / 1000.0));
            assert!(
                (at - schedule.alpha_bar(t)).abs() < 1e-9 && at > between && between > next,
                "{kind:?} at {t}"
            );
        }
    }
}
