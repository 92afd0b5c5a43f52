//! STL-10 in its binary layout: images of 96 x 96 pixels whose planes are column-major, and labels
//! from 1 to 10.

use super::shared::unique;
use crate::data::listing::{Content, Entry, LeftOut, Listing, Set};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The folder that the archive unpacks to.
const FOLDER: &str = "stl10_binary";
/// Pixels a side.
const SIDE: usize = 96;
/// Bytes of an image.
const IMAGE: usize = 3 * SIDE * SIDE;
const CLASSES: [&str; 10] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];
const UNLABELED: &str = "unlabeled_X.bin";
/// The image file, label file and set of the two parts.
const PARTS: [(&str, &str, Set); 2] =
    [("train_X.bin", "train_y.bin", Set::Train), ("test_X.bin", "test_y.bin", Set::Test)];

/// Lists STL-10 in `place`: its folder or the parent. If there is no labelled file, the 100,000
/// unlabelled images are a training set without classes.
///
/// # Errors
/// A file that is missing or has the wrong size for its images, or a label outside 1 to 10.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let below = place.join(FOLDER);
    let folder = if below.is_dir() { below } else { place.to_path_buf() };
    let there = |name: &str| folder.join(name).is_file();
    let files = || PARTS.iter().flat_map(|(images, labels, _)| [*images, *labels]);
    if !files().chain([UNLABELED]).any(there) {
        return Ok(None);
    }
    let (mut entries, mut left_out, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let mut classes = Vec::new();
    for (images, labels, set) in
        PARTS.into_iter().filter(|(images, labels, _)| there(images) || there(labels))
    {
        let count = count(&folder, images)?;
        let found = labels_of(&folder, labels, count, images)?;
        entries.extend(found.into_iter().enumerate().map(|(i, label)| Entry {
            name: format!("{images}:{i}"),
            label,
            set: Some(set),
        }));
        read.push((folder.join(images), count));
    }
    if read.is_empty() {
        let count = count(&folder, UNLABELED)?;
        entries.extend((0..count).map(|i| Entry {
            name: format!("{UNLABELED}:{i}"),
            label: 0,
            set: Some(Set::Train),
        }));
        read.push((folder.join(UNLABELED), count));
    } else {
        classes = class_names(&folder)?;
        if there(UNLABELED) {
            let (what, count) = ("images without labels".into(), count(&folder, UNLABELED)?);
            left_out.push(LeftOut { what, count, first: vec![UNLABELED.into()] });
        }
    }
    let reading = match &classes[..] {
        [] => "STL-10 without its labelled files: images without classes",
        _ => "STL-10, with its own training and test images",
    };
    let (name, reading) = ("STL-10".to_owned(), reading.to_owned());
    let contents = Box::new(move |visit: &mut crate::data::listing::Visit| {
        let mut number = 0;
        for (path, count) in &read {
            let failed = |e| Error::io("read", path, &e);
            let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
            for _ in 0..*count {
                let mut stored = vec![0; IMAGE];
                file.read_exact(&mut stored).map_err(failed)?;
                visit(number, Content::Planes { side: SIDE, pixels: transposed(&stored) })?;
                number += 1;
            }
        }
        Ok(())
    });
    Ok(Some(Listing { name, reading, classes, entries, left_out, contents, by_turns: false }))
}

/// Transposes each plane.
fn transposed(stored: &[u8]) -> Vec<u8> {
    let at = |i: usize| {
        let (plane, row, column) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        stored[(plane * SIDE + column) * SIDE + row]
    };
    (0..IMAGE).map(at).collect()
}

fn wrong(path: PathBuf, reason: &str) -> Error {
    Error::failed(format!("{} {reason}; unpack stl10_binary.tar.gz again", path.display()))
}

fn length(folder: &Path, name: &str) -> Result<u64> {
    let path = folder.join(name);
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(found.len()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("read", &path, &e)),
        _ => Err(wrong(path, "is missing")),
    }
}

/// Returns the number of images in the file `name`.
fn count(folder: &Path, name: &str) -> Result<usize> {
    let bytes = length(folder, name)?;
    if !bytes.is_multiple_of(IMAGE as u64) {
        let reason = format!(
            "has {bytes} bytes, which is not a whole number of images of {SIDE} x {SIDE} pixels"
        );
        return Err(wrong(folder.join(name), &reason));
    }
    Ok((bytes / IMAGE as u64) as usize)
}

/// Returns the labels, counted from 0, of the `count` images of the file `images`.
fn labels_of(folder: &Path, name: &str, count: usize, images: &str) -> Result<Vec<u16>> {
    let (bytes, path) = (length(folder, name)?, folder.join(name));
    if bytes != count as u64 {
        return Err(wrong(path, &format!("has {bytes} labels for the {count} images of {images}")));
    }
    let labels = crate::files::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    if labels.len() != count {
        return Err(wrong(path, "changed while it was read"));
    }
    if let Some(i) = labels.iter().position(|label| !(1..=CLASSES.len() as u8).contains(label)) {
        return Err(wrong(
            path,
            &format!("has the label {} at image {i}, which is not 1 to 10", labels[i]),
        ));
    }
    Ok(labels.into_iter().map(|label| u16::from(label) - 1).collect())
}

/// Returns the class names in the file next to the data, else the standard ones.
fn class_names(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("class_names.txt");
    if !path.is_file() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    if length(folder, "class_names.txt")? > 1 << 16 {
        return Err(wrong(path, "is not a list of ten names"));
    }
    let text = crate::files::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    let text = String::from_utf8_lossy(&text);
    let mut names: Vec<String> =
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    if names.len() != CLASSES.len() {
        return Err(wrong(path, &format!("has {} names instead of ten", names.len())));
    }
    unique(&mut names);
    Ok(names)
}

#[cfg(test)]
mod tests;
