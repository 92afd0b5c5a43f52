//! What is measured on the images of one kind.

use super::kind::Kind;
use soda::data::views::to_byte;
use soda::data::{Images, bytes_of};
use soda::edit::generator::Generator;
use soda::error::Result;
use soda::eval::inception::{Inception, Looked};
use soda::eval::psnr_ssim::{Similarity, similarity};
use soda::eval::spectrum::energy_above;

/// The spatial frequency above which energy counts as detail, in cycles per image.
const CYCLES: f64 = 8.0;

/// The number of images of each kind in the picture.
pub(super) const SHOWN: usize = 10;

/// Measurements of the images of one kind, accumulated batch by batch.
pub(super) struct Measured {
    pub(super) kind: Kind,
    /// The z of the images.
    pub(super) z: Vec<f32>,
    /// The similarity of each batch to the test images.
    pub(super) similarity: Vec<Similarity>,
    /// The outputs of Inception-v3, if requested.
    pub(super) looked: Looked,
    /// The sum of the detail of all images.
    pub(super) detail: f64,
    /// The first images, for the picture.
    pub(super) shown: Vec<f32>,
}

impl Measured {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            z: Vec::new(),
            similarity: Vec::new(),
            looked: Looked::default(),
            detail: 0.0,
            shown: Vec::new(),
        }
    }

    /// Measures more `images`, against the test images `originals`.
    pub(super) fn add(
        &mut self,
        images: Vec<f32>,
        originals: &[f32],
        side: usize,
        generator: &Generator,
        inception: Option<&Inception>,
    ) -> Result<()> {
        let count = images.len() / bytes_of(side);
        self.detail += energy_above(CYCLES, &images, side) * count as f64;
        if self.kind.is_reconstruction() && self.kind != Kind::Test {
            self.similarity.push(similarity(&images, originals, side)?);
        }
        let bytes = to_images(&images, side);
        self.z.extend(generator.encode(&bytes)?);
        if let Some(inception) = inception.filter(|_| self.kind.is_compared()) {
            self.looked.extend(inception.look(&bytes)?);
        }
        let room = (SHOWN * bytes_of(side)).saturating_sub(self.shown.len());
        self.shown.extend(&images[..room.min(images.len())]);
        Ok(())
    }
}

/// Converts images `[n, 3, side, side]` in [-1, 1] to 8-bit images without classes.
fn to_images(drawn: &[f32], side: usize) -> Images {
    let pixels = drawn.iter().map(|&v| to_byte(v)).collect();
    Images::new(side, pixels, vec![0; drawn.len() / bytes_of(side)])
}
