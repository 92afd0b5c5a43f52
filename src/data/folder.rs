//! A plain folder of images as a data set.

use super::formats::{MOST_CLASSES, class_order};
use super::listing::{Entry, LeftOut, Listing, Set, files};
use super::walk::{Entries, Found, Walk};
use crate::error::{Error, Hint, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What the sub-folders of a folder of images stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// The top folders are sets, such as train and test, and the folders in them are classes.
    Splits,
    /// The top folders are classes, whatever their names.
    Classes,
}

/// Lists the images below `place`; `None` if there are none.
///
/// If every top folder has the name of a set and one of them is for training, the top folders are
/// the sets (see [`Set::named`]) and the folders in them the classes; otherwise the top folders are
/// the classes. `layout` overrides this. Numeric class names are sorted by value, others
/// alphabetically. Images without class folders have no class.
///
/// # Errors
/// Images next to class folders; no training set where sets are required; more classes than labels
/// can distinguish; a folder that can't be read.
pub(super) fn list(place: &Path, layout: Option<Layout>) -> Result<Option<Listing>> {
    let top = Entries::of(place)?;
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = top.folders.iter().map(|path| name_of(path)).collect();
    let sets: Vec<_> = names.iter().map(|name| Set::named(name)).collect();
    let training = sets.iter().flatten().any(|(set, _)| *set == Set::Train);
    let splits = match layout {
        Some(Layout::Classes) => false,
        Some(Layout::Splits) if !training => {
            let held = if names.is_empty() {
                "no folders".into()
            } else {
                format!("the folders {}", names.join(", "))
            };
            return Err(Error::usage(format!(
                "the top folders of {} are to be sets, but it holds {held}, and none of them is \
                 named train or training; {}",
                place.display(),
                Hint::FoldersAreClasses
            )));
        }
        Some(Layout::Splits) => true,
        None => training && sets.iter().all(Option::is_some) && top.images.is_empty(),
    };
    let mut walked = Walked::default();
    if !splits {
        walked.groups(place, None)?;
        return walked.listing(place, "");
    }
    let mut reading = Vec::new();
    let mut folders: Vec<_> = top.folders.iter().zip(&names).zip(sets).collect();
    // Validation folders come last: if there are test images, theirs belong to neither set.
    folders.sort_by_key(|(_, set)| set.is_some_and(|(_, validation)| validation));
    for ((folder, name), set) in folders {
        match set {
            Some((_, true)) if walked.count(Set::Test) > 0 => {
                walked.leave_out(folder, "validation images, as there is a test set")
            }
            Some((set, _)) => {
                let before = walked.count(set);
                walked.groups(folder, Some(set))?;
                if walked.count(set) > before {
                    let word = if set == Set::Train { "training" } else { "test" };
                    reading.push(format!("{name} is the {word} set"));
                }
            }
            None => walked.leave_out(folder, "images in folders that are not named as a set"),
        }
    }
    top.images.iter().for_each(|path| walked.add_left_out("images next to the set folders", path));
    top.others.iter().for_each(|(path, what)| walked.add_left_out(what, path));
    walked.listing(place, &(reading.join(", ") + "; "))
}

/// What was found so far.
#[derive(Default)]
struct Walked {
    /// Files and their sets by class, or under "" if there are no classes.
    classes: BTreeMap<String, Vec<(PathBuf, Option<Set>)>>,
    left_out: Vec<(String, PathBuf)>,
    failed: Vec<(PathBuf, Error)>,
}

impl Walked {
    /// Returns the number of files of `set`.
    fn count(&self, set: Set) -> usize {
        self.classes.values().flatten().filter(|(_, of)| *of == Some(set)).count()
    }

