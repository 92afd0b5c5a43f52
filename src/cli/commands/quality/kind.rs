//! The kinds of images that are measured.

/// A kind of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Test images, with which all others are compared.
    Test,
    /// Reconstructions from z and the x_T that the test image is inverted to.
    OwnNoise,
    /// Reconstructions from z alone.
    ZAlone,
    /// Images of the linear decoder.
    LinearMap,
    /// The mean training image.
    Mean,
    /// Samples, with z from the latent prior.
    Drawn,
    /// Images of the linear decoder, with z from the latent prior.
    DrawnLinearly,
    /// Training images.
    Training,
}

impl Kind {
    /// All kinds, in the order of the table.
    pub(super) const ALL: [Self; 8] = [
        Self::Test,
        Self::OwnNoise,
        Self::ZAlone,
        Self::LinearMap,
        Self::Mean,
        Self::Drawn,
        Self::DrawnLinearly,
        Self::Training,
    ];

    /// Returns the name in the table and the picture.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Test => "test images",
            Self::OwnNoise => "z and x_T",
            Self::ZAlone => "z alone",
            Self::LinearMap => "linear map of z",
            Self::Mean => "mean image",
            Self::Drawn => "samples",
            Self::DrawnLinearly => "linear samples",
            Self::Training => "training images",
        }
    }

    /// Returns the key in the JSON.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Test => "test_images",
            Self::OwnNoise => "z_and_x_T",
            Self::ZAlone => "z_alone",
            Self::LinearMap => "linear_map",
            Self::Mean => "mean_image",
            Self::Drawn => "drawn",
            Self::DrawnLinearly => "drawn_linear_map",
            Self::Training => "training_images",
        }
    }

    /// Checks whether each image reconstructs the test image of the same index.
    pub(super) fn is_reconstruction(self) -> bool {
        !matches!(self, Self::Drawn | Self::DrawnLinearly | Self::Training)
    }

    /// Checks whether the Inception network evaluates this kind: images from z, and real images.
    pub(super) fn is_compared(self) -> bool {
        matches!(self, Self::Test | Self::ZAlone | Self::Drawn | Self::Training)
    }

    /// Checks whether the picture has a row of this kind.
    pub(super) fn is_shown(self) -> bool {
        !matches!(self, Self::Mean | Self::DrawnLinearly | Self::Training)
    }
}
