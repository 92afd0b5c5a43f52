//! Features in files that other programs read and write: `.npy` (NumPy) and `.safetensors`.

mod read;
mod write;

pub use read::read;
pub use write::{Writer, write_labels};

use crate::error::{Error, Result};
use crate::files::Destination;
use std::path::Path;

/// The two formats, told apart by what a file's name ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One array.
    Npy,
    /// Tensors `features` and, where there are any, `labels`.
    Safetensors,
}

impl Format {
    /// The format of the file `path`.
    ///
    /// # Errors
    /// Another ending.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
            "npy" => Ok(Self::Npy),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(Error::usage(format!("{}: name a file that ends with .npy or .safetensors", path.display()))),
        }
    }

    /// The format of what is written to `path`: for standard output, pipes and devices one array, whatever they are called.
    ///
    /// # Errors
    /// Another ending of a regular file.
    pub fn to_write(path: &Path) -> Result<Self> {
        match Destination::of(path)? {
            Destination::File(_) => Self::of(path),
            _ => Ok(Self::Npy),
        }
    }
}

#[cfg(test)]
mod tests;
