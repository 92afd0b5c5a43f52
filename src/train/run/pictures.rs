//! The pictures that training draws, and what they begin with.

use crate::config::Config;
use crate::data::Dataset;
use crate::device::Selected;
use crate::edit::decoder::Decoder;
use crate::edit::linear_decoder::{BESIDE, LinearDecoder, fit_to};
use crate::edit::reconstruct::reconstruct_first;
use crate::error::Result;
use crate::files;
use crate::progress::warn;
use crate::report::grid;
use crate::run_dir::RunDir;
use crate::shell::quoted;
use crate::train::checkpoint::State;
use std::path::Path;
use std::sync::Arc;

/// What [`draw_reconstructions`] did.
pub(super) struct Drawn {
    /// What the pictures began with, where that isn't noise.
    pub linear: Option<LinearDecoder>,
    /// Whether the picture could be written.
    pub written: Result<()>,
}

/// The first `n` test images and what their z alone gives; the linear decoder that they begin with is fitted to `most` training images.
pub(super) fn draw_reconstructions(
    state: &State,
    config: &Config,
    data: &Dataset,
    device: &Selected,
    run: &RunDir,
    n: usize,
    most: usize,
) -> Result<Drawn> {
    if n == 0 {
        return Ok(Drawn { linear: None, written: Ok(()) });
    }
    let n = n.min(data.test.len());
    let model = state.ema.model();
    let linear =
        config.sample.begins_with_picture().then(|| fit_to(&model, &data.train, most, config, &device.device)).transpose()?;
    let decoder = Decoder::new(&model, config, config.sample.clone(), &device.device);
    let decoder = decoder.beginning_with(linear.clone().map(Arc::new));
    let (images, originals) = reconstruct_first(&decoder, &data.test, n, config.seed)?;
    let picture = run.sample(state.position.step);
    let written = grid::save_reconstructions(&picture, &images, &originals, config.model.sides.target);
    Ok(Drawn { linear, written })
}

/// Keeps `linear` beside the `weights` that it belongs to. Where that fails it is fitted anew for the next picture.
pub(super) fn store(linear: &LinearDecoder, weights: &Path) {
    let written = files::sha256_of(weights).and_then(|sha256| linear.write(&weights.with_file_name(BESIDE), &sha256));
    if let Err(e) = written {
        warn(&format!("the linear decoder is not kept: {e}"));
    }
}

/// Why the closing picture shows `n` images only, or isn't there.
pub(super) fn less_drawn(n: usize, time: &str, run: &RunDir) -> String {
    let what =
        if n == 0 { "the closing picture is left out".into() } else { format!("the closing picture shows {n} images only") };
    format!("{what}: it would take {time}; `soda reconstruct --run {}` draws it", quoted(&run.path))
}
