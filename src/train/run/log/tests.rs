use super::*;

#[test]
fn the_first_step_with_a_value_that_is_not_finite_is_named_with_its_own_rate() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().expect("a folder"));
    let run = RunDir::new(folder.path().join("it's a run"));
    std::fs::create_dir(&run.path).expect("writable");
    let config = Config::load(std::path::Path::new("configs/quick.toml"), &[]).expect("a recipe");
    let mut log = Log::open(
        &run,
        &config,
        &State::new(&config, "", &device),
        &device,
        Progress::of_training(config.train.steps),
    )
    .expect("a new log");
    let mut add = |numbers: &[(f32, f32)]| {
        for (i, (loss, norm)) in numbers.iter().enumerate() {
            let tensor = |value: f32| Tensor::<1>::from_floats([value], &device);
            log.add(
                Outcome { loss: tensor(*loss), grad_norm: tensor(*norm), loss_scale: None },
                0.1 * (i + 1) as f64,
            );
        }
        log.row(10, 80, &mut Tally::new(&device))
    };
    let row = add(&[(1.0, 4.0), (2.0, 5.0), (3.0, 6.0)]).expect("all are finite");
    assert_eq!(row.pool_bytes, None, "the CPU backend has no pools");
    assert!((row.loss, row.grad_norm) == (2.0, 6.0) && (row.lr - 0.3).abs() < 1e-12, "{row:?}");
    let failure = || -> Failure {
        serde_json::from_slice(&std::fs::read(run.failure()).expect("noted")).expect("JSON")
    };
    for (numbers, step, what) in [
        ([(1.0, 4.0), (2.0, f32::NAN), (f32::NAN, f32::NAN)], 9, "gradients' norm is NaN"),
        ([(f32::INFINITY, 4.0), (2.0, 5.0), (f32::NAN, 6.0)], 8, "loss is inf"),
    ] {
        let message = add(&numbers).expect_err("not finite").to_string();
        assert!(
            message.contains(what) && message.contains(&format!("at step {step} ")),
            "{message}"
        );
        assert_eq!((failure().step, failure().lr), (step, 0.1 * (step - 7) as f64));
        let replay = Hint::Replay(run.path.clone()).to_string();
        assert!(message.contains(&replay), "{message}");
    }
}

#[test]
fn mixed_precision_skips_steps_but_not_ten_in_a_row() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().expect("a folder"));
    let run = RunDir::new(folder.path().join("run"));
    std::fs::create_dir(&run.path).expect("writable");
    let mixed = ["train.precision=mixed".to_owned()];
    let config =
        Config::load(std::path::Path::new("configs/quick.toml"), &mixed).expect("a recipe");
    let mut log = Log::open(
        &run,
        &config,
        &State::new(&config, "", &device),
        &device,
        Progress::of_training(config.train.steps),
    )
    .expect("a new log");
    let mut step = 0;
    let mut add = |norms: &[f32]| {
        for norm in norms {
            let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
            let loss_scale = Some(tensor(&[512.0, 1.0, 7.0, 0.0]));
            log.add(Outcome { loss: tensor(&[1.0]), grad_norm: tensor(&[*norm]), loss_scale }, 0.1);
            step += 1;
        }
        log.row(step, 0, &mut Tally::new(&device))
    };
    let row = add(&[3.0, f32::INFINITY, 4.0, f32::NAN]).expect("two steps are skipped");
    assert_eq!((row.grad_norm, row.loss_scale, row.left_out), (4.0, Some(512.0), Some(7)));
    // The first of the nine was the last step of the previous row.
    add(&[f32::NAN; 8]).expect("nine in a row");
    assert!(add(&[2.0, f32::NAN]).expect("one").grad_norm == 2.0);
    let message = add(&[f32::NAN; 9]).expect_err("ten in a row").to_string();
    assert!(
        message.contains("10 steps in a row had gradients that aren't finite")
            && message.contains("at step 23 "),
        "{message}"
    );
}

#[test]
fn after_a_silence_steps_without_a_row_are_reported_and_the_file_stays_as_it_is() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().expect("a folder"));
    let run = RunDir::new(folder.path().join("run"));
    std::fs::create_dir(&run.path).expect("writable");
    let config = Config::load(std::path::Path::new("configs/quick.toml"), &[]).expect("a recipe");
    let mut log = Log::open(
        &run,
        &config,
        &State::new(&config, "", &device),
        &device,
        Progress::of_training(config.train.steps),
    )
    .expect("a new log");
    for loss in [1.0, 2.0] {
        let [loss, grad_norm] =
            [loss, 5.0].map(|value: f32| Tensor::<1>::from_floats([value], &device));
        log.add(Outcome { loss, grad_norm, loss_scale: None }, 0.1);
    }
    assert_eq!(log.told, "");
    let left = || "about 3 hours left".to_owned();
    log.show(2, 12.0, left).expect("computed");
    assert_eq!(log.told, "12.0 images/s, about 3 hours left", "no silence yet");
    log.printed =
        Instant::now().checked_sub(Duration::from_secs(16)).expect("the machine has run that long");
    log.show(2, 12.0, left).expect("computed");
    assert_eq!(log.told, "loss 1.5000, 12.0 images/s, about 3 hours left");
    assert!(log.printed.elapsed() < SILENCE && log.metrics.rows.is_empty());
    assert_eq!(std::fs::read(run.metrics()).expect("there"), b"");
    assert_eq!(
        log.row(2, 64, &mut Tally::new(&device)).expect("finite").loss,
        1.5,
        "the row covers both steps"
    );
}
