//! CIFAR-10's official binary layout: six files of 3,073-byte records (label, then R, G, B planes),
//! identified by their SHA-256.

use super::images::Images;
use super::planes::bytes_of;
use crate::error::{Error, Hint, Result};
use crate::files::sha256;
use rayon::prelude::*;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The folder that the official archive unpacks to.
pub const FOLDER: &str = "cifar-10-batches-bin";
/// The names of CIFAR-10's labels 0 to 9.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Height and width of an image in pixels.
pub const SIDE: usize = 32;
/// Bytes of one colour plane.
pub(super) const PLANE: usize = SIDE * SIDE;
/// Bytes of one image: three planes.
pub(super) const IMAGE: usize = bytes_of(SIDE);
/// Bytes of a record: one label and one image.
pub const RECORD: usize = 1 + IMAGE;

const OFFICIAL: [(&str, &str); 6] = [
    ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];

/// The expected properties of one file.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: usize,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// The expected properties of the six files; the last one is the test set.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The files, in order.
    pub files: Vec<Expected>,
}

/// Checks size and SHA-256 of the six files in `folder` (the one named `cifar-10-batches-bin`) and
/// returns the data set's digest.
///
/// # Errors
/// One sentence that names everything wrong: each missing file, and each wrong size or digest with
/// the expected one.
pub fn verify(folder: &Path) -> Result<String> {
    let manifest = Manifest::official();
    manifest.problems(folder).map_or_else(|| Ok(manifest.digest()), |p| Err(damaged(folder, &p)))
}

/// Finds the folder of the files, given `place`: that folder itself or its parent.
pub(crate) fn locate(place: &Path) -> Option<PathBuf> {
    let below = place.join(FOLDER);
    if below.is_dir() {
        return Some(below);
    }
    let holds_any = || OFFICIAL.iter().any(|(name, _)| place.join(name).is_file());
    (place.is_dir() && (place.ends_with(FOLDER) || holds_any())).then(|| place.to_path_buf())
}

/// Returns what to do about data under `place` that is missing or damaged.
pub(crate) fn remedy(place: &Path) -> String {
    let root = if place.ends_with(FOLDER) { place.parent().unwrap_or(place) } else { place };
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    Hint::FetchOrImport(root.to_owned()).to_string()
}

fn damaged(folder: &Path, problems: &str) -> Error {
    Error::failed(format!(
        "{} is not the official CIFAR-10: {problems}; {}",
        folder.display(),
        remedy(folder)
    ))
}

impl Manifest {
    /// Returns the six files as their authors published them.
    pub fn official() -> Self {
        let expected = |&(name, sha): &(&str, &str)| Expected {
            name: name.into(),
            bytes: 10_000 * RECORD,
            sha256: sha.into(),
        };
        Self { files: OFFICIAL.iter().map(expected).collect() }
    }

    /// Returns a single SHA-256 over the digests of the files.
    pub fn digest(&self) -> String {
        sha256(
            self.files
                .iter()
                .map(|f| format!("{}  {}\n", f.sha256, f.name))
                .collect::<String>()
                .as_bytes(),
        )
    }

    /// Returns a list of everything wrong in `folder`, in words, or `None` if all is well.
    pub fn problems(&self, folder: &Path) -> Option<String> {
        let found: Vec<String> =
            self.files.par_iter().filter_map(|f| f.read(folder).err()).collect();
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Verifies all files and returns the training images, the test images and the data set's
    /// digest.
    ///
    /// # Errors
    /// See [`verify`].
    pub fn read(&self, folder: &Path) -> Result<(Images, Images, String)> {
        let files: Vec<std::result::Result<Vec<u8>, String>> =
            self.files.par_iter().map(|f| f.read(folder)).collect();
        let problems: Vec<&str> =
            files.iter().filter_map(|f| f.as_ref().err()).map(String::as_str).collect();
        if !problems.is_empty() {
            return Err(damaged(folder, &problems.join("; ")));
        }
        let mut files: Vec<Vec<u8>> = files.into_iter().flatten().collect();
        let test = files.pop().unwrap_or_default();
        Ok((images(files), images(vec![test]), self.digest()))
    }
}

impl Expected {
    /// Returns the file's verified bytes, or what is wrong with it.
    fn read(&self, folder: &Path) -> std::result::Result<Vec<u8>, String> {
        let bytes = read_sized(folder, &self.name, self.bytes)?;
        // Checked before the digest, because a wrong label is the more specific error.
        check_labels(&bytes).map_err(|e| format!("{} {e}", self.name))?;
        let found = sha256(&bytes);
        if found != self.sha256 {
            return Err(format!("{} has SHA-256 {found} instead of {}", self.name, self.sha256));
        }
        Ok(bytes)
    }
}

/// Reads the file `name` in `folder`, or returns what is wrong with it. A file of another length
/// isn't read.
pub(super) fn read_sized(
    folder: &Path,
    name: &str,
    expected: usize,
) -> std::result::Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => format!("{name} is missing"),
        _ => format!("{name} cannot be read ({e})"),
    };
    let file = File::open(folder.join(name)).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length != expected as u64 {
        return Err(format!("{name} has {length} bytes instead of {expected}"));
    }
    let mut bytes = Vec::with_capacity(expected);
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() != expected {
        Err(format!("{name} changed while it was read"))
    } else {
        Ok(bytes)
    }
}

