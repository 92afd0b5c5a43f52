//! Launches of the convolution shaders on cubecl's wgpu runtime.

mod call;
mod fours;
mod gradients;
mod info;
mod launched;
mod matrix;
mod matrix_check;
mod shaders;
mod taps;

pub(super) use launched::launched;
pub use matrix_check::f16_path;
pub(super) use shaders::shaders;

use super::{Conv2d, Conv2dGradients, Conv2dInputs, reference};
use crate::device::Class;
use crate::kernels::adapter::on_wgpu;
use crate::kernels::layout;
use crate::kernels::operand::Optional;
use crate::kernels::shader::{Elem, Types};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use call::Call;

impl Call {
    /// Returns the call by cooperative matrices where the maps are f16 and the adapter of `x` may
    /// use matrices, else unchanged.
    fn by_matrices(self, x: &CubeTensor) -> Self {
        let wanted = self.types.elem == Elem::F16 && self.class(x) == Class::Gpu;
        Self { unit: if wanted { matrix_check::unit(x) } else { None }, ..self }
    }
}

impl Conv2d for CubeBackend {
    fn forward(inputs: Conv2dInputs<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&inputs.x) {
            return reference::forward(inputs);
        }
        let Conv2dInputs { x, weight, bias, residual, options } = inputs;
        let elem = layout::elem("conv2d", "x", &x);
        let x = layout::into_nhwc(x);
        let call =
            Call::new(layout::dims(&x), &weight, Types::product(elem, options.factors), options)
                .by_matrices(&x);
        let residual = residual.into_option().map(|residual| {
            layout::check("conv2d", "the residual", &residual, elem);
            layout::into_nhwc(residual)
        });
        let bias = bias.into_option().map(|bias| {
            layout::check("conv2d", "the bias", &bias, Elem::F32);
            into_contiguous(bias)
        });
        call.pass(false, &x, weight, [bias.as_ref(), residual.as_ref()])
    }

    fn backward(
        dy: FloatTensor<Self>,
        inputs: Conv2dInputs<Self>,
        wanted: [bool; 3],
    ) -> Conv2dGradients<Self> {
        if !on_wgpu(&dy) {
            return reference::backward(dy, inputs, wanted);
        }
        let Conv2dInputs { x, weight, options, .. } = inputs;
        let elem = layout::elem("conv2d", "x", &x);
        layout::check("conv2d", "the result's gradient", &dy, elem);
        let call =
            Call::new(layout::dims(&x), &weight, Types::product(elem, options.factors), options)
                .by_matrices(&x);
        let [of_x, of_weight, of_bias] = wanted;
        let dy = layout::into_nhwc(dy);
        // x, which is large, is released as soon as it is no longer needed.
        let dw = of_weight.then(|| gradients::of_weight(&call, layout::into_nhwc(x), &dy, &weight));
        let dx = of_x.then(|| call.pass(true, &dy, weight, [None, None]));
        let db = of_bias.then(|| gradients::of_bias(dy, Types::of(elem)));
        Conv2dGradients { x: Optional::new(dx), weight: Optional::new(dw), bias: Optional::new(db) }
    }
}
