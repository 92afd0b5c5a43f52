//! The pictures that training draws, and the linear decoder from which they start.

use crate::config::Config;
use crate::data::Dataset;
use crate::device::Selected;
use crate::edit::generator::Generator;
use crate::edit::linear_decoder::{BESIDE, LinearDecoder, MOST_IMAGES, fit_to};
use crate::edit::reconstruct::reconstruct;
use crate::error::{Hint, Result};
use crate::files;
use crate::progress::warn;
use crate::report::grid;
use crate::run_dir::RunDir;
use crate::train::checkpoint::State;
use crate::units::grouped;
use std::path::Path;
use std::sync::Arc;

/// The number of images in a picture of training.
const GRID: usize = 20;
/// The number of training images that the linear decoder is fitted to for pictures before the last.
const SKETCH: usize = 1_000;

/// The size of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Picture {
    /// The number of test images to reconstruct from their z; 0: no picture.
    pub drawn: usize,
    /// The number of training images to fit the linear decoder to, from which sampling starts.
    pub fitted: usize,
}

impl Picture {
    /// The fewest training images that a linear decoder needs: a few times the dimension of z.
    pub const FEWEST: usize = 500;

    /// Returns the size of the picture after the last step.
    pub fn closing(config: &Config, data: &Dataset) -> Self {
        let fitted =
            if config.sample.begins_with_picture() { MOST_IMAGES.min(data.train.len()) } else { 0 };
        Self { drawn: GRID.min(data.test.len()), fitted }
    }

    /// Returns the size of an earlier picture.
    pub fn between(config: &Config, data: &Dataset) -> Self {
        let closing = Self::closing(config, data);
        Self { fitted: closing.fitted.min(SKETCH), ..closing }
    }

    /// Says what `self` lacks compared with `whole`, which takes `time`; `None` if they are equal.
    pub fn lacks(self, whole: Self, time: &str, run: &RunDir) -> Option<String> {
        let what = match self {
            same if same == whole => return None,
            Self { drawn: 0, .. } => "it is left out".to_owned(),
            Self { drawn, .. } if drawn < whole.drawn => {
                format!("it shows {drawn} images, not {}", whole.drawn)
            }
            Self { fitted, .. } => {
                format!(
                    "its linear decoder is fitted to {} images, not {}",
                    grouped(fitted as u64),
                    grouped(whole.fitted as u64)
                )
            }
        };
        Some(format!(
            "too little time for the full closing picture ({time}): {what}; {} draws it in full",
            Hint::Reconstruct(run.path.clone())
        ))
    }
}

/// The result of [`draw_reconstructions`].
pub(super) struct Drawn {
    /// The linear decoder from which sampling started; `None`: it started from noise.
    pub linear: Option<LinearDecoder>,
    /// The result of writing the picture.
    pub written: Result<()>,
}

/// Draws the first test images and their reconstructions from z alone, as many as `picture` says.
pub(super) fn draw_reconstructions(
    state: &State,
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    picture: Picture,
) -> Result<Drawn> {
    if picture.drawn == 0 {
        return Ok(Drawn { linear: None, written: Ok(()) });
    }
    let model = state.ema.model();
    let linear = (picture.fitted > 0)
        .then(|| fit_to(&model, &data.train, picture.fitted, config, &device.device))
        .transpose()?;
    let generator = Generator::new(&model, config, config.sample.clone(), &device.device);
    let generator = generator.beginning_with(linear.clone().map(Arc::new));
    let (images, originals) =
        reconstruct(&generator, &data.test.first(picture.drawn), config.seed)?;
    let path = run.sample(state.position.step);
    let written = grid::save_reconstructions(&path, &images, &originals, config.model.sides.target);
    Ok(Drawn { linear, written })
}

/// Stores `linear` next to the `weights` that it belongs to. If that fails, it is fitted again for
/// the next picture.
pub(super) fn store(linear: &LinearDecoder, weights: &Path) {
    let written = files::sha256_of(weights)
        .and_then(|sha256| linear.write(&weights.with_file_name(BESIDE), &sha256));
    if let Err(e) = written {
        warn(&format!("the linear decoder isn't stored and will be fitted again: {e}"));
    }
}
