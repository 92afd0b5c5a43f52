//! Opens data, recognised by its content.

use super::cifar::CLASSES;
use super::dataset::{BUNDLED, Dataset, SUBSET};
use super::images::Images;
use super::inventory::Inventory;
use super::listing::{LeftOut, Listing};
use super::names::Names;
use super::options::Options;
use super::reading::{Survey, read, survey};
use super::walk::{self, Found, Walk};
use super::{cifar, cifar100, folder, formats, pack as file, subset};
use crate::config::DEFAULT_SIDE;
use crate::error::{Error, Hint, Result};
use crate::units::{counted, grouped};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the data at `named`. This is CIFAR-10 or CIFAR-100 in
/// the official binary layout (the folder of the files or its parent; CIFAR-10 if a parent holds
/// both), a file that [`pack`] wrote, one of the other formats, or else a folder of images.
/// [`BUNDLED`] is the bundled subset. If no place is named, the full CIFAR-10 in the user's cache
/// folder is opened, or the bundled subset if the cache has none. Every CIFAR file is verified.
///
/// The images have `side` pixels a side (`data.side` of a recipe): encoded images are read at that
/// side, others are resampled to it.
///
/// # Errors
/// The named place holds no data; a file is missing, truncated or altered; images can't be read,
/// unless `options` skips them. The message names what is there and the remedy. Also if the images
/// don't fit into memory.
pub fn open(named: Option<&Path>, side: usize, options: &Options) -> Result<Dataset> {
    open_from(named, dirs::cache_dir().as_deref(), side, options)
}

/// Opens the data at a [`Dataset::location`].
///
/// # Errors
/// See [`open`].
pub fn reopen(location: &str, side: usize, options: &Options) -> Result<Dataset> {
    match location {
        BUNDLED => bundled()?.at(side),
        folder => open(Some(Path::new(folder)), side, options),
    }
}

pub(super) fn open_from(
    named: Option<&Path>,
    cache: Option<&Path>,
    side: usize,
    options: &Options,
) -> Result<Dataset> {
    match Place::of(named, cache, options)? {
        Place::Bundled => bundled()?.at(side),
        Place::Cifar(folder) => full(&folder)?.at(side),
        Place::Cifar100(folder) => full_100(&folder, cifar100::PER_CLASS)?.at(side),
        Place::Pack(data) => data.at(side),
        Place::Listed { listing, place, options } => read(&listing, &place, side, &options),
    }
}

/// The kinds of places.
enum Place {
    Bundled,
    Cifar(PathBuf),
    Cifar100(PathBuf),
    Pack(Box<Dataset>),
    Listed {
        listing: Box<Listing>,
        place: PathBuf,
        /// The options that have an effect there.
        options: Options,
    },
}

impl Place {
    /// Recognises `named`, or else the default data.
    fn of(named: Option<&Path>, cache: Option<&Path>, options: &Options) -> Result<Self> {
        let Some(named) = named else {
            return Ok(fetched(cache).map_or(Self::Bundled, Self::Cifar));
        };
        if named == Path::new(BUNDLED) && !named.exists() {
            return Ok(Self::Bundled);
        }
        if let Some(folder) = cifar::locate(named) {
            return Ok(Self::Cifar(folder));
        }
        if let Some(folder) = cifar100::locate(named) {
            return Ok(Self::Cifar100(folder));
        }
        if named.is_file()
            && let Some(data) = file::open(named)?
        {
            return Ok(Self::Pack(Box::new(data)));
        }
        if !named.exists() {
            return Err(Error::failed(no_data_message(named)));
        }
        let (listing, layout) = match formats::list(named)? {
            None if named.is_dir() => (folder::list(named, options.layout)?, options.layout),
            listed => (listed, None),
        };
        let listing = listing.ok_or_else(|| Error::failed(no_data_message(named)))?;
        let split_ratio = options.split_ratio.filter(|_| listing.is_divided());
        let options = Options { layout, split_ratio, ..*options };
        Ok(Self::Listed { listing: Box::new(listing), place: named.to_owned(), options })
    }
}

/// Returns the folder of the CIFAR-10 that was fetched to the user's `cache` folder.
fn fetched(cache: Option<&Path>) -> Option<PathBuf> {
    cache.map(|cache| cache.join("soda").join(cifar::FOLDER)).filter(|folder| folder.is_dir())
}

/// Checks whether the data that [`open`] opens if no place is named is the bundled subset.
pub fn default_is_bundled() -> bool {
    fetched(dirs::cache_dir().as_deref()).is_none()
}

