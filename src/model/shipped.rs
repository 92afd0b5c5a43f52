//! The trained weights that the program carries: who has trained nothing yet starts from these.

use super::weights::WeightsFile;
use crate::error::Result;
use std::path::Path;

/// Where they lie in the sources, with what is known of their training beside them; what commands
/// call them.
pub const PATH: &str = "assets/weights/tiny.safetensors";

/// The averaged weights (EMA), matrices and convolutions in f16.
const BYTES: &[u8] = include_bytes!("../../assets/weights/tiny.safetensors");

/// Opens them.
///
/// # Errors
/// None but those of a broken build.
pub fn open() -> Result<WeightsFile> {
    WeightsFile::parse(Path::new(PATH), BYTES)
}
