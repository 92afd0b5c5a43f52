//! L-BFGS (Nocedal and Wright, algorithms 7.4 and 7.5) for smooth convex functions.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes kept (the default of scikit-learn and SciPy).
const MEMORY: usize = 10;
/// Weak Wolfe conditions: the least share of the predicted decrease, and the largest share of the
/// slope that may remain.
const DECREASE: f64 = 1e-4;
const SLOPE: f64 = 0.9;
/// The most trials of a line search, which bisects.
const TRIALS: usize = 40;
/// The relative error of the sums behind a value: a smaller decrease can't be distinguished from
/// none.
const NOISE: f64 = 1e-9;

/// The result of [`minimise`].
#[derive(Clone, Debug)]
pub(super) struct Minimum {
    pub(super) x: Vec<f64>,
    /// Largest absolute entry of the gradient there.
    pub(super) gradient: f64,
    pub(super) iterations: usize,
}

/// Minimises `f` from `start` until no entry of the gradient exceeds `tolerance`, for at most
/// `limit` iterations, or until no further step is found. `f(x, gradient)` returns the value at x
/// and fills in the gradient.
pub(super) fn minimise(
    start: Vec<f64>,
    tolerance: f64,
    limit: usize,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Minimum {
    let n = start.len();
    let mut x = start;
    let (mut gradient, mut trial, mut trial_gradient) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut value = f(&x, &mut gradient);
    let mut pairs = VecDeque::new();
    let mut iterations = 0;
    while iterations < limit && largest(&gradient) > tolerance {
        let direction = direction(&gradient, &pairs);
        let slope = dot(&direction, &gradient);
        // Without memory the direction has the gradient's length, which is no guide to the step
        // length.
        let first =
            if pairs.is_empty() { dot(&gradient, &gradient).sqrt().recip().min(1.0) } else { 1.0 };
        let (mut step, mut low, mut high) = (first, 0.0, f64::INFINITY);
        let found = (0..TRIALS).find_map(|_| {
            trial.iter_mut().zip(&x).zip(&direction).for_each(|((t, x), d)| *t = x + step * d);
            let reached = f(&trial, &mut trial_gradient);
            let decreased = reached <= value + DECREASE * step * slope + NOISE * value.abs();
            if !decreased {
                high = step;
            } else if dot(&direction, &trial_gradient) < SLOPE * slope {
                low = step;
            } else {
                return Some(reached);
            }
            step = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * step };
            None
        });
        let Some(reached) = found else { break };
        let difference =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let pair = Pair::new(difference(&trial, &x), difference(&trial_gradient, &gradient));
        if pairs.len() == MEMORY {
            pairs.pop_front();
        }
        pairs.extend(pair);
        std::mem::swap(&mut x, &mut trial);
        std::mem::swap(&mut gradient, &mut trial_gradient);
        value = reached;
        iterations += 1;
    }
    Minimum { x, gradient: largest(&gradient), iterations }
}

/// A step s, the change y of the gradient along it, and 1 / (s y).
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
}

impl Pair {
    /// Returns `None` if rounding left no curvature.
    fn new(s: Vec<f64>, y: Vec<f64>) -> Option<Self> {
        let curvature = dot(&s, &y);
        (curvature > f64::EPSILON * dot(&y, &y)).then(|| Self { rho: curvature.recip(), s, y })
    }
}

/// Returns - H gradient, where H is the approximate inverse Hessian given by `pairs` (oldest first).
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for Pair { s, y, rho } in pairs.iter().rev() {
        let alpha = rho * dot(s, &q);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some(Pair { y, rho, .. }) = pairs.back() {
        let scale = 1.0 / (rho * dot(y, y));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (Pair { s, y, rho }, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(y, &q);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(v: &[f64]) -> f64 {
    // f64::max would drop a NaN.
    v.iter().fold(0.0, |m: f64, v| if m.is_nan() || v.is_nan() { f64::NAN } else { m.max(v.abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of a_i (x_i - i)^2 / 2, with a from 1 to 1000.
    fn quadratic(x: &[f64], gradient: &mut [f64]) -> f64 {
        let mut value = 0.0;
        for (i, (x, g)) in x.iter().zip(gradient).enumerate() {
            let (a, d) = (10f64.powf(3.0 * i as f64 / 19.0), x - i as f64);
            (*g, value) = (a * d, value + a * d * d / 2.0);
        }
        value
    }

    #[test]
    fn finds_the_minimum_of_a_stretched_quadratic() {
        // SciPy takes 226 iterations.
        let found = minimise(vec![0.0; 20], 1e-8, 500, quadratic);
        assert!(
            found.gradient <= 1e-8 && found.iterations < 300,
            "{} after {}",
            found.gradient,
            found.iterations
        );
        assert!(
            found.x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-7),
            "{:?}",
            found.x
        );
        // Negative control: after 5 iterations it has not converged.
        let early = minimise(vec![0.0; 20], 1e-8, 5, quadratic);
        assert!(early.iterations == 5 && early.gradient > 1e-3);
    }

    #[test]
    fn finds_the_end_of_a_flat_valley() {
        // log(1 + exp(-3 x)) + x^2 / 200: steep on one side, nearly flat on the other.
        let valley = |x: &[f64], g: &mut [f64]| {
            let e = (-3.0 * x[0]).exp();
            g[0] = -3.0 * e / (1.0 + e) + x[0] / 100.0;
            e.ln_1p() + x[0] * x[0] / 200.0
        };
        for start in [-100.0, 0.0, 1000.0] {
            let found = minimise(vec![start], 1e-10, 100, valley);
            assert!(found.gradient <= 1e-10, "from {start}: {found:?}");
        }
    }

    #[test]
    fn gives_up_where_there_is_no_descent() {
        // A gradient that points the wrong way, and one that is NaN.
        let wrong = |x: &[f64], g: &mut [f64]| {
            g[0] = -1.0;
            x[0]
        };
        assert_eq!(minimise(vec![0.0], 1e-6, 100, wrong).iterations, 0);
        let broken = |_: &[f64], g: &mut [f64]| {
            g[0] = f64::NAN;
            f64::NAN
        };
        assert!(minimise(vec![0.0], 1e-6, 100, broken).gradient.is_nan());
        // Wherever the NaN is.
        assert!(minimise(vec![0.0; 3], 1e-6, 100, broken).gradient.is_nan());
    }
}
