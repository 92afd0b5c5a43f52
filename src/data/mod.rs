//! CIFAR-10: where it comes from, whether it is intact, and the batches of views that training reads.

mod archive;
pub mod cifar;
pub mod crop;
pub mod loader;
pub mod rand_augment;
pub mod source;
pub mod split;
pub mod subset;
pub mod views;

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Height and width of an image in pixels.
pub const SIDE: usize = 32;
/// Bytes of one colour plane.
pub const PLANE: usize = SIDE * SIDE;
/// Bytes of one image: three planes.
pub const IMAGE: usize = 3 * PLANE;
/// One image: 3,072 bytes, planes R, G, B, row-major.
pub type Pixels = [u8; IMAGE];
/// Names of the labels 0 to 9.
pub const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Labelled images in memory: pixels `[N, 3, 32, 32]` as bytes (R, G, B planes, row-major) and labels `[N]` of 0 to 9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Images {
    /// Images out of `pixels` `[N, 3, 32, 32]` and `labels` `[N]`.
    ///
    /// # Panics
    /// When the two disagree on N.
    pub fn new(pixels: Vec<u8>, labels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), labels.len() * IMAGE, "one label for each image of {IMAGE} bytes");
        Self { pixels, labels }
    }

    /// Number of images, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `i`: 3,072 bytes, planes R, G, B, row-major.
    pub fn image(&self, i: usize) -> &Pixels {
        &self.pixels.as_chunks().0[i]
    }

    /// Label of image `i`, an index into [`CLASSES`].
    pub fn label(&self, i: usize) -> u8 {
        self.labels[i]
    }

    /// All labels, `[N]`.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// A copy of the images `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Images {
        let pixels = indices.iter().flat_map(|&i| self.image(i)).copied().collect();
        Images { pixels, labels: indices.iter().map(|&i| self.label(i)).collect() }
    }
}

/// A training and a test set, verified.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// "CIFAR-10" or "CIFAR-10 subset".
    pub name: String,
    /// The folder it was read from, or "bundled".
    pub origin: String,
    /// The training images; probes for choosing settings hold some out, see [`split`].
    pub train: Arc<Images>,
    /// The test images.
    pub test: Arc<Images>,
    /// One SHA-256 in hex over the SHA-256 of its parts; the same wherever the data lies.
    pub sha256: String,
}

impl Dataset {
    /// One line for people: name, sizes, origin.
    pub fn describe(&self) -> String {
        let count = |images: &Images| indicatif::HumanCount(images.len() as u64);
        let (train, test) = (count(&self.train), count(&self.test));
        format!("{} ({train} training, {test} test images; {})", self.name, self.origin)
    }
}

/// Opens the full set under `explicit` (`--data`), else under `$SODA_DATA`, else in the user's cache folder; where the last
/// holds none, the bundled subset. Every file is verified by its SHA-256.
///
/// # Errors
/// A place that was named holds no data, or a file is missing, truncated or altered; the message names the remedy.
pub fn open(explicit: Option<&Path>) -> Result<Dataset> {
    open_from(explicit, environment().as_deref(), dirs::cache_dir().as_deref())
}

/// Where `soda data fetch` and `soda data import` write: `explicit`, else `$SODA_DATA`, else `soda` in the user's cache folder.
/// The data lies in `cifar-10-batches-bin` below it.
///
/// # Errors
/// No place is named and the system has no cache folder.
pub fn root(explicit: Option<&Path>) -> Result<PathBuf> {
    root_from(explicit, environment().as_deref(), dirs::cache_dir().as_deref())
}

/// The folder of the files for a `root` as [`root`] gives it, whether or not it exists.
pub fn folder(root: &Path) -> PathBuf {
    cifar::locate(root).unwrap_or_else(|| root.join(cifar::FOLDER))
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
    match (named.ends_with(cifar::FOLDER), named.parent()) {
        (true, Some(parent)) if parent.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        (true, Some(parent)) => Ok(parent.to_path_buf()),
        _ => Ok(named.to_path_buf()),
    }
}

fn open_from(explicit: Option<&Path>, environment: Option<&Path>, cache: Option<&Path>) -> Result<Dataset> {
    if let Some(named) = explicit.or(environment) {
        let folder = cifar::locate(named).ok_or_else(|| {
            let place = if explicit.is_some() { "--data" } else { "SODA_DATA =" };
            Error::failed(format!("{place} {} holds no {}; {}", named.display(), cifar::FOLDER, cifar::remedy(named)))
        })?;
        return full(&folder);
    }
    match cache.map(|c| c.join("soda").join(cifar::FOLDER)).filter(|folder| folder.is_dir()) {
        Some(folder) => full(&folder),
        None => bundled(),
    }
}

fn full(folder: &Path) -> Result<Dataset> {
    let (train, test, sha256) = cifar::Manifest::official().read(folder)?;
    let origin = folder.display().to_string();
    Ok(Dataset { name: "CIFAR-10".into(), origin, train: Arc::new(train), test: Arc::new(test), sha256 })
}

/// The subset that the program carries with it: 5,000 training and 1,000 test images.
///
/// # Errors
/// The embedded sheets don't match their manifest.
pub fn bundled() -> Result<Dataset> {
    let (train, test, sha256) = subset::bundled()?;
    let (name, origin) = ("CIFAR-10 subset".into(), "bundled".into());
    Ok(Dataset { name, origin, train: Arc::new(train), test: Arc::new(test), sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_without_data_is_an_error_with_the_remedy() {
        let empty = tempfile::tempdir().unwrap();
        for (explicit, environment) in [(Some(empty.path()), None), (None, Some(empty.path()))] {
            let message = open_from(explicit, environment, None).unwrap_err().to_string();
            assert!(message.contains(&format!("soda data fetch --data {}", empty.path().display())), "{message}");
            assert!(message.contains("soda data import PATH --data"), "{message}");
        }
    }

    #[test]
    fn an_empty_cache_gives_the_bundled_subset_and_damage_in_it_an_error() {
        let cache = tempfile::tempdir().unwrap();
        let dataset = open_from(None, None, Some(cache.path())).unwrap();
        assert_eq!(dataset.describe(), "CIFAR-10 subset (5,000 training, 1,000 test images; bundled)");
        let folder = cache.path().join("soda").join(cifar::FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("data_batch_1.bin"), "short").unwrap();
        let message = open_from(None, None, Some(cache.path())).unwrap_err().to_string();
        assert!(message.contains("data_batch_1.bin has 5 bytes instead of 30730000"), "{message}");
    }

    #[test]
    fn root_is_the_parent_of_the_folder_of_the_files() {
        let path = Path::new;
        assert_eq!(root_from(Some(path("d")), Some(path("e")), None).unwrap(), path("d"));
        assert_eq!(root_from(Some(path("d/cifar-10-batches-bin")), None, None).unwrap(), path("d"));
        assert_eq!(root_from(Some(path("cifar-10-batches-bin")), None, None).unwrap(), path("."));
        assert_eq!(root_from(None, Some(path("e")), Some(path("c"))).unwrap(), path("e"));
        assert_eq!(root_from(None, None, Some(path("c"))).unwrap(), path("c/soda"));
        assert_eq!(root_from(None, None, None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn select_keeps_the_order_asked_for() {
        let pixels = (0..3).flat_map(|i| vec![i; IMAGE]).collect();
        let chosen = Images::new(pixels, vec![7, 8, 9]).select(&[2, 0]);
        assert_eq!((chosen.len(), chosen.labels(), chosen.image(0)[5], chosen.image(1)[5]), (2, &[9, 7][..], 2, 0));
    }
}