/// Returns the message that `place` holds no data, with what it holds and what to do. To fetch or
/// import data to it is suggested only where nothing is in the way.
fn no_data_message(place: &Path) -> String {
    let shown = place.display();
    let Ok(found) = place.metadata() else {
        return format!("{shown} does not exist; check the path, or {}", cifar::remedy(place));
    };
    if !found.is_dir() {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let what = match walk::what(place, &name) {
            _ if !found.is_file() => "is not a regular file",
            None => "is a single image, not a folder of them",
            Some(_) => "is a file in none of the formats of data sets",
        };
        return format!("{shown} {what}; {}", Hint::Kinds);
    }
    let mut others = Vec::new();
    for found in Walk::new(std::iter::once(place.to_owned())) {
        if let Found::Other(_, what) = found {
            LeftOut::add(&mut others, &what, String::new);
        }
    }
    if !others.is_empty() {
        return format!("{shown} holds no images, but {}; {}", LeftOut::line(&others), Hint::Kinds);
    }
    format!("{shown} holds nothing; name another place, or {}", cifar::remedy(place))
}

/// Writes the images at `place`, which [`open`] would open, to the file `out` at `side` pixels a
/// side, for sets larger than memory and for starting without decoding. Only few of them are in
/// memory at a time. The options of the result are those that had an effect on how `place` was
/// read.
///
/// # Errors
/// See [`open`]; `out` can't be written.
pub fn pack(place: &Path, side: usize, options: &Options, out: &Path) -> Result<Dataset> {
    let (listing, used) = match Place::of(Some(place), None, options)? {
        Place::Listed { listing, options, .. } => (*listing, options),
        Place::Bundled => (bundled()?.listing(), Options::default()),
        Place::Cifar(folder) => (full(&folder)?.listing(), Options::default()),
        Place::Cifar100(folder) => {
            (full_100(&folder, cifar100::PER_CLASS)?.listing(), Options::default())
        }
        Place::Pack(data) => (data.listing(), Options::default()),
    };
    let packed = file::write(
        &listing,
        &place.display().to_string(),
        side,
        used.share(),
        options.skip_unreadable,
        out,
    )?;
    Ok(Dataset { options: used, ..packed })
}

/// How many entries of a folder [`holds_images`] looks at, which may be the user's home.
const LOOKED_AT: usize = 10_000;

/// Checks whether there are image files in `folder`, which [`open`] ignores in a folder of CIFAR.
pub fn holds_images(folder: &Path) -> bool {
    let mut entries = Walk::new(std::iter::once(folder.to_owned())).take(LOOKED_AT);
    entries.any(|entry| matches!(entry, Found::Image(_)))
}

/// Returns where data that is fetched or imported is written: `named`,
/// else `soda` in the user's cache folder. The data goes to `cifar-10-batches-bin` or
/// `cifar-100-binary` below it.
///
/// # Errors
/// No place is named and the system has no cache folder.
pub fn root(named: Option<&Path>) -> Result<PathBuf> {
    root_from(named, dirs::cache_dir().as_deref())
}

