//! Reading of features and labels from files written by this program or others. The sizes in a
//! header are trusted only if the file has the matching length; values are converted in pieces.

use super::Format;
use crate::error::{Error, Result};
use crate::eval::features::Features;
use burn::tensor::{bf16, f16};
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use safetensors::tensor::{Dtype, Metadata};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The longest header of a `.npy` file, NumPy's own limit.
const NPY_HEADER: u64 = 10_000;
/// The longest header of a `.safetensors` file with a few tensors.
const SAFETENSORS_HEADER: u64 = 1 << 20;
/// Values converted at a time.
const PIECE: usize = 1 << 16;

/// Reads features `[N, D]` of f16, bf16, f32 or f64 and their labels `[N]`, integers of 0 to 65535.
/// `features` is a `.npy` file in C or Fortran order, or a `.safetensors` file (its tensor
/// `features`, or the only two-dimensional one). The labels come from the file `labels`, `.npy` or
/// `.safetensors` (its tensor `labels`, or the only one-dimensional one); without it, from the
/// tensor `labels` next to the features.
///
/// # Errors
/// If a file is missing, damaged, truncated, longer than its header says or of another type or
/// shape; if there are no labels, or not one for each vector; or if a value isn't finite. Each
/// message is one sentence that names the file.
pub fn read(features: &Path, labels: Option<&Path>) -> Result<Features> {
    let (mut file, found) = Array::find(features, "features", |shape| shape.len() == 2)?;
    let [n, dim] = match found.shape[..] {
        [n, dim] if n > 0 && dim > 0 => [n, dim],
        _ => {
            return Err(wrong(
                features,
                &format!(
                    "holds an array of shape {:?}; features must have shape [images, dimensions]",
                    found.shape
                ),
            ));
        }
    };
    if !found.number.is_float() {
        return Err(wrong(features, "holds integers; features must be f32, f64, f16 or bf16"));
    }
    let mut values = vec![0.0f32; n * dim];
    let mut bad = None;
    found.each(&mut file, features, |at, value| {
        // Fortran order is column by column.
        let at = if found.fortran { at % n * dim + at / n } else { at };
        values[at] = value as f32;
        if !values[at].is_finite() && bad.is_none_or(|(before, _)| at < before) {
            bad = Some((at, value));
        }
    })?;
    if let Some((at, value)) = bad {
        let place = format!("{value} in row {}, column {}", at / dim, at % dim);
        return Err(wrong(
            features,
            &format!("holds {place}; features must be finite and within the range of f32"),
        ));
    }
    let (from, labels) = match labels {
        Some(path) => (path, read_labels(path)?),
        None if Format::of(features)? == Format::Safetensors => (features, read_labels(features)?),
        None => return Err(wrong(features, "holds no labels; give a file of labels as well")),
    };
    if labels.len() != n {
        let (n_labels, shown) = (labels.len(), features.display());
        return Err(wrong(
            from,
            &format!(
                "holds {n_labels} labels, and {shown} holds {n} vectors; there must be one \
                 label for each vector"
            ),
        ));
    }
    Ok(Features { dim, values, labels })
}

fn read_labels(path: &Path) -> Result<Vec<u16>> {
    let (mut file, found) = Array::find(path, "labels", |shape| shape.len() == 1)?;
    let n = match found.shape[..] {
        [n] | [n, 1] | [1, n] => n,
        _ => {
            return Err(wrong(
                path,
                &format!(
                    "holds an array of shape {:?}; labels must have shape [images]",
                    found.shape
                ),
            ));
        }
    };
    if found.number.is_float() {
        return Err(wrong(path, "holds floating-point numbers; save labels as integers"));
    }
    let mut labels = vec![0; n];
    let mut bad = None;
    found.each(&mut file, path, |at, value| {
        match (0.0..=f64::from(u16::MAX)).contains(&value) {
            true => labels[at] = value as u16,
            false => bad = bad.or(Some((at, value))),
        }
    })?;
    match bad {
        Some((at, value)) => Err(wrong(
            path,
            &format!("holds the label {value} at index {at}; labels must be 0 to {}", u16::MAX),
        )),
        None => Ok(labels),
    }
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::failed(format!("{} {what}", path.display()))
}

