//! Data sets: CIFAR-10, CIFAR-100 or a folder of images; where they come from, whether they are intact, and the batches of views
//! that training reads.

pub mod archive;
pub mod cifar;
pub mod cifar100;
pub mod color_jitter;
pub mod crop;
mod folder;
mod formats;
mod images;
pub mod listing;
pub mod loader;
pub mod picture;
pub mod rand_augment;
pub mod source;
pub mod split;
pub mod stream;
pub mod subset;
pub mod views;

pub use images::{Images, bytes_of, side_of};

use crate::config::DEFAULT_SIDE;
use crate::error::{Error, Result};
use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Limits};
use picture::resample;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of CIFAR-10's labels 0 to 9.
pub const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// A training and a test set, verified.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// "CIFAR-10", "CIFAR-10 subset", "CIFAR-100", or "images of" a folder.
    pub name: String,
    /// The folder it was read from, or [`BUNDLED`].
    pub origin: String,
    /// The training images; probes for choosing settings hold some out, see [`split`].
    pub train: Arc<Images>,
    /// The test images, of the same side.
    pub test: Arc<Images>,
    /// The side that the images had in their files, where they were resampled to another one.
    pub resampled_from: Option<usize>,
    /// Names of the classes in the order of their labels, 256 at most; empty for images without classes, all labelled 0.
    pub classes: Vec<String>,
    /// One SHA-256 in hex over its parts; the same wherever the data lies.
    pub sha256: String,
}

impl Dataset {
    /// One line for people: name, sizes, origin, and whether the images were resampled.
    pub fn describe(&self) -> String {
        let count = |images: &Images| indicatif::HumanCount(images.len() as u64);
        let (train, test, side) = (count(&self.train), count(&self.test), self.train.side());
        let resampled =
            self.resampled_from.map_or(String::new(), |own| format!("; resampled from {own} x {own} to {side} x {side} pixels"));
        format!("{} ({train} training, {test} test images; {}{resampled})", self.name, self.origin)
    }

    /// Where it can be opened again, for [`reopen`]: the absolute path of its folder, or [`BUNDLED`].
    pub fn location(&self) -> String {
        // A folder may have that name; its path is longer once it is absolute.
        if self.origin == BUNDLED && self.name == SUBSET {
            return BUNDLED.into();
        }
        std::path::absolute(&self.origin).map_or_else(|_| self.origin.clone(), |path| path.display().to_string())
    }

    /// The same data with images of `side` pixels a side: as they are, or resampled.
    ///
    /// # Errors
    /// If they don't fit into memory.
    pub fn at(self, side: usize) -> Result<Self> {
        let own = self.train.side();
        if own == side {
            return Ok(self);
        }
        let [train, test] = [resample(&self.train, side)?, resample(&self.test, side)?];
        Ok(Self { train: Arc::new(train), test: Arc::new(test), resampled_from: Some(own), ..self })
    }

    /// That there are classes to tell apart; `what` needs them.
    ///
    /// # Errors
    /// Fewer than two classes.
    pub fn require_classes(&self, what: &str) -> Result<()> {
        if self.classes.len() >= 2 {
            return Ok(());
        }
        Err(Error::failed(format!(
            "{what} needs images of at least two classes, and {} has {}; sort its images into one sub-folder a class",
            self.origin,
            self.classes.len()
        )))
    }
}

/// Opens the data under `explicit` (`--data`), else under `$SODA_DATA`: CIFAR-10 or CIFAR-100 in the official binary layout (the
/// folder of the files or its parent; CIFAR-10 where a parent holds both), else a folder of images; [`BUNDLED`] is the bundled subset. When no place is named, the
/// full CIFAR-10 in the user's cache folder; where that holds none, the bundled subset. Every file of CIFAR is verified.
///
/// The images have `side` pixels a side (`data.side` of a recipe): those of a folder are read at that side, those of CIFAR are
/// resampled to it.
///
/// # Errors
/// A place that was named holds no data, or a file is missing, truncated or altered; the message names the remedy. Images that
/// don't fit into memory.
pub fn open(explicit: Option<&Path>, side: usize) -> Result<Dataset> {
    open_from(explicit, environment().as_deref(), dirs::cache_dir().as_deref(), side)
}

