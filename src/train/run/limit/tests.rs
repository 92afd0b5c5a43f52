use super::*;
use crate::config::BUILT_IN;
use crate::data::bundled;
use crate::device::Selected;
use std::sync::LazyLock;

static DATA: LazyLock<Dataset> = LazyLock::new(|| bundled().expect("the subset"));

/// Checks a limit of `minutes`, of which `used` seconds are over, for configs/quick.toml on a
/// CPU, with steps of `seconds`.
fn case(minutes: f64, used: u64, seconds: f64, sets: &[&str], check: impl FnOnce(&Limit, &Pace)) {
    let drawn = ["sample.start=1", "sample.steps=50", "sample.guidance=0.3"];
    let sets: Vec<String> = drawn.iter().chain(sets).map(|set| (*set).to_owned()).collect();
    let config = Config::parse(BUILT_IN[1].1, "quick.toml", &sets).expect("a recipe");
    let (data, device) = (&*DATA, Selected::cpu("a test"));
    let plan = Plan::new(&config, data, &device);
    let began = Instant::now()
        .checked_sub(Duration::from_secs(used))
        .expect("the machine has run that long");
    let allowed = Some(Duration::from_secs_f64(60.0 * minutes));
    let pace = Pace::new(&device, config.train.batch_size, Some(seconds));
    check(&Limit::new(allowed, began, &config, data, &plan), &pace);
}

#[test]
fn time_is_reserved_for_the_closing_work() {
    // 20 images in 50 steps with guidance: a third of 62.5 steps of 32 images, 2.1 s.
    for (used, over) in [(100, false), (117, false), (118, true), (125, true)] {
        case(2.0, used, 0.1, &[], |limit, pace| {
            assert_eq!(limit.is_over(pace, &[]), over, "after {used} s")
        });
    }
    // The linear decoder is fitted to 5,000 images: 52 steps, 7.3 s with the picture.
    let fitted = ["sample.start=0.5"];
    case(2.0, 112, 0.1, &fitted, |limit, pace| assert!(!limit.is_over(pace, &[])));
    case(2.0, 114, 0.1, &fitted, |limit, pace| assert!(limit.is_over(pace, &[])));
    // Work that is due comes first.
    case(2.0, 117, 0.1, &[], |limit, pace| assert!(limit.is_over(pace, &[Work::Picture])));
    // Scores of 5,000 images: 52 steps, a quarter of the time at most.
    let scored = ["train.evaluate_every=100"];
    case(2.0, 111, 0.1, &scored, |limit, pace| assert!(!limit.is_over(pace, &[])));
    case(2.0, 114, 0.1, &scored, |limit, pace| assert!(limit.is_over(pace, &[])));
    case(2.0, 40, 10.0, &scored, |limit, pace| {
        assert!(!limit.is_over(pace, &[]) && !limit.scores_fit(pace))
    });
    // No time is reserved for scores that are left out.
    case(2.0, 75, 10.0, &scored, |limit, pace| {
        assert!(!limit.is_over(pace, &[]), "30 s for a part of the picture")
    });
    // The fraction of the time that the learning rate follows reaches 1 with the last step.
    case(2.0, 59, 0.1, &[], |limit, pace| {
        assert!((limit.share(pace) - 0.5).abs() < 0.02, "{}", limit.share(pace))
    });
    case(2.0, 130, 0.1, &[], |limit, pace| {
        assert!(limit.share(pace) == 1.0 && limit.spare(120.0) < 7.0)
    });
}

