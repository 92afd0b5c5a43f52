//! The calls that a network makes of the operations, as far as they decide the choice of shaders.

/// One call of an operation for each image of a batch. A side is that of the input, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// A convolution with padding `kernel / 2`, of the upsampled input if `upsample` is set (kernel
    /// 3). A linear layer is one of kernel 1.
    Conv2d {
        /// The input channels.
        from: usize,
        /// The output channels.
        to: usize,
        /// The taps along each side.
        kernel: usize,
        /// The input pixels from one output to the next.
        stride: usize,
        /// The side of the input.
        side: usize,
        /// Whether every input pixel stands for 2x2 pixels.
        upsample: bool,
        /// Whether there is a bias.
        bias: bool,
    },
    /// Group normalisation, modulated or not.
    AdaGn {
        /// Channels.
        channels: usize,
        /// The number of groups.
        groups: usize,
        /// The side of the map.
        side: usize,
    },
    /// Batch normalisation.
    BatchNorm {
        /// Channels.
        channels: usize,
    },
    /// Attention over the pixels.
    Attention {
        /// The channels of each of q, k and v.
        channels: usize,
        /// The side of the map.
        side: usize,
    },
    /// Concatenation of two maps along the channels.
    Concat {
        /// The channels of each.
        channels: [usize; 2],
    },
    /// A 3x3 max-pool of stride 2.
    MaxPool {
        /// Channels.
        channels: usize,
    },
}
