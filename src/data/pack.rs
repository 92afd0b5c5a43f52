//! A data set in one file that is read by position: for more images than memory holds, and for
//! starting without decoding.
//!
//! The file is in the safetensors format, so that Python can read it, too:
//!
//! ```text
//! images     U8  [N, 3, side, side]   planes R, G, B, row-major
//! labels     U16 [N]                  indices into the classes
//! set        U8  [N]                  0 training, 1 test
//! order      U32 [N]                  position within its set
//! names      U8  [L]                  all names, UTF-8
//! name_ends  U64 [N]                  where each ends in them
//! metadata   format = "soda.pack", version, name, classes, sha256, inventory
//!            (JSON where it isn't text)
//! ```

use super::arrange::arrange;
use super::dataset::Dataset;
use super::gather::gather;
use super::images::Images;
use super::inventory::Inventory;
use super::listing::{LeftOut, Listing};
use super::names::Names;
use super::options::Options;
use super::packed::Pack;
use super::planes::bytes_of;
use super::reading::Readable;
use crate::error::{Error, Hint, Result};
use crate::files::{self, Partial};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// The value of `format` in the metadata.
pub(crate) const FORMAT: &str = "soda.pack";
/// The version that is written and read.
const VERSION: &str = "1";
/// The longest header that is read. The names of 65,535 classes and the list of what was left out
/// take far less.
const LONGEST_HEADER: u64 = 64 << 20;

/// Writes the images of `listing`, which are those of `place`, to `out` at `side` pixels a side.
///
/// # Errors
/// See [`arrange`] and [`gather`]; images that can't be read, unless `skip`; the file can't be
/// written.
pub(super) fn write(
    listing: &Listing,
    place: &str,
    side: usize,
    share: f64,
    skip: bool,
    out: &Path,
) -> Result<Dataset> {
    let sets = arrange(listing, place, share)?;
    let mut home = vec![None; listing.entries.len()];
    for (set, numbers) in sets.iter().enumerate() {
        numbers.iter().for_each(|&number| home[number as usize] = Some(set as u8));
    }
    // Space for the header, which comes first but is known last: twice the size of the parts known
    // now, plus a reserve for what will be left out and for the names of images that are unreadable
    // or in both sets.
    let longest =
        listing.entries.iter().map(|e| json!(e.name).to_string().len()).max().unwrap_or_default();
    let room = 2 * json!(listing.classes).to_string().len()
        + 2 * json!(listing.left_out).to_string().len()
        + 2 * 3 * LeftOut::NAMED * longest
        + (64 << 10);
    let failed = |e: std::io::Error| Error::io("write", out, &e);
    let mut file = BufWriter::with_capacity(1 << 20, files::partial(out)?);
    std::io::copy(&mut std::io::repeat(b' ').take(8 + room as u64), &mut file).map_err(failed)?;
    let mut rows = Vec::new();
    let mut gathered = gather(listing, share, side, &mut |number, pixels| {
        if home[number].is_some() {
            rows.push(number);
            file.write_all(pixels).map_err(failed)?;
        }
        Ok(())
    })?;
    gathered.check_unreadable(listing, place, skip)?;
    gathered.compare(listing, &sets);
    let readable = Readable::of(listing, &sets, &gathered);
    readable.check(place, &sets)?;
    let Readable { numbers, sha256, .. } = readable;
    // Positions within the sets, without the unreadable images.
    let mut order = vec![0u32; listing.entries.len()];
    for (at, &number) in numbers.iter().flat_map(|set| set.iter().enumerate()) {
        order[number as usize] = at as u32;
    }
    let columns = Columns {
        labels: rows.iter().map(|&i| listing.entries[i].label).collect(),
        set: rows.iter().map(|&i| home[i].expect("a row has a set")).collect(),
        order: rows.iter().map(|&i| order[i]).collect(),
        names: rows.iter().map(|&i| listing.entries[i].name.as_str()).collect(),
    };
    let metadata = json!({
        "format": FORMAT, "version": VERSION, "name": listing.name, "sha256": sha256,
        "classes": json!(listing.classes).to_string(), "inventory": json!(gathered.inventory).to_string(),
    });
    finish(file, side, room, metadata, &columns).map_err(failed).and_then(files::complete)?;
    open(out)?.ok_or_else(|| {
        Error::failed(format!("{} isn't what was written; please report this", out.display()))
    })
}