/// Opens the data at a [`Dataset::location`].
///
/// # Errors
/// See [`open`].
pub fn reopen(location: &str, side: usize) -> Result<Dataset> {
    match location {
        BUNDLED => bundled()?.at(side),
        folder => open(Some(Path::new(folder)), side),
    }
}

/// Where `soda data fetch` and `soda data import` write: `explicit`, else `$SODA_DATA`, else `soda` in the user's cache folder.
/// The data lies in `cifar-10-batches-bin` or `cifar-100-binary` below it.
///
/// # Errors
/// No place is named and the system has no cache folder.
pub fn root(explicit: Option<&Path>) -> Result<PathBuf> {
    root_from(explicit, environment().as_deref(), dirs::cache_dir().as_deref())
}

/// Checks the data under `root`, as [`root`] gives it, and says in a sentence for each data set there what was verified.
///
/// # Errors
/// Nothing there; a file that is missing, truncated, altered or can't be read.
pub fn verify(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if let Some(folder) = cifar::locate(root) {
        let digest = cifar::verify(&folder)?;
        found.push(format!("{}: all six files verified (digest {})", folder.display(), &digest[..12]));
    }
    if let Some(folder) = cifar100::locate(root) {
        let (.., digest) = cifar100::read(&folder, cifar100::PER_CLASS)?;
        let (folder, digest) = (folder.display(), &digest[..12]);
        found.push(format!("{folder}: both files have the right size, labels and images of each class (digest {digest})"));
    }
    if found.is_empty() {
        // Nothing at all is reported as CIFAR-10 that is missing, with the remedy.
        let images = if root.is_dir() { from_folder(root, DEFAULT_SIDE)? } else { None };
        match images {
            Some(images) => {
                let (described, classes, digest) = (images.describe(), images.classes.len(), &images.sha256[..12]);
                found.push(format!("{described}, {classes} classes: every image can be read (digest {digest})"));
            }
            None => drop(cifar::verify(&root.join(cifar::FOLDER))?),
        }
    }
    Ok(found)
}

/// The PNG `bytes`, which must have the size `(width, height)`: seen before memory is asked for.
fn decode_sheet(bytes: &[u8], size: (u32, u32)) -> std::result::Result<DynamicImage, String> {
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), sheet_limits(size)).map_err(|e| e.to_string())?;
    if decoder.dimensions() != size {
        return Err(format!("{:?} pixels instead of {size:?}", decoder.dimensions()));
    }
    DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())
}

/// Four channels of 16 bits are the most that a PNG has; the rest is for its other contents.
fn sheet_limits((width, height): (u32, u32)) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * u64::from(width) * u64::from(height) + (1 << 20));
    limits
}

