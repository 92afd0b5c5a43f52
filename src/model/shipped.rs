//! The trained weights that come with the program, for those who haven't trained any yet.

use super::weights::WeightsFile;
use crate::error::Result;
use std::path::Path;

/// Their path in the source tree, next to notes on their training, which also names them in
/// messages and results. The name to open them by is `shipped`.
pub const PATH: &str = "assets/weights/small.safetensors";

/// The EMA weights, with matrices and convolutions in f16.
const BYTES: &[u8] = include_bytes!("../../assets/weights/small.safetensors");

/// Opens the shipped weights.
///
/// # Errors
/// Only if the build is broken.
pub fn open() -> Result<WeightsFile> {
    WeightsFile::parse(Path::new(PATH), BYTES)
}
