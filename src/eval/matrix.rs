//! Dense f64 linear algebra on the host, row-major, for statistics of z.

use crate::kernels::gemm::{Matrix, product};
use rayon::prelude::*;

/// Rows per matrix product.
const CHUNK: usize = 1024;
/// A limit far above the sweeps that Jacobi's method needs; it converges quadratically.
const MAX_SWEEPS: usize = 60;

/// Computes a b^T for rows `a` `[m, k]` and `b` `[n, k]`: `[m, n]`.
pub(crate) fn times_transposed(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let (m, n) = (a.len() / k, b.len() / k);
    let mut out = vec![0.0; m * n];
    product((m, n, k), 1.0, Matrix::new(a, k), Matrix::new(b, k).t(), &mut out, n);
    out
}

/// Computes the sum over rows of row^T row, `[dim, dim]`, for `n` rows that `row(i, out)` writes.
pub(crate) fn gram(n: usize, dim: usize, row: impl Fn(usize, &mut [f64])) -> Vec<f64> {
    let mut sum = vec![0.0; dim * dim];
    let mut part = vec![0.0; dim * dim];
    let mut rows = vec![0.0; CHUNK.min(n) * dim];
    for start in (0..n).step_by(CHUNK) {
        let len = CHUNK.min(n - start);
        let rows = &mut rows[..len * dim];
        rows.chunks_exact_mut(dim).enumerate().for_each(|(i, out)| row(start + i, out));
        let rows = Matrix::new(rows, dim);
        product((dim, dim, len), 1.0, rows.t(), rows, &mut part, dim);
        sum.iter_mut().zip(&part).for_each(|(s, p)| *s += p);
    }
    sum
}

/// Computes the lower triangular L with L L^T = `a` `[n, n]`; `None` if `a` isn't positive definite
/// (or not finite).
pub fn cholesky(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let rest = a[i * n + j] - dot;
            l[i * n + j] = match i == j {
                true if rest > 0.0 && rest.is_finite() => rest.sqrt(),
                true => return None,
                false => rest / l[j * n + j],
            };
        }
    }
    Some(l)
}

/// Inverts a lower triangular `l` `[n, n]` whose diagonal has no zeros.
pub fn invert_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        // Row i of L L^-1 = 1, solved for row i of L^-1.
        for k in 0..i {
            let factor = l[i * n + k];
            let (above, row) = out.split_at_mut(i * n);
            row[..=k].iter_mut().zip(&above[k * n..]).for_each(|(r, a)| *r -= factor * a);
        }
        out[i * n + i] = 1.0;
        let diagonal = l[i * n + i];
        out[i * n..][..=i].iter_mut().for_each(|v| *v /= diagonal);
    }
    out
}

