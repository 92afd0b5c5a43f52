//! A plain folder of images as a data set.

use super::images::allocate;
use super::picture::{FORMATS, read_picture};
use super::{Images, bytes_of};
use crate::error::{Error, Result};
use crate::files::hex;
use crate::progress::Progress;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// What file names of images end with.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];
/// Images too, but not for this program: refused by name, so that none is missed without a word.
const FOREIGN: [&str; 8] = ["tif", "tiff", "heic", "heif", "avif", "jxl", "jp2", "psd"];
/// One image in so many of each class is for the test, where the folder makes no difference itself.
const TEST_SHARE: usize = 10;

/// What a folder holds.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub train: Images,
    pub test: Images,
    /// Names of the classes in the order of their labels; empty if there are none, and all labels 0.
    pub classes: Vec<String>,
    /// SHA-256 over the names of the classes, the labels and the pixels.
    pub sha256: String,
}

/// Files and their labels.
type Files = Vec<(PathBuf, u8)>;

/// Reads the images below `place` at `side` pixels a side; `None` if there are none.
///
/// Classes are the sub-folders that hold images at any depth, in the order of their names; images in `place` itself have no
/// class. Where `place` holds the sub-folders `train` and `test`, these are the two sets; otherwise every tenth image of each
/// class, in the order of the names, is for the test. What isn't named as an image is left out.
///
/// # Errors
/// A file that [`read_picture`] refuses; images beside class folders; more than 256 classes; a set without images; a class in
/// `test` that `train` has not.
pub(super) fn read(place: &Path, side: usize) -> Result<Option<Contents>> {
    let Some((classes, train, test)) = find(place)? else { return Ok(None) };
    let shown = place.display();
    for (set, files) in [("training", &train), ("test", &test)] {
        if files.is_empty() {
            return Err(Error::failed(format!(
                "{shown} has too few images: none is left for the {set} set; give it at least {TEST_SHARE} of a class, or train \
                 and test sub-folders"
            )));
        }
    }
    let progress = Progress::new("reading images", Some(train.len() + test.len()));
    let (train, test) = (decode(&train, side, &progress)?, decode(&test, side, &progress)?);
    progress.finish();
    let mut digest = Sha256::new();
    digest.update(classes.iter().map(|class| format!("{class}\n")).collect::<String>());
    for images in [&train, &test] {
        digest.update((images.len() as u64).to_le_bytes());
        digest.update(images.labels());
        (0..images.len()).for_each(|i| digest.update(images.image(i)));
    }
    Ok(Some(Contents { train, test, classes, sha256: hex(&digest.finalize()) }))
}

/// Names of the classes, training files and test files.
fn find(place: &Path) -> Result<Option<(Vec<String>, Files, Files)>> {
    let (train, test) = (place.join("train"), place.join("test"));
    if !(train.is_dir() && test.is_dir()) {
        let Groups { classes, files } = groups(place)?;
        if let Some(set) = classes.iter().find(|class| ["train", "test"].contains(&class.as_str())) {
            let other = if set == "train" { "test" } else { "train" };
            let shown = place.display();
            return Err(Error::failed(format!(
                "{shown} holds a folder {set} but no folder {other}; add it, or name {shown}/{set}"
            )));
        }
        let part = |test: bool| -> Vec<Vec<PathBuf>> {
            let of_class = |files: &Vec<PathBuf>| {
                let chosen = files.iter().enumerate().filter(|(i, _)| (i % TEST_SHARE == TEST_SHARE - 1) == test);
                chosen.map(|(_, file)| file.clone()).collect()
            };
            files.iter().map(of_class).collect()
        };
        return Ok((!files.is_empty()).then(|| (classes, labelled(&part(false)), labelled(&part(true)))));
    }
    let (of_train, of_test) = (groups(&train)?, groups(&test)?);
    if of_train.files.is_empty() && of_test.files.is_empty() {
        return Ok(None);
    }
    let mut test_files = vec![Vec::new(); of_train.files.len()];
    for (i, files) in of_test.files.into_iter().enumerate() {
        let class = of_test.classes.get(i);
        let label = match class {
            Some(class) => of_train.classes.iter().position(|c| c == class),
            None => of_train.classes.is_empty().then_some(0).filter(|_| !test_files.is_empty()),
        };
        let place = class.map_or(test.clone(), |class| test.join(class));
        let unknown = || Error::failed(format!("{} holds images of a class that {} has not", place.display(), train.display()));
        test_files[label.ok_or_else(unknown)?] = files;
    }
    Ok(Some((of_train.classes, labelled(&of_train.files), labelled(&test_files))))
}

