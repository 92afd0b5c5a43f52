//! Tiny-ImageNet as downloaded: one folder per class under `train`, a table of labels under `val`,
//! no labels under `test`.

use super::shared::{check_count, entries as entries_of, some_of};
use crate::data::listing::{Entry, LeftOut, Listing, Set, files};
use crate::data::picture::named_image;
use crate::error::{Error, Result};
use crate::units::counted;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The folder that the archive unpacks to.
const FOLDER: &str = "tiny-imagenet-200";
const ANNOTATIONS: &str = "val_annotations.txt";
/// The longest text file that is read, in bytes; `words.txt` has 2.5 MB.
const LONGEST: u64 = 64 << 20;

/// Lists Tiny-ImageNet in `place`: its folder or the parent. The validation images are the test
/// set, because the test images have no labels.
///
/// # Errors
/// A missing file, or a table that names images or classes that don't exist.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let below = place.join(FOLDER);
    let folder = if below.is_dir() { below } else { place.to_path_buf() };
    if !folder.join("wnids.txt").is_file() || !folder.join("train").is_dir() {
        return Ok(None);
    }
    let ids: Vec<String> = lines(&folder.join("wnids.txt"))?;
    check_count(ids.len(), &folder)?;
    let label: HashMap<&str, u16> = ids.iter().map(String::as_str).zip(0..).collect();
    if ids.len() < 2 || label.len() != ids.len() {
        let path = folder.join("wnids.txt");
        return Err(Error::failed(format!(
            "{} names fewer than two classes, or one of them twice; unpack the archive again",
            path.display()
        )));
    }
    let mut found =
        Found { folder: &folder, entries: Vec::new(), paths: Vec::new(), left_out: Vec::new() };
    found.classes("train", &label, Set::Train)?;
    if folder.join("val").join(ANNOTATIONS).is_file() {
        found.annotated(&label)?;
    } else if folder.join("val").is_dir() {
        // Many users sort these images into one folder per class.
        found.classes("val", &label, Set::Test)?;
    }
    found.unlabelled()?;
    let Found { entries, paths, left_out, .. } = found;
    let (name, classes) = ("Tiny-ImageNet".to_owned(), names(&folder, &ids)?);
    let reading = "Tiny-ImageNet, whose validation images are the test set".to_owned();
    Ok(Some(Listing {
        name,
        reading,
        classes,
        entries,
        left_out,
        contents: files(paths),
        by_turns: true,
    }))
}

/// What was found so far.
struct Found<'a> {
    folder: &'a Path,
    entries: Vec<Entry>,
    paths: Vec<PathBuf>,
    left_out: Vec<LeftOut>,
}

