//! The size of images.

/// The side of the images in pixels for recipes that don't set it: CIFAR's.
pub const DEFAULT_SIDE: usize = 32;

/// The sides of the images that the two networks work on, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// The side of the encoder's images, the source views.
    pub source: usize,
    /// The side of the denoiser's images, the target views.
    pub target: usize,
}

impl Default for Sides {
    fn default() -> Self {
        Self { source: DEFAULT_SIDE, target: DEFAULT_SIDE }
    }
}

pub(super) fn default_side() -> usize {
    DEFAULT_SIDE
}
