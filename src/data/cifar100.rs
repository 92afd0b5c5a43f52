//! CIFAR-100 in its official binary layout: two files of 3,074-byte records (coarse label, fine
//! label, then R, G, B planes).
//!
//! The fine labels are the classes. No SHA-256 of the two files is published, so they are verified
//! by their sizes, their labels and the number of images per class. The archive is identified by
//! its MD5 (see [`source`](super::source)).

use super::cifar::{IMAGE, SIDE, read_sized};
use super::images::Images;
use crate::error::{Error, Hint, Result};
use crate::files::sha256;
use std::path::{Path, PathBuf};

/// The folder that the official archive unpacks to.
pub const FOLDER: &str = "cifar-100-binary";
/// MD5 of the official archive, `cifar-100-binary.tar.gz`, as its authors publish it.
pub(super) const ARCHIVE_MD5: &str = "03b5dce01913d631647c71ecec9e9cb8";
/// The training and the test file.
pub(super) const FILES: [&str; 2] = ["train.bin", "test.bin"];
/// Images of each class in the two files.
pub(super) const PER_CLASS: [usize; 2] = [500, 100];
/// Bytes of a record: coarse label, fine label and image.
const RECORD: usize = 2 + IMAGE;
const COARSE_CLASSES: u8 = 20;

/// The names of the fine labels 0 to 99.
#[rustfmt::skip]
pub const CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

/// Finds the folder of the files, given `place`: that folder itself or its parent.
pub(super) fn locate(place: &Path) -> Option<PathBuf> {
    let below = place.join(FOLDER);
    if below.is_dir() {
        return Some(below);
    }
    let holds_any = || FILES.iter().any(|name| place.join(name).is_file());
    (place.is_dir() && (place.ends_with(FOLDER) || holds_any())).then(|| place.to_path_buf())
}

/// Reads the training and test images of the files in `folder`, with `per_class` images of each
/// class ([`PER_CLASS`] officially), and returns them with a single SHA-256 over the digests of the
/// two files.
///
/// # Errors
/// A file that is missing or has another size, a label out of range or with two coarse labels, a
/// class with too many or too few images. The message names everything wrong.
pub(super) fn read(folder: &Path, per_class: [usize; 2]) -> Result<(Images, Images, String)> {
    read_both(folder, per_class).map_err(|problems| {
        let shown = folder.display();
        Error::failed(format!(
            "{shown} is not the official CIFAR-100: {problems}; get cifar-100-binary.tar.gz again \
             and {}",
            Hint::Import
        ))
    })
}

/// Returns a list of everything wrong in `folder`, in words, or `None` if all is well.
pub(super) fn problems(folder: &Path, per_class: [usize; 2]) -> Option<String> {
    read_both(folder, per_class).err()
}

