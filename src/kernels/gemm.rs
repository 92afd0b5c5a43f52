//! Matrix products over f32 or f64 slices by the `gemm` crate, with bounds checks.

use gemm::Parallelism;

/// A matrix within a slice: element (i, j) is `values[i * rows + j * cols]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T = f32> {
    pub values: &'a [T],
    /// The stride from one row to the next, in elements.
    pub rows: usize,
    /// The stride from one column to the next, in elements.
    pub cols: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// Returns a matrix whose rows are contiguous and start `rows` elements apart.
    pub fn new(values: &'a [T], rows: usize) -> Self {
        Self { values, rows, cols: 1 }
    }

    /// Returns the transpose.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, ..self }
    }
}

/// Computes out[i * out_rows + j] = factor * sum over l of a(i, l) * b(l, j), for i < m, j < n,
/// l < k, on this thread alone.
pub(crate) fn product<T: Copy + From<f32> + 'static>(
    (m, n, k): (usize, usize, usize),
    factor: T,
    a: Matrix<T>,
    b: Matrix<T>,
    out: &mut [T],
    out_rows: usize,
) {
    let reaches = |len: usize, (i, rows): (usize, usize), (j, cols): (usize, usize)| {
        i == 0 || j == 0 || (i - 1) * rows + (j - 1) * cols < len
    };
    assert!(reaches(a.values.len(), (m, a.rows), (k, a.cols)), "product: a is too short");
    assert!(reaches(b.values.len(), (k, b.rows), (n, b.cols)), "product: b is too short");
    assert!(
        reaches(out.len(), (m, out_rows), (n, 1)) && (m <= 1 || out_rows >= n),
        "product: the result is too short"
    );
    // SAFETY: every element that the product reads or writes lies within its slice, as just
    // checked; rows of the result don't overlap; strides are those of slices, so they fit isize.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_rows as isize,
            false,
            a.values.as_ptr(),
            a.cols as isize,
            a.rows as isize,
            b.values.as_ptr(),
            b.cols as isize,
            b.rows as isize,
            0.0.into(),
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposes_and_parts_equal_those_of_plain_loops() {
        let (m, n, k) = (5, 7, 3);
        let a: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..60).map(|i| (i as f32 * 0.3).cos()).collect();
        for (a, b) in [
            (Matrix::new(&a, 4), Matrix::new(&b, 9)),
            (Matrix::new(&a, 6).t(), Matrix::new(&b, 8)),
            (Matrix::new(&a, 4), Matrix::new(&b, 5).t()),
        ] {
            let mut out = vec![9.0; (m - 1) * 10 + n];
            product((m, n, k), 0.5, a, b, &mut out, 10);
            for i in 0..m {
                for j in 0..n {
                    let want: f32 = (0..k)
                        .map(|l| {
                            0.5 * a.values[i * a.rows + l * a.cols]
                                * b.values[l * b.rows + j * b.cols]
                        })
                        .sum();
                    assert!((out[i * 10 + j] - want).abs() < 1e-6, "{i}, {j}");
                }
                assert!(
                    out.iter().skip(i * 10 + n).take(10 - n).all(|v| *v == 9.0),
                    "wrote outside the result"
                );
            }
        }
    }

    #[test]
    fn products_of_f64_have_the_precision_of_f64() {
        let third = [1.0f64 / 3.0, 1.0];
        let mut out = [0.0; 4];
        product((2, 2, 1), 1.0, Matrix::new(&third, 1), Matrix::new(&third, 2), &mut out, 2);
        assert_eq!(out, [1.0 / 9.0, 1.0 / 3.0, 1.0 / 3.0, 1.0]);
        assert_ne!(out[0], f64::from(1.0f32 / 9.0));
    }

    #[test]
    #[should_panic(expected = "b is too short")]
    fn a_short_operand_is_refused() {
        product(
            (2, 2, 2),
            1.0,
            Matrix::new(&[0.0f32; 4], 2),
            Matrix::new(&[0.0; 3], 2),
            &mut [0.0; 4],
            2,
        );
    }
}
