//! From a listing to pixels: decodes all contents in parallel, and collects unreadable images and
//! oddities.

use super::arrange::holds_out_the_last;
use super::inventory::{Inventory, UNREADABLE};
use super::listing::{Content, LeftOut, Listing};
use super::picture::resample::resample_one;
use super::picture::{self, Decoded};
use crate::error::{Error, Hint, Result};
use crate::progress::Progress;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The maximum number of contents decoded at once.
const AT_ONCE: usize = 256;
/// The approximate maximum of their total bytes.
const BYTES: usize = 64 << 20;

/// The SHA-256 of the pixels of one image.
pub(super) type PixelDigest = [u8; 32];

/// What was found out while the images were read.
pub(super) struct Gathered {
    /// The digest of each image by number; `None` for an image that can't be read.
    pub digests: Vec<Option<PixelDigest>>,
    /// Numbers of the unreadable images, ascending, with the reasons.
    pub unreadable: Vec<(usize, String)>,
    /// Sizes and warnings.
    pub inventory: Inventory,
}

/// Decodes each image of `listing` and, if it can be read, passes its number and its pixels `[3,
/// side, side]` to `sink`, in the order in which the contents arrive. `share` is the share of the
/// test set.
///
/// # Errors
/// Errors of the contents or of `sink`. Unreadable images are not errors at this stage.
pub(super) fn gather(
    listing: &Listing,
    share: f64,
    side: usize,
    sink: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<Gathered> {
    let n = listing.entries.len();
    let mut reading = listing.reading.clone();
    if listing.is_divided() {
        let each = (1.0 / share * 10.0).round() / 10.0;
        let of = if listing.classes.is_empty() { "" } else { " of each class" };
        let which = if holds_out_the_last(listing, share) {
            format!("the last image{of}")
        } else {
            format!("one image in {each}{of}")
        };
        reading += &format!(", {which} is a test image");
    }
    let inventory =
        Inventory { reading, left_out: listing.left_out.clone(), ..Inventory::default() };
    let mut state = State {
        gathered: Gathered { digests: vec![None; n], unreadable: Vec::new(), inventory },
        waiting: Vec::new(),
        bytes: 0,
        dark: Vec::new(),
        progress: Progress::new("reading images", Some(n)),
        side,
        sink,
    };
    (listing.contents)(&mut |number, content| state.take(number, content))?;
    state.decode()?;
    let State { mut gathered, mut dark, progress, .. } = state;
    progress.finish();
    gathered.unreadable.sort();
    dark.sort_unstable();
    if let Some(&first) = dark.first() {
        let name = &listing.entries[first].name;
        gathered.inventory.warnings.push(match dark.len() {
            1 => format!(
                "{name} is a 16-bit file whose values are all below 4,096: it uses only 12 bits \
                 and looks black; scale it to 16 bits"
            ),
            n => format!(
                "{n} of the images are 16-bit files whose values are all below 4,096 (the first \
                 is {name}): they use only 12 bits and look black; scale them to 16 bits"
            ),
        });
    }
    Ok(gathered)
}

struct State<'a> {
    gathered: Gathered,
    waiting: Vec<(usize, Content)>,
    bytes: usize,
    dark: Vec<usize>,
    progress: Progress,
    side: usize,
    sink: &'a mut dyn FnMut(usize, &[u8]) -> Result<()>,
}

impl State<'_> {
    fn take(&mut self, number: usize, content: Content) -> Result<()> {
        self.bytes += match &content {
            Content::Encoded(bytes) | Content::Planes { pixels: bytes, .. } => bytes.len(),
            Content::File(_) | Content::Unreadable(_) => 0,
        };
        self.waiting.push((number, content));
        if self.waiting.len() == AT_ONCE || self.bytes >= BYTES { self.decode() } else { Ok(()) }
    }

    fn decode(&mut self) -> Result<()> {
        let (side, progress) = (self.side, &self.progress);
        let read = |(number, content)| {
            let decoded = pixels_of(content, side)
                .map(|decoded| (Sha256::digest(&decoded.pixels).into(), decoded));
            progress.add(1);
            (number, decoded)
        };
        type Read = std::result::Result<(PixelDigest, Decoded), String>;
        let decoded: Vec<(usize, Read)> =
            std::mem::take(&mut self.waiting).into_par_iter().map(read).collect();
        self.bytes = 0;
        for (number, read) in decoded {
            match read {
                Ok((digest, decoded)) => {
                    self.gathered.digests[number] = Some(digest);
                    self.gathered.inventory.count_size(decoded.width, decoded.height);
                    if decoded.twelve_bit {
                        self.dark.push(number);
                    }
                    (self.sink)(number, &decoded.pixels)?;
                }
                Err(why) => self.gathered.unreadable.push((number, why)),
            }
        }
        Ok(())
    }
}