/// Computes the eigenvalues of a symmetric `a` `[n, n]`, in no particular order: Householder
/// reduction to a tridiagonal matrix, then QL steps with implicit shifts (Golub and Van Loan, 8.3).
/// For large matrices: the n^3 operations of the reduction run once, on all threads.
///
/// # Panics
/// If an entry isn't finite.
pub fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    assert!(a.iter().all(|v| v.is_finite()), "eigenvalues of a matrix that is not finite");
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    for k in 0..n {
        diagonal[k] = a[k * n + k];
        let mut v: Vec<f64> = (k + 1..n).map(|i| a[i * n + k]).collect();
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if v.len() < 2 || norm == 0.0 {
            beside[k] = v.first().copied().unwrap_or(0.0);
            continue;
        }
        // The reflection that zeroes all but one entry of the column.
        beside[k] = -norm.copysign(v[0]);
        v[0] -= beside[k];
        let scale = 2.0 / v.iter().map(|x| x * x).sum::<f64>();
        let rest =
            |row: &[f64]| row[k + 1..].iter().zip(&v).map(|(a, v)| a * v).sum::<f64>() * scale;
        let mut w: Vec<f64> = a[(k + 1) * n..].par_chunks_exact(n).map(rest).collect();
        let half = 0.5 * scale * w.iter().zip(&v).map(|(w, v)| w * v).sum::<f64>();
        w.iter_mut().zip(&v).for_each(|(w, v)| *w -= half * v);
        a[(k + 1) * n..].par_chunks_exact_mut(n).zip(v.par_iter().zip(&w)).for_each(
            |(row, (vi, wi))| {
                row[k + 1..]
                    .iter_mut()
                    .zip(v.iter().zip(&w))
                    .for_each(|(a, (vj, wj))| *a -= vi * wj + wi * vj);
            },
        );
    }
    for first in 0..n {
        loop {
            let small = |i: &usize| {
                beside[*i].abs() <= f64::EPSILON * (diagonal[*i].abs() + diagonal[i + 1].abs())
            };
            let last = (first..n - 1).find(small).unwrap_or(n - 1);
            if last == first {
                break;
            }
            let g = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
            let mut g =
                diagonal[last] - diagonal[first] + beside[first] / (g + g.hypot(1.0).copysign(g));
            let (mut sin, mut cos, mut shift, mut split) = (1.0, 1.0, 0.0, false);
            for i in (first..last).rev() {
                let (f, b) = (sin * beside[i], cos * beside[i]);
                let r = f.hypot(g);
                beside[i + 1] = r;
                if r == 0.0 {
                    diagonal[i + 1] -= shift;
                    beside[last] = 0.0;
                    split = true;
                    break;
                }
                (sin, cos) = (f / r, g / r);
                g = diagonal[i + 1] - shift;
                let r = (diagonal[i] - g) * sin + 2.0 * cos * b;
                shift = sin * r;
                diagonal[i + 1] = g + shift;
                g = cos * r - b;
            }
            if !split {
                diagonal[first] -= shift;
                beside[first] = g;
                beside[last] = 0.0;
            }
        }
    }
    diagonal
}

