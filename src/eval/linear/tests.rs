use super::*;
use crate::eval::features::Features;

fn config(epochs: usize, batch_size: usize, lr: f64) -> ProbeConfig {
    ProbeConfig { epochs, batch_size, lr }
}

/// `n` rows of N(0, 1) noise with `signal` added to the entry of the row's label; labels are
/// random, below `classes`.
fn clusters(n: usize, dim: usize, classes: u16, signal: f32, index: u64) -> Features {
    let mut rng = rng::stream(5, Purpose::Test, index);
    let labels: Vec<u16> = (0..n).map(|_| rng.random_range(0..classes)).collect();
    let mut values = rng::normal(&mut rng, n * dim);
    for (row, &label) in values.chunks_exact_mut(dim).zip(&labels) {
        row[usize::from(label)] += signal;
    }
    Features { dim, values, labels }
}

fn assert_close(what: &str, ours: &[f32], golden: &[f32]) {
    assert_eq!(ours.len(), golden.len(), "{what}");
    for (a, b) in ours.iter().zip(golden) {
        assert!((a - b).abs() <= 2e-6 + 1e-5 * b.abs(), "{what}: {ours:?} instead of {golden:?}");
    }
}

#[test]
fn three_steps_agree_with_pytorch() {
    // torch 2.8: F.normalize, BatchNorm1d(3, affine=False, eps=1e-6), Linear(3, 3), Adam(lr=.05),
    // CosineAnnealingLR(3).
    let value = |i: usize, j: usize| ((i * 7 + j * 5) % 11) as f32 - 4.5 + 0.25 * j as f32;
    let train = Features {
        dim: 3,
        values: (0..21).map(|k| value(k / 3, k % 3)).collect(),
        labels: (0..7).map(|i| i % 3).collect(),
    };
    let shape = ProbeShape { classes: 3, normalise: true };
    let mut probe = LinearProbe::new(3, 7, shape, &config(1, 4, 0.05), 0).unwrap();
    probe.steps_total = 3;
    for c in 0..3 {
        for d in 0..3 {
            probe.blocks[0].weight.value[c][d] = 0.1 * (c + 1) as f32 - 0.15 * d as f32;
        }
    }
    probe.bias.value = vec![0.05, -0.1, 0.2];
    let scales = probe.scales(&train);
    for rows in [&[0, 1, 2, 3][..], &[4, 5, 6], &[6, 2, 4, 0]] {
        probe.step(&train, &scales, rows);
    }
    let block = &probe.blocks[0];
    let weight: Vec<f32> = block.weight.value.iter().flat_map(|w| w[..3].to_vec()).collect();
    let golden = [
        0.1859957,
        -0.10970835,
        -0.10010142,
        0.29378003,
        -0.04996153,
        -0.01221115,
        0.20290208,
        0.24977772,
        -0.0998137,
    ];
    assert_close("weight", &weight, &golden);
    assert_close("bias", &probe.bias.value, &[0.13109998, -0.13870718, 0.10673551]);
    assert_close("running mean", &block.running_mean[..3], &[0.02641389, -0.01749433, 0.06727916]);
    assert_close("running variance", &block.running_var[..3], &[0.83734727, 0.86459553, 0.8233854]);
    let golden = [-0.08981608, -0.3549532, -0.08023496, 0.27816522, 0.06108952, -0.00510223];
    assert_close("logits", &probe.logits(&train)[..6], &golden);
}

#[test]
fn separable_classes_are_all_predicted_and_padding_stays_zero() {
    // 130 features: two blocks, the second one nearly all padding.
    let (train, test) = (clusters(1000, 130, 10, 30.0, 0), clusters(500, 130, 10, 30.0, 1));
    let scores = train_and_score(&train, &test, 10, &config(20, 32, 0.01), 1).unwrap();
    assert_eq!((scores.top1, scores.top3, scores.top5), (100.0, Some(100.0), Some(100.0)));
    assert_eq!(scores.right, [true; 500]);
    let mut probe =
        LinearProbe::new(130, 1000, ProbeShape::linear(10), &config(1, 32, 0.01), 1).unwrap();
    probe.train_epoch(&train).unwrap();
    assert!(probe.blocks[1].weight.value.iter().all(|w| w[2..].iter().all(|&v| v == 0.0)));
}

#[test]
fn any_number_of_classes_works() {
    // More than ten classes are distinguished; the data contains the last one.
    let (train, test) = (clusters(3000, 100, 100, 30.0, 4), clusters(500, 100, 100, 30.0, 5));
    assert!(test.labels.contains(&99));
    assert!(train_and_score(&train, &test, 100, &config(20, 32, 0.01), 1).unwrap().top1 > 99.0);
    // Noise in few classes: a top-k over at most k classes is always right and not reported, top-1
    // is.
    for classes in [2, 3, 4, 5, 6] {
        let (train, test) = (clusters(200, 8, classes, 0.0, 6), clusters(400, 8, classes, 0.0, 7));
        let scores =
            train_and_score(&train, &test, classes.into(), &config(2, 32, 1e-3), 1).unwrap();
        assert!(scores.top1 < 75.0, "{classes} classes: {scores:?}");
        assert_eq!(
            (scores.top3.is_some(), scores.top5.is_some()),
            (classes > 3, classes > 5),
            "{classes} classes"
        );
        assert!(
            scores.top3.iter().chain(&scores.top5).all(|&top| top > scores.top1 && top < 100.0),
            "{scores:?}"
        );
    }
}