/// Decodes `content`, or returns why it can't be read, as a sentence fragment.
pub(super) fn pixels_of(content: Content, side: usize) -> std::result::Result<Decoded, String> {
    // A decoder that panics on one image of a million must not abort the others.
    let read = catch_unwind(AssertUnwindSafe(|| match content {
        Content::File(path) => decode_file(&path, side),
        Content::Encoded(bytes) => picture::decode(&bytes, side).map_err(|trouble| trouble.brief()),
        Content::Planes { side: own, pixels } => {
            let pixels = if own == side { pixels } else { resample_one(&pixels, own, side) };
            Ok(Decoded { pixels, width: own as u32, height: own as u32, twelve_bit: false })
        }
        Content::Unreadable(why) => Err(why),
    }));
    read.unwrap_or_else(|_| Err("is damaged".into()))
}

fn decode_file(path: &Path, side: usize) -> std::result::Result<Decoded, String> {
    let failed = |e: std::io::Error| format!("can't be read ({e})");
    // Opening a pipe would block forever.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("is not a regular file".into());
    }
    picture::read(path, side).map_err(failed)?.map_err(|trouble| trouble.brief())
}

impl Gathered {
    /// Handles the unreadable images: with `skip` they are left out and counted, otherwise they are
    /// an error.
    ///
    /// # Errors
    /// Without `skip`, a list of the unreadable images of `place`, with the first of them by name.
    /// With `skip`, the same if no image can be read.
    pub(super) fn check_unreadable(
        &mut self,
        listing: &Listing,
        place: &str,
        skip: bool,
    ) -> Result<()> {
        let (n, bad) = (listing.entries.len(), self.unreadable.len());
        if bad == 0 {
            return Ok(());
        }
        if skip && bad < n {
            for (number, why) in &self.unreadable {
                LeftOut::add(&mut self.inventory.left_out, UNREADABLE, || {
                    format!("{} {why}", listing.entries[*number].name)
                });
            }
            return Ok(());
        }
        let list = self
            .unreadable
            .iter()
            .map(|(number, why)| format!("{} {why}", listing.entries[*number].name));
        Err(unreadable(place, n, bad, list))
    }

    /// Records the test images whose pixels equal those of a training image. `sets` are the numbers
    /// of the entries.
    pub(super) fn compare(&mut self, listing: &Listing, sets: &[Vec<u32>; 2]) {
        let digest = |i: &u32| self.digests[*i as usize];
        let train: std::collections::HashMap<PixelDigest, u32> =
            sets[0].iter().rev().filter_map(|i| Some((digest(i)?, *i))).collect();
        for i in &sets[1] {
            let Some(twin) = digest(i).and_then(|digest| train.get(&digest)) else { continue };
            self.inventory.in_both += 1;
            if self.inventory.in_both_first.len() < LeftOut::NAMED {
                self.inventory
                    .in_both_first
                    .push([i, twin].map(|&i| listing.entries[i as usize].name.clone()));
            }
        }
    }
}

/// Makes the error that `bad` of the `n` images of `place` can't be read. `list` names them, or at
/// least the first of them, with the reasons.
pub fn unreadable(place: &str, n: usize, bad: usize, list: impl Iterator<Item = String>) -> Error {
    let what = match bad {
        1 => format!("{place}: one image can't be read:"),
        _ => format!("{place}: {bad} of {n} images can't be read:"),
    };
    let more = (bad > LeftOut::NAMED).then(|| format!("and {} more", bad - LeftOut::NAMED));
    Error::list(
        &what,
        list.take(LeftOut::NAMED).chain(more),
        &format!("fix, convert or remove them, or {}", Hint::SkipUnreadable),
    )
}

/// Returns a single SHA-256, in hex, over the class names and the labels and pixels of the two
/// sets, regardless of where they lie and how they are stored.
pub(super) fn digest(classes: &[String], sets: [(&[u16], &[PixelDigest]); 2]) -> String {
    let mut all = Sha256::new();
    all.update(classes.iter().map(|class| format!("{class}\n")).collect::<String>());
    for (labels, digests) in sets {
        all.update((labels.len() as u64).to_le_bytes());
        labels.iter().for_each(|label| all.update(label.to_le_bytes()));
        digests.iter().for_each(|digest| all.update(digest));
    }
    crate::files::hex(&all.finalize())
}