fn read_both(
    folder: &Path,
    per_class: [usize; 2],
) -> std::result::Result<(Images, Images, String), String> {
    let both = rayon::join(
        || read_file(folder, FILES[0], per_class[0]),
        || read_file(folder, FILES[1], per_class[1]),
    );
    match both {
        (Ok((train, train_sha)), Ok((test, test_sha))) => {
            let digests = format!("{train_sha}  {}\n{test_sha}  {}\n", FILES[0], FILES[1]);
            Ok((train, test, sha256(digests.as_bytes())))
        }
        (train, test) => {
            Err([train.err(), test.err()].into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
    }
}

/// Reads one file and returns its images and SHA-256, or what is wrong with it.
fn read_file(
    folder: &Path,
    name: &str,
    per_class: usize,
) -> std::result::Result<(Images, String), String> {
    let bytes = read_sized(folder, name, CLASSES.len() * per_class * RECORD)?;
    let images = parse(&bytes, per_class).map_err(|e| format!("{name} {e}"))?;
    Ok((images, sha256(&bytes)))
}

/// Parses one file with `per_class` images of each class.
///
/// # Errors
/// What is wrong, as a sentence fragment.
pub fn parse(bytes: &[u8], per_class: usize) -> std::result::Result<Images, String> {
    let n = bytes.len() / RECORD;
    if !bytes.len().is_multiple_of(RECORD) {
        return Err(format!(
            "has {} bytes, which is not a whole number of {RECORD}-byte records",
            bytes.len()
        ));
    }
    let (mut pixels, mut labels) = (Vec::with_capacity(n * IMAGE), Vec::with_capacity(n));
    let (mut counts, mut coarse_of) = ([0; CLASSES.len()], [None; CLASSES.len()]);
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        let (coarse, fine) = (record[0], record[1]);
        let class = usize::from(fine);
        if coarse >= COARSE_CLASSES || class >= CLASSES.len() {
            return Err(format!(
                "has the labels {coarse} and {fine} in record {i}, above {} or 99",
                COARSE_CLASSES - 1
            ));
        }
        if *coarse_of[class].get_or_insert(coarse) != coarse {
            return Err(format!("has class {fine} under two coarse labels (record {i})"));
        }
        counts[class] += 1;
        labels.push(u16::from(fine));
        pixels.extend_from_slice(&record[2..]);
    }
    if let Some(class) = counts.iter().position(|&count| count != per_class) {
        return Err(format!(
            "has {} images of class {class} ({}) instead of {per_class}",
            counts[class], CLASSES[class]
        ));
    }
    Ok(Images::new(SIDE, pixels, labels))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The images of each class in the files that [`write_sample`] writes.
    pub const SAMPLE: [usize; 2] = [2, 1];

    fn records(per_class: usize, salt: usize) -> Vec<u8> {
        let record = |r: usize| {
            let class = (r % 100) as u8;
            [class / 5, class].into_iter().chain((0..IMAGE).map(move |i| (salt + r * 7 + i) as u8))
        };
        (0..100 * per_class).flat_map(record).collect()
    }

    /// Writes two small files in the official layout.
    pub fn write_sample(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for (i, name) in FILES.into_iter().enumerate() {
            std::fs::write(folder.join(name), records(SAMPLE[i], i * 31)).unwrap();
        }
    }

    fn message(folder: &Path) -> String {
        read(folder, SAMPLE).unwrap_err().to_string()
    }

    #[test]
    fn reads_fine_labels_and_planes() {
        let dir = tempfile::tempdir().unwrap();
        write_sample(dir.path());
        let (train, test, digest) = read(dir.path(), SAMPLE).unwrap();
        assert_eq!((train.len(), test.len(), digest.len()), (200, 100, 64));
        assert_eq!(
            (train.label(137), train.image(137).unwrap()[0], train.image(137).unwrap()[3071]),
            (37, 191, (137 * 7 + 3071) as u8)
        );
        assert_eq!((test.label(99), test.image(2).unwrap()[1]), (99, 31 + 14 + 1));
        // The digest covers the content and the names of both files.
        std::fs::write(dir.path().join("test.bin"), records(1, 32)).unwrap();
        assert_ne!(read(dir.path(), SAMPLE).unwrap().2, digest);
        assert!(
            message_of_official(dir.path())
                .contains("train.bin has 614800 bytes instead of 153700000")
        );
    }

    fn message_of_official(folder: &Path) -> String {
        read(folder, PER_CLASS).unwrap_err().to_string()
    }

    #[test]
    fn names_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let damage = |name: &str, at: usize, value: u8| {
            write_sample(dir.path());
            let path = dir.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] = value;
            std::fs::write(&path, bytes).unwrap();
            message(dir.path())
        };
        assert!(
            damage("train.bin", 3 * RECORD + 1, 100)
                .contains("train.bin has the labels 0 and 100 in record 3")
        );
        assert!(damage("test.bin", 0, 20).contains("test.bin has the labels 20 and 0 in record 0"));
        assert!(
            damage("train.bin", 107 * RECORD, 2)
                .contains("class 7 under two coarse labels (record 107)")
        );
        // A record of class 8 becomes one of class 7, which has the same coarse label.
        let count = damage("test.bin", 8 * RECORD + 1, 7);
        assert!(
            count.contains("test.bin has 2 images of class 7 (beetle) instead of 1")
                && !count.contains("train.bin"),
            "{count}"
        );
        std::fs::remove_file(dir.path().join("test.bin")).unwrap();
        std::fs::write(dir.path().join("train.bin"), "short").unwrap();
        let both = message(dir.path());
        assert!(
            both.contains("train.bin has 5 bytes instead of 614800; test.bin is missing"),
            "{both}"
        );
    }

    #[test]
    fn finds_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(locate(dir.path()), None);
        let folder = dir.path().join(FOLDER);
        write_sample(&folder);
        assert_eq!((locate(dir.path()), locate(&folder)), (Some(folder.clone()), Some(folder)));
        assert!(CLASSES.is_sorted() && CLASSES[47] == "maple_tree" && CLASSES[99] == "worm");
    }
}