#[test]
fn a_picture_that_takes_too_long_has_fewer_images_or_none() {
    case(2.0, 117, 0.1, &[], |limit, pace| assert_eq!(limit.picture(pace), limit.whole));
    // It takes 208 s, of which 16 + 60 are left.
    case(2.0, 60, 10.0, &[], |limit, pace| {
        assert_eq!(limit.picture(pace), Picture { drawn: 7, fitted: 0 })
    });
    case(0.5, 55, 25.0, &[], |limit, pace| {
        assert_eq!(limit.picture(pace), Picture::default());
        assert!(limit.too_short(pace).is_some_and(|said| {
            said.starts_with("the start has used up the time limit of 0.5 minutes")
        }));
        assert_eq!(limit.about(Work::Picture, pace), "about 8.5 minutes");
    });
    case(0.5, 0, 55.0, &[], |limit, pace| {
        assert!(limit.too_short(pace).is_some_and(|said| {
            said.contains("about 55 seconds, longer than the time limit of 0.5 minutes")
        }));
    });
    case(2.0, 60, 10.0, &[], |limit, pace| {
        assert!(limit.too_short(pace).is_none());
        let mut limit = Limit { measured: limit.measured, ..*limit };
        limit.drew(Picture { drawn: 4, fitted: 0 }, Duration::from_secs(4));
        assert_eq!(limit.picture(pace), limit.whole, "20 s, as was measured");
    });
}

#[test]
fn the_fit_gets_fewer_images_before_the_picture_does() {
    // Steps of 1 s and 32 images: a pass takes 1/96 s, 20 images in 50 steps with guidance 20.8
    // s, the fit 52.
    let fitted = ["sample.start=0.5"];
    let of = |used: u64, check: fn(Picture)| {
        case(2.0, used, 1.0, &fitted, |limit, pace| check(limit.picture(pace)))
    };
    of(50, |picture| assert_eq!(picture, Picture { drawn: 20, fitted: 5_000 }));
    // 136 - 90 seconds are left.
    of(90, |picture| {
        assert!(picture.drawn == 20 && (2_300..2_420).contains(&picture.fitted), "{picture:?}")
    });
    of(120, |picture| assert_eq!(picture, Picture { drawn: 10, fitted: Picture::FEWEST }));
    of(133, |picture| assert_eq!(picture, Picture::default()));
}

#[test]
fn the_time_left_is_that_of_the_recipe_or_the_limit_whichever_ends_first() {
    case(2.0, 0, 0.05, &[], |limit, pace| {
        assert_eq!(limit.to_go(100, pace), "about 80 seconds to step 1,700");
        assert_eq!(limit.time_left(100, pace), "about 80 seconds left");
    });
    case(2.0, 60, 1.0, &["train.steps=80000"], |limit, pace| {
        let said = limit.to_go(60, pace);
        assert!(
            said.contains("to the end (the time limit of 2 minutes), near step ")
                && said.ends_with(" of 80,000"),
            "{said}"
        );
        assert!(
            limit.time_left(60, pace).ends_with(" seconds left (the time limit of 2 minutes)"),
            "{}",
            limit.time_left(60, pace)
        );
    });
}

#[test]
fn no_time_is_reserved_for_scores_of_data_without_classes() {
    let sets = ["train.evaluate_every=100".to_owned()];
    let config = Config::parse(BUILT_IN[1].1, "quick.toml", &sets).expect("a recipe");
    for (classes, is_scored) in [(DATA.classes.clone(), true), (Vec::new(), false)] {
        let data = Dataset { classes, ..DATA.clone() };
        let plan = Plan::new(&config, &data, &Selected::cpu("a test"));
        let limit = Limit::new(None, Instant::now(), &config, &data, &plan);
        assert_eq!(limit.scores > 0, is_scored);
    }
}

#[test]
fn a_first_step_that_compiles_shaders_does_not_advance_the_learning_rate() {
    let config = Config::parse(BUILT_IN[1].1, "quick.toml", &[]).expect("a recipe");
    let device = crate::device::select("wgpu").expect("an adapter");
    let plan = Plan::new(&config, &DATA, &device);
    // One step has taken the first minute of two.
    let began = Instant::now().checked_sub(Duration::from_secs(60)).expect("a running machine");
    let limit = Limit::new(Some(Duration::from_secs(120)), began, &config, &DATA, &plan);
    let mut pace = Pace::new(&device, config.train.batch_size, Some(60.0));
    pace.taken = 1;
    assert!((limit.share(&pace) - 0.5).abs() < 0.02, "{}", limit.share(&pace));
    // If the second one takes as long, it was the pace.
    pace.taken = 2;
    assert!(limit.share(&pace) > 0.6, "{}", limit.share(&pace));
}