/// Computes the eigenvalues of a symmetric `a` `[n, n]`, in descending order, and their unit
/// eigenvectors as rows `[n, n]`, by Jacobi's cyclic method (Golub and Van Loan, 8.5). The sign of
/// an eigenvector makes its largest entry positive.
///
/// # Panics
/// If an entry isn't finite.
pub fn eigen_symmetric(a: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    assert!(a.iter().all(|v| v.is_finite()), "eigenvalues of a matrix that is not finite");
    let mut a = a.to_vec();
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let total: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..MAX_SWEEPS {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        if off <= 1e-30 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let tan = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cos = tan.hypot(1.0).recip();
                rotate_rows(&mut a, n, p, q, cos, tan * cos);
                for row in a.chunks_exact_mut(n) {
                    (row[p], row[q]) =
                        (cos * row[p] - tan * cos * row[q], tan * cos * row[p] + cos * row[q]);
                }
                rotate_rows(&mut vectors, n, p, q, cos, tan * cos);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    let signed = order.iter().flat_map(|&i| {
        let row = &vectors[i * n..][..n];
        let largest =
            row.iter().copied().fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
        row.iter().map(move |v| v * largest.signum())
    });
    (values, signed.collect())
}

/// Rotates (row p, row q) by the angle with this cosine and sine.
fn rotate_rows(a: &mut [f64], n: usize, p: usize, q: usize, cos: f64, sin: f64) {
    let (above, below) = a.split_at_mut(q * n);
    for (x, y) in above[p * n..][..n].iter_mut().zip(&mut below[..n]) {
        (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_by_both_methods_are_the_same() {
        for n in [1, 2, 3, 17, 60] {
            let b: Vec<f64> =
                (0..n * n).map(|i| ((i * i * 7 + i * 13) % 101) as f64 / 50.0 - 1.0).collect();
            // A matrix of full rank, and one of rank n / 2.
            for rank in [n, n / 2] {
                let rows: Vec<f64> = b.chunks_exact(n).take(rank).flatten().copied().collect();
                let a = gram(rank, n, |i, out| out.copy_from_slice(&rows[i * n..][..n]));
                let mut values = eigenvalues(a.clone(), n);
                values.sort_by(|a, b| b.total_cmp(a));
                let largest = values[0].abs().max(1.0);
                let (jacobi, _) = eigen_symmetric(&a, n);
                assert!(
                    values.iter().zip(&jacobi).all(|(a, b)| (a - b).abs() < 1e-12 * largest),
                    "{n}: {values:?} {jacobi:?}"
                );
            }
        }
    }
    use crate::rng::{self, Purpose};

    /// A random positive definite matrix.
    fn positive(n: usize) -> Vec<f64> {
        let draws: Vec<f64> = rng::normal(&mut rng::stream(1, Purpose::Test, n as u64), 2 * n * n)
            .iter()
            .map(|&v| v.into())
            .collect();
        gram(2 * n, n, |i, out| out.copy_from_slice(&draws[i * n..][..n]))
    }

    fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().chain(b).all(|v| v.is_finite()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    fn identity(n: usize) -> Vec<f64> {
        (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect()
    }

    #[test]
    fn gram_of_many_rows_matches_a_plain_loop() {
        let row = |i: usize, j: usize| ((i * 3 + j) as f64 * 0.37).sin();
        let got = gram(2500, 3, |i, out| (0..3).for_each(|j| out[j] = row(i, j)));
        let want: Vec<f64> =
            (0..9).map(|at| (0..2500).map(|i| row(i, at / 3) * row(i, at % 3)).sum()).collect();
        // Sums of 2500 products in a different order.
        assert!(largest_difference(&got, &want) < 1e-10);
        assert_eq!(gram(0, 2, |_, _| {}), [0.0; 4]);
    }

    #[test]
    fn the_cholesky_factor_and_its_inverse_reproduce_the_matrix() {
        for n in [1, 2, 7, 40] {
            let a = positive(n);
            let l = cholesky(&a, n).unwrap();
            assert!((0..n).all(|i| l[i * n + i + 1..(i + 1) * n].iter().all(|&v| v == 0.0)));
            assert!(largest_difference(&times_transposed(&l, &l, n), &a) < 1e-10 * n as f64);
            // L^-1 A L^-T = 1.
            let inverse = invert_lower(&l, n);
            let half = times_transposed(&inverse, &a, n);
            assert!(largest_difference(&times_transposed(&half, &inverse, n), &identity(n)) < 1e-9);
        }
    }

    #[test]
    fn indefinite_and_non_finite_matrices_have_no_cholesky_factor() {
        assert_eq!(cholesky(&[1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(cholesky(&[0.0], 1), None);
        assert_eq!(cholesky(&[f64::NAN], 1), None);
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_reconstruct_the_matrix() {
        for n in [1, 2, 9, 64] {
            let a = positive(n);
            let (values, vectors) = eigen_symmetric(&a, n);
            assert!(values.is_sorted_by(|a, b| a >= b));
            assert!(
                largest_difference(&times_transposed(&vectors, &vectors, n), &identity(n))
                    < 1e-12 * n as f64
            );
            // V A V^T is the diagonal of the values.
            let diagonal = times_transposed(&times_transposed(&vectors, &a, n), &vectors, n);
            let want: Vec<f64> =
                identity(n).iter().enumerate().map(|(i, v)| v * values[i / n]).collect();
            assert!(largest_difference(&diagonal, &want) < 1e-10 * values[0]);
        }
    }

    #[test]
    fn eigenvalues_of_known_matrices() {
        let (values, vectors) = eigen_symmetric(&[2.0, 1.0, 1.0, 2.0], 2);
        assert!(largest_difference(&values, &[3.0, 1.0]) < 1e-14);
        let half = 0.5f64.sqrt();
        assert!(largest_difference(&vectors[..2], &[half, half]) < 1e-14);
        assert_eq!(eigen_symmetric(&[0.0; 9], 3).0, [0.0; 3]);
        assert_eq!(eigen_symmetric(&[1.0, 0.0, 0.0, 4.0], 2).0, [4.0, 1.0]);
    }
}
