//! The sizes of a convolution.

/// The sizes of a convolution of `[batch, height, width, c_in]` with square kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Taps along each side.
    pub kernel: usize,
    /// Input pixels from one output to the next, along both sides.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
}

impl ConvShape {
    /// Returns the number of rows of the output.
    pub fn out_height(&self) -> usize {
        self.outputs(self.height)
    }

    /// Returns the number of columns of the output.
    pub fn out_width(&self) -> usize {
        self.outputs(self.width)
    }

    fn outputs(&self, inputs: usize) -> usize {
        assert!(
            self.stride > 0 && self.kernel > 0,
            "conv2d: kernel and stride must be at least 1, got {self:?}"
        );
        assert!(
            inputs + 2 * self.padding >= self.kernel,
            "conv2d: the kernel is larger than the padded image: {self:?}"
        );
        (inputs + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Returns the number of taps of a kernel.
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Returns the number of elements of x.
    pub fn inputs_len(&self) -> usize {
        self.batch * self.height * self.width * self.c_in
    }

    /// Returns the number of elements of y.
    pub fn outputs_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.c_out
    }

    /// Returns the number of elements of w.
    pub fn weights_len(&self) -> usize {
        self.c_out * self.c_in * self.taps()
    }
}
