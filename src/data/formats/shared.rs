//! Shared by several formats: the order of classes, unique names, and shards whose names tell their
//! set.

use crate::data::listing::{LeftOut, Set};
use crate::data::picture::named_image;
use crate::data::walk::OF_SYSTEMS;
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The largest number of classes that labels can distinguish.
pub(in crate::data) const MOST_CLASSES: usize = 65_535;

/// Compares two class names: numbers come first, by value; other names follow in character order.
pub(crate) fn class_order(a: &str, b: &str) -> Ordering {
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Parses a number as people write labels: digits, a sign, a point. "inf" and "1e3" are words.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+'));
    if plain { text.parse().ok() } else { None }
}

/// Returns the distinct names among `names` in [`class_order`], and for each name its index into
/// them.
///
/// # Errors
/// More than [`MOST_CLASSES`]; the message names `place`.
pub(super) fn classes_of(
    names: &[impl AsRef<str>],
    place: &Path,
) -> Result<(Vec<String>, Vec<u16>)> {
    let mut classes: Vec<&str> =
        names.iter().map(AsRef::as_ref).collect::<HashSet<_>>().into_iter().collect();
    check_count(classes.len(), place)?;
    classes.sort_by(|a, b| class_order(a, b));
    let index: HashMap<&str, u16> = classes.iter().zip(0..).map(|(class, i)| (*class, i)).collect();
    let labels = names.iter().map(|name| index[name.as_ref()]).collect();
    Ok((classes.into_iter().map(str::to_owned).collect(), labels))
}

/// Checks that labels can distinguish `count` classes.
pub(super) fn check_count(count: usize, place: &Path) -> Result<()> {
    if count <= MOST_CLASSES {
        return Ok(());
    }
    let place = place.display();
    Err(Error::failed(format!(
        "{place} has {count} classes, but at most {MOST_CLASSES} are supported; merge some of them"
    )))
}

/// Makes `names` unique: the second "x.png" becomes "x (2).png".
pub(super) fn unique(names: &mut [String]) {
    let mut taken: HashSet<String> = HashSet::with_capacity(names.len());
    let mut next: HashMap<String, usize> = HashMap::new();
    for name in names {
        if taken.insert(name.clone()) {
            continue;
        }
        let own = name.rfind('/').map_or(0, |slash| slash + 1);
        let dot = name.rfind('.').filter(|dot| *dot > own).unwrap_or(name.len());
        let (stem, ending) = name.split_at(dot);
        let n = next.entry(name.clone()).or_insert(2);
        let free = loop {
            let other = format!("{stem} ({n}){ending}");
            *n += 1;
            if taken.insert(other.clone()) {
                break other;
            }
        };
        *name = free;
    }
}

/// Checks whether a file or folder of this name is hidden or belongs to the system.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || OF_SYSTEMS.contains(&name)
}

/// Lists the names and paths in `folder`, sorted by name and without hidden ones.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |e| Error::io("read", folder, &e);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_hidden(&name) {
            all.push((name, path));
        }
    }
    all.sort();
    Ok(all)
}

/// A file that holds a part of a data set.
pub(super) struct Shard {
    pub path: PathBuf,
    /// The name within the place.
    pub name: String,
    pub set: Option<Set>,
}

/// Returns the set that a shard's name begins with ("train-00000-of-00002.parquet"), and whether it
/// is for validation.
pub(super) fn set_of_name(name: &str) -> Option<(Set, bool)> {
    let letters = name.find(|c: char| !c.is_alphabetic()).unwrap_or(name.len());
    Set::named(&name[..letters])
}

/// Returns the shards with `ending` (".tar") in `place`, each with whether it is for validation,
/// see [`choose`]. They lie in the folder itself, in its `data`, or in sub-folders of both that are
/// named as sets. There are none if the folder or its other sub-folders hold images: then it is a
/// folder of images.
pub(super) fn shards_of(
    place: &Path,
    ending: &str,
    left_out: &mut Vec<LeftOut>,
) -> Result<Vec<(Shard, bool)>> {
    let mut found: Vec<(Shard, bool)> = Vec::new();
    let mut others = Vec::new();
    let mut open = vec![(place.to_path_buf(), String::new(), None)];
    while let Some((folder, prefix, of_folder)) = open.pop() {
        for (name, path) in entries(&folder)? {
            let within = format!("{prefix}{name}");
            let is_dir = path.is_dir();
            let deeper = if is_dir && of_folder.is_none() { Set::named(&name) } else { None };
            if deeper.is_some() || is_dir && prefix.is_empty() && name.eq_ignore_ascii_case("data")
            {
                open.push((path, within + "/", deeper));
            } else if is_dir && prefix.is_empty() && holds_images(&path)
                || !is_dir && named_image(&name)
            {
                return Ok(Vec::new());
            } else if !is_dir && name.to_lowercase().ends_with(ending) {
                let set = of_folder.or_else(|| set_of_name(&name));
                found.push((
                    Shard { path, name: within, set: set.map(|s| s.0) },
                    set.is_some_and(|s| s.1),
                ));
            } else {
                others.push(within);
            }
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for name in others {
        LeftOut::add(left_out, &format!("files and folders that are not {ending} shards"), || name);
    }
    Ok(found)
}

fn holds_images(folder: &Path) -> bool {
    let few = |found: std::fs::ReadDir| {
        found.take(1000).flatten().any(|entry| named_image(&entry.file_name().to_string_lossy()))
    };
    std::fs::read_dir(folder).is_ok_and(few)
}

/// Something that belongs to a set.
pub(super) trait OfSet {
    fn set(&mut self) -> &mut Option<Set>;
    fn name(&self) -> &str;
}

impl OfSet for Shard {
    fn set(&mut self) -> &mut Option<Set> {
        &mut self.set
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Selects the items of `found` that are part of the data set. Each comes with whether it is for
/// validation. If there are test items, validation items are left out. If some items belong to a
/// training set, those without a set are left out; if none do, but some to a test set, those without
/// a set are for training. `what` names the items, in the plural.
pub(super) fn choose<T: OfSet>(
    mut found: Vec<(T, bool)>,
    left_out: &mut Vec<LeftOut>,
    what: &str,
) -> Vec<T> {
    let sets: BTreeSet<_> =
        found.iter_mut().map(|(one, validation)| (*one.set(), *validation)).collect();
    let [train, test] = [Set::Train, Set::Test].map(|set| sets.contains(&(Some(set), false)));
    let held_out = test || sets.contains(&(Some(Set::Test), true));
    let mut chosen = Vec::with_capacity(found.len());
    for (mut one, validation) in found {
        if validation && test {
            let why = format!("validation {what}, as there are test {what}");
            LeftOut::add(left_out, &why, || one.name().to_owned());
        } else if train && one.set().is_none() {
            LeftOut::add(
                left_out,
                &format!("{what} of no known set (train, test, validation)"),
                || one.name().to_owned(),
            );
        } else {
            if held_out {
                one.set().get_or_insert(Set::Train);
            }
            chosen.push(one);
        }
    }
    chosen
}

/// Lists a few names for a message, and how many more there are.
pub(super) fn some_of(names: &[String]) -> String {
    let first =
        names.iter().take(LeftOut::NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LeftOut::NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Returns the last part of a place's name.
pub(super) fn title(place: &Path) -> String {
    let full = || {
        std::path::absolute(place)
            .ok()
            .and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
    };
    place
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .or_else(full)
        .unwrap_or_else(|| place.display().to_string())
}
