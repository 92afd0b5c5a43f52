//! Tar archives, gzipped or not, as a walk over their plain files. Memory use stays small whatever
//! sizes an archive states.

use super::shared::is_hidden;
use crate::data::archive::safe_name;
use crate::data::listing::LeftOut;
use crate::error::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;
use tar::{Archive, Entries, EntryType};

/// The longest block of extended headers or long name, in bytes.
const LONGEST_HEADER: u64 = 1 << 20;
/// The longest name in bytes; no system has longer ones.
const LONGEST_NAME: usize = 4096;
/// The largest member that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 30;

/// A plain file in an archive.
pub(super) struct Member<'a> {
    /// Its number among the plain files.
    pub number: usize,
    /// Its path with forward slashes, which never leads out of the folder that it would be unpacked
    /// to.
    pub name: String,
    pub size: u64,
    reader: &'a mut dyn Read,
}

impl Member<'_> {
    /// Reads its bytes; `None` if there are more than `most`.
    pub fn read(&mut self, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.reader.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= most).then_some(bytes))
    }
}

/// A function that is called with each member and either ends or continues the walk.
pub(super) type Take<'a> = dyn FnMut(&mut Member) -> Result<ControlFlow<()>> + 'a;

/// Makes an error about the archive at `path`.
pub(super) fn damaged(path: &Path, e: &dyn std::fmt::Display) -> Error {
    let path = path.display();
    Error::failed(format!(
        "{path} cannot be read as a tar archive ({e}); it is truncated or damaged: get it again"
    ))
}

/// Calls `take` with the plain files of the archive at `path`, in order. Anything else is added to
/// `left_out`.
///
/// # Errors
/// An archive that can't be read, or that ends early; an error of `take`.
pub(super) fn walk(path: &Path, left_out: &mut Vec<LeftOut>, take: &mut Take) -> Result<()> {
    let failed = |e| Error::io("read", path, &e);
    // Checked before it is opened, because opening a pipe blocks.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::failed(format!(
            "{} is not a plain file; name a tar archive",
            path.display()
        )));
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(failed)?;
    if magic == [0x1f, 0x8b] {
        file.rewind().map_err(failed)?;
        let mut archive =
            Archive::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)));
        let entries = archive.entries().map_err(|e| damaged(path, &e))?;
        if members(path, entries, u64::MAX, left_out, take)?.is_continue() {
            // The checksum is at the very end.
            std::io::copy(&mut archive.into_inner(), &mut std::io::sink())
                .map_err(|e| damaged(path, &e))?;
        }
        return Ok(());
    }
    // An archive ends with a block of zeros; one that was truncated between two members doesn't.
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(512))).map_err(failed)?;
    file.by_ref().take(512).read_to_end(&mut last).map_err(failed)?;
    if length < 512 || last.iter().any(|byte| *byte != 0) {
        return Err(damaged(path, &"its end is missing"));
    }
    file.rewind().map_err(failed)?;
    let mut archive = Archive::new(file);
    let entries = archive.entries_with_seek().map_err(|e| damaged(path, &e))?;
    members(path, entries, length, left_out, take).map(drop)
}

fn members<R: Read>(
    path: &Path,
    entries: Entries<R>,
    length: u64,
    left_out: &mut Vec<LeftOut>,
    take: &mut Take,
) -> Result<ControlFlow<()>> {
    let (mut long, mut number) = (None, 0);
    // Raw entries: otherwise the library would keep long names and extended headers in memory,
    // whatever their length.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|e| damaged(path, &e))?;
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if entry.raw_file_position().checked_add(size).is_none_or(|end| end > length) {
            return Err(damaged(path, &"a member extends past its end"));
        }
        if [EntryType::GNULongName, EntryType::XHeader].contains(&kind) {
            let mut bytes = Vec::new();
            entry
                .by_ref()
                .take(LONGEST_HEADER + 1)
                .read_to_end(&mut bytes)
                .map_err(|e| damaged(path, &e))?;
            let name = long_name(kind, &bytes);
            // Names are kept in memory, and a gzipped archive stores a long one in a few bytes.
            if bytes.len() as u64 > LONGEST_HEADER
                || name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME)
            {
                return Err(damaged(path, &"a name is too long"));
            }
            long = name.or(long);
            continue;
        }
        if [EntryType::XGlobalHeader, EntryType::GNULongLink].contains(&kind) {
            continue;
        }
        let bytes = long.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let written = String::from_utf8_lossy(&bytes).into_owned();
        if kind.is_dir() {
            continue;
        }
        let Some(name) = safe_name(&written).filter(|name| !name.is_empty()) else {
            LeftOut::add(left_out, "members whose names lead out of the archive", || written);
            continue;
        };
        if ![EntryType::Regular, EntryType::Continuous].contains(&kind) {
            LeftOut::add(left_out, "members that are not plain files", || name);
        } else if name.split('/').any(is_hidden) {
            LeftOut::add(left_out, "members that are hidden or belong to the system", || name);
        } else {
            let mut member = Member { number, name, size, reader: &mut entry };
            number += 1;
            if take(&mut member)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns the name that an extension header holds for the entry after it.
fn long_name(kind: EntryType, bytes: &[u8]) -> Option<Vec<u8>> {
    if kind == EntryType::GNULongName {
        return bytes.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
    }
    let path = tar::PaxExtensions::new(bytes).flatten().filter(|e| e.key_bytes() == b"path").last();
    path.map(|e| e.value_bytes().to_vec())
}
