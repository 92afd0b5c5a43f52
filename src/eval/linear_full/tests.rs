use super::*;
use crate::eval::features::Features;
use crate::rng::{self, Purpose};
use rand::RngExt;

/// `n` rows of N(0, 1) noise with `signal` added to the entry of the row's label, then feature j
/// scaled by 1 + j and shifted by 10 j.
fn clusters(n: usize, dim: usize, classes: u16, signal: f32, index: u64) -> Features {
    let mut rng = rng::stream(7, Purpose::Test, index);
    let labels: Vec<u16> = (0..n).map(|_| rng.random_range(0..classes)).collect();
    let mut values = rng::normal(&mut rng, n * dim);
    for (row, &label) in values.chunks_exact_mut(dim).zip(&labels) {
        row[usize::from(label)] += signal;
        row.iter_mut().enumerate().for_each(|(j, v)| *v = *v * (1.0 + j as f32) + 10.0 * j as f32);
    }
    Features { dim, values, labels }
}

/// The mean loss with its penalty by plain loops in f64, on features standardised in f64.
fn plain_objective(train: &Features, classes: usize, parameters: &[f64]) -> f64 {
    let (n, dim) = (train.rows(), train.dim);
    let column = |j: usize| (0..n).map(move |i| f64::from(train.values[i * dim + j]));
    let statistics = |j: usize| {
        let mean = column(j).sum::<f64>() / n as f64;
        (mean, (column(j).map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt())
    };
    let statistics: Vec<(f64, f64)> = (0..dim).map(statistics).collect();
    let (w, b) = parameters.split_at(classes * dim);
    let loss = |i: usize| {
        let logit = |c: usize| {
            let terms = statistics.iter().enumerate().map(|(j, (mean, deviation))| {
                w[c * dim + j] * (f64::from(train.values[i * dim + j]) - mean) / deviation
            });
            terms.sum::<f64>() + b[c]
        };
        let logits: Vec<f64> = (0..classes).map(logit).collect();
        logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[usize::from(train.labels[i])]
    };
    ((0..n).map(loss).sum::<f64>() + w.iter().map(|w| w * w).sum::<f64>() / 2.0) / n as f64
}

#[test]
fn value_and_gradient_match_plain_loops() {
    // More rows than a block in each part, so that blocks and parts are combined.
    let train = clusters(PARTS * BLOCK + 500, 4, 3, 1.0, 0);
    let scaler = Scaler::new(&train);
    let at: Vec<f64> = (0..15).map(|i| 0.5 * (f64::from(i) * 1.3).sin()).collect();
    let mut gradient = vec![0.0; at.len()];
    let value = objective(&train, &scaler, 3, &at, &mut gradient);
    assert!((value - plain_objective(&train, 3, &at)).abs() < 1e-6, "{value}");
    for i in 0..at.len() {
        let moved = |by: f64| {
            let mut moved = at.clone();
            moved[i] += by;
            plain_objective(&train, 3, &moved)
        };
        let want = (moved(1e-4) - moved(-1e-4)) / 2e-4;
        // Central differences have an error of 1e-8, sums of f32 products 1e-6 of terms up to 1.
        assert!((gradient[i] - want).abs() < 1e-6, "entry {i}: {} instead of {want}", gradient[i]);
    }
    assert!(gradient.iter().any(|g| g.abs() > 0.05), "{gradient:?}");
}

#[test]
fn any_step_away_from_the_solution_is_worse() {
    let train = clusters(400, 6, 4, 1.5, 1);
    let fit = LogisticRegression::fit(&train, 4).unwrap();
    assert!(
        fit.gradient <= TOLERANCE && fit.iterations > 5,
        "{} after {}",
        fit.gradient,
        fit.iterations
    );
    let best = plain_objective(&train, 4, &fit.parameters);
    for i in 0..50 {
        let draws = rng::normal(&mut rng::stream(8, Purpose::Test, i), fit.parameters.len());
        let moved: Vec<f64> =
            fit.parameters.iter().zip(&draws).map(|(p, &d)| p + 0.02 * f64::from(d)).collect();
        assert!(plain_objective(&train, 4, &moved) > best, "direction {i}");
    }
    // Negative control: the point half way to the solution is worse.
    let half: Vec<f64> = fit.parameters.iter().map(|p| p / 2.0).collect();
    assert!(plain_objective(&train, 4, &half) > best + 1e-3);
}

#[test]
fn logits_agree_with_scikit_learn() {
    // scikit-learn 1.9.1: StandardScaler, LogisticRegression(C=1, tol=1e-10).decision_function of
    // the first three rows; the last feature is constant.
    let value = |i: usize, j: usize| {
        if j == 3 { 7.0 } else { ((i * 7 + j * 5 + i * i) % 11) as f32 - 4.5 + 0.25 * j as f32 }
    };
    let values: Vec<f32> = (0..84).map(|k| value(k / 4, k % 4)).collect();
    let train = |classes: usize| Features {
        dim: 4,
        values: values.clone(),
        labels: (0..21).map(|i| ((i * i + i / 3) % classes) as u16).collect(),
    };
    // The penalty gives the mean loss a curvature of at least 1 / 21, so a gradient of 1e-4 is a
    // distance of at most 2e-3.
    let close = |a: &[f32], b: &[f32]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 5e-3)
    };
    let golden = [
        -0.191987, -0.174196, 0.366184, -0.155743, 0.490791, -0.335048, -0.326593, 0.558129,
        -0.231536,
    ];
    let fit = LogisticRegression::fit(&train(3), 3).unwrap();
    let logits = fit.logits(&train(3));
    assert!(close(&logits[..9], &golden), "{logits:?}");
    assert!((fit.score(&train(3)).unwrap().top1 - 42.857_142).abs() < 1e-3);
    // Two classes: scikit-learn's single decision value is the difference of our two logits.
    let logits = LogisticRegression::fit(&train(2), 2).unwrap().logits(&train(2));
    let differences: Vec<f32> = logits.chunks_exact(2).map(|l| l[1] - l[0]).take(3).collect();
    assert!(close(&differences, &[-1.010959, -0.719758, -1.144741]), "{differences:?}");
}