/// Parses one file in the official layout with any number of images.
///
/// # Errors
/// What is wrong, as a sentence fragment: not a whole number of records, or a label above 9.
pub fn parse(bytes: &[u8]) -> std::result::Result<Images, String> {
    if !bytes.len().is_multiple_of(RECORD) {
        return Err(format!(
            "has {} bytes, which is not a whole number of {RECORD}-byte records",
            bytes.len()
        ));
    }
    check_labels(bytes)?;
    Ok(images(vec![bytes]))
}

fn check_labels(bytes: &[u8]) -> std::result::Result<(), String> {
    match bytes.chunks_exact(RECORD).position(|r| r[0] > 9) {
        Some(i) => Err(format!("has label {} in record {i}, above 9", bytes[i * RECORD])),
        None => Ok(()),
    }
}

/// Collects the records of `files`, in order. Each file is dropped once it has been copied, so that
/// the whole data set is never in memory twice.
fn images(files: Vec<impl AsRef<[u8]>>) -> Images {
    let n = files.iter().map(|f| f.as_ref().len() / RECORD).sum::<usize>();
    let (mut pixels, mut labels) = (Vec::with_capacity(n * IMAGE), Vec::with_capacity(n));
    for file in files {
        for record in file.as_ref().chunks_exact(RECORD) {
            labels.push(u16::from(record[0]));
            pixels.extend_from_slice(&record[1..]);
        }
    }
    Images::new(SIDE, pixels, labels)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes six small files in the official layout with `records` images each and returns their
    /// manifest.
    pub fn write_sample(folder: &Path, records: usize) -> Manifest {
        std::fs::create_dir_all(folder).unwrap();
        let file = |(f, (name, _)): (usize, &(&str, &str))| {
            let record = |r: usize| {
                (0..RECORD)
                    .map(move |i| if i == 0 { (r % 10) as u8 } else { (f * 31 + r * 7 + i) as u8 })
            };
            let bytes: Vec<u8> = (0..records).flat_map(record).collect();
            std::fs::write(folder.join(name), &bytes).unwrap();
            Expected { name: (*name).into(), bytes: bytes.len(), sha256: sha256(&bytes) }
        };
        Manifest { files: OFFICIAL.iter().enumerate().map(file).collect() }
    }

    #[test]
    fn reads_labels_and_pixels_of_intact_files() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write_sample(dir.path(), 20);
        let (train, test, digest) = manifest.read(dir.path()).unwrap();
        assert_eq!((train.len(), test.len(), digest.len()), (100, 20, 64));
        assert_eq!((train.label(23), train.image(23).unwrap()[0]), (3, (31 + 3 * 7 + 1) as u8));
        assert_eq!(manifest.problems(dir.path()), None);
    }

    #[test]
    fn the_remedy_takes_any_path() {
        for (place, root) in
            [("my data", "my data"), ("it's/cifar-10-batches-bin", "it's"), (FOLDER, ".")]
        {
            assert_eq!(remedy(Path::new(place)), Hint::FetchOrImport(root.into()).to_string());
        }
    }

    #[test]
    fn the_message_names_everything_wrong_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        let manifest = write_sample(&folder, 2);
        std::fs::remove_file(folder.join("data_batch_2.bin")).unwrap();
        std::fs::write(folder.join("data_batch_3.bin"), vec![0; 2 * RECORD - 1]).unwrap();
        let mut bytes = std::fs::read(folder.join("test_batch.bin")).unwrap();
        bytes[4000] ^= 4;
        std::fs::write(folder.join("test_batch.bin"), &bytes).unwrap();
        let message = manifest.read(&folder).unwrap_err().to_string();
        for part in [
            "data_batch_2.bin is missing".to_string(),
            format!("data_batch_3.bin has {} bytes instead of {}", 2 * RECORD - 1, 2 * RECORD),
            format!(
                "test_batch.bin has SHA-256 {} instead of {}",
                sha256(&bytes),
                manifest.files[5].sha256
            ),
            remedy(&folder),
        ] {
            assert!(message.contains(&part), "{part:?} in {message}");
        }
        assert!(!message.contains("data_batch_1"), "{message}");
        assert_eq!(manifest.problems(&folder).unwrap().matches("; ").count(), 2);
    }

    #[test]
    fn refuses_a_label_above_9_even_with_the_right_digest() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = write_sample(dir.path(), 3);
        let path = dir.path().join("data_batch_4.bin");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[RECORD] = 10;
        std::fs::write(&path, &bytes).unwrap();
        manifest.files[3].sha256 = sha256(&bytes);
        let message = manifest.read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("data_batch_4.bin has label 10 in record 1"), "{message}");
    }
}
