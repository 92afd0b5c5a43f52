//! From a listing to pixels: all contents decoded in parallel, what can't be read collected, what
//! is odd noted.

use super::inventory::{Inventory, UNREADABLE};
use super::listing::{Content, LeftOut, Listing};
use super::picture::{self, Decoded};
use crate::error::{Error, Result};
use crate::progress::Progress;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Contents that are decoded at once at most.
const AT_ONCE: usize = 256;
/// Their bytes, roughly.
const BYTES: usize = 64 << 20;

/// SHA-256 of the pixels of one image.
pub(super) type PixelDigest = [u8; 32];

/// What was learnt on the way.
pub(super) struct Gathered {
    /// By number; `None` for an image that can't be read.
    pub digests: Vec<Option<PixelDigest>>,
    /// Why, by number, ascending.
    pub unreadable: Vec<(usize, String)>,
    /// Sizes and warnings.
    pub inventory: Inventory,
}

/// Hands each image of `listing`, of which `share` is for the test, to `sink` if it can be read, at
/// `side` pixels a side, `[3, side, side]`, with its number, in the order in which its contents
/// come.
///
/// # Errors
/// What the contents or `sink` say. Images that can't be read are no error yet.
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
        reading += &format!(", one image in {each} of each class is for the test");
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
        gathered.inventory.warnings.push(format!(
            "{} of the images are 16-bit files whose values all lie below 4,096, {} first: they hold 12 bits and look black; scale them to 16 bits",
            dark.len(),
            listing.entries[first].name
        ));
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

/// The pixels of `content`, or why there are none, as the rest of a sentence.
pub(super) fn pixels_of(content: Content, side: usize) -> std::result::Result<Decoded, String> {
    // A decoder that gives up on one image of a million must not take the others with it.
    let read = catch_unwind(AssertUnwindSafe(|| match content {
        Content::File(path) => decode_file(&path, side),
        Content::Encoded(bytes) => picture::decode(&bytes, side).map_err(|trouble| trouble.brief()),
        Content::Planes { side: own, pixels } => {
            let pixels =
                if own == side { pixels } else { picture::resample_one(&pixels, own, side) };
            Ok(Decoded { pixels, width: own as u32, height: own as u32, twelve_bit: false })
        }
        Content::Unreadable(why) => Err(why),
    }));
    read.unwrap_or_else(|_| Err("is damaged".into()))
}

fn decode_file(path: &Path, side: usize) -> std::result::Result<Decoded, String> {
    let failed = |e: std::io::Error| format!("can't be read ({e})");
    // A pipe would wait for ever.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("is no regular file".into());
    }
    picture::read(path, side).map_err(failed)?.map_err(|trouble| trouble.brief())
}

impl Gathered {
    /// Sorts out what can't be read: with `skip` it is left out and counted, otherwise an error.
    ///
    /// # Errors
    /// Without `skip`, a list of everything in `place` that can't be read, the first by name;
    /// nothing can be read at all.
    pub(super) fn judge(&mut self, listing: &Listing, place: &str, skip: bool) -> Result<()> {
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

    /// Notes the images of the test set whose pixels are those of a training image. `sets` are
    /// numbers of entries.
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

/// That `bad` of `n` images of `place` can't be read; `list` says of them, or of the first, which
/// and why.
pub fn unreadable(place: &str, n: usize, bad: usize, list: impl Iterator<Item = String>) -> Error {
    let what = match bad {
        1 => format!("{place}: one image can't be read:"),
        _ => format!("{place}: {bad} of {n} images can't be read:"),
    };
    let more = (bad > LeftOut::NAMED).then(|| format!("and {} more", bad - LeftOut::NAMED));
    Error::list(
        &what,
        list.take(LeftOut::NAMED).chain(more),
        "mend, convert or remove them, or go on without them: --skip-unreadable",
    )
}

/// One SHA-256 in hex over the names of the classes, and labels and pixels of the two sets,
/// wherever they lie and however they are stored.
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
