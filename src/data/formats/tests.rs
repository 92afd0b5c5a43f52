//! Helpers for the tests of all formats, and tests of recognising formats.

use super::*;
use crate::data::listing::{Content, Set};
use flate2::read::GzDecoder;
use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Returns the path of a file of tests/golden/formats, see tests/reference/formats.py.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats").join(name)
}

/// Unpacks a gzipped archive of the fixtures to `folder`.
pub fn unpack(name: &str, folder: &Path) {
    tar::Archive::new(GzDecoder::new(File::open(fixture(name)).unwrap())).unpack(folder).unwrap();
}

/// Returns name, label and set of each image.
pub fn rows(listing: &Listing) -> Vec<(&str, u16, Option<Set>)> {
    listing.entries.iter().map(|entry| (entry.name.as_str(), entry.label, entry.set)).collect()
}

/// Returns the kinds of things that were left out, with their numbers.
pub fn left_out(listing: &Listing) -> Vec<(&str, usize)> {
    listing.left_out.iter().map(|kind| (kind.what.as_str(), kind.count)).collect()
}

/// Returns the contents by number; every image must come exactly once.
pub fn contents(listing: &Listing) -> Result<Vec<Content>> {
    let mut all: Vec<Option<Content>> = listing.entries.iter().map(|_| None).collect();
    (listing.contents)(&mut |number, content| {
        assert!(all[number].replace(content).is_none(), "image {number} came twice");
        Ok(())
    })?;
    Ok(all.into_iter().map(|content| content.expect("every image comes")).collect())
}

/// Returns the bytes of the pixels or of the encoded file.
pub fn bytes(content: &Content) -> &[u8] {
    match content {
        Content::Planes { pixels, .. } => pixels,
        Content::Encoded(bytes) => bytes,
        _ => panic!("no bytes"),
    }
}

/// Returns the pixels that the script generates for image `i`.
pub fn planes(i: usize, side: usize) -> Vec<u8> {
    let at = |channel: usize, row: usize, column: usize| {
        ((7 * i + 3 * channel + row * column + column) % 251) as u8
    };
    (0..3 * side * side).map(|k| at(k / (side * side), k / side % side, k % side)).collect()
}

/// Returns the error message for `place`.
pub fn refusal(place: &Path) -> String {
    match list(place) {
        Err(e) => e.to_string(),
        Ok(found) => {
            panic!("{} is taken for {:?}", place.display(), found.map(|listing| listing.name))
        }
    }
}

/// Writes damaged versions of `whole` to `path` and lists `place`. Nothing may panic, and errors
/// must name the file. Returns how many were refused, at the latest when their contents were read,
/// and how many were accepted.
pub fn damage(
    place: &Path,
    path: &Path,
    versions: impl Iterator<Item = Vec<u8>>,
) -> (usize, usize) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let (mut refused, mut accepted) = (0, 0);
    for version in versions {
        std::fs::write(path, &version).unwrap();
        let read = || {
            list(place)
                .and_then(|found| found.map_or(Ok(()), |listing| contents(&listing).map(drop)))
        };
        match catch_unwind(AssertUnwindSafe(read)).expect("no panic") {
            Ok(()) => accepted += 1,
            Err(e) => {
                let sentence = e.to_string();
                assert!(
                    sentence.contains(&name) || sentence.contains(&*place.to_string_lossy()),
                    "{name}: {sentence}"
                );
                refused += 1;
            }
        }
    }
    (refused, accepted)
}

/// Returns `whole` truncated at every `step`th byte.
pub fn cuts(whole: &[u8], step: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..whole.len()).step_by(step).map(|length| whole[..length].to_vec())
}

/// Returns `whole` with some bytes changed, in `count` ways.
pub fn changed(whole: &[u8], count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    (0..count).map(move |_| {
        let mut version = whole.to_vec();
        for _ in 0..=random(3) {
            let (at, value) =
                (random(version.len()), [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)]);
            version[at] = value;
        }
        version
    })
}

#[test]
fn numeric_class_names_sort_by_value() {
    let mut names = ["b", "10", "9", "-1", "09", "0.5", "a", "1e3", "inf", "", "10 a"];
    names.sort_by(|a, b| class_order(a, b));
    assert_eq!(names, ["-1", "0.5", "09", "9", "10", "", "10 a", "1e3", "a", "b", "inf"]);
    assert_eq!(class_order("7", "7"), Ordering::Equal);
}

#[test]
fn a_format_is_recognised_by_content() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        Kind::of(&path).unwrap()
    };
    let mut tar = [0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert_eq!(kind("a", b"PAR1 and more"), Some(Kind::Parquet));
    assert_eq!(kind("a.parquet", b""), Some(Kind::Parquet));
    assert_eq!(
        [kind("a", &tar), kind("a", b"\x1f\x8b\x08"), kind("a.tar", b"")],
        [Some(Kind::Tar); 3]
    );
    assert_eq!(
        [kind("a", b"\xef\xbb\xbf \n[{"), kind("a", b"{\"a\""), kind("A.CSV", b"x")],
        [Some(Kind::Table); 3]
    );
    assert_eq!(
        [
            kind("a.png", b"\x89PNG"),
            kind("a.csv.gz", b"\x1f\x8b\x08"),
            kind("a.toml", b"[train]\nsteps = 1"),
            kind("a", b"")
        ],
        [None; 4]
    );
    assert!(list(&dir.path().join("a")).unwrap().is_none() && list(dir.path()).unwrap().is_none());
    let missing = refusal(&dir.path().join("no such.tar"));
    assert!(missing.contains("no such.tar") && missing.contains("check the path"), "{missing}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success() && list(&path).unwrap().is_none());
    // As a shard in a folder.
    assert!(refusal(dir.path()).contains("x.tar is not a plain file"));
    std::fs::rename(path, dir.path().join("x.parquet")).unwrap();
    assert!(refusal(dir.path()).contains("x.parquet is not a plain file"));
}

#[test]
fn names_become_unique() {
    let mut names =
        ["a.png", "b/a", "a.png", "a (2).png", "a.png", "b/a", ".x", ".x"].map(String::from);
    shared::unique(&mut names);
    assert_eq!(
        names,
        ["a.png", "b/a", "a (2).png", "a (2) (2).png", "a (3).png", "b/a (2)", ".x", ".x (2)"]
    );
}
