//! A penalty on redundancy between the dimensions of z: the redundancy term of Barlow Twins
//! (Zbontar et al., arXiv 2103.03230) with one view, which is the covariance term of VICReg (Bardes
//! et al., arXiv 2105.04906) on standardised z.

use burn::tensor::Tensor;

/// Added to variances, so that a dimension of z that is constant over a batch correlates with none.
const EPSILON: f64 = 1e-6;

/// Returns the sum of the squared correlations between different dimensions of z `[B, Z]` within
/// the batch, divided by Z: `[1]`. Independent dimensions give (Z - 1) / (B - 1) by chance,
/// identical ones Z - 1. A single image gives 0.
pub fn decorrelation(z: Tensor<2>) -> Tensor<1> {
    let [batch, dim] = z.dims();
    if batch < 2 {
        return z.sum() * 0.0;
    }
    let centred = z.clone() - z.mean_dim(0);
    let variance = centred.clone().square().mean_dim(0);
    let standard = centred / (variance + EPSILON).sqrt();
    let correlations = standard.clone().transpose().matmul(standard.clone()) / batch as f64;
    let diagonal = standard.square().mean_dim(0);
    (correlations.square().sum() - diagonal.square().sum()) / dim as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};
    use burn::tensor::{Device, TensorData};

    fn z(values: Vec<f32>, dim: usize) -> Tensor<2> {
        let rows = values.len() / dim;
        Tensor::from_data(TensorData::new(values, [rows, dim]), &Device::flex())
    }

    fn of(values: Vec<f32>, dim: usize) -> f32 {
        decorrelation(z(values, dim)).into_scalar()
    }

    #[test]
    fn it_agrees_with_the_definition() {
        let (dim, rows) = (5, 12);
        let mut values = rng::normal(&mut rng::stream(3, Purpose::Test, 0), rows * dim);
        // Two dimensions share half of their variance, and their scales must not matter.
        values.chunks_exact_mut(dim).for_each(|row| row[1] = 30.0 * (row[0] + row[1]) + 7.0);
        let column = |j: usize| {
            values.iter().skip(j).step_by(dim).map(|v| f64::from(*v)).collect::<Vec<_>>()
        };
        let mean = |v: &[f64]| v.iter().sum::<f64>() / rows as f64;
        let covariance = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).map(|(x, y)| (x - mean(a)) * (y - mean(b))).sum::<f64>() / rows as f64
        };
        let mut want = 0.0;
        for (i, j) in (0..dim).flat_map(|i| (0..dim).map(move |j| (i, j))).filter(|(i, j)| i != j) {
            let (a, b) = (column(i), column(j));
            want +=
                covariance(&a, &b).powi(2) / (covariance(&a, &a) * covariance(&b, &b)) / dim as f64;
        }
        let got = f64::from(of(values.clone(), dim));
        assert!((got - want).abs() < 1e-4 * want && want > 0.2, "{got} instead of {want}");
    }

    #[test]
    fn identical_dimensions_cost_most_and_constant_ones_nothing() {
        let (dim, rows) = (8, 64);
        let draws = rng::normal(&mut rng::stream(3, Purpose::Test, 1), rows);
        let same = of(draws.iter().flat_map(|v| vec![*v; dim]).collect(), dim);
        assert!((same - (dim - 1) as f32).abs() < 1e-2, "{same}");
        let constant = of(vec![2.5; rows * dim], dim);
        let single = of(vec![1.0; dim], dim);
        assert_eq!((constant, single), (0.0, 0.0));
        let independent = of(rng::normal(&mut rng::stream(3, Purpose::Test, 2), 512 * dim), dim);
        assert!(independent < 4.0 * (dim - 1) as f32 / 511.0, "{independent}");
    }

    #[test]
    fn its_gradient_is_finite_and_reduces_correlation() {
        let (dim, rows) = (4, 32);
        let mut values = rng::normal(&mut rng::stream(3, Purpose::Test, 3), rows * dim);
        values
            .chunks_exact_mut(dim)
            .for_each(|row| (row[1], row[3]) = (row[0] + 0.3 * row[1], 1.0));
        let z = Tensor::<2>::from_data(
            TensorData::new(values, [rows, dim]),
            &Device::flex().autodiff(),
        )
        .require_grad();
        let before = decorrelation(z.clone());
        let slope = z.grad(&before.backward()).expect("a gradient");
        assert!(
            slope.clone().to_data().try_to_vec::<f32>().expect("f32").iter().all(|v| v.is_finite())
        );
        let [down, up]: [f32; 2] = [-2.0, 2.0]
            .map(|step| decorrelation(z.clone().inner() + slope.clone() * step).into_scalar());
        let before: f32 = before.into_scalar();
        assert!(
            down < 0.98 * before && up > 1.01 * before && before > 0.2,
            "{before} -> {down}, {up}"
        );
    }
}
