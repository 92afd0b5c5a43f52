//! Upsampling and the 3x3 convolution after it as one operation, without the upsampled map.
//!
//! Along one side, with u[i] = x[i / 2], y[i] = w0 u[i - 1] + w1 u[i] + w2 u[i + 1] reads each
//! pixel of x by one tap or by two:
//!
//!   y[2i] = w0 x[i - 1] + (w1 + w2) x[i],   y[2i + 1] = (w0 + w1) x[i] + w2 x[i + 1]
//!
//! So each output is a sum over 2x2 taps instead of 3x3: 16 products instead of 36 for the four
//! outputs of a pixel. Zeros around u are zeros around x. This is the transposed convolution (the
//! gradient of the input) of a convolution of stride 2 and padding 1 from y to x with the 4x4
//! kernel
//!
//!   v = (w2, w1 + w2, w0 + w1, w0)
//!
//! The forward pass of that convolution is the gradient of x. Its gradient of the weights is the
//! gradient of v, from which that of w follows: dw0 = dv3 + dv2 and so on.

use super::shape::ConvShape;
use crate::kernels::buffers::Buffer;
use rayon::prelude::*;

/// Returns the convolution from y to x, for `x` `[batch, from, height, width]` and `to` channels of
/// y.
pub(super) fn shape([batch, from, height, width]: [usize; 4], to: usize) -> ConvShape {
    ConvShape {
        batch,
        c_in: to,
        c_out: from,
        height: 2 * height,
        width: 2 * width,
        kernel: 4,
        stride: 2,
        padding: 1,
    }
}

/// Returns v of w along one side.
fn widen([a, b, c]: [f32; 3]) -> [f32; 4] {
    [c, b + c, a + b, a]
}

/// Returns the gradient of w from that of v, along one side.
fn narrow([a, b, c, d]: [f32; 4]) -> [f32; 3] {
    [c + d, b + c, a + b]
}

/// Applies `change` along both sides of a square: `rows` of N values each become M rows of M.
fn both<const N: usize, const M: usize>(
    rows: &[[f32; N]],
    change: fn([f32; N]) -> [f32; M],
) -> [[f32; M]; M] {
    let cols: [[f32; M]; N] =
        std::array::from_fn(|col| change(std::array::from_fn(|row| rows[row][col])));
    std::array::from_fn(|row| change(std::array::from_fn(|col| cols[col][row])))
}

/// Returns v `[from, to, 4, 4]` of `w` `[to, from, 3, 3]`.
pub(super) fn kernel(w: &[f32], from: usize) -> Buffer {
    let to = w.len() / (9 * from);
    let mut v = Buffer::new(from * to * 16);
    v.par_chunks_mut(to * 16).enumerate().for_each(|(i, v)| {
        for (o, v) in v.chunks_exact_mut(16).enumerate() {
            let rows = w[(o * from + i) * 9..][..9].as_chunks().0;
            v.copy_from_slice(both(rows, widen).as_flattened());
        }
    });
    v
}

/// Computes the gradient of w from `dv`, the gradient of v; `dw` is overwritten.
pub(super) fn kernel_gradient(dv: &[f32], from: usize, dw: &mut [f32]) {
    let to = dw.len() / (9 * from);
    dw.par_chunks_mut(from * 9).enumerate().for_each(|(o, dw)| {
        for (i, dw) in dw.chunks_exact_mut(9).enumerate() {
            let rows = dv[(i * to + o) * 16..][..16].as_chunks().0;
            dw.copy_from_slice(both(rows, narrow).as_flattened());
        }
    });
}