impl Found<'_> {
    fn add(&mut self, path: PathBuf, name: String, label: u16, set: Set) {
        self.entries.push(Entry { name, label, set: Some(set) });
        self.paths.push(path);
    }

    /// Adds the images of `part`, which has one folder per class with the images in its `images` or
    /// directly in it.
    fn classes(&mut self, part: &str, labels: &HashMap<&str, u16>, set: Set) -> Result<()> {
        for (id, path) in entries_of(&self.folder.join(part))? {
            let within = format!("{part}/{id}");
            match labels.get(id.as_str()) {
                Some(label) if path.is_dir() => {
                    let below = path.join("images");
                    let (path, within) =
                        if below.is_dir() { (below, within + "/images") } else { (path, within) };
                    self.images(&path, &within, *label, set)?;
                }
                _ => LeftOut::add(
                    &mut self.left_out,
                    "files and folders that wnids.txt doesn't name as classes",
                    || within,
                ),
            }
        }
        Ok(())
    }

    fn images(&mut self, folder: &Path, within: &str, label: u16, set: Set) -> Result<()> {
        for (name, path) in entries_of(folder)? {
            let within = format!("{within}/{name}");
            if named_image(&name) {
                self.add(path, within, label, set);
            } else if !name.ends_with("_boxes.txt") {
                LeftOut::add(&mut self.left_out, "files that are not images", || within);
            }
        }
        Ok(())
    }

    /// Adds the images of `val`, with the labels of its table.
    fn annotated(&mut self, labels: &HashMap<&str, u16>) -> Result<()> {
        let (table, folder) =
            (self.folder.join("val").join(ANNOTATIONS), self.folder.join("val/images"));
        let wrong = |what: String| {
            Error::failed(format!("{} {what}; unpack the archive again", table.display()))
        };
        let there: HashMap<String, PathBuf> = if folder.is_dir() {
            entries_of(&folder)?.into_iter().collect()
        } else {
            HashMap::new()
        };
        let (mut used, mut missing) = (HashSet::new(), Vec::new());
        for (i, line) in lines(&table)?.iter().enumerate() {
            let mut columns = line.split('\t');
            let (Some(name), Some(id)) = (columns.next(), columns.next()) else {
                return Err(wrong(format!("has no image and class in line {}", i + 1)));
            };
            let label = labels
                .get(id)
                .ok_or_else(|| wrong(format!("names the class {id}, which wnids.txt doesn't")))?;
            match there.get(name) {
                None => missing.push(name.to_owned()),
                Some(_) if !used.insert(name.to_owned()) => {
                    return Err(wrong(format!("names {name} twice")));
                }
                Some(path) => {
                    self.add(path.clone(), format!("val/images/{name}"), *label, Set::Test)
                }
            }
        }
        if !missing.is_empty() {
            return Err(wrong(format!(
                "names {} missing from val/images: {}",
                counted(missing.len(), "image"),
                some_of(&missing)
            )));
        }
        let mut others: Vec<String> =
            there.into_keys().filter(|name| !used.contains(name)).collect();
        others.sort();
        for name in others {
            LeftOut::add(&mut self.left_out, "validation images without a label", || {
                format!("val/images/{name}")
            });
        }
        Ok(())
    }

    fn unlabelled(&mut self) -> Result<()> {
        let folder = self.folder.join("test/images");
        let images = if folder.is_dir() { entries_of(&folder)? } else { Vec::new() };
        for (name, _) in images {
            LeftOut::add(&mut self.left_out, "test images, which have no labels", || {
                format!("test/images/{name}")
            });
        }
        Ok(())
    }
}

/// Returns the first name of each class in `words.txt`, followed by the class's ID where two names
/// are equal; the ID alone if there is no name.
fn names(folder: &Path, ids: &[String]) -> Result<Vec<String>> {
    let path = folder.join("words.txt");
    let lines = if path.is_file() { lines(&path)? } else { Vec::new() };
    let first = |line: &String| {
        let (id, words) = line.split_once('\t')?;
        let name = words.split(',').next().unwrap_or_default().trim();
        (!name.is_empty()).then(|| (id.to_owned(), name.to_owned()))
    };
    let words: HashMap<String, String> = lines.iter().filter_map(first).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    let name_of = |id: &'_ String| words.get(id).map_or(id.clone(), String::clone);
    let names: Vec<String> = ids.iter().map(name_of).collect();
    names.iter().for_each(|name| *uses.entry(name).or_default() += 1);
    let unique = |(name, id): (&String, &String)| {
        if uses[name.as_str()] == 1 { name.clone() } else { format!("{name} ({id})") }
    };
    Ok(names.iter().zip(ids).map(unique).collect())
}

/// Returns the lines of a text, without empty ones.
fn lines(path: &Path) -> Result<Vec<String>> {
    let failed = |e| Error::io("read", path, &e);
    if std::fs::metadata(path).map_err(failed)?.len() > LONGEST {
        return Err(Error::failed(format!(
            "{} is larger than any text file of Tiny-ImageNet; unpack the archive again",
            path.display()
        )));
    }
    let bytes = crate::files::read(path).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect())
}

#[cfg(test)]
mod tests;