    /// Adds the class folders in `place`, or its own images if it has none.
    fn groups(&mut self, place: &Path, set: Option<Set>) -> Result<()> {
        let within: Vec<PathBuf> = place.canonicalize().into_iter().collect();
        let Entries { folders, images, others } = Entries::of(place)?;
        others.into_iter().for_each(|(path, what)| self.left_out.push((what, path)));
        let mut held = false;
        for folder in folders {
            // Two names that aren't valid Unicode would become one class.
            let Some(class) = folder.file_name().and_then(OsStr::to_str).map(str::to_owned) else {
                return Err(Error::failed(format!(
                    "the name of the class folder {} isn't valid UTF-8; rename it",
                    folder.display()
                )));
            };
            let mut found = Vec::new();
            for item in Walk::within(std::iter::once(folder.clone()), &within) {
                match item {
                    Found::Image(path) => found.push((path, set)),
                    Found::Other(path, what) => self.left_out.push((what, path)),
                    Found::Failed(path, e) => self.failed.push((path, e)),
                }
            }
            if found.is_empty() {
                self.left_out.push(("folders without images".into(), folder));
                continue;
            }
            held = true;
            self.classes.entry(class).or_default().append(&mut found);
        }
        match images.first() {
            Some(file) if held => Err(Error::failed(format!(
                "{} lies next to class folders with images; move it into the folder of its class, \
                 or out of {}",
                file.display(),
                place.display()
            ))),
            Some(_) => {
                self.classes
                    .entry(String::new())
                    .or_default()
                    .extend(images.into_iter().map(|path| (path, set)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn leave_out(&mut self, folder: &Path, what: &str) {
        for item in Walk::new(std::iter::once(folder.to_owned())) {
            match item {
                Found::Image(path) => self.add_left_out(what, &path),
                Found::Other(path, what) => self.left_out.push((what, path)),
                Found::Failed(path, e) => self.failed.push((path, e)),
            }
        }
    }

    fn add_left_out(&mut self, what: &str, path: &Path) {
        self.left_out.push((what.to_owned(), path.to_owned()));
    }

    /// `reading` says how the sets were read, if they were.
    fn listing(mut self, place: &Path, reading: &str) -> Result<Option<Listing>> {
        if let Some((_, e)) = self.failed.pop() {
            return Err(e);
        }
        let name = |path: &Path| {
            path.strip_prefix(place).unwrap_or(path).to_string_lossy().replace('\\', "/")
        };
        if self.classes.is_empty() {
            return Ok(None);
        }
        let without = self.classes.contains_key("");
        if without && self.classes.len() > 1 {
            return Err(Error::failed(format!(
                "{}: one set has class folders and another has images without; sort both into one \
                 folder per class",
                place.display()
            )));
        }
        let mut classes: Vec<String> =
            self.classes.keys().filter(|class| !class.is_empty()).cloned().collect();
        classes.sort_by(|a, b| class_order(a, b));
        if classes.len() > MOST_CLASSES {
            let n = classes.len();
            return Err(Error::failed(format!(
                "{} holds {n} class folders; at most {MOST_CLASSES} are possible",
                place.display()
            )));
        }
        let (mut entries, mut paths) = (Vec::new(), Vec::new());
        let order: Vec<String> = if without { vec![String::new()] } else { classes.clone() };
        for (label, class) in order.iter().enumerate() {
            for (path, set) in self.classes.remove(class).unwrap_or_default() {
                entries.push(Entry { name: name(&path), label: label as u16, set });
                paths.push(path);
            }
        }
        let mut left_out = Vec::new();
        self.left_out
            .iter()
            .for_each(|(what, path)| LeftOut::add(&mut left_out, what, || name(path)));
        let of_classes =
            if without { "images without class folders" } else { "classes are the folders" };
        let last = place.file_name().unwrap_or(place.as_os_str()).to_string_lossy();
        Ok(Some(Listing {
            name: format!("images of {last}"),
            reading: format!("{reading}{of_classes}"),
            classes,
            entries,
            left_out,
            contents: files(paths),
            by_turns: true,
        }))
    }
}

#[cfg(test)]
mod tests;