/// The images of each class, or of the one group without a class; no group is empty.
struct Groups {
    classes: Vec<String>,
    files: Vec<Vec<PathBuf>>,
}

fn groups(place: &Path) -> Result<Groups> {
    let (mut loose, folders) = entries(place)?;
    let mut groups = Groups { classes: Vec::new(), files: Vec::new() };
    for folder in folders {
        let mut files = Vec::new();
        collect(&folder, &mut files)?;
        if !files.is_empty() {
            groups.classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
            groups.files.push(files);
        }
    }
    if groups.classes.len() > 256 {
        let n = groups.classes.len();
        return Err(Error::failed(format!("{} holds {n} class folders; at most 256 classes are possible", place.display())));
    }
    if groups.files.is_empty() && !loose.is_empty() {
        groups.files.push(std::mem::take(&mut loose));
    }
    match loose.first() {
        Some(file) => Err(Error::failed(format!(
            "{} lies beside class folders with images; move it into the folder of its class, or out of {}",
            file.display(),
            place.display()
        ))),
        None => Ok(groups),
    }
}

/// Adds all images below `folder`. Links to folders are not followed: they may lead in a circle.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let (images, folders) = entries(folder)?;
    files.extend(images);
    folders.iter().filter(|f| !f.is_symlink()).try_for_each(|f| collect(f, files))
}

/// Images and sub-folders of `folder`, sorted by name.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let Entries { images, folders, foreign } = Entries::of(folder)?;
    match foreign.first() {
        Some(path) => Err(Error::failed(format!("{} cannot be read; convert it to {FORMATS}, or remove it", path.display()))),
        None => Ok((images, folders)),
    }
}

/// What a folder holds, each sorted by name. Hidden files are left out: some systems put some named `._x.jpg` beside `x.jpg`.
#[derive(Default)]
pub(super) struct Entries {
    /// Files named as images of a format that is read.
    pub images: Vec<PathBuf>,
    /// Sub-folders.
    pub folders: Vec<PathBuf>,
    /// Files named as images of other formats.
    pub foreign: Vec<PathBuf>,
}

impl Entries {
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let failed = |e| Error::io("read", folder, &e);
        let mut all = Self::default();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            } else if path.is_dir() {
                all.folders.push(path);
            } else if ENDINGS.contains(&ending.as_str()) {
                all.images.push(path);
            } else if FOREIGN.contains(&ending.as_str()) {
                all.foreign.push(path);
            }
        }
        [&mut all.images, &mut all.folders, &mut all.foreign].into_iter().for_each(|paths| paths.sort());
        Ok(all)
    }
}

/// The files of each group with the group's number.
/// One file of each class after the other: the first n images of a set are of all its classes, as in CIFAR-10.
fn labelled(groups: &[Vec<PathBuf>]) -> Files {
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    let round = |i: usize| groups.iter().enumerate().filter_map(move |(label, files)| Some((files.get(i)?.clone(), label as u8)));
    (0..longest).flat_map(round).collect()
}

fn decode(files: &Files, side: usize, progress: &Progress) -> Result<Images> {
    let mut pixels = allocate(files.len(), side)?;
    let read = |((path, _), out): (&(PathBuf, u8), &mut [u8])| -> Result<()> {
        progress.add(1);
        out.copy_from_slice(&read_picture(path, side)?);
        Ok(())
    };
    // All of them before the first error is looked for, so that the same file is named each time.
    let done: Vec<Result<()>> = files.par_iter().zip(pixels.par_chunks_exact_mut(bytes_of(side))).map(read).collect();
    done.into_iter().collect::<Result<()>>()?;
    Ok(Images::new(side, pixels, files.iter().map(|&(_, label)| label).collect()))
}

#[cfg(test)]
mod tests;