#[test]
fn constant_features_leave_the_class_frequencies() {
    // 30, 60 and 10 rows of three classes: without informative features the optimum is softmax(b) =
    // the class shares.
    let labels: Vec<u16> = (0..100)
        .map(|i| if i < 30 { 0 } else { u16::from(i < 90) * 2 + u16::from(i >= 90) })
        .collect();
    let train = Features { dim: 2, values: [1e6 + 0.3, -1e-6].repeat(100), labels };
    let fit = LogisticRegression::fit(&train, 3).unwrap();
    assert!(fit.scaler.scale.iter().all(|&s| s == 0.0), "{:?}", fit.scaler);
    assert!(fit.parameters[..6].iter().all(|&w| w == 0.0));
    let exp: Vec<f64> = fit.parameters[6..].iter().map(|b| b.exp()).collect();
    let shares: Vec<f64> = exp.iter().map(|e| e / exp.iter().sum::<f64>()).collect();
    for (share, want) in shares.iter().zip([0.3, 0.1, 0.6]) {
        // The gradient is the difference between the two.
        assert!((share - want).abs() <= 1.1 * TOLERANCE, "{shares:?}");
    }
}

#[test]
fn separable_classes_are_all_predicted_and_noise_stays_near_chance() {
    let (train, test) = (clusters(600, 40, 30, 12.0, 2), clusters(300, 40, 30, 12.0, 3));
    assert!(score(&train, &test, 30).unwrap().top1 > 99.0);
    let (train, test) = (clusters(1000, 8, 8, 0.0, 4), clusters(2000, 8, 8, 0.0, 5));
    let scores = score(&train, &test, 8).unwrap();
    // Five standard errors of an eighth of 2000.
    assert!((scores.top1 - 12.5).abs() < 500.0 * (0.109f64 / 2000.0).sqrt(), "{scores:?}");
    let [top3, top5] = [scores.top3, scores.top5].map(|top| top.expect("of eight classes"));
    assert!(scores.top1 < top3 && top3 < top5);
}

#[test]
fn does_not_depend_on_the_number_of_threads_and_rejects_bad_input() {
    let (train, test) = (clusters(700, 10, 4, 1.0, 6), clusters(50, 10, 4, 1.0, 7));
    let with = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| LogisticRegression::fit(&train, 4).unwrap().logits(&test))
    };
    assert_eq!(with(1), with(5));
    let mut bad = train.clone();
    bad.values[3 * 10 + 1] = f32::INFINITY;
    let message = score(&bad, &test, 4).unwrap_err().to_string();
    assert!(message.starts_with("the training features hold inf (row 3, entry 1)"), "{message}");
    let none = Features { dim: 10, values: vec![], labels: vec![] };
    assert!(score(&none, &test, 4).unwrap_err().to_string().contains("no training rows"));
    assert!(score(&train, &none, 4).unwrap_err().to_string().contains("no test rows"));
}