/// The encoding of a value in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    F16,
    BF16,
    F32,
    F64,
    Signed(usize),
    Unsigned(usize),
}

impl Number {
    fn is_float(self) -> bool {
        !matches!(self, Self::Signed(_) | Self::Unsigned(_))
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Signed(bytes) | Self::Unsigned(bytes) => bytes,
        }
    }

    /// Decodes the value in the first of these bytes, little-endian; the others are 0.
    fn value(self, bytes: [u8; 8]) -> f64 {
        let whole = u64::from_le_bytes(bytes);
        match self {
            Self::F16 => f16::from_bits(whole as u16).into(),
            Self::BF16 => bf16::from_bits(whole as u16).into(),
            Self::F32 => f32::from_bits(whole as u32).into(),
            Self::F64 => f64::from_bits(whole),
            // Sign-extends from the value's own highest bit.
            Self::Signed(bytes) => ((whole as i64) << (64 - 8 * bytes) >> (64 - 8 * bytes)) as f64,
            Self::Unsigned(_) => whole as f64,
        }
    }
}

/// An array in a file, which is known to be complete.
#[derive(Clone, Debug, PartialEq)]
struct Array {
    number: Number,
    big_endian: bool,
    shape: Vec<usize>,
    fortran: bool,
    /// The offset of the first value in the file.
    start: u64,
}

impl Array {
    /// Finds the array of a `.npy` file, or the tensor `name` of a `.safetensors` file or else the
    /// only one whose shape satisfies `alike`.
    fn find(path: &Path, name: &str, alike: impl Fn(&[usize]) -> bool) -> Result<(File, Self)> {
        let format = Format::of(path)?;
        let failed = |e| Error::io("read", path, &e);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let found = match format {
            Format::Npy => npy(&mut file, length),
            Format::Safetensors => safetensors(&mut file, length, name, alike),
        };
        found.map(|array| (file, array)).map_err(|what| wrong(path, &what))
    }

    /// Calls `take` with the index, in file order, and value of every element.
    fn each(&self, file: &mut File, path: &Path, mut take: impl FnMut(usize, f64)) -> Result<()> {
        let failed = |e| Error::io("read", path, &e);
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        let (size, count) = (self.number.bytes(), self.shape.iter().product::<usize>());
        let mut buffer = vec![0; PIECE.min(count) * size];
        for first in (0..count).step_by(PIECE) {
            let piece = &mut buffer[..PIECE.min(count - first) * size];
            file.read_exact(piece).map_err(failed)?;
            for (i, raw) in piece.chunks_exact(size).enumerate() {
                let mut bytes = [0; 8];
                bytes[..size].copy_from_slice(raw);
                if self.big_endian {
                    bytes[..size].reverse();
                }
                take(first + i, self.number.value(bytes));
            }
        }
        Ok(())
    }
}

const DAMAGED: &str = "is damaged: its header can't be read; save it again";

/// Checks that a file of `length` bytes ends where its header says.
fn ends(length: u64, end: Option<u64>) -> std::result::Result<(), String> {
    match end {
        Some(end) if end == length => Ok(()),
        Some(end) if end < length => {
            Err(format!("is damaged: it has {} extra bytes after its values", length - end))
        }
        Some(end) => Err(format!(
            "is truncated: it has {length} bytes instead of the {end} that its header says; copy \
            or save it again"
        )),
        None => Err(DAMAGED.into()),
    }
}

