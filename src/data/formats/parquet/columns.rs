//! The columns of a Parquet file that hold images, their paths and their labels.

use super::fault::Fault;
use crate::data::formats::pages::Source;
use crate::data::formats::shared::some_of;
use ::parquet::basic::{ConvertedType, LogicalType, Type};
use ::parquet::column::reader::{ColumnReaderImpl, get_column_reader};
use ::parquet::data_type::{ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use std::cell::Cell;

/// The number of images read at a time.
const IMAGES: usize = 16;
/// The number of labels or paths read at a time.
const LABELS: usize = 4096;
/// The base allowance for the labels or paths of a file, in bytes.
const ROOM: u64 = 16 << 20;
/// The additional allowance per byte of the file: a dictionary stores one value for many rows.
const GROWTH: u64 = 32;
/// Names of columns whose bytes are images.
const IMAGE_NAMES: [&str; 6] = ["image", "img", "images", "picture", "jpg", "png"];
/// Names of columns whose values are labels, likeliest first.
const LABEL_NAMES: [&str; 6] = ["label", "labels", "fine_label", "class", "target", "cls"];

/// The columns that are used, by their indices among the leaf columns.
pub struct Columns {
    image: usize,
    path: Option<usize>,
    label: Option<usize>,
    names: (String, Option<String>),
}

/// The labels of all rows.
#[derive(Debug, PartialEq)]
pub enum Labels {
    None,
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

/// Returns the number of rows of a file of `length` bytes.
pub fn rows(described: &ParquetMetaData, length: u64) -> Result<usize, Fault> {
    let rows = described
        .row_groups()
        .iter()
        .try_fold(0_u64, |sum, group| sum.checked_add(u64::try_from(group.num_rows()).ok()?));
    match rows {
        // Every image takes at least one byte.
        Some(rows) if rows <= length => Ok(rows as usize),
        _ => Err(Fault::Damaged(format!(
            "it states an impossible number of rows for its {length} bytes"
        ))),
    }
}

fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(column.logical_type_ref(), Some(LogicalType::String | LogicalType::Json))
        || matches!(column.converted_type(), ConvertedType::UTF8 | ConvertedType::JSON)
}

impl Columns {
    /// Finds the columns; an error is a sentence fragment.
    pub fn of(schema: &SchemaDescriptor) -> Result<Self, String> {
        let columns = schema.columns();
        let parts = |i: usize| columns[i].path().parts();
        let is_bytes = |i: &usize| {
            columns[*i].physical_type() == Type::BYTE_ARRAY && columns[*i].max_rep_level() == 0
        };
        let all = || (0..columns.len()).filter(|i| columns[*i].max_rep_level() == 0);
        let likely = |i: &usize| {
            IMAGE_NAMES.iter().position(|name| parts(*i)[0] == *name).unwrap_or(IMAGE_NAMES.len())
        };
        let in_struct = all()
            .filter(is_bytes)
            .filter(|i| matches!(parts(*i), [_, last] if last == "bytes"))
            .min_by_key(likely);
        let plain = || {
            let known = |i: &usize| parts(*i).len() == 1 && !is_text(&columns[*i]);
            all().filter(is_bytes).filter(known).min_by_key(likely)
        };
        let names = || {
            let mut names: Vec<String> =
                columns.iter().map(|column| column.path().string()).collect();
            names.dedup();
            some_of(&names)
        };
        let image = in_struct.or_else(plain);
        let image = image.ok_or_else(|| {
            format!("has the columns {}, but none of encoded images (a struct with bytes)", names())
        })?;
        let top = parts(image)[0].as_str();
        let path = all()
            .filter(is_bytes)
            .find(|i| matches!(parts(*i), [first, last] if first == top && last == "path"));
        let is_whole = |i: &usize| matches!(columns[*i].physical_type(), Type::INT32 | Type::INT64);
        let beside = |i: &usize| parts(*i).len() == 1 && *i != image;
        let named = |name: &str| {
            all().filter(beside).find(|i| parts(*i)[0] == name && (is_whole(i) || is_bytes(i)))
        };
        let mut whole = all().filter(beside).filter(is_whole);
        let only = || whole.next().filter(|_| whole.next().is_none());
        let label = LABEL_NAMES.iter().find_map(|name| named(name)).or_else(only);
        let names = (top.to_owned(), label.map(|i| parts(i)[0].clone()));
        Ok(Self { image, path, label, names })
    }

    pub fn image_name(&self) -> &str {
        &self.names.0
    }

    pub fn label_name(&self) -> Option<&str> {
        self.names.1.as_deref()
    }

    pub fn labels(&self, source: &Source, described: &ParquetMetaData) -> Result<Labels, Fault> {
        let Some(column) = self.label else { return Ok(Labels::None) };
        Ok(match described.file_metadata().schema_descr().column(column).physical_type() {
            Type::INT32 => Labels::Numbers(all::<Int32Type, _>(source, described, column, |n| {
                Ok(i64::from(*n))
            })?),
            Type::INT64 => {
                Labels::Numbers(all::<Int64Type, _>(source, described, column, |n| Ok(*n))?)
            }
            _ => Labels::Texts(texts(source, described, column)?),
        })
    }

    pub fn paths(
        &self,
        source: &Source,
        described: &ParquetMetaData,
    ) -> Result<Option<Vec<Option<String>>>, Fault> {
        self.path.map(|column| texts(source, described, column)).transpose()
    }

    /// Calls `take` with the bytes of every image in order; `None` if a row has none.
    pub fn images(
        &self,
        source: &Source,
        described: &ParquetMetaData,
        take: &mut dyn FnMut(Option<Vec<u8>>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        each::<ByteArrayType>(source, described, self.image, IMAGES, &mut |value| {
            take(value.map(|v| v.data().to_vec()))
        })
    }
}

fn texts(
    source: &Source,
    described: &ParquetMetaData,
    column: usize,
) -> Result<Vec<Option<String>>, Fault> {
    let (most, taken) = (ROOM + GROWTH * source.length(), Cell::new(0));
    all::<ByteArrayType, _>(source, described, column, |value| {
        let text = std::str::from_utf8(value.data()).ok().filter(|text| text.len() <= 4096);
        let text = text
            .ok_or_else(|| Fault::Damaged("a label or path is not text, or is too long".into()))?;
        taken.set(taken.get() + text.len() as u64);
        if taken.get() > most {
            return Err(Fault::Damaged(format!(
                "the labels or paths of a column take more than {} MiB",
                most >> 20
            )));
        }
        Ok(text.to_owned())
    })
}

fn all<T: DataType, V>(
    source: &Source,
    described: &ParquetMetaData,
    column: usize,
    convert: impl Fn(&T::T) -> Result<V, Fault>,
) -> Result<Vec<Option<V>>, Fault> {
    let mut values = Vec::new();
    each::<T>(source, described, column, LABELS, &mut |value| {
        values.push(value.map(&convert).transpose()?);
        Ok(())
    })?;
    Ok(values)
}

/// A function that is called with the values of a column.
type Take<'a, V> = dyn FnMut(Option<&V>) -> Result<(), Fault> + 'a;

/// Calls `take` with the values of a column. At most `batch` of them are in memory at a time, plus
/// one page.
fn each<T: DataType>(
    source: &Source,
    described: &ParquetMetaData,
    column: usize,
    batch: usize,
    take: &mut Take<T::T>,
) -> Result<(), Fault> {
    let descriptor = described.file_metadata().schema_descr().column(column);
    let full = descriptor.max_def_level();
    for group in described.row_groups() {
        let rows = group.num_rows() as usize;
        let short =
            || Fault::Damaged("a column has another number of rows than the file states".into());
        let pages = source.pages(group.columns().get(column).ok_or_else(short)?, rows)?;
        let reader: Option<ColumnReaderImpl<T>> =
            T::get_column_reader(get_column_reader(descriptor.clone(), pages));
        let mut reader = reader.ok_or_else(short)?;
        let (mut values, mut levels, mut left) = (Vec::new(), Vec::new(), rows);
        while left > 0 {
            values.clear();
            levels.clear();
            let (records, ..) =
                reader.read_records(left.min(batch), Some(&mut levels), None, &mut values)?;
            if records == 0 {
                return Err(short());
            }
            let mut present = values.iter();
            for i in 0..records {
                let is_there = full == 0 || levels.get(i) == Some(&full);
                take(if is_there { Some(present.next().ok_or_else(short)?) } else { None })?;
            }
            left = left.checked_sub(records).ok_or_else(short)?;
        }
    }
    Ok(())
}
