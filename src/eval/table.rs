//! Feature files shared with other programs: `.npy` (NumPy) and `.safetensors`; with names and
//! labels also `.npz` and `.parquet`. [`read()`] reads the first two.

mod npz;
mod parquet;
mod read;
mod write;

pub use parquet::read_parquet;
pub use read::read;
pub use write::{Writer, write_labels};

use crate::error::{Error, Result};
use crate::files::Destination;
use npz::NpzWriter;
use parquet::ParquetWriter;
use std::collections::BTreeMap;
use std::path::Path;

/// The two array formats, distinguished by file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A single array.
    Npy,
    /// Tensors `features` and, if there are labels, `labels`.
    Safetensors,
}

impl Format {
    /// Returns the format of the file `path`.
    ///
    /// # Errors
    /// If the extension is another one.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
            "npy" => Ok(Self::Npy),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(Error::usage(format!(
                "{}: give a file name that ends in .npy or .safetensors",
                path.display()
            ))),
        }
    }

    /// Returns the format for writing to `path`: always `.npy` for standard output, pipes and
    /// devices.
    ///
    /// # Errors
    /// If a regular file has another extension.
    pub fn to_write(path: &Path) -> Result<Self> {
        match Destination::of(path)? {
            Destination::File(_) => Self::of(path),
            _ => Ok(Self::Npy),
        }
    }
}

/// Metadata shared by all images of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// "train" or "test"; `None` for image files.
    pub split: Option<String>,
    /// The names of the classes; empty if there are no labels.
    pub classes: Vec<String>,
}

/// A feature file being written, with a row for each image.
pub enum Table {
    /// One array, plus the labels in a `.safetensors` file.
    Array(Writer),
    /// A `.npz` file, and its number of rows so far.
    Npz(NpzWriter, usize),
    /// A `.parquet` file, and its number of rows so far.
    Parquet(ParquetWriter, usize),
}

impl Table {
    /// Checks whether the format of `path` stores names and labels in the same file.
    ///
    /// # Errors
    /// If the extension is none of the supported ones.
    pub fn holds_names(path: &Path) -> Result<bool> {
        if let Destination::File(_) = Destination::of(path)?
            && let Some("npz" | "parquet") = extension(path).as_deref()
        {
            return Ok(true);
        }
        let other = |_| {
            Error::usage(format!(
                "{}: give a file name that ends in .npy, .safetensors, .npz or .parquet",
                path.display()
            ))
        };
        Format::to_write(path).map(|_| false).map_err(other)
    }

    /// Creates a table of vectors of length `dim` in a column `column`. A `.safetensors` file
    /// stores the `labels` of all rows to come.
    ///
    /// # Errors
    /// As [`Table::holds_names`]; if the path can't be written.
    pub fn create(
        path: &Path,
        column: &str,
        dim: usize,
        known: Known,
        labels: Option<&[u16]>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        Ok(match (Self::holds_names(path)?, extension(path).as_deref()) {
            (true, Some("npz")) => Self::Npz(NpzWriter::create(path, column, dim, known)?, 0),
            (true, _) => {
                Self::Parquet(ParquetWriter::create(path, column, dim, known, &metadata)?, 0)
            }
            (false, _) => Self::Array(Writer::create(path, dim, labels, metadata)?),
        })
    }

    /// Returns the number of rows so far.
    pub fn rows(&self) -> usize {
        match self {
            Self::Array(writer) => writer.rows(),
            Self::Npz(_, rows) | Self::Parquet(_, rows) => *rows,
        }
    }

    /// Appends rows: `values` `[names, D]`, and their `labels` if there are classes. A file of plain
    /// arrays ([`Table::holds_names`]) takes neither: its labels are those given to
    /// [`Table::create`].
    ///
    /// # Errors
    /// If a value isn't finite or the disk is full.
    pub fn append(&mut self, values: &[f32], names: &[String], labels: &[u16]) -> Result<()> {
        match self {
            Self::Array(writer) => writer.append(values)?,
            Self::Npz(writer, rows) => {
                writer.append(values, names, labels)?;
                *rows += names.len();
            }
            Self::Parquet(writer, rows) => {
                write::check_finite(values, values.len() / names.len().max(1), *rows)?;
                writer.append(values, names, labels)?;
                *rows += names.len();
            }
        }
        Ok(())
    }

    /// Completes the file and moves it into place.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Array(writer) => writer.finish(),
            Self::Npz(writer, _) => writer.finish(),
            Self::Parquet(writer, _) => writer.finish(),
        }
    }
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests;
