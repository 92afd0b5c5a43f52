//! The pictures that training draws, and what they begin with.

use crate::config::Config;
use crate::data::Dataset;
use crate::device::Selected;
use crate::edit::decoder::Decoder;
use crate::edit::linear_decoder::{BESIDE, LinearDecoder, MOST_IMAGES, fit_to};
use crate::edit::reconstruct::reconstruct_first;
use crate::error::{Hint, Result};
use crate::files;
use crate::progress::warn;
use crate::report::grid;
use crate::run_dir::RunDir;
use crate::train::checkpoint::State;
use crate::units::grouped;
use std::path::Path;
use std::sync::Arc;

/// Images in a picture of training.
const GRID: usize = 20;
/// Training images that the linear decoder of a picture before the last is fitted to.
const SKETCH: usize = 1_000;

/// How many images a picture is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Picture {
    /// Test images drawn from their z; without any there is no picture.
    pub drawn: usize,
    /// Training images that the linear decoder is fitted to, which they begin with.
    pub fitted: usize,
}

impl Picture {
    /// Training images that a linear decoder needs: a few times as many as z has numbers.
    pub const FEWEST: usize = 500;

    /// The picture after the last step.
    pub fn closing(config: &Config, data: &Dataset) -> Self {
        let fitted =
            if config.sample.begins_with_picture() { MOST_IMAGES.min(data.train.len()) } else { 0 };
        Self { drawn: GRID.min(data.test.len()), fitted }
    }

    /// One before that.
    pub fn between(config: &Config, data: &Dataset) -> Self {
        let closing = Self::closing(config, data);
        Self { fitted: closing.fitted.min(SKETCH), ..closing }
    }

    /// What `self` lacks of `whole`, which takes `time`; nothing if it is that.
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
            "the closing picture would take {time}, which there isn't: {what}; {} draws all of it",
            Hint::Reconstruct(run.path.clone())
        ))
    }
}

/// What [`draw_reconstructions`] did.
pub(super) struct Drawn {
    /// What the pictures began with, where that isn't noise.
    pub linear: Option<LinearDecoder>,
    /// Whether the picture could be written.
    pub written: Result<()>,
}

/// The first test images and what their z alone gives: as many as `picture` says.
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
    let decoder = Decoder::new(&model, config, config.sample.clone(), &device.device);
    let decoder = decoder.beginning_with(linear.clone().map(Arc::new));
    let (images, originals) = reconstruct_first(&decoder, &data.test, picture.drawn, config.seed)?;
    let path = run.sample(state.position.step);
    let written = grid::save_reconstructions(&path, &images, &originals, config.model.sides.target);
    Ok(Drawn { linear, written })
}

/// Keeps `linear` beside the `weights` that it belongs to. Where that fails it is fitted anew for
/// the next picture.
pub(super) fn store(linear: &LinearDecoder, weights: &Path) {
    let written = files::sha256_of(weights)
        .and_then(|sha256| linear.write(&weights.with_file_name(BESIDE), &sha256));
    if let Err(e) = written {
        warn(&format!("the linear decoder is not kept: {e}"));
    }
}
