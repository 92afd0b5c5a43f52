use super::*;
use crate::eval::features::Features;
use crate::rng::{self, Purpose};

/// `n` rows of noise; row i is of class i % 4 and has `signal` added to that entry.
fn rows(n: usize, signal: f32, index: u64) -> Features {
    let mut values = rng::normal(&mut rng::stream(9, Purpose::Test, index), n * 6);
    values.chunks_exact_mut(6).enumerate().for_each(|(i, row)| row[i % 4] += signal);
    Features { dim: 6, values, labels: (0..n).map(|i| (i % 4) as u16).collect() }
}

fn protocol(method: Method, fractions: &[f64]) -> Protocol {
    Protocol {
        views: TrainViews::Plain,
        fractions: fractions.to_vec(),
        ..Protocol::new(method, Split::Test, 3)
    }
}

#[test]
fn more_labels_score_higher_and_the_largest_fraction_is_the_headline() {
    let (train, test) = (rows(2000, 2.0, 0), rows(1000, 2.0, 1));
    for method in Method::ALL {
        // `linear` needs some hundred steps, and even with all rows an epoch has only 16.
        let config = ProbeConfig { epochs: 20, lr: 0.01, ..ProbeConfig::default() };
        let probed =
            protocol(method, &[1.0, 0.02, 0.1]).of_features(&train, &test, 4, &config).unwrap();
        assert_eq!(
            probed.curve.iter().map(|p| p.n_train).collect::<Vec<_>>(),
            [2000, 40, 200],
            "{method}"
        );
        assert_eq!(probed.point, probed.curve[0]);
        let [all, few, some] = [0, 1, 2].map(|i| probed.curve[i].score);
        assert!(
            few.top1 + 1.0 < some.top1 && some.top1 < all.top1 + 1.0,
            "{method}: {few:?} {some:?} {all:?}"
        );
        // The choice of labels depends on the seed; with all labels only `linear` uses a seed.
        assert!(few.top1_spread > 0.0 && probed.curve[1].runs == 3, "{method}: {few:?}");
        assert_eq!(probed.point.runs, if method == Method::Linear { 3 } else { 1 });
        assert!(
            few.top1 > 30.0 && all.top3.unwrap() >= all.top1 && all.top5.is_none(),
            "{method}: {few:?} {all:?}"
        );
        // The headline is the mean of the per-row results.
        let right =
            probed.right.iter().map(|&r| f64::from(r)).sum::<f64>() / probed.right.len() as f64;
        assert!(
            probed.right.len() == 1000 && (100.0 * right - all.top1).abs() < 1e-3,
            "{method}: {right} {all:?}"
        );
        let neighbours = [0, 1, 2].map(|i| probed.curve[i].neighbours);
        match method {
            Method::Knn => assert_eq!(neighbours, [Some(20), Some(10), Some(20)]),
            Method::KnnLightly => assert_eq!(neighbours, [Some(200), Some(10), Some(50)]),
            _ => assert_eq!(neighbours, [None; 3]),
        }
    }
}

#[test]
fn few_neighbours_have_no_top_3_or_top_5() {
    let (train, test) = (rows(600, 9.0, 7), rows(100, 9.0, 8));
    let probed = protocol(Method::Knn, &[1.0, 0.02, 0.01])
        .of_features(&train, &test, 6, &ProbeConfig::default())
        .unwrap();
    let top = |point: &Point| (point.score.top3.is_some(), point.score.top5.is_some());
    let neighbours = |point: &Point| (point.neighbours, top(point));
    assert_eq!(
        probed.curve.iter().map(neighbours).collect::<Vec<_>>(),
        [(Some(20), (true, true)), (Some(2), (false, false)), (Some(1), (false, false))]
    );
}

#[test]
fn a_fraction_counts_images_and_includes_their_mirror_images() {
    let mut train = rows(40, 9.0, 2);
    let mut mirrored = rows(40, 9.0, 3);
    train.values.append(&mut mirrored.values);
    train.labels.append(&mut mirrored.labels);
    let flip = Protocol { views: TrainViews::Flip, ..protocol(Method::LinearFull, &[0.1]) };
    let probed = flip.of_features(&train, &rows(100, 9.0, 4), 4, &ProbeConfig::default()).unwrap();
    assert_eq!(probed.point.n_train, 4);
    assert!(probed.curve.is_empty() && probed.point.score.top1 > 90.0, "{probed:?}");
}

#[test]
fn json_of_a_score_is_flat_and_round_trips() {
    let (train, test) = (rows(60, 2.0, 5), rows(40, 2.0, 6));
    for fractions in [&[1.0][..], &[0.5, 1.0]] {
        let probed = protocol(Method::Knn, fractions)
            .of_features(&train, &test, 4, &ProbeConfig::default())
            .unwrap();
        let value = serde_json::to_value(&probed).unwrap();
        assert_eq!((&value["n_train"], &value["fraction"]), (&60.into(), &1.0.into()));
        assert!(
            value["top1"].is_number() && value.get("curve").is_some() == (fractions.len() > 1),
            "{value}"
        );
        // With four classes a top-5 is meaningless.
        assert!(
            value["top3"].is_number() && value["top5"].is_null() && value["top5_spread"].is_null(),
            "{value}"
        );
        assert_eq!(
            serde_json::from_value::<Probed>(value).unwrap(),
            Probed { right: Vec::new(), ..probed }
        );
    }
}

#[test]
fn features_that_cannot_be_scored_are_refused_in_a_sentence() {
    let (train, test) = (rows(20, 2.0, 7), rows(20, 2.0, 8));
    let message = |train: &Features, test: &Features, classes| {
        let protocol = protocol(Method::Knn, &[1.0]);
        let error =
            protocol.of_features(train, test, classes, &ProbeConfig::default()).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        error.to_string()
    };
    let narrow = Features { dim: 3, values: vec![0.0; 60], labels: test.labels.clone() };
    assert!(message(&train, &narrow, 4).contains("6 values each and test features 3"));
    let mut bad = test.clone();
    bad.values[7] = f32::NAN;
    assert!(message(&train, &bad, 4).contains("test features hold NaN (row 1, entry 1)"));
    assert!(message(&bad, &test, 4).contains("training features hold NaN"));
    let one = Features { labels: vec![2; 20], ..train.clone() };
    assert!(message(&one, &test, 4).contains("one class, 2"));
    assert!(
        message(&train, &test, 21).contains("20 training features are fewer than the 21 classes")
    );
    let none = Features { dim: 6, values: vec![], labels: vec![] };
    assert!(message(&none, &test, 4).contains("no training features"));
    assert!(message(&train, &none, 4).contains("no test features"));
    // Negative control: valid features are scored.
    assert!(
        protocol(Method::Knn, &[1.0])
            .of_features(&train, &test, 4, &ProbeConfig::default())
            .is_ok()
    );
}

#[test]
fn own_images_get_enough_steps_and_cifar_the_epochs_of_the_protocol() {
    let mut data = crate::data::bundled().unwrap();
    let config = ProbeConfig::default();
    assert_eq!(trained(&config, &data, 20, 2), config);
    data.inventory.reading = "classes are the sub-folders".into();
    // One batch per epoch, and many.
    assert_eq!(trained(&config, &data, 20, 2).epochs, 1000);
    assert_eq!(trained(&config, &data, 5000, 2).epochs, config.epochs);
    assert_eq!(trained(&ProbeConfig { epochs: 2000, ..config }, &data, 20, 2).epochs, 2000);
}
