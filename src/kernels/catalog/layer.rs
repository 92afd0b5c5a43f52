//! What a network calls the operations with, as far as shaders are chosen by it.

/// One call of an operation on each image of a batch. Sides are those of its input, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// A convolution with padding `kernel / 2`; of the upsampled input (kernel 3) if so said. A
    /// linear layer is one of kernel 1.
    Conv2d {
        /// Input channels.
        from: usize,
        /// Output channels.
        to: usize,
        /// Taps along each side.
        kernel: usize,
        /// Input pixels from one output to the next.
        stride: usize,
        /// Of the input.
        side: usize,
        /// Whether every pixel stands for 2x2.
        upsample: bool,
        /// Whether there is a bias.
        bias: bool,
    },
    /// Group normalisation, modulated or not.
    AdaGn {
        /// Channels.
        channels: usize,
        /// Groups.
        groups: usize,
        /// Of the map.
        side: usize,
    },
    /// Batch normalisation.
    BatchNorm {
        /// Channels.
        channels: usize,
    },
    /// Attention over the pixels.
    Attention {
        /// Channels of q, of k and of v.
        channels: usize,
        /// Of the map.
        side: usize,
    },
    /// Two maps beside each other.
    Concat {
        /// Channels of both.
        channels: [usize; 2],
    },
    /// A 3x3 max-pool of stride 2.
    MaxPool {
        /// Channels.
        channels: usize,
    },
}