/// The per-row columns of a file other than the pixels.
struct Columns<'a> {
    labels: Vec<u16>,
    set: Vec<u8>,
    order: Vec<u32>,
    names: Vec<&'a str>,
}

fn finish(
    mut file: BufWriter<Partial>,
    side: usize,
    room: usize,
    metadata: Value,
    columns: &Columns,
) -> std::io::Result<Partial> {
    let n = columns.labels.len();
    let ends = columns.names.iter().scan(0u64, |end, name| {
        *end += name.len() as u64;
        Some(*end)
    });
    let bytes: [(&str, &str, Vec<u8>); 5] = [
        ("labels", "U16", columns.labels.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("set", "U8", columns.set.clone()),
        ("order", "U32", columns.order.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("names", "U8", columns.names.concat().into_bytes()),
        ("name_ends", "U64", ends.flat_map(u64::to_le_bytes).collect()),
    ];
    let mut end = n * bytes_of(side);
    let mut header = json!({
        "__metadata__": metadata,
        "images": { "dtype": "U8", "shape": [n, 3, side, side], "data_offsets": [0, end] },
    });
    for (name, dtype, bytes) in &bytes {
        let count = if *name == "names" { bytes.len() } else { n };
        header[*name] =
            json!({ "dtype": dtype, "shape": [count], "data_offsets": [end, end + bytes.len()] });
        end += bytes.len();
        file.write_all(bytes)?;
    }
    let header = header.to_string();
    if header.len() > room {
        return Err(std::io::Error::other(
            "its header is longer than expected; please report this",
        ));
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&(room as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)
}

/// The JSON header at the start of a file.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: HashMap<String, String>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}

/// Opens the data set in the file `path` at its own side; `None` if it isn't a pack file.
///
/// # Errors
/// The file can't be read, is of another version, is truncated or is inconsistent.
pub(super) fn open(path: &Path) -> Result<Option<Dataset>> {
    let Some(opened) = Opened::new(path)? else { return Ok(None) };
    let (n, side) = opened.images()?;
    let labels: Vec<u16> = opened.column("labels", Dtype::U16, n, u16::from_le_bytes)?;
    let sets: Vec<u8> = opened.column("set", Dtype::U8, n, u8::from_le_bytes)?;
    let order: Vec<u32> = opened.column("order", Dtype::U32, n, u32::from_le_bytes)?;
    let names = opened.names(n)?;
    let classes: Vec<String> = opened.json("classes")?;
    let inventory: Inventory = opened.json("inventory")?;
    let (name, sha256) = (opened.text("name")?.to_owned(), opened.text("sha256")?.to_owned());
    let known = |&label: &u16| usize::from(label) < classes.len().max(1);
    let rows = [0, 1].map(|set| rows_of(set, &sets, &order));
    let ([Some(train), Some(test)], true, true) =
        (rows, labels.iter().all(known), sets.iter().all(|&set| set <= 1))
    else {
        return Err(opened.damaged());
    };
    let Opened { file, start, .. } = opened;
    let pack = Arc::new(Pack { path: path.to_owned(), file, side, start });
    let images = |rows: Vec<u32>| {
        let labels = rows.iter().map(|&i| labels[i as usize]).collect();
        let names = names.select(rows.iter().map(|&i| i as usize));
        Arc::new(Images::packed(pack.clone(), rows, labels, names))
    };
    Ok(Some(Dataset {
        name,
        origin: path.display().to_string(),
        train: images(train),
        test: images(test),
        resampled_from: None,
        classes,
        sha256,
        inventory,
        options: Options::default(),
    }))
}

/// Returns the rows of `set` by their position in it; `None` if there are none, or two have the
/// same position.
fn rows_of(set: u8, sets: &[u8], order: &[u32]) -> Option<Vec<u32>> {
    let mut rows: Vec<u32> =
        (0..).zip(sets).filter(|(_, of)| **of == set).map(|(i, _)| i).collect();
    rows.sort_by_key(|&i| order[i as usize]);
    let in_order = (0..).zip(&rows).all(|(at, &i)| order[i as usize] == at);
    (in_order && !rows.is_empty()).then_some(rows)
}

/// A pack file of this version whose header was read.
struct Opened<'a> {
    path: &'a Path,
    file: File,
    header: Header,
    /// The offset of the tensors in the file.
    start: u64,
}

impl<'a> Opened<'a> {
    /// Opens the file `path`; `None` if it isn't a pack file.
    fn new(path: &'a Path) -> Result<Option<Self>> {
        let failed = |e: std::io::Error| Error::io("read", path, &e);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut first = [0; 8];
        if length < 8 || file.read_exact(&mut first).is_err() {
            return Ok(None);
        }
        let header_length = u64::from_le_bytes(first);
        if header_length > LONGEST_HEADER.min(length - 8) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(header_length).read_to_end(&mut bytes).map_err(failed)?;
        let Ok(header) = serde_json::from_slice::<Header>(&bytes) else { return Ok(None) };
        if header.metadata.get("format").is_none_or(|format| format != FORMAT) {
            return Ok(None);
        }
        let opened = Self { path, file, header, start: 8 + header_length };
        if opened.header.metadata.get("version").is_none_or(|version| version != VERSION) {
            return Err(opened.wrong("was written by another version of this program"));
        }
        let end = |tensor: &TensorInfo| tensor.data_offsets.1 as u64;
        if opened.header.tensors.values().map(end).max() != Some(length - opened.start) {
            return Err(opened.wrong("is truncated or damaged"));
        }
        Ok(Some(opened))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::failed(format!("{} {what}; {}", self.path.display(), Hint::Pack))
    }

    fn damaged(&self) -> Error {
        self.wrong("contradicts itself and is damaged")
    }

    /// Returns the tensor `name` of values of `size` bytes, which must have exactly the bytes that
    /// its shape requires.
    fn tensor(&self, name: &str, dtype: Dtype, size: usize) -> Result<&TensorInfo> {
        let required =
            |t: &TensorInfo| t.shape.iter().try_fold(size, |bytes, &n| bytes.checked_mul(n));
        let whole = |t: &&TensorInfo| {
            let bytes = t.data_offsets.1.checked_sub(t.data_offsets.0);
            t.dtype == dtype && bytes.is_some() && bytes == required(t)
        };
        self.header.tensors.get(name).filter(whole).ok_or_else(|| self.damaged())
    }

    /// Returns the number of images and their side in pixels.
    fn images(&self) -> Result<(usize, usize)> {
        let images = self.tensor("images", Dtype::U8, 1)?;
        match images.shape[..] {
            [n, 3, side, width]
                if side == width
                    && side > 0
                    && images.data_offsets.0 == 0
                    && u32::try_from(n).is_ok() =>
            {
                Ok((n, side))
            }
            _ => Err(self.damaged()),
        }
    }

    /// Reads the column `name` of `n` values.
    fn column<T, const SIZE: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        n: usize,
        value: fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>> {
        let tensor = self.tensor(name, dtype, SIZE)?;
        if tensor.shape != [n] {
            return Err(self.damaged());
        }
        let bytes = self.read(tensor)?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| value(bytes)).collect())
    }

    /// Reads the names of the `n` images.
    fn names(&self, n: usize) -> Result<Names> {
        let text = self.read(self.tensor("names", Dtype::U8, 1)?)?;
        let text = String::from_utf8(text).map_err(|_| self.damaged())?;
        let ends = self.column("name_ends", Dtype::U64, n, u64::from_le_bytes)?;
        let inside = |end: u64| usize::try_from(end).is_ok_and(|end| text.is_char_boundary(end));
        if !ends.iter().all(|&end| inside(end)) || !ends.is_sorted() {
            return Err(self.damaged());
        }
        Ok(Names::Own { text, ends })
    }

    /// Reads the bytes of `tensor`.
    fn read(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        let (from, to) = tensor.data_offsets;
        let mut file = &self.file;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| file.take((to - from) as u64).read_to_end(&mut bytes))
            .map_err(|e| Error::io("read", self.path, &e))?;
        Ok(bytes)
    }

    /// Returns the entry `key` of the metadata.
    fn text(&self, key: &str) -> Result<&str> {
        self.header.metadata.get(key).map(String::as_str).ok_or_else(|| self.damaged())
    }

    /// Reads the entry `key` of the metadata, which is JSON.
    fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.text(key)?).map_err(|_| self.damaged())
    }
}

/// Reads all of `dataset`, which is a pack file opened at its own side, and compares it with the
/// digest in the file.
///
/// # Errors
/// It can't be read, or was changed.
pub(super) fn verify(dataset: &Dataset) -> Result<()> {
    let found = dataset.digest()?;
    if found == dataset.sha256 {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} was changed after it was written: its SHA-256 is {found:.16}.. instead of {:.16}..; {}",
        dataset.origin,
        dataset.sha256,
        Hint::Pack
    )))
}

#[cfg(test)]
mod tests;
