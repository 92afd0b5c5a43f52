//! What a convolution, or the gradient of its input, is computed from.

/// The weights of a convolution, `[c_out, c_in, kernel, kernel]`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub values: &'a [f32],
    pub c_in: usize,
    /// kernel * kernel
    pub taps: usize,
    /// Whether the outputs are channels of the input: in the gradient of the input.
    pub transposed: bool,
}

impl Weights<'_> {
    /// Returns how many elements apart the weights of two output channels are, and those of two
    /// source channels: that of (output channel o, source channel i, tap k) is element o * first +
    /// i * second + k.
    pub fn strides(&self) -> (usize, usize) {
        let (of_c_out, of_c_in) = (self.c_in * self.taps, self.taps);
        if self.transposed { (of_c_in, of_c_out) } else { (of_c_out, of_c_in) }
    }
}

/// The operands of out = bias + residual + the convolution of `source`, or its gradient with
/// respect to the input.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// `[batch, height, width, source channels]`: x, or dy.
    pub source: &'a [f32],
    pub weights: Weights<'a>,
    /// `[output channels]`
    pub bias: Option<&'a [f32]>,
    /// Of the output's shape.
    pub residual: Option<&'a [f32]>,
}