#[test]
fn random_labels_stay_near_chance() {
    let (train, test) = (clusters(1000, 16, 10, 0.0, 2), clusters(2000, 16, 10, 0.0, 3));
    let scores = train_and_score(&train, &test, 10, &config(5, 64, 1e-3), 1).unwrap();
    // Five standard errors of a share of k / 10 among 2000.
    for (score, k) in [(Some(scores.top1), 1.0), (scores.top3, 3.0), (scores.top5, 5.0)] {
        let score = score.expect("of ten classes");
        let p: f64 = k / 10.0;
        let tolerance = 500.0 * (p * (1.0 - p) / 2000.0).sqrt();
        assert!((score - 100.0 * p).abs() < tolerance, "top-{k}: {score}");
    }
}

#[test]
fn logits_depend_on_the_seed_but_not_on_the_number_of_threads() {
    let (train, test) = (clusters(300, 600, 10, 1.0, 4), clusters(50, 600, 10, 1.0, 5));
    let logits = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut probe =
                LinearProbe::new(600, 300, ProbeShape::linear(10), &config(2, 64, 1e-3), seed)
                    .unwrap();
            (0..2).for_each(|_| probe.train_epoch(&train).unwrap());
            probe.logits(&test)
        })
    };
    assert_eq!(logits(1, 7), logits(1, 7));
    assert_eq!(logits(1, 7), logits(5, 7));
    assert_ne!(logits(1, 7), logits(1, 8));
}

#[test]
fn scale_of_a_vector_matters_only_without_normalisation() {
    let plain = clusters(40, 8, 3, 1.0, 6);
    let mut scaled = plain.clone();
    scaled.values[..8].iter_mut().for_each(|v| *v *= 4.0);
    let logits = |normalise| {
        let shape = ProbeShape { classes: 3, normalise };
        let probe = LinearProbe::new(8, 40, shape, &config(1, 8, 1e-3), 0).unwrap();
        [probe.logits(&plain), probe.logits(&scaled)]
    };
    let [a, b] = logits(true);
    assert_close("normalised", &a, &b);
    let [a, b] = logits(false);
    assert!((a[0] - b[0]).abs() > 1e-3);
}

#[test]
fn equal_logits_are_ranked_by_class() {
    assert_eq!([0, 1, 2, 3].map(|label| rank(&[0.5, 0.5, 2.0, 0.5], label)), [1, 2, 0, 3]);
}

#[test]
fn a_last_batch_of_one_row_is_dropped() {
    assert_eq!(
        [batches(256, 128), batches(257, 128), batches(258, 128), batches(2, 128)],
        [2, 2, 3, 1]
    );
    let train = clusters(9, 4, 3, 1.0, 7);
    let mut probe = LinearProbe::new(4, 9, ProbeShape::linear(10), &config(2, 4, 1e-3), 0).unwrap();
    (0..2).for_each(|_| probe.train_epoch(&train).unwrap());
    assert_eq!((probe.steps_done, probe.steps_total), (4, 4));
    assert!(probe.bias.value.iter().all(|v| v.is_finite()));
}

#[test]
fn errors_name_the_features_that_are_not_finite() {
    let good = clusters(20, 4, 3, 1.0, 8);
    let mut bad = good.clone();
    bad.values[4 * 3 + 1] = f32::NAN;
    let message = |train, test| {
        train_and_score(train, test, 10, &config(1, 4, 1e-3), 0).unwrap_err().to_string()
    };
    assert!(message(&bad, &good).starts_with("the training features hold NaN (row 3, entry 1)"));
    assert!(message(&good, &bad).starts_with("the test features hold NaN (row 3, entry 1)"));
    let mut foreign = good.clone();
    foreign.labels[2] = 10;
    assert!(message(&good, &foreign).contains("class 10 at row 2"));
}

#[test]
fn spread_is_the_sample_standard_deviation() {
    assert_eq!(mean_and_spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), (3.0, 2.5f64.sqrt()));
    assert_eq!(mean_and_spread(&[7.0]), (7.0, 0.0));
}

#[test]
fn class_directions_raise_their_class_and_ignore_constant_features() {
    // Features of very different scales around a mean far from 0, the last one constant; 130
    // features are two blocks.
    let mut train = clusters(1000, 130, 5, 4.0, 9);
    for row in train.values.chunks_exact_mut(130) {
        row.iter_mut().enumerate().for_each(|(i, v)| *v = *v * (0.1 + (i % 7) as f32) + 2.0);
        row[129] = 3.0;
    }
    let shape = ProbeShape { classes: 5, normalise: true };
    let mut probe = LinearProbe::new(130, 1000, shape, &config(10, 50, 0.01), 1).unwrap();
    (0..10).for_each(|_| probe.train_epoch(&train).unwrap());
    let directions = probe.class_directions();
    let margin = |z: &[f32], class: usize| {
        let logits = probe.logits(&Features { dim: 130, values: z.to_vec(), labels: vec![0] });
        logits[class] - logits.iter().sum::<f32>() / 5.0
    };
    for (class, direction) in directions.iter().enumerate() {
        assert_eq!(direction.len(), 130);
        let length = direction.iter().map(|v| v * v).sum::<f32>().sqrt();
        let step = |row: &[f32], along: &[f32]| {
            row.iter().zip(along).map(|(z, d)| z + 3.0 * d / length).collect::<Vec<_>>()
        };
        for row in train.values.chunks_exact(130).take(20) {
            let before = margin(row, class);
            assert!(margin(&step(row, direction), class) > before, "class {class}");
            // Negative control: another class's direction does less for this one.
            let other = &directions[(class + 1) % 5];
            assert!(margin(&step(row, other), class) < margin(&step(row, direction), class));
        }
        // A constant feature varies a little after division by |z|, but much less than the others.
        let largest = direction.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(
            direction[129].abs() < 0.05 * largest,
            "{} compared with {largest}",
            direction[129]
        );
    }
}
