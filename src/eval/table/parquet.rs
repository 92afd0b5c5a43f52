//! Parquet files of features with names and labels: the columns name, split, label, class, and the
//! features as a list of floats.

use super::Known;
use crate::data::formats::pages::Source;
use crate::data::formats::parquet::{Fault, guarded};
use crate::error::{Error, Result};
use crate::files::{self, Partial};
use ::parquet::column::reader::{ColumnReader, get_column_reader};
use ::parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{KeyValue, ParquetMetaData};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The number of columns of a table.
const COLUMNS: usize = 5;
/// Rows per row group: 5 MB at 128 dimensions.
const GROUP: usize = 10_000;

/// A Parquet file being written.
pub struct ParquetWriter {
    path: PathBuf,
    file: SerializedFileWriter<BufWriter<Partial>>,
    dim: usize,
    known: Known,
    names: Vec<ByteArray>,
    labels: Vec<u16>,
    values: Vec<f32>,
}

impl ParquetWriter {
    /// Creates a file for rows of length `dim` in a column `column`.
    ///
    /// # Errors
    /// If the path can't be written.
    pub fn create(
        path: &Path,
        column: &str,
        dim: usize,
        known: Known,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let schema = format!(
            "message features {{ required binary name (STRING); optional binary split (STRING); \
             optional int32 label; optional binary class (STRING); \
             required group {column} (LIST) {{ \
             repeated group list {{ required float element; }} }} }}"
        );
        let schema = parse_message_type(&schema).map_err(|e| failed(path, &e))?;
        let entries =
            metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(entries))
            .set_dictionary_enabled(false)
            .build();
        let file = SerializedFileWriter::new(
            BufWriter::new(files::partial(path)?),
            Arc::new(schema),
            Arc::new(properties),
        );
        let file = file.map_err(|e| failed(path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            dim,
            known,
            names: Vec::new(),
            labels: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Appends rows: `values` `[names, D]`, and their `labels` if there are classes.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn append(&mut self, values: &[f32], names: &[String], labels: &[u16]) -> Result<()> {
        self.values.extend(values);
        self.names.extend(names.iter().map(|name| ByteArray::from(name.as_str())));
        self.labels.extend(labels);
        if self.names.len() >= GROUP { self.group() } else { Ok(()) }
    }

    /// Writes the buffered rows as a row group.
    fn group(&mut self) -> Result<()> {
        let n = self.names.len();
        let written = (|| {
            let mut group = self.file.next_row_group()?;
            // Definition levels of an optional column: 1 if there is a value.
            let there = |is: bool| vec![i16::from(is); n];
            let labelled = !self.labels.is_empty();
            let split: Vec<ByteArray> = self
                .known
                .split
                .iter()
                .flat_map(|split| vec![ByteArray::from(split.as_str()); n])
                .collect();
            let class = |label: &u16| {
                ByteArray::from(
                    self.known.classes.get(usize::from(*label)).map_or("", String::as_str),
                )
            };
            let (labels, classes): (Vec<i32>, Vec<ByteArray>) =
                self.labels.iter().map(|l| (i32::from(*l), class(l))).unzip();
            let features: Vec<i16> =
                (0..self.values.len()).map(|i| i16::from(i % self.dim != 0)).collect();
            let mut number = 0;
            while let Some(mut column) = group.next_column()? {
                match number {
                    0 => column.typed::<ByteArrayType>().write_batch(&self.names, None, None)?,
                    1 => column.typed::<ByteArrayType>().write_batch(
                        &split,
                        Some(&there(!split.is_empty())),
                        None,
                    )?,
                    2 => column.typed::<Int32Type>().write_batch(
                        &labels,
                        Some(&there(labelled)),
                        None,
                    )?,
                    3 => column.typed::<ByteArrayType>().write_batch(
                        &classes,
                        Some(&there(labelled)),
                        None,
                    )?,
                    // Repetition levels: 0 where a list begins, 1 where it continues.
                    _ => column.typed::<FloatType>().write_batch(
                        &self.values,
                        Some(&vec![1; features.len()]),
                        Some(&features),
                    )?,
                };
                column.close()?;
                number += 1;
            }
            group.close().map(drop)
        })();
        self.names.clear();
        self.labels.clear();
        self.values.clear();
        written.map_err(|e: ParquetError| failed(&self.path, &e))
    }

    /// Completes the file and moves it into place.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn finish(mut self) -> Result<()> {
        if !self.names.is_empty() {
            self.group()?;
        }
        let file = self.file.into_inner().map_err(|e| failed(&self.path, &e))?;
        files::complete(file.into_inner().map_err(|e| Error::io("write", &self.path, e.error()))?)
    }
}

/// Names, labels (empty if there are no classes) and features of a row group.
type Rows = (Vec<String>, Vec<u16>, Vec<f32>);

/// Reads a `.parquet` file of [`Table`](super::Table) and passes its rows to `each`, one row group
/// at a time: names, labels (empty if there are no classes) and features. A maliciously crafted
/// file can't make it allocate more memory than its bytes can encode.
///
/// # Errors
/// If the file isn't such a table or is damaged, or `each` fails.
pub fn read_parquet(
    path: &Path,
    mut each: impl FnMut(Vec<String>, Vec<u16>, Vec<f32>) -> Result<()>,
) -> Result<()> {
    let file = std::fs::File::open(path).map_err(|e| Error::io("read", path, &e))?;
    let (source, described) = guarded(path, &Cell::new(false), || Ok(Source::open(file)?))?;
    for number in 0..described.num_row_groups() {
        let (names, labels, features) =
            guarded(path, &Cell::new(false), || read_group(&source, &described, number))?;
        each(names, labels, features)?;
    }
    Ok(())
}

fn read_group(
    source: &Source,
    described: &ParquetMetaData,
    number: usize,
) -> std::result::Result<Rows, Fault> {
    let wrong = |what: &str| Fault::Damaged(what.to_owned());
    let (columns, group) = (described.file_metadata().schema_descr(), described.row_group(number));
    let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
    // A name takes at least the 4 bytes of its length.
    if rows as u64 > source.length() / 4
        || columns.num_columns() != COLUMNS
        || group.num_columns() != COLUMNS
    {
        return Err(wrong("it is not a table written by soda embed"));
    }
    let column = |at: usize| {
        source
            .pages(group.column(at), rows)
            .map(|pages| get_column_reader(columns.column(at), pages))
    };
    let (
        ColumnReader::ByteArrayColumnReader(mut names),
        ColumnReader::Int32ColumnReader(mut labels),
        ColumnReader::FloatColumnReader(mut values),
    ) = (column(0)?, column(2)?, column(4)?)
    else {
        return Err(wrong("its columns are not those of soda embed"));
    };
    let (mut texts, mut numbers, mut features) = (Vec::new(), Vec::new(), Vec::new());
    let (mut there, mut levels, mut begins) = (Vec::new(), Vec::new(), Vec::new());
    names.read_records(rows, None, None, &mut texts)?;
    labels.read_records(rows, Some(&mut there), None, &mut numbers)?;
    values.read_records(rows, Some(&mut levels), Some(&mut begins), &mut features)?;
    let text = |name: &ByteArray| Ok(name.as_utf8()?.to_owned());
    let texts: Vec<String> = texts.iter().map(text).collect::<std::result::Result<_, Fault>>()?;
    let numbers: Vec<u16> = numbers
        .into_iter()
        .map(u16::try_from)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| wrong("a label is not a number from 0 to 65535"))?;
    if texts.len() != rows
        || !(numbers.is_empty() || numbers.len() == rows)
        || !features.len().is_multiple_of(rows.max(1))
    {
        return Err(wrong("its columns differ in length"));
    }
    Ok((texts, numbers, features))
}

fn failed(path: &Path, e: &ParquetError) -> Error {
    // I/O errors, such as a full disk, get the same message as elsewhere.
    let source =
        std::error::Error::source(e).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.map_or_else(
        || Error::failed(format!("cannot write {}: {e}", path.display())),
        |e| Error::io("write", path, e),
    )
}
