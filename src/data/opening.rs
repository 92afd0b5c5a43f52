//! Opens data, recognised by its content.

use super::cifar::CLASSES;
use super::dataset::{BUNDLED, Dataset, SUBSET};
use super::images::Images;
use super::inventory::Inventory;
use super::listing::{LeftOut, Listing};
use super::names::Names;
use super::options::Options;
use super::reading::{Survey, read, survey};
use super::walk::{Found, Walk};
use super::{cifar, cifar100, folder, formats, pack as file, subset};
use crate::config::DEFAULT_SIDE;
use crate::error::{Error, Hint, Result};
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
    if named == Some(Path::new(BUNDLED)) && !Path::new(BUNDLED).exists() {
        return bundled()?.at(side);
    }
    let Some(named) = named else {
        return match cache
            .map(|c| c.join("soda").join(cifar::FOLDER))
            .filter(|folder| folder.is_dir())
        {
            Some(folder) => full(&folder)?.at(side),
            None => bundled()?.at(side),
        };
    };
    match Place::of(named, options)? {
        Some(Place::Cifar(folder)) => full(&folder)?.at(side),
        Some(Place::Cifar100(folder)) => full_100(&folder, cifar100::PER_CLASS)?.at(side),
        Some(Place::Pack(data)) => data.at(side),
        Some(Place::Listed(listing)) => read(&listing, named, side, options),
        None => Err(Error::failed(no_data_message(named))),
    }
}

/// The kinds of places.
enum Place {
    Cifar(PathBuf),
    Cifar100(PathBuf),
    Pack(Box<Dataset>),
    Listed(Box<Listing>),
}

impl Place {
    fn of(named: &Path, options: &Options) -> Result<Option<Self>> {
        if let Some(folder) = cifar::locate(named) {
            return Ok(Some(Self::Cifar(folder)));
        }
        if let Some(folder) = cifar100::locate(named) {
            return Ok(Some(Self::Cifar100(folder)));
        }
        if named.is_file()
            && let Some(data) = file::open(named)?
        {
            return Ok(Some(Self::Pack(Box::new(data))));
        }
        if !named.exists() {
            return Ok(None);
        }
        let listed = match formats::list(named)? {
            None if named.is_dir() => folder::list(named, options.layout)?,
            listed => listed,
        };
        Ok(listed.map(|listing| Self::Listed(Box::new(listing))))
    }
}

/// Returns the message that `place` holds no data, with what it holds and what to do.
fn no_data_message(place: &Path) -> String {
    let (shown, remedy) = (place.display(), cifar::remedy(place));
    let holds = match place.metadata() {
        Err(_) => format!("{shown} does not exist; check the path"),
        Ok(file) if !file.is_dir() => {
            format!(
                "{shown} is not a data set that this program knows; see docs/data.md for those it \
                 does"
            )
        }
        Ok(_) => {
            let mut others = Vec::new();
            for found in Walk::new(std::iter::once(place.to_owned())) {
                if let Found::Other(_, what) = found {
                    LeftOut::add(&mut others, &what, String::new);
                }
            }
            let others = if others.is_empty() {
                "nothing".into()
            } else {
                format!("no images, but {}", LeftOut::line(&others))
            };
            format!("{shown} holds {others}; name another place")
        }
    };
    format!("{holds}, or {remedy}")
}

/// Writes the images at `place` to the file `out` at `side` pixels a side, for sets larger than
/// memory and for starting without decoding. Only few of them are in memory at a time.
///
/// # Errors
/// See [`open`]; `out` can't be written.
pub fn pack(place: &Path, side: usize, options: &Options, out: &Path) -> Result<Dataset> {
    let listing = match Place::of(place, options)? {
        Some(Place::Listed(listing)) => *listing,
        Some(Place::Cifar(folder)) => full(&folder)?.listing(),
        Some(Place::Cifar100(folder)) => full_100(&folder, cifar100::PER_CLASS)?.listing(),
        Some(Place::Pack(data)) => data.listing(),
        None => return Err(Error::failed(no_data_message(place))),
    };
    file::write(
        &listing,
        &place.display().to_string(),
        side,
        options.share(),
        options.skip_unreadable,
        out,
    )
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

/// Checks all data at `place` and returns a sentence about each data set there, saying what was
/// verified.
///
/// # Errors
/// No data; a file that is missing, truncated, altered or unreadable.
pub fn verify(place: &Path, options: &Options) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if let Some(folder) = cifar::locate(place) {
        let digest = cifar::verify(&folder)?;
        found.push(format!(
            "{}: all six files verified (digest {})",
            folder.display(),
            &digest[..12]
        ));
    }
    if let Some(folder) = cifar100::locate(place) {
        let (.., digest) = cifar100::read(&folder, cifar100::PER_CLASS)?;
        let (folder, digest) = (folder.display(), &digest[..12]);
        found.push(format!(
            "{folder}: both files have the right size, labels and number of images per class \
             (digest {digest})"
        ));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    // If the program's own data folder doesn't exist, this is reported as CIFAR-10 with missing
    // files, with the remedy.
    let Some(what) = Place::of(place, options)? else {
        if !place.exists() {
            cifar::verify(&place.join(cifar::FOLDER))?;
        }
        return Err(Error::failed(no_data_message(place)));
    };
    let (whole, survey) = match what {
        Place::Pack(data) => {
            file::verify(&data)?;
            ("every image is as it was written", Survey::of(&data))
        }
        Place::Listed(listing) => {
            ("every image can be read", survey(&listing, place, DEFAULT_SIDE, options)?)
        }
        _ => return Err(Error::failed(format!("{} changed while it was read", place.display()))),
    };
    let ([train, test], classes, digest) =
        (survey.images, survey.classes.len(), &survey.sha256[..12]);
    found.push(format!(
        "{} in {}: {train} training and {test} test images of {classes} classes, {whole} (digest \
         {digest}){}",
        survey.name,
        survey.origin,
        survey.inventory.line()
    ));
    Ok(found)
}

/// Surveys `place` at `side` pixels a side. Images that can't be read are counted.
///
/// # Errors
/// See [`open`].
pub fn show(place: &Path, side: usize, options: &Options) -> Result<Survey> {
    let options = Options { skip_unreadable: true, ..*options };
    match Place::of(place, &options)? {
        Some(Place::Cifar(folder)) => Ok(Survey::of(&full(&folder)?)),
        Some(Place::Cifar100(folder)) => Ok(Survey::of(&full_100(&folder, cifar100::PER_CLASS)?)),
        Some(Place::Pack(data)) => Ok(Survey::of(&data)),
        Some(Place::Listed(listing)) => survey(&listing, place, side, &options),
        None => Err(Error::failed(no_data_message(place))),
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
