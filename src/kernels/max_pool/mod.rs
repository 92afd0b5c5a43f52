//! Max-pooling over 3x3 windows with stride 2 and padding 1, on NHWC memory, as used after the 7x7
//! stem of a ResNet.
//!
//! `y[b, c, i, j] = max over k, l of x[b, c, 2 i + k - 1, 2 j + l - 1]`, k and l in 0..3, over the
//! pixels inside the image
//!
//! The maximum of a window with a NaN is NaN. The gradient goes to the first maximum in row-major
//! order, or to the last NaN, as in PyTorch. The backward pass searches x again; nothing else is
//! kept.

mod autodiff;
mod cases;
mod cpu;
mod reference;
mod wgsl;

pub use cases::MaxPoolOperation;

use crate::kernels::choice::references;
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// The operation on every backend, by default the reference.
#[backend_extension(Autodiff, Cube, Flex)]
pub trait MaxPool: Backend {
    /// Computes [`max_pool`].
    fn forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::forward::<Self>(x)
    }

    /// Computes the gradient of `x` from `dy`, the gradient of the result.
    fn backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::backward::<Self>(dy, x)
    }
}

/// Pools `x` `[B, C, H, W]`. Returns `[B, C, H / 2, W / 2]`, rounded up, over NHWC memory.
///
/// # Panics
/// If `x` has no pixels.
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    assert!(height > 0 && width > 0, "max_pool: x has no pixels, its shape is {:?}", x.dims());
    let x = x.into_dispatch();
    Tensor::from_dispatch(if references() {
        reference::forward::<Dispatch>(x)
    } else {
        <Dispatch as MaxPool>::forward(x)
    })
}

/// Returns the shape of the result for `x` of shape `[B, C, H, W]`.
fn out_dims([batch, channels, height, width]: [usize; 4]) -> [usize; 4] {
    [batch, channels, height.div_ceil(2), width.div_ceil(2)]
}

/// Returns the work of the forward pass on `[B, C, H, W]`: x is read, the result is written.
pub fn forward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[shape, out_dims(shape)].map(|dims| dims.iter().product()))
}

/// Returns the work of the backward pass on `[B, C, H, W]`: x and the result's gradient are read,
/// the gradient of x is written.
pub fn backward_work(shape: [usize; 4]) -> Work {
    Work::floats(&[shape, out_dims(shape), shape].map(|dims| dims.iter().product()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::with_references;
    use crate::kernels::vjp::vjp;
    use burn::tensor::{Device, TensorData};

    /// Returns the value and the gradient for one channel of 5 x 4 pixels, where the gradient of
    /// the result is 1, 2, ..
    fn pooled(x: &[f32], device: &Device) -> [Vec<f32>; 2] {
        let device = device.clone().autodiff();
        let x = Tensor::<4>::from_data(TensorData::new(x.to_vec(), [1, 1, 5, 4]), &device)
            .require_grad();
        let y = max_pool(x.clone());
        assert_eq!(y.dims(), [1, 1, 3, 2]);
        let dy = Tensor::<4>::from_data([[[[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]]], &device);
        let gradients = vjp(y.clone(), dy);
        let read = |x: Tensor<4>| x.into_data().try_to_vec::<f32>().expect("f32");
        [read(y.without_autodiff()), read(x.grad(&gradients).expect("tracked"))]
    }

    #[rustfmt::skip]
    const TIES: [f32; 20] = [
        1.0, 1.0, 1.0, 0.0,
        1.0, 0.0, 1.0, 0.0,
        f32::NEG_INFINITY, 2.0, 0.0, 2.0,
        0.0, 2.0, 2.0, 2.0,
        -1.0, f32::NEG_INFINITY, -3.0, f32::NAN,
    ];

    #[test]
    fn the_first_maximum_or_the_last_nan_gets_the_gradient() {
        let adapter = crate::device::select("wgpu")
            .expect("an adapter; scripts/test.sh installs a software one");
        let cpu = Device::flex();
        let all = [
            pooled(&TIES, &cpu),
            pooled(&TIES, &adapter.device),
            with_references(|| pooled(&TIES, &cpu)),
        ];
        for [y, dx] in all {
            assert_eq!(y[..5], [1.0, 1.0, 2.0, 2.0, 2.0]);
            assert!(y[5].is_nan());
            #[rustfmt::skip]
            let want = [
                1.0, 2.0, 0.0, 0.0,
                0.0, 0.0, 0.0, 0.0,
                0.0, 7.0, 0.0, 0.0,
                0.0, 5.0, 0.0, 0.0,
                0.0, 0.0, 0.0, 6.0,
            ];
            assert_eq!(dx, want);
        }
    }

    #[test]
    fn windows_of_minus_infinity_have_a_maximum() {
        let adapter = crate::device::select("wgpu")
            .expect("an adapter; scripts/test.sh installs a software one");
        for device in [Device::flex(), adapter.device] {
            let [y, dx] = pooled(&[f32::NEG_INFINITY; 20], &device);
            assert!(y.iter().all(|v| *v == f32::NEG_INFINITY));
            assert_eq!(
                [dx[0], dx[1], dx[4], dx[5], dx[12], dx[13]],
                [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
            );
        }
    }
}
