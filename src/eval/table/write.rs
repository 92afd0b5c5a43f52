//! Writing of features row by row, so that memory doesn't grow with their number.

use super::Format;
use crate::error::{Error, Result};
use crate::files::{self, Partial};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// A feature file being written. [`finish`](Writer::finish) moves it into place; a writer that is
/// dropped earlier leaves no file behind.
///
/// A `.npy` file holds the features as little-endian f32 `[N, D]`. A `.safetensors` file holds a
/// tensor `features` of that type and shape and, if labels were given, a tensor `labels`, i64
/// `[N]`.
pub struct Writer {
    file: BufWriter<Partial>,
    path: PathBuf,
    format: Format,
    dim: usize,
    rows: usize,
    labels: Option<usize>,
    metadata: BTreeMap<String, String>,
    /// Bytes reserved for the header at the beginning.
    header: usize,
}

impl Writer {
    /// Creates a file for vectors of length `dim`. A `.safetensors` file stores the `labels`, one
    /// for each row to come, and `metadata`; a `.npy` file can't store them (see [`write_labels`]).
    ///
    /// # Errors
    /// If the extension is another one, or the path can't be written.
    pub fn create(
        path: &Path,
        dim: usize,
        labels: Option<&[u16]>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        let format = Format::to_write(path)?;
        let labels = labels.filter(|_| format == Format::Safetensors);
        let file = BufWriter::new(files::partial(path)?);
        let count = labels.map(<[u16]>::len);
        let mut writer = Self {
            file,
            path: path.to_owned(),
            format,
            dim,
            rows: 0,
            labels: count,
            metadata,
            header: 0,
        };
        // The header contains the number of rows, which is known only at the end, so space for it
        // is reserved.
        writer.header = writer.header(usize::MAX / (8 * dim.max(1)), 0).len();
        writer.write(&vec![0; writer.header])?;
        // Labels come before the features, so that 8-byte values are aligned to 8 bytes.
        for label in labels.unwrap_or_default() {
            writer.write(&i64::from(*label).to_le_bytes())?;
        }
        Ok(writer)
    }

    /// Returns the number of rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends rows: `values` `[any, D]`.
    ///
    /// # Errors
    /// If a value isn't finite or the disk is full.
    ///
    /// # Panics
    /// If `values` isn't a whole number of rows.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        assert!(
            values.len().is_multiple_of(self.dim),
            "{} values are not rows of length {}",
            values.len(),
            self.dim
        );
        check_finite(values, self.dim, self.rows)?;
        self.rows += values.len() / self.dim;
        values.iter().try_for_each(|v| self.write(&v.to_le_bytes()))
    }

    /// Completes the file and moves it into place.
    ///
    /// # Errors
    /// If the disk is full.
    ///
    /// # Panics
    /// If the number of rows differs from that of labels.
    pub fn finish(mut self) -> Result<()> {
        assert!(
            self.labels.is_none_or(|n| n == self.rows),
            "{:?} labels for {} rows",
            self.labels,
            self.rows
        );
        let failed = |e| Error::io("write", &self.path, &e);
        let header = self.header(self.rows, self.header);
        self.file.rewind().and_then(|()| self.file.write_all(&header)).map_err(failed)?;
        let file = self.file.into_inner().map_err(|e| failed(e.into_error()))?;
        files::complete(file)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, &e))
    }

    /// Returns the header of a file of `rows` rows, padded to at least `least` bytes.
    fn header(&self, rows: usize, least: usize) -> Vec<u8> {
        let text = match self.format {
            Format::Npy => npy_text("<f4", &format!("{rows}, {}", self.dim)),
            Format::Safetensors => {
                let labels = self.labels.map_or(0, |n| 8 * n);
                let tensor = |dtype: &str, shape: &[usize], from: usize, to: usize| {
                    let range = [from, to];
                    json!({ "dtype": dtype, "shape": shape, "data_offsets": range })
                };
                let mut header = json!({ "__metadata__": self.metadata });
                header["features"] =
                    tensor("F32", &[rows, self.dim], labels, labels + 4 * rows * self.dim);
                if let Some(n) = self.labels {
                    header["labels"] = tensor("I64", &[n], 0, labels);
                }
                header.to_string()
            }
        };
        framed(self.format, &text, least)
    }
}

/// Checks that the rows `values` of length `dim`, which follow `before` others, are finite.
pub(super) fn check_finite(values: &[f32], dim: usize, before: usize) -> Result<()> {
    let Some(at) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    Err(Error::failed(format!(
        "the features of image {} hold {}; the weights they come from are damaged or have diverged",
        before + at / dim,
        values[at]
    )))
}

/// Returns the header of a `.npy` file of this type and shape ("3, 4").
pub(super) fn array_header(dtype: &str, shape: &str) -> Vec<u8> {
    framed(Format::Npy, &npy_text(dtype, shape), 0)
}

/// Returns NumPy's header text, a Python dictionary.
fn npy_text(dtype: &str, shape: &str) -> String {
    format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}")
}

/// Prepends the length to `text`, and pads with spaces to a multiple of 64 bytes and at least
/// `least` bytes.
fn framed(format: Format, text: &str, least: usize) -> Vec<u8> {
    let (magic, prefix, end) = match format {
        Format::Npy => (&b"\x93NUMPY\x01\x00"[..], 10, b'\n'),
        Format::Safetensors => (&b""[..], 8, b' '),
    };
    let total = (prefix + text.len() + 1).next_multiple_of(64).max(least);
    let length = (total - prefix) as u64;
    let mut out = magic.to_vec();
    out.extend(&length.to_le_bytes()[..prefix - magic.len()]);
    out.extend(text.bytes());
    out.resize(total - 1, b' ');
    out.push(end);
    out
}

/// Writes `labels` atomically as a `.npy` file of i64 `[N]`.
///
/// # Errors
/// If the extension is another one, or the path can't be written.
pub fn write_labels(path: &Path, labels: &[u16]) -> Result<()> {
    if Format::to_write(path)? != Format::Npy {
        return Err(Error::usage(format!(
            "{}: give a file name that ends in .npy for labels",
            path.display()
        )));
    }
    let mut bytes = array_header("<i8", &format!("{},", labels.len()));
    bytes.extend(labels.iter().flat_map(|label| i64::from(*label).to_le_bytes()));
    files::write_atomically(path, &bytes)
}
