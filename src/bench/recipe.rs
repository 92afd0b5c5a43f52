//! The recipe of the networks that are measured, and the images of noise that they are given.

use super::plan::Size;
use crate::config::{Config, Sides};
use crate::data::bytes_of;
use crate::error::{Error, Result};
use crate::rng::{self, Purpose};

/// Returns configs/cifar10.toml, unchanged or with both networks at a given base width.
pub(super) fn recipe(size: Size) -> Result<Config> {
    let overrides = match size {
        Size::Paper => Vec::new(),
        Size::Recipe => return Err(Error::usage("no recipe was given")),
        Size::Width(width) => vec![
            format!("model.encoder.base={width}"),
            format!("model.unet.base={width}"),
            // The largest number of groups up to 32 that divides every width.
            format!(
                "model.unet.groups={}",
                (1..=32).rev().find(|groups| width.is_multiple_of(*groups)).unwrap_or(1)
            ),
            "train.batch_size=16".to_owned(),
        ],
    };
    Config::built_in("cifar10", &overrides)
}

/// Returns `images` source and target images of noise in [-1, 1].
pub(super) fn noise(sides: Sides, images: usize) -> [Vec<f32>; 2] {
    [sides.source, sides.target].map(|side| {
        let values = rng::normal(&mut rng::stream(1, Purpose::Test, 0), images * bytes_of(side));
        values.into_iter().map(|v| v.clamp(-1.0, 1.0)).collect()
    })
}
