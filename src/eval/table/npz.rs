//! `.npz` files of features with names and labels: a zip archive of arrays, as `numpy.savez` writes
//! it.

use super::write::array_header;
use super::{Known, Writer};
use crate::error::{Error, Result};
use crate::files::{self, Partial};
use flate2::Crc;
use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The limit of lengths in a zip archive without the zip64 extension.
const LONGEST: u64 = u32::MAX as u64;
const TOO_LONG: &str = "a .npz file holds at most 4 GB; use a .parquet or .npy file instead";

/// A `.npz` file being written. The rows go to a temporary file next to it until all are there.
pub struct NpzWriter {
    path: PathBuf,
    /// The rows, in a file in `folder`.
    rows: Writer,
    folder: tempfile::TempDir,
    column: String,
    known: Known,
    names: Vec<String>,
    labels: Vec<u16>,
}

impl NpzWriter {
    /// Creates a file for rows of length `dim` in an array `column`.
    ///
    /// # Errors
    /// If the path can't be written.
    pub fn create(path: &Path, column: &str, dim: usize, known: Known) -> Result<Self> {
        let beside = files::folder(path);
        let folder =
            tempfile::Builder::new().prefix(".soda-").suffix(".partial").tempdir_in(beside);
        let folder = folder.map_err(|e| Error::io("write", path, &e))?;
        let rows = Writer::create(&folder.path().join("rows.npy"), dim, None, BTreeMap::new())?;
        Ok(Self {
            path: path.to_owned(),
            rows,
            folder,
            column: column.to_owned(),
            known,
            names: Vec::new(),
            labels: Vec::new(),
        })
    }

    /// Appends rows: `values` `[names, D]`, and their `labels` if there are classes.
    ///
    /// # Errors
    /// If the disk is full, or the rows exceed 4 GB.
    pub fn append(&mut self, values: &[f32], names: &[String], labels: &[u16]) -> Result<()> {
        // Fail now rather than at the end, after hours.
        let bytes = 4
            * (self.rows.rows() as u64 * (values.len() / names.len().max(1)) as u64
                + values.len() as u64);
        if bytes >= LONGEST {
            return Err(Error::failed(format!("{}: {TOO_LONG}", self.path.display())));
        }
        self.names.extend_from_slice(names);
        self.labels.extend(labels);
        self.rows.append(values)
    }

    /// Completes the file and moves it into place.
    ///
    /// # Errors
    /// If the disk is full, or an array is longer than 4 GB.
    pub fn finish(self) -> Result<()> {
        self.rows.finish()?;
        let mut zip = Zip {
            file: BufWriter::new(files::partial(&self.path)?),
            at: 0,
            directory: Vec::new(),
            count: 0,
        };
        let failed = |e: std::io::Error| Error::io("write", &self.path, &e);
        let rows = std::fs::File::open(self.folder.path().join("rows.npy")).map_err(failed)?;
        let array = |name: &str| format!("{name}.npy");
        zip.add(&array(&self.column), rows).map_err(failed)?;
        zip.add(&array("name"), texts(&self.names)).map_err(failed)?;
        if !self.known.classes.is_empty() {
            let numbers: Vec<u8> =
                self.labels.iter().flat_map(|label| i64::from(*label).to_le_bytes()).collect();
            let header = array_header("<i8", &format!("{},", self.labels.len()));
            zip.add(&array("label"), std::io::Cursor::new([header, numbers].concat()))
                .map_err(failed)?;
            zip.add(&array("classes"), texts(&self.known.classes)).map_err(failed)?;
        }
        if let Some(split) = &self.known.split {
            zip.add(&array("split"), texts(std::slice::from_ref(split))).map_err(failed)?;
        }
        let file = zip.finish().map_err(failed)?;
        files::complete(file.into_inner().map_err(|e| Error::io("write", &self.path, e.error()))?)
    }
}

/// Encodes `texts` as an array of NumPy's type `U`: UTF-32, padded to the longest text.
fn texts(texts: &[String]) -> std::io::Cursor<Vec<u8>> {
    let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let mut bytes = array_header(&format!("<U{longest}"), &format!("{},", texts.len()));
    for text in texts {
        let end = bytes.len() + 4 * longest;
        bytes.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        bytes.resize(end, 0);
    }
    std::io::Cursor::new(bytes)
}

/// A zip archive of stored (uncompressed) entries.
struct Zip {
    file: BufWriter<Partial>,
    at: u64,
    directory: Vec<u8>,
    count: u16,
}

impl Zip {
    /// Appends an entry.
    fn add(&mut self, name: &str, mut content: impl Read + Seek) -> std::io::Result<()> {
        let mut sum = Sum { crc: Crc::new(), size: 0 };
        std::io::copy(&mut content, &mut sum)?;
        if sum.size >= LONGEST || self.at + sum.size >= LONGEST {
            return Err(std::io::Error::other(TOO_LONG));
        }
        let (size, length) = ((sum.size as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
        // Version 2.0, no flags, stored, no timestamp.
        let shared = [
            &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
            &sum.crc.sum().to_le_bytes(),
            &size,
            &size,
            &length,
            &[0, 0],
        ]
        .concat();
        let header = [b"PK\x03\x04", &shared[..], name.as_bytes()].concat();
        let entry = [
            b"PK\x01\x02\x14\0",
            &shared[..],
            &[0; 10],
            &(self.at as u32).to_le_bytes(),
            name.as_bytes(),
        ]
        .concat();
        self.directory.extend(entry);
        self.count += 1;
        self.file.write_all(&header)?;
        content.rewind()?;
        std::io::copy(&mut content, &mut self.file)?;
        self.at += header.len() as u64 + sum.size;
        Ok(())
    }

    /// Writes the central directory.
    fn finish(mut self) -> std::io::Result<BufWriter<Partial>> {
        let (size, start, count) = (
            (self.directory.len() as u32).to_le_bytes(),
            (self.at as u32).to_le_bytes(),
            self.count.to_le_bytes(),
        );
        self.file.write_all(&self.directory)?;
        self.file.write_all(
            &[b"PK\x05\x06", &[0; 4][..], &count, &count, &size, &start, &[0, 0]].concat(),
        )?;
        Ok(self.file)
    }
}

/// Computes the checksum and length of what is written to it.
struct Sum {
    crc: Crc,
    size: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.crc.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
