use super::em::fit;
use super::*;
use crate::eval::latent_statistics::mean_and_covariance;

/// Two known components in 3 dimensions, weights 0.3 and 0.7.
fn known() -> Mixture {
    Mixture {
        dim: 3,
        weights: vec![0.3, 0.7],
        means: vec![2.0, 0.0, -1.0, -2.0, 1.0, 0.0],
        factors: vec![
            1.0, 0.0, 0.0, 0.5, 0.8, 0.0, 0.0, 0.0, 0.5, 0.6, 0.0, 0.0, -0.4, 0.5, 0.0, 0.3, 0.2,
            1.2,
        ],
    }
}

fn covariance(l: &[f32], dim: usize) -> Vec<f64> {
    times_transposed(&to_f64(l), &to_f64(l), dim)
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|v| v.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn em_recovers_a_known_mixture() {
    let truth = known();
    let z = truth.sample(20_000, 1.0, 5);
    let found = fit(&z, 3, 2, 1e-6, 0).unwrap().mixture;
    assert!(found.is_sound());
    // The order of the components is arbitrary.
    let order = if found.weights[0] < 0.5 { [0, 1] } else { [1, 0] };
    for (want, got) in order.into_iter().enumerate() {
        // A few standard errors of means and covariances over 6,000 draws with variances up to 1.5:
        // 1.5 sqrt(2 / 6000) = 0.03.
        assert!((found.weights[got] - truth.weights[want]).abs() < 0.02);
        let means = |m: &Mixture, k: usize| to_f64(&m.means[k * 3..][..3]);
        assert!(largest_difference(&means(&found, got), &means(&truth, want)) < 0.06);
        let covariances = |m: &Mixture, k: usize| covariance(&m.factors[k * 9..][..9], 3);
        assert!(largest_difference(&covariances(&found, got), &covariances(&truth, want)) < 0.12);
        // Negative control: the other component doesn't match.
        assert!(largest_difference(&means(&found, 1 - got), &means(&truth, want)) > 1.0);
    }
    let fresh = truth.sample(5000, 1.0, 6);
    let gaussian = fit(&z, 3, 1, 1e-6, 0).unwrap().mixture;
    let (ours, best) = (found.log_likelihood(&fresh), truth.log_likelihood(&fresh));
    assert!((ours - best).abs() < 0.005, "{ours}, not {best}");
    assert!(gaussian.log_likelihood(&fresh) < ours - 0.05);
}

#[test]
fn two_components_gain_nothing_on_data_of_one() {
    let one = Mixture {
        weights: vec![1.0],
        means: vec![1.0, 2.0, 3.0],
        factors: known().factors[..9].to_vec(),
        dim: 3,
    };
    let (z, fresh) = (one.sample(5000, 1.0, 1), one.sample(5000, 1.0, 2));
    let at = |components| fit(&z, 3, components, 1.0, 0).unwrap().mixture.log_likelihood(&fresh);
    assert!((at(2) - at(1)).abs() < 0.01);
}

#[test]
fn the_objective_never_falls_and_equals_the_likelihood_if_the_prior_is_weak() {
    let z: Vec<f32> =
        known().sample(1500, 1.0, 7).iter().map(|v| v + 0.3 * (v * 3.0).sin()).collect();
    for (components, strength) in [(2, 1e-9), (5, 1e-9), (5, 10.0), (8, 100.0)] {
        let found = fit(&z, 3, components, strength, 1).unwrap();
        assert!(found.objective.len() > 2 && found.objective.iter().all(|v| v.is_finite()));
        // f64 sums over 1500 rows.
        assert!(found.objective.windows(2).all(|w| w[1] >= w[0] - 1e-10), "{:?}", found.objective);
        let last = found.objective.last().unwrap() / 3.0;
        let likelihood = found.mixture.log_likelihood(&z);
        // The mixture is stored in f32.
        assert_eq!((likelihood - last).abs() < 1e-5, strength < 1.0, "{likelihood} against {last}");
    }
}

#[test]
fn one_component_is_the_gaussian_of_the_sample_mean_and_covariance() {
    let z = known().sample(400, 1.0, 8);
    let (mean, want) = mean_and_covariance(&z, 3).unwrap();
    let found = fit(&z, 3, 1, 50.0, 0).unwrap().mixture;
    assert!(largest_difference(&to_f64(&found.means), &mean) < 1e-6);
    // The ridge is a millionth of the variance.
    assert!(largest_difference(&covariance(&found.factors, 3), &want) < 1e-4);
    // log N(z) averaged over its own sample: -(log 2 pi + 1) / 2 - log det / (2 Z).
    let l = crate::eval::matrix::cholesky(&want, 3).unwrap();
    let log_det: f64 = (0..3).map(|i| l[i * 4].ln()).sum();
    let expected = -0.5 * (std::f64::consts::TAU.ln() + 1.0) - log_det / 3.0;
    assert!((found.log_likelihood(&z) - expected).abs() < 1e-5);
}

#[test]
fn samples_have_the_moments_of_the_mixture_and_temperature_narrows_them() {
    let (truth, n) = (known(), 40_000);
    let moments =
        |temperature, seed| mean_and_covariance(&truth.sample(n, temperature, seed), 3).unwrap();
    let mean: Vec<f64> = (0..3)
        .map(|i| 0.3 * f64::from(truth.means[i]) + 0.7 * f64::from(truth.means[3 + i]))
        .collect();
    let within: Vec<Vec<f64>> = truth.factors.chunks_exact(9).map(|l| covariance(l, 3)).collect();
    let spread = |k: usize, i: usize| f64::from(truth.means[k * 3 + i]) - mean[i];
    let total = |t: f64| -> Vec<f64> {
        let part =
            |k: usize, at: usize| t * t * within[k][at] + spread(k, at / 3) * spread(k, at % 3);
        (0..9).map(|at| 0.3 * part(0, at) + 0.7 * part(1, at)).collect()
    };
    for t in [1.0, 0.5, 0.0] {
        let (got_mean, got) = moments(t, 3);
        // Five standard errors with variances up to 4.
        assert!(largest_difference(&got_mean, &mean) < 5.0 * 2.0 / (n as f64).sqrt());
        assert!(largest_difference(&got, &total(t.into())) < 5.0 * 4.0 * (2.0 / n as f64).sqrt());
    }
    assert!(largest_difference(&moments(0.5, 3).1, &total(1.0)) > 0.3);
    assert_eq!(truth.sample(3, 1.0, 9), truth.sample(5, 1.0, 9)[..9]);
    assert_ne!(truth.sample(3, 1.0, 9), truth.sample(3, 1.0, 10));
}

#[test]
fn degenerate_z_gives_a_sound_mixture() {
    let spread = known().sample(30, 1.0, 4);
    let constant_dimension: Vec<f32> =
        spread.chunks_exact(3).flat_map(|z| [z[0], 5.0, z[2]]).collect();
    let repeated: Vec<f32> = spread[..6].repeat(10);
    let huge: Vec<f32> = spread.iter().map(|v| v * 1e15).collect();
    for (what, z) in [
        ("few", spread[..6].to_vec()),
        ("single", spread[..3].to_vec()),
        ("constant", vec![0.25; 60]),
        ("constant dimension", constant_dimension),
        ("repeated", repeated),
        ("huge", huge),
    ] {
        let found = fit(&z, 3, 10, 3.0, 0).unwrap();
        assert!(found.mixture.is_sound(), "{what}: {:?}", found.mixture);
        assert!(found.mixture.sample(20, 1.0, 0).iter().all(|v| v.is_finite()), "{what}");
        assert!(found.mixture.log_likelihood(&z).is_finite(), "{what}");
    }
    assert_eq!(fit(&spread[..6], 3, 10, 3.0, 0).unwrap().mixture.components(), 2);
    assert!(
        fit(&[1.0, f32::NAN, 0.0], 3, 1, 1.0, 0)
            .unwrap_err()
            .to_string()
            .contains("z of image 0 holds NaN")
    );
}

#[test]
fn unsound_mixtures_are_recognised() {
    assert!(known().is_sound());
    let broken: [fn(&mut Mixture); 5] = [
        |m| m.weights[0] = 0.9,
        |m| m.means[1] = f32::NAN,
        |m| m.factors.truncate(17),
        |m| m.factors[0] = 0.0,
        |m| m.weights.clear(),
    ];
    for break_it in broken {
        let mut mixture = known();
        break_it(&mut mixture);
        assert!(!mixture.is_sound(), "{mixture:?}");
    }
}
