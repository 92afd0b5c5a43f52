//! Streams the images of files and folders batch by batch, decoded in the background, for more
//! images than memory holds.

use super::gather::pixels_of;
use super::listing::Content;
use super::walk::{Found, Walk};
use crate::error::{Error, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The number of batches decoded ahead.
const AHEAD: usize = 2;

/// An item that was found.
pub enum Read {
    /// A file that is an image by content or extension, with its pixels `[3, side, side]`, or the
    /// reason why they can't be read, as a sentence fragment.
    Image(PathBuf, std::result::Result<Vec<u8>, String>),
    /// Something else; what it is, in the plural.
    LeftOut(PathBuf, String),
}

/// The number of all images found so far and a digest of their names, whichever part of them is
/// read.
#[derive(Default)]
pub struct Listed(Mutex<(u64, Sha256)>);

impl Listed {
    fn add(&self, path: &Path) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.0 += 1;
        listed.1.update(path.as_os_str().as_encoded_bytes());
        listed.1.update(b"\n");
    }

    /// Returns their number and a digest of their names.
    pub fn digest(&self) -> String {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = listed.1.clone().finalize();
        format!(
            "{} images {}",
            listed.0,
            digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
        )
    }
}

/// Batches of images. Dropping it stops the background work.
pub struct Stream {
    listed: Arc<Listed>,
    receiver: Option<Receiver<Vec<Read>>>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Opens the files and folders `paths`, to be read at `side` pixels a side in batches of
    /// `batch` items. Of the images, only those whose number leaves the remainder `part.0` when
    /// divided by `part.1` are read. Files are taken as they are, folders with everything below
    /// them (of each folder first its files, then its sub-folders, by name; links are followed,
    /// cycles are broken). Memory holds a few batches and the names of the files of one folder.
    ///
    /// # Errors
    /// A path that doesn't exist, or no thread can be started. A folder that can't be read is
    /// returned like an image, with its error.
    pub fn open(
        paths: &[PathBuf],
        part: (usize, usize),
        batch: usize,
        side: usize,
    ) -> Result<Self> {
        if let Some((path, e)) = paths.iter().find_map(|path| Some((path, path.metadata().err()?)))
        {
            return Err(Error::io("read", path, &e));
        }
        let (mut number, listed) = (0, Arc::new(Listed::default()));
        let names = listed.clone();
        let mut walk = Walk::new(paths.iter().cloned()).filter(move |found| {
            // Only the first part reports items that are not images.
            let Found::Image(path) = found else { return part.0 == 0 };
            names.add(path);
            number += 1;
            (number - 1) % part.1 == part.0
        });
        let (sender, receiver) = sync_channel(AHEAD);
        let work = move || {
            loop {
                let found: Vec<_> = walk.by_ref().take(batch).collect();
                let read = |found| match found {
                    Found::Image(path) => {
                        let pixels = pixels_of(Content::File(path.clone()), side)
                            .map(|decoded| decoded.pixels);
                        Read::Image(path, pixels)
                    }
                    Found::Other(path, what) => Read::LeftOut(path, what),
                    Found::Failed(path, e) => {
                        Read::Image(path, Err(format!("can't be read ({e})")))
                    }
                };
                let read: Vec<Read> = found.into_par_iter().map(read).collect();
                // If the receiver was dropped, no more batches are wanted.
                if read.is_empty() || sender.send(read).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("pictures".into()).spawn(work);
        let thread = thread
            .map_err(|e| Error::failed(format!("cannot start a thread that reads images: {e}")))?;
        Ok(Self { listed, receiver: Some(receiver), thread: Some(thread) })
    }

    /// Returns the names of its images, complete once the stream has ended.
    pub fn listed(&self) -> Arc<Listed> {
        self.listed.clone()
    }
}

impl Iterator for Stream {
    type Item = Result<Vec<Read>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receiver.as_ref()?.recv() {
            return Some(Ok(batch));
        }
        // This is the end, unless the thread panicked: images must not go missing silently.
        let ended = self.thread.take()?.join();
        ended.err().map(|_| {
            Err(Error::failed("reading images stopped for an unknown reason; please report this"))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // An error can't be reported to anyone here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, value: u8) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(40, 40, image::Luma([value])).save(path).unwrap();
    }

    #[test]
    fn every_image_comes_once_in_a_fixed_order_and_unreadable_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (i, name) in
            ["b/2.png", "b/1.png", "a/deep/3.PNG", "a/0.png", "c.png", "alone.png", ".hidden.png"]
                .into_iter()
                .enumerate()
        {
            write(folder.path(), name, i as u8);
        }
        std::fs::write(at("a/bad.jpg"), "no image").unwrap();
        std::fs::write(at("a/photo.heic"), "of another kind").unwrap();
        std::fs::write(at("a/notes.txt"), "not named as an image").unwrap();
        for batch in [1, 2, 100] {
            let stream =
                Stream::open(&[at("alone.png"), at("a"), at("b"), at("c.png")], (0, 1), batch, 32)
                    .unwrap();
            let batches: Vec<Vec<Read>> = stream.map(Result::unwrap).collect();
            assert!(batches.iter().rev().skip(1).all(|b| b.len() == batch));
            let name = |path: &Path| {
                path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned()
            };
            let found = batches.into_iter().flatten().map(|read| match read {
                Read::Image(path, pixels) => (name(&path), pixels.ok().map(|pixels| pixels[0])),
                Read::LeftOut(path, what) => (format!("{}: {what}", name(&path)), None),
            });
            let found: Vec<(String, Option<u8>)> = found.collect();
            let found: Vec<(&str, Option<u8>)> =
                found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let want = [
                ("alone.png", Some(5)),
                ("a/0.png", Some(3)),
                ("a/bad.jpg", None),
                ("a/photo.heic", None),
                ("a/notes.txt: files that are not images (.txt)", None),
                ("a/deep/3.PNG", Some(2)),
                ("b/1.png", Some(1)),
                ("b/2.png", Some(0)),
                ("c.png", Some(4)),
            ];
            assert_eq!(found, want, "{batch} at a time");
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_named_at_once_and_a_stream_may_be_dropped() {
        let folder = tempfile::tempdir().unwrap();
        (0..40).for_each(|i| write(folder.path(), &format!("{i}.png"), i));
        let gone = folder.path().join("gone.png");
        let message = Stream::open(&[folder.path().to_owned(), gone], (0, 1), 4, 32)
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("gone.png") && message.contains("check the path"), "{message}");
        let mut stream = Stream::open(&[folder.path().to_owned()], (0, 1), 4, 32).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().len(), 4);
        drop(stream);
        let empty = tempfile::tempdir().unwrap();
        assert!(Stream::open(&[empty.path().to_owned()], (0, 1), 4, 32).unwrap().next().is_none());
    }
}
