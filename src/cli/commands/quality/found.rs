//! The results for one kind of images: a line of the table, and a part of the JSON.

use super::kind::Kind;
use super::measured::Measured;
use serde::Serialize;
use soda::error::Result;
use soda::eval::frechet::{Distance, distance};
use soda::eval::psnr_ssim::Similarity;

/// The results for one kind of images.
#[derive(Serialize)]
pub(super) struct Found {
    /// The similarity to the test images they reconstruct.
    #[serde(flatten)]
    similarity: Option<Similarity>,
    /// The energy above 8 cycles per image, relative to the test images.
    detail: f64,
    /// Per cent of the images whose z a classifier of real z assigns to the right class.
    class_top1: Option<f64>,
    /// The distance of their z from that of the test images.
    #[serde(flatten)]
    distance: Option<Distance>,
}

impl Found {
    pub(super) fn of(
        kind: &Measured,
        test: &Measured,
        real: &[f32],
        dim: usize,
        class_top1: Option<f64>,
    ) -> Result<Self> {
        let distance =
            if kind.kind == Kind::Test { None } else { Some(distance(&kind.z, real, dim)?) };
        let similarity = (!kind.similarity.is_empty()).then(|| Similarity::over(&kind.similarity));
        Ok(Self {
            similarity,
            detail: kind.detail / test.detail.max(f64::MIN_POSITIVE),
            class_top1,
            distance,
        })
    }

    pub(super) fn line(&self, name: &str, is_test: bool) -> String {
        let or_dash = |value: Option<f64>, digits: usize| {
            value.map_or("-".into(), |v| format!("{v:.digits$}"))
        };
        let (s, d) = (self.similarity, if is_test { None } else { self.distance });
        format!(
            "{name:<16} {:>8} {:>6} {:>7.2} {:>7} {:>16} {:>10} {:>7}",
            or_dash(s.map(|s| s.psnr), 2),
            or_dash(s.map(|s| s.ssim), 3),
            self.detail,
            or_dash(self.class_top1, 1),
            or_dash(d.map(|d| d.frechet), 3),
            or_dash(d.map(|d| d.precision), 1),
            or_dash(d.map(|d| d.recall), 1)
        )
    }
}
