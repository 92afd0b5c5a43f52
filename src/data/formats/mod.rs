//! The formats of image sets. Every module lists a place as a [`Listing`], or returns `None` if the
//! place is something else.

mod cifar_python;
pub(crate) mod pages;
pub(crate) mod parquet;
mod pickle;
mod samples;
mod shards;
mod shared;
mod stl10;
mod table;
mod tars;
mod tiny_imagenet;
mod tree;

pub(super) use shared::MOST_CLASSES;
pub(crate) use shared::class_order;

use super::listing::Listing;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Lists `place`, a folder or a file, if it is of one of these formats: CIFAR's Python version or
/// an archive of CIFAR, STL-10, Tiny-ImageNet, Parquet or tar shards, a table of paths and labels.
/// Folders of images and of CIFAR's binary files are not among them.
///
/// # Errors
/// The place is of such a format but can't be used; the message names the file and the remedy.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let lists: &[List] = if place.is_dir() {
        &[cifar_python::list, stl10::list, tiny_imagenet::list, parquet::list, shards::list]
    } else {
        match Kind::of(place)? {
            Some(Kind::Parquet) => &[parquet::list],
            Some(Kind::Tar) => &[cifar_python::list, shards::list],
            Some(Kind::Table) => &[table::list],
            None => &[],
        }
    };
    for list in lists {
        if let Some(listing) = list(place)? {
            return Ok(Some(listing));
        }
    }
    Ok(None)
}

/// A function that lists a place if it is of one format.
type List = fn(&Path) -> Result<Option<Listing>>;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Parquet,
    /// Gzipped or not.
    Tar,
    Table,
}

impl Kind {
    /// The offset of the magic bytes in a tar archive.
    const TAR_MAGIC: usize = 257;

    /// Recognises a file by its first bytes, else by its extension. `None` if it is of no known
    /// kind, or not a plain file.
    fn of(file: &Path) -> Result<Option<Self>> {
        let failed = |e: std::io::Error| Error::io("read", file, &e);
        if !std::fs::metadata(file).map_err(failed)?.is_file() {
            return Ok(None);
        }
        let mut start = Vec::new();
        File::open(file).and_then(|f| f.take(512).read_to_end(&mut start)).map_err(failed)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start).trim_ascii_start();
        Ok(if start.starts_with(b"PAR1") || ends(&[".parquet"]) {
            Some(Self::Parquet)
        } else if start.starts_with(&[0x1f, 0x8b])
            && !ends(&[".csv.gz", ".json.gz", ".jsonl.gz", ".bin.gz"])
            || start.get(Self::TAR_MAGIC..).is_some_and(|rest| rest.starts_with(b"ustar"))
            || ends(&[".tar", ".tar.gz", ".tgz"])
        {
            Some(Self::Tar)
        } else if ends(&table::ENDINGS) || text.starts_with(b"{") || is_array_of_objects(text) {
            Some(Self::Table)
        } else {
            None
        })
    }
}

/// Checks whether `text` starts like a JSON array of objects. A TOML file may start with a bracket,
/// too.
fn is_array_of_objects(text: &[u8]) -> bool {
    text.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"{"))
}

#[cfg(test)]
mod tests;
