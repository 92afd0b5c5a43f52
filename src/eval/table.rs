//! Features in files that other programs read and write: `.npy` (NumPy) and `.safetensors`; with
//! what is known of each image also `.npz` and `.parquet`, which are only written.

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
            _ => Err(Error::usage(format!(
                "{}: name a file that ends with .npy or .safetensors",
                path.display()
            ))),
        }
    }

    /// The format of what is written to `path`: for standard output, pipes and devices one array,
    /// whatever they are called.
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

/// What is known of all images of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// "train" or "test"; none for files.
    pub split: Option<String>,
    /// What labels stand for, none where there are no labels.
    pub classes: Vec<String>,
}

/// A file of features being written, a row for each image.
pub enum Table {
    /// One array, and in a `.safetensors` file the labels.
    Array(Writer),
    /// Arrays.
    Npz(NpzWriter, usize),
    /// Columns.
    Parquet(ParquetWriter, usize),
}

impl Table {
    /// Whether the file `path` holds names and labels itself.
    ///
    /// # Errors
    /// A name that ends otherwise than those of the formats.
    pub fn holds_names(path: &Path) -> Result<bool> {
        if let Destination::File(_) = Destination::of(path)?
            && let Some("npz" | "parquet") = extension(path).as_deref()
        {
            return Ok(true);
        }
        let other = |_| {
            Error::usage(format!(
                "{}: name a file that ends with .npy, .safetensors, .npz or .parquet",
                path.display()
            ))
        };
        Format::to_write(path).map(|_| false).map_err(other)
    }

    /// For vectors of `dim` numbers, which a column `column` holds. A `.safetensors` file takes up
    /// the `labels` of all rows that will come.
    ///
    /// # Errors
    /// As [`Table::holds_names`]; a place that can't be written.
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

    /// Rows so far.
    pub fn rows(&self) -> usize {
        match self {
            Self::Array(writer) => writer.rows(),
            Self::Npz(_, rows) | Self::Parquet(_, rows) => *rows,
        }
    }

    /// Adds rows: `values` `[names, D]`, and their `labels` where there are classes.
    ///
    /// # Errors
    /// A number that isn't finite; a full disk.
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

    /// Completes the file and puts it in its place.
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