/// Reads the header of a `.npy` file of `length` bytes.
fn npy(file: &mut File, length: u64) -> std::result::Result<Array, String> {
    let damaged = |_| DAMAGED.to_owned();
    let mut head = [0; 10];
    file.read_exact(&mut head).map_err(damaged)?;
    if !head.starts_with(b"\x93NUMPY") {
        return Err("is not a .npy file (it doesn't start with NumPy's magic bytes)".into());
    }
    // Later versions of the format have two more length bytes.
    let mut more = vec![0; if head[6] > 1 { 2 } else { 0 }];
    file.read_exact(&mut more).map_err(damaged)?;
    let text = head[8..].iter().chain(&more).rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    if text > NPY_HEADER {
        return Err(format!(
            "is damaged: its header claims {text} bytes, more than the {NPY_HEADER} that NumPy \
            reads"
        ));
    }
    let mut whole = [&head[..], &more].concat();
    let start = whole.len() as u64 + text;
    file.take(text).read_to_end(&mut whole).map_err(damaged)?;
    // Nested brackets make the library's parser exponentially slow. A plain array needs only those
    // of its dictionary and its shape.
    let count =
        |bracket: u8| whole[10 + more.len()..].iter().filter(|byte| **byte == bracket).count();
    if count(b'[') > 0 {
        return Err("holds records or is damaged; save one array of plain numbers".into());
    }
    if count(b'{') > 1 || count(b'(') > 1 {
        return Err(DAMAGED.into());
    }
    let header = NpyHeader::from_reader(&whole[..]).map_err(damaged)?;
    let plain = match header.dtype() {
        DType::Plain(plain) => plain,
        other => {
            return Err(format!(
                "holds records ({}); save one array of plain numbers",
                other.descr()
            ));
        }
    };
    let number = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Float, 2) => Number::F16,
        (TypeChar::Float, 4) => Number::F32,
        (TypeChar::Float, 8) => Number::F64,
        (TypeChar::Int, bytes @ (1 | 2 | 4 | 8)) => Number::Signed(bytes as usize),
        (TypeChar::Uint, bytes @ (1 | 2 | 4 | 8)) => Number::Unsigned(bytes as usize),
        _ => {
            return Err(format!(
                "holds values of NumPy's type {plain}; save integers, f16, f32 or f64"
            ));
        }
    };
    let shape: Option<Vec<usize>> =
        header.shape().iter().map(|n| usize::try_from(*n).ok()).collect();
    let shape = shape.ok_or(DAMAGED)?;
    let count = shape.iter().try_fold(number.bytes() as u64, |n, axis| n.checked_mul(*axis as u64));
    ends(length, count.and_then(|bytes| bytes.checked_add(start)))?;
    let big_endian = plain.endianness() == Endianness::Big;
    Ok(Array { number, big_endian, shape, fortran: header.order() == Order::Fortran, start })
}

/// Finds a tensor of a `.safetensors` file of `length` bytes.
fn safetensors(
    file: &mut File,
    length: u64,
    name: &str,
    alike: impl Fn(&[usize]) -> bool,
) -> std::result::Result<Array, String> {
    let damaged = |_| DAMAGED.to_owned();
    let mut head = [0; 8];
    file.read_exact(&mut head).map_err(damaged)?;
    let text = u64::from_le_bytes(head);
    if text > SAFETENSORS_HEADER {
        return Err(format!(
            "is not a .safetensors file of features: its header claims {text} bytes, more than \
            the limit of {SAFETENSORS_HEADER}"
        ));
    }
    let mut header = Vec::new();
    file.take(text).read_to_end(&mut header).map_err(damaged)?;
    // This also checks that the tensors are contiguous and as long as their shapes say.
    let header: Metadata = serde_json::from_slice(&header).map_err(|_| DAMAGED)?;
    let start = 8 + text;
    ends(length, (header.data_len() as u64).checked_add(start))?;
    let names = header.offset_keys();
    let mut others =
        names.iter().filter(|key| header.info(key).is_some_and(|info| alike(&info.shape)));
    let only = others.next().filter(|_| others.next().is_none());
    let Some(info) = header.info(name).or_else(|| header.info(only?)) else {
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        return Err(format!("has no tensor {name:?}; it holds {names}"));
    };
    let number = match info.dtype {
        Dtype::F16 => Number::F16,
        Dtype::BF16 => Number::BF16,
        Dtype::F32 => Number::F32,
        Dtype::F64 => Number::F64,
        Dtype::I8 => Number::Signed(1),
        Dtype::I16 => Number::Signed(2),
        Dtype::I32 => Number::Signed(4),
        Dtype::I64 => Number::Signed(8),
        Dtype::U8 => Number::Unsigned(1),
        Dtype::U16 => Number::Unsigned(2),
        Dtype::U32 => Number::Unsigned(4),
        Dtype::U64 => Number::Unsigned(8),
        other => {
            return Err(format!(
                "holds {name} of type {other:?}; save integers, F16, BF16, F32 or F64"
            ));
        }
    };
    let start = start + info.data_offsets.0 as u64;
    Ok(Array { number, big_endian: false, shape: info.shape.clone(), fortran: false, start })
}
