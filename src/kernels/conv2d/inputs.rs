//! The options and the operands of a convolution, and its gradients.

use super::tile::Tile;
use crate::kernels::operand::Optional;
use crate::kernels::shader::Elem;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// The options of a convolution; stride and padding apply to both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Input pixels from one output to the next, 1 or 2.
    pub stride: usize,
    /// Zeros on each side of the input.
    pub padding: usize,
    /// Whether every input pixel stands for 2x2 pixels (only for 3x3 kernels, stride 1 and padding
    /// 1).
    pub upsample: bool,
    /// The tile that GPUs use; without one, it is chosen by size. (A software adapter that is given
    /// a tile runs the shaders of GPUs.)
    pub tile: Option<Tile>,
    /// The type that x, the weight and the gradient of the result are rounded to as factors of
    /// products; f16 maps are f16 anyway. (Every call sets it from the current precision.)
    pub factors: Elem,
}

impl Conv2dOptions {
    /// A 3x3 convolution, with padding 1, of the input upsampled to twice its height and width.
    pub const UPSAMPLE: Self =
        Self { stride: 1, padding: 1, upsample: true, tile: None, factors: Elem::F32 };

    /// Returns the options of a convolution with as many outputs as inputs, or one output for every
    /// `stride` inputs along each side.
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self { stride, padding: kernel / 2, upsample: false, tile: None, factors: Elem::F32 }
    }
}

/// The inputs of one call.
#[derive(Clone, Debug, ExtensionType)]
pub struct Conv2dInputs<B: Backend> {
    /// `[B, C, H, W]`.
    pub x: FloatTensor<B>,
    /// `[O, C, K, K]`.
    pub weight: FloatTensor<B>,
    /// `[O]`. The backward pass doesn't use it.
    #[extension_type]
    pub bias: Optional<B>,
    /// `[B, O, H', W']`. The backward pass doesn't use it.
    #[extension_type]
    pub residual: Optional<B>,
    /// The constants.
    pub options: Conv2dOptions,
}

impl<B: Backend> Conv2dInputs<B> {
    /// Applies `change` to each tensor.
    pub(super) fn map<To: Backend>(
        self,
        change: impl Fn(FloatTensor<B>) -> FloatTensor<To>,
    ) -> Conv2dInputs<To> {
        let Self { x, weight, bias, residual, options } = self;
        let (bias, residual) = (bias.map(&change), residual.map(&change));
        Conv2dInputs { x: change(x), weight: change(weight), bias, residual, options }
    }
}

/// The gradients of one call that were requested. The gradient of the residual is that of the
/// result.
#[derive(Clone, Debug, ExtensionType)]
pub struct Conv2dGradients<B: Backend> {
    /// `[B, C, H, W]`.
    #[extension_type]
    pub x: Optional<B>,
    /// `[O, C, K, K]`.
    #[extension_type]
    pub weight: Optional<B>,
    /// `[O]`.
    #[extension_type]
    pub bias: Optional<B>,
}