/// Checks all data at `named` and returns a sentence about each data set there, saying what was
/// verified. If no place is named, this is the data that was fetched or imported to the user's
/// cache folder, or the bundled subset if there is none. Also returns the options that had an
/// effect on how it was read.
///
/// # Errors
/// No data; a file that is missing, truncated, altered or unreadable.
pub fn verify(named: Option<&Path>, options: &Options) -> Result<(Vec<String>, Options)> {
    let cache = dirs::cache_dir();
    let own = || cache.as_ref().map(|cache| cache.join("soda"));
    let place = named.map(Path::to_owned).or_else(own);
    let mut found = Vec::new();
    if let Some(folder) = place.as_deref().and_then(cifar::locate) {
        let digest = cifar::verify(&folder)?;
        found.push(format!(
            "{}: all six files verified (digest {})",
            folder.display(),
            &digest[..12]
        ));
    }
    if let Some(folder) = place.as_deref().and_then(cifar100::locate) {
        let (.., digest) = cifar100::read(&folder, cifar100::PER_CLASS)?;
        let (folder, digest) = (folder.display(), &digest[..12]);
        found.push(format!(
            "{folder}: both files have the right size, labels and number of images per class \
             (digest {digest})"
        ));
    }
    if !found.is_empty() {
        return Ok((found, Options::default()));
    }
    let (whole, survey) = match Place::of(named, cache.as_deref(), options)? {
        Place::Bundled => ("as its manifest lists them", Survey::of(&bundled()?)),
        Place::Pack(data) => {
            file::verify(&data)?;
            ("every image is as it was written", Survey::of(&data))
        }
        Place::Listed { listing, place, options } => {
            let survey = survey(&listing, &place, DEFAULT_SIDE, &options, true)?;
            let whole = match survey.inventory.unreadable() {
                0 => "every image can be read",
                _ => "these images can be read",
            };
            (whole, survey)
        }
        Place::Cifar(folder) | Place::Cifar100(folder) => {
            let folder = folder.display();
            return Err(Error::failed(format!(
                "{folder} changed while it was read; verify it again"
            )));
        }
    };
    let ([train, test], digest) = (survey.images, &survey.sha256[..12]);
    let classes = match survey.classes.len() {
        0 => String::new(),
        1 => " of 1 class".into(),
        n => format!(" of {n} classes"),
    };
    found.push(format!(
        "{} in {}: {} training and {}{classes}, {whole} (digest {digest}){}",
        survey.name,
        if survey.name == SUBSET { "the program" } else { &survey.origin },
        grouped(train as u64),
        counted(test, "test image"),
        survey.inventory.line()
    ));
    Ok((found, survey.options))
}

/// Surveys the data that [`open`] opens, at `side` pixels a side. Images that can't be read are
/// counted; that nothing can be trained on it, as for a set without images, is only a warning.
///
/// # Errors
/// No data; a file of CIFAR that is missing, truncated or altered; no image that can be read.
pub fn show(named: Option<&Path>, side: usize, options: &Options) -> Result<Survey> {
    let options = Options { skip_unreadable: true, ..*options };
    match Place::of(named, dirs::cache_dir().as_deref(), &options)? {
        Place::Bundled => Ok(Survey::of(&bundled()?)),
        Place::Cifar(folder) => Ok(Survey::of(&full(&folder)?)),
        Place::Cifar100(folder) => Ok(Survey::of(&full_100(&folder, cifar100::PER_CLASS)?)),
        Place::Pack(data) => Ok(Survey::of(&data)),
        Place::Listed { listing, place, options } => {
            survey(&listing, &place, side, &options, false)
        }
    }
}

pub(super) fn root_from(named: Option<&Path>, cache: Option<&Path>) -> Result<PathBuf> {
    let Some(named) = named else {
        let cache = cache.ok_or_else(|| {
            Error::usage(format!("this system has no cache folder for data; {}", Hint::NameData))
        })?;
        return Ok(cache.join("soda"));
    };
    // Users also name the folder of the files itself.
    let of_the_files = named.ends_with(cifar::FOLDER) || named.ends_with(cifar100::FOLDER);
    match (of_the_files, named.parent()) {
        (true, Some(parent)) if parent.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        (true, Some(parent)) => Ok(parent.to_path_buf()),
        _ => Ok(named.to_path_buf()),
    }
}

fn full(folder: &Path) -> Result<Dataset> {
    Ok(dataset(
        "CIFAR-10",
        folder.display().to_string(),
        &CLASSES,
        cifar::Manifest::official().read(folder)?,
    ))
}

pub(super) fn full_100(folder: &Path, per_class: [usize; 2]) -> Result<Dataset> {
    Ok(dataset(
        "CIFAR-100",
        folder.display().to_string(),
        &cifar100::CLASSES,
        cifar100::read(folder, per_class)?,
    ))
}

fn dataset(
    name: &str,
    origin: String,
    classes: &[&str],
    (train, test, sha256): (Images, Images, String),
) -> Dataset {
    let classes = classes.iter().map(|&class| class.into()).collect();
    let [train, test] = [(train, "train"), (test, "test")]
        .map(|(images, set)| Arc::new(images.named(Names::Numbered(set))));
    let (name, inventory, options) = (name.into(), Inventory::default(), Options::default());
    Dataset { name, origin, train, test, resampled_from: None, classes, sha256, inventory, options }
}

/// Returns the subset that is embedded in the program: 5,000 training and 1,000 test images at
/// CIFAR's own side.
///
/// # Errors
/// The embedded sheets don't match their manifest.
pub fn bundled() -> Result<Dataset> {
    Ok(dataset(SUBSET, BUNDLED.into(), &CLASSES, subset::bundled()?))
}

#[cfg(test)]
mod tests;
