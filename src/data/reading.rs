//! Reads a whole listing, into memory or only to survey what it holds.

use super::arrange::{arrange, check, divide};
use super::dataset::Dataset;
use super::gather::{Gathered, PixelDigest, digest, gather};
use super::images::Images;
use super::inventory::Inventory;
use super::listing::Listing;
use super::names::Names;
use super::options::Options;
use super::planes::{allocate, bytes_of};
use crate::error::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The contents of a place, without the pixels.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What it is, see [`Dataset::name`].
    pub name: String,
    /// Where it lies.
    pub origin: String,
    /// Numbers of training and test images.
    pub images: [usize; 2],
    /// The name of each class with its numbers of training and test images.
    pub classes: Vec<(String, [usize; 2])>,
    /// See [`Dataset::sha256`]. It is different for a place read at another side.
    pub sha256: String,
    /// How it was read, and what was found there but left out.
    pub inventory: Inventory,
    /// The options that had an effect, see [`Dataset::options`].
    pub options: Options,
}

impl Survey {
    /// Surveys data that is already open.
    pub fn of(data: &Dataset) -> Self {
        let classes = data.classes.iter().cloned().zip(data.class_counts()).collect();
        let (name, origin, images) =
            (data.name.clone(), data.origin.clone(), [data.train.len(), data.test.len()]);
        Self {
            name,
            origin,
            images,
            classes,
            sha256: data.sha256.clone(),
            inventory: data.inventory.clone(),
            options: data.options,
        }
    }
}

/// The readable images of the two sets, in order.
pub(super) struct Readable {
    /// The numbers of the entries.
    pub numbers: [Vec<u32>; 2],
    pub labels: [Vec<u16>; 2],
    pub sha256: String,
}

impl Readable {
    /// Leaves out of `sets`, numbers of entries, the images that could not be read.
    pub fn of(listing: &Listing, sets: &[Vec<u32>; 2], gathered: &Gathered) -> Self {
        let (mut numbers, mut labels): ([Vec<u32>; 2], [Vec<u16>; 2]) = Default::default();
        let mut digests: [Vec<PixelDigest>; 2] = Default::default();
        for (set, all) in sets.iter().enumerate() {
            for &number in all {
                if let Some(digest) = gathered.digests[number as usize] {
                    numbers[set].push(number);
                    digests[set].push(digest);
                    labels[set].push(listing.entries[number as usize].label);
                }
            }
        }
        let sha256 =
            digest(&listing.classes, [(&labels[0], &digests[0]), (&labels[1], &digests[1])]);
        Self { numbers, labels, sha256 }
    }

    /// Checks that some images of each of `sets`, which are those of `place`, can be read.
    ///
    /// # Errors
    /// If none of a set can.
    pub fn check(&self, place: &str, sets: &[Vec<u32>; 2]) -> Result<()> {
        for ((set, read), word) in sets.iter().zip(&self.numbers).zip(["training", "test"]) {
            if read.is_empty() && !set.is_empty() {
                return Err(Error::failed(format!(
                    "{place}: none of the images of the {word} set can be read"
                )));
            }
        }
        Ok(())
    }
}

/// Reads the images of `listing`, which lie at `place`, into memory at `side` pixels a side.
///
/// # Errors
/// See [`open`](super::open).
pub(super) fn read(
    listing: &Listing,
    place: &Path,
    side: usize,
    options: &Options,
) -> Result<Dataset> {
    let origin = place.display().to_string();
    let sets = arrange(listing, &origin, options.share())?;
    let mut home = vec![None; listing.entries.len()];
    for (set, numbers) in sets.iter().enumerate() {
        numbers
            .iter()
            .enumerate()
            .for_each(|(at, &number)| home[number as usize] = Some((set, at)));
    }
    let image = bytes_of(side);
    let mut pixels = [allocate(sets[0].len(), side)?, allocate(sets[1].len(), side)?];
    let mut gathered = gather(listing, options.share(), side, &mut |number, one| {
        if let Some((set, at)) = home[number] {
            pixels[set][at * image..][..image].copy_from_slice(one);
        }
        Ok(())
    })?;
    gathered.check_unreadable(listing, &origin, options.skip_unreadable)?;
    gathered.compare(listing, &sets);
    let readable = Readable::of(listing, &sets, &gathered);
    readable.check(&origin, &sets)?;
    let images = |set: usize, mut pixels: Vec<u8>| {
        // Close the gaps that unreadable images left.
        for (to, &number) in readable.numbers[set].iter().enumerate() {
            let (_, from) = home[number as usize].expect("it has a set");
            pixels.copy_within(from * image..(from + 1) * image, to * image);
        }
        let labels = readable.labels[set].clone();
        pixels.truncate(labels.len() * image);
        let mut names = Names::own();
        readable.numbers[set]
            .iter()
            .for_each(|&number| names.push(&listing.entries[number as usize].name));
        Arc::new(Images::new(side, pixels, labels).named(names))
    };
    let [train, test] = pixels;
    Ok(Dataset {
        name: listing.name.clone(),
        origin,
        train: images(0, train),
        test: images(1, test),
        resampled_from: None,
        classes: listing.classes.clone(),
        sha256: readable.sha256.clone(),
        inventory: gathered.inventory,
        options: *options,
    })
}

/// Surveys `listing` at `side` pixels a side: every image is read, and none is kept. What makes the
/// data unusable for training is an error if `strict`, else a warning in the inventory.
///
/// # Errors
/// See [`open`](super::open).
pub(super) fn survey(
    listing: &Listing,
    place: &Path,
    side: usize,
    options: &Options,
    strict: bool,
) -> Result<Survey> {
    let origin = place.display().to_string();
    let sets = divide(listing, options.share());
    let mut warnings = Vec::new();
    let mut note = |checked: Result<()>| match checked {
        Err(e) if !strict => {
            warnings.push(e.to_string());
            Ok(())
        }
        other => other,
    };
    note(check(listing, &sets, &origin))?;
    let mut gathered = gather(listing, options.share(), side, &mut |_, _| Ok(()))?;
    gathered.check_unreadable(listing, &origin, options.skip_unreadable)?;
    gathered.compare(listing, &sets);
    let readable = Readable::of(listing, &sets, &gathered);
    note(readable.check(&origin, &sets))?;
    gathered.inventory.warnings.append(&mut warnings);
    let Readable { labels, sha256, .. } = readable;
    let mut classes: Vec<(String, [usize; 2])> =
        listing.classes.iter().map(|class| (class.clone(), [0; 2])).collect();
    for (set, labels) in labels.iter().enumerate().filter(|_| !listing.classes.is_empty()) {
        labels.iter().for_each(|&label| classes[usize::from(label)].1[set] += 1);
    }
    let images = [labels[0].len(), labels[1].len()];
    Ok(Survey {
        name: listing.name.clone(),
        origin,
        images,
        classes,
        sha256,
        inventory: gathered.inventory,
        options: *options,
    })
}