fn environment() -> Option<PathBuf> {
    std::env::var_os("SODA_DATA").filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn root_from(explicit: Option<&Path>, environment: Option<&Path>, cache: Option<&Path>) -> Result<PathBuf> {
    let Some(named) = explicit.or(environment) else {
        let cache = cache.ok_or_else(|| Error::usage("this system has no cache folder; say where with --data DIR"))?;
        return Ok(cache.join("soda"));
    };
    // People also name the folder of the files itself.
    let of_the_files = named.ends_with(cifar::FOLDER) || named.ends_with(cifar100::FOLDER);
    match (of_the_files, named.parent()) {
        (true, Some(parent)) if parent.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        (true, Some(parent)) => Ok(parent.to_path_buf()),
        _ => Ok(named.to_path_buf()),
    }
}

/// What names the bundled subset where a folder of data is asked for.
pub const BUNDLED: &str = "bundled";
/// What that subset is called.
const SUBSET: &str = "CIFAR-10 subset";

fn open_from(explicit: Option<&Path>, environment: Option<&Path>, cache: Option<&Path>, side: usize) -> Result<Dataset> {
    if explicit == Some(Path::new(BUNDLED)) && !Path::new(BUNDLED).exists() {
        return bundled()?.at(side);
    }
    if let Some(named) = explicit.or(environment) {
        if let Some(folder) = cifar::locate(named) {
            return full(&folder)?.at(side);
        }
        if let Some(folder) = cifar100::locate(named) {
            return full_100(&folder, cifar100::PER_CLASS)?.at(side);
        }
        let images = if named.is_dir() { from_folder(named, side)? } else { None };
        return images.ok_or_else(|| {
            let place = if explicit.is_some() { "--data" } else { "SODA_DATA =" };
            let (shown, remedy) = (named.display(), cifar::remedy(named));
            Error::failed(format!("{place} {shown} holds no {}, no {} and no images; {remedy}", cifar::FOLDER, cifar100::FOLDER))
        });
    }
    match cache.map(|c| c.join("soda").join(cifar::FOLDER)).filter(|folder| folder.is_dir()) {
        Some(folder) => full(&folder)?.at(side),
        None => bundled()?.at(side),
    }
}

fn full(folder: &Path) -> Result<Dataset> {
    Ok(dataset("CIFAR-10", folder.display().to_string(), &CLASSES, cifar::Manifest::official().read(folder)?))
}

fn full_100(folder: &Path, per_class: [usize; 2]) -> Result<Dataset> {
    Ok(dataset("CIFAR-100", folder.display().to_string(), &cifar100::CLASSES, cifar100::read(folder, per_class)?))
}

/// The images below `place` at `side` pixels a side, if there are any.
fn from_folder(place: &Path, side: usize) -> Result<Option<Dataset>> {
    let Some(folder::Contents { train, test, classes, sha256 }) = folder::read(place, side)? else { return Ok(None) };
    let last = place.file_name().unwrap_or(place.as_os_str()).to_string_lossy();
    let (name, origin) = (format!("images of {last}"), place.display().to_string());
    let (train, test) = (Arc::new(train), Arc::new(test));
    Ok(Some(Dataset { name, origin, train, test, resampled_from: None, classes, sha256 }))
}

fn dataset(name: &str, origin: String, classes: &[&str], (train, test, sha256): (Images, Images, String)) -> Dataset {
    let classes = classes.iter().map(|&class| class.into()).collect();
    let (train, test) = (Arc::new(train), Arc::new(test));
    Dataset { name: name.into(), origin, train, test, resampled_from: None, classes, sha256 }
}

/// The subset that the program carries with it: 5,000 training and 1,000 test images of CIFAR's own side.
///
/// # Errors
/// The embedded sheets don't match their manifest.
pub fn bundled() -> Result<Dataset> {
    Ok(dataset(SUBSET, BUNDLED.into(), &CLASSES, subset::bundled()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_without_data_is_an_error_with_the_remedy() {
        let empty = tempfile::tempdir().unwrap();
        for (explicit, environment) in [(Some(empty.path()), None), (None, Some(empty.path()))] {
            let message = open_from(explicit, environment, None, 32).unwrap_err().to_string();
            assert!(message.contains(&format!("soda data fetch --data {}", empty.path().display())), "{message}");
            assert!(message.contains("soda data import PATH --data"), "{message}");
        }
        let message = verify(empty.path()).unwrap_err().to_string();
        assert!(message.contains("test_batch.bin is missing") && message.contains("soda data fetch"), "{message}");
    }

    #[test]
    fn a_named_place_is_recognised_by_what_it_holds() {
        let place = tempfile::tempdir().unwrap();
        let open = |place: &Path| open_from(Some(place), None, None, 32);
        for i in 0..20 {
            let grey = image::GrayImage::from_pixel(40, 40, image::Luma([i]));
            let folder = place.path().join(if i < 10 { "a" } else { "b" });
            std::fs::create_dir_all(&folder).unwrap();
            grey.save(folder.join(format!("{i:02}.png"))).unwrap();
        }
        let images = open(place.path()).unwrap();
        assert_eq!(
            (images.classes.as_slice(), images.train.len(), images.test.labels()),
            (&["a".into(), "b".into()][..], 18, &[0, 1][..])
        );
        assert!(images.name.starts_with("images of ") && images.require_classes("a probe").is_ok());
        assert!(verify(place.path()).unwrap()[0].contains("18 training, 2 test images"));
        // It is found again from any folder.
        assert_eq!(reopen(&images.location(), 32).unwrap().sha256, images.sha256);
        let relative = Dataset { origin: BUNDLED.into(), ..images.clone() }.location();
        assert!(Path::new(&relative).is_absolute() && relative.ends_with(BUNDLED), "{relative}");
        assert_eq!(reopen(&bundled().unwrap().location(), 32).unwrap().name, SUBSET);
        let one = open(&place.path().join("a")).unwrap();
        assert_eq!((one.classes.len(), one.test.image(0)[0]), (0, 9));
        assert!(one.require_classes("a probe").unwrap_err().to_string().contains("one sub-folder a class"));

        // CIFAR comes before images, CIFAR-10 before CIFAR-100.
        cifar100::tests::write_sample(&place.path().join(cifar100::FOLDER));
        let message = open(place.path()).unwrap_err().to_string();
        assert!(message.contains("CIFAR-100") && message.contains("train.bin has"), "{message}");
        assert!(verify(place.path()).unwrap_err().to_string().contains("CIFAR-100"));
        let sample = full_100(&place.path().join(cifar100::FOLDER), cifar100::tests::SAMPLE).unwrap();
        assert_eq!((sample.name.as_str(), sample.classes.len(), sample.classes[7].as_str()), ("CIFAR-100", 100, "beetle"));
        cifar::tests::write_sample(&place.path().join(cifar::FOLDER), 2);
        assert!(open(place.path()).unwrap_err().to_string().contains("is not the official CIFAR-10:"));
    }

    #[test]
    fn an_empty_cache_gives_the_bundled_subset_and_damage_in_it_an_error() {
        let cache = tempfile::tempdir().unwrap();
        let dataset = open_from(None, None, Some(cache.path()), 32).unwrap();
        assert_eq!(dataset.describe(), "CIFAR-10 subset (5,000 training, 1,000 test images; bundled)");
        let folder = cache.path().join("soda").join(cifar::FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("data_batch_1.bin"), "short").unwrap();
        let message = open_from(None, None, Some(cache.path()), 32).unwrap_err().to_string();
        assert!(message.contains("data_batch_1.bin has 5 bytes instead of 30730000"), "{message}");
    }

    #[test]
    fn root_is_the_parent_of_the_folder_of_the_files() {
        let path = Path::new;
        assert_eq!(root_from(Some(path("d")), Some(path("e")), None).unwrap(), path("d"));
        assert_eq!(root_from(Some(path("d/cifar-10-batches-bin")), None, None).unwrap(), path("d"));
        assert_eq!(root_from(Some(path("cifar-10-batches-bin")), None, None).unwrap(), path("."));
        assert_eq!(root_from(Some(path("d/cifar-100-binary")), None, None).unwrap(), path("d"));
        assert_eq!(root_from(None, Some(path("e")), Some(path("c"))).unwrap(), path("e"));
        assert_eq!(root_from(None, None, Some(path("c"))).unwrap(), path("c/soda"));
        assert_eq!(root_from(None, None, None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn data_of_another_side_is_resampled_and_says_so() {
        let [own, larger] = [32, 48].map(|side| open_from(Some(Path::new(BUNDLED)), None, None, side).unwrap());
        assert_eq!((own.resampled_from, larger.resampled_from), (None, Some(32)));
        assert_eq!((larger.train.side(), larger.test.side(), larger.train.len()), (48, 48, own.train.len()));
        assert_eq!((larger.train.labels(), &larger.sha256), (own.train.labels(), &own.sha256));
        assert!(larger.describe().ends_with("; bundled; resampled from 32 x 32 to 48 x 48 pixels)"), "{}", larger.describe());
        // The same pictures: their means stay within a level.
        let mean = |image: &[u8]| image.iter().map(|&p| f64::from(p)).sum::<f64>() / image.len() as f64;
        for i in 0..20 {
            assert!((mean(own.test.image(i)) - mean(larger.test.image(i))).abs() < 1.0, "image {i}");
        }
        // Negative control: another picture has another mean.
        assert!((mean(own.test.image(0)) - mean(larger.test.image(1))).abs() > 1.0);
    }
}
