//! Images of files and folders one batch after the other, decoded in the background: more of them than memory holds.

use super::folder::Entries;
use super::picture::read_picture;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches decoded ahead.
const AHEAD: usize = 2;

/// A file and the image in it, `[3, side, side]`, or why there is none.
pub type Read = (PathBuf, Result<Vec<u8>>);

/// Batches of images; dropping it stops what goes on in the background.
pub struct Stream {
    receiver: Option<Receiver<Vec<Read>>>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// The images that `paths` name at `side` pixels a side, `batch` at a time: files as they are, folders with all images below
    /// them (hidden files and links to folders are left out; of each folder first its images, then its sub-folders, by name).
    /// Files named as images of formats that can't be read are there too, with their error. What is in memory is a few batches
    /// and the names of the files of one folder.
    ///
    /// # Errors
    /// A path that isn't there; no thread. A folder that can't be read comes as a file does, with its error.
    pub fn open(paths: &[PathBuf], batch: usize, side: usize) -> Result<Self> {
        if let Some((path, e)) = paths.iter().find_map(|path| Some((path, path.metadata().err()?))) {
            return Err(Error::io("read", path, &e));
        }
        let mut walk = Walk::new(paths.to_vec());
        let (sender, receiver) = sync_channel(AHEAD);
        let work = move || {
            loop {
                let files: Vec<_> = walk.by_ref().take(batch).collect();
                let read = |file| match file {
                    Ok(path) => decode(path, side),
                    Err((path, e)) => (path, Err(e)),
                };
                let read: Vec<Read> = files.into_par_iter().map(read).collect();
                // Whoever dropped the other end wants no more.
                if read.is_empty() || sender.send(read).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("pictures".into()).spawn(work);
        let thread = thread.map_err(|e| Error::failed(format!("cannot start a thread that reads images: {e}")))?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }
}

impl Iterator for Stream {
    type Item = Result<Vec<Read>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receiver.as_ref()?.recv() {
            return Some(Ok(batch));
        }
        // The end, unless the thread broke down: images must not go missing without a word.
        let ended = self.thread.take()?.join();
        ended.err().map(|_| Err(Error::failed("reading images stopped for an unknown reason; please report this")))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // There is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn decode(path: PathBuf, side: usize) -> Read {
    // A decoder that gives up on one file of a million must not take the others with it.
    let read = catch_unwind(AssertUnwindSafe(|| read_picture(&path, side)));
    let broken = |_| Err(Error::failed(format!("{} is damaged; give another file", path.display())));
    let pixels = read.unwrap_or_else(broken);
    (path, pixels)
}

/// The files below paths, one after the other.
struct Walk {
    /// Paths to come, in reverse.
    paths: Vec<PathBuf>,
    /// Files of the folder that it is in.
    files: std::vec::IntoIter<PathBuf>,
}

impl Walk {
    fn new(mut paths: Vec<PathBuf>) -> Self {
        paths.reverse();
        Self { paths, files: Vec::new().into_iter() }
    }

    fn enter(&mut self, folder: &Path) -> Result<()> {
        let Entries { mut images, folders, foreign } = Entries::of(folder)?;
        images.extend(foreign);
        images.sort();
        self.files = images.into_iter();
        // Links to folders may lead in a circle.
        self.paths.extend(folders.into_iter().rev().filter(|f| !f.is_symlink()));
        Ok(())
    }
}

impl Iterator for Walk {
    /// A file, or a folder that can't be read.
    type Item = std::result::Result<PathBuf, (PathBuf, Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(file) = self.files.next() {
                return Some(Ok(file));
            }
            let path = self.paths.pop()?;
            if !path.is_dir() {
                return Some(Ok(path));
            }
            if let Err(e) = self.enter(&path) {
                return Some(Err((path, e)));
            }
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
    fn every_image_comes_once_in_a_fixed_order_and_what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (i, name) in
            ["b/2.png", "b/1.png", "a/deep/3.PNG", "a/0.png", "c.png", "alone.png", ".hidden.png"].into_iter().enumerate()
        {
            write(folder.path(), name, i as u8);
        }
        std::fs::write(at("a/bad.jpg"), "no image").unwrap();
        std::fs::write(at("a/photo.heic"), "of another kind").unwrap();
        std::fs::write(at("a/notes.txt"), "not named as an image").unwrap();
        for batch in [1, 2, 100] {
            let stream = Stream::open(&[at("alone.png"), at("a"), at("b"), at("c.png")], batch, 32).unwrap();
            let batches: Vec<Vec<Read>> = stream.map(Result::unwrap).collect();
            assert!(batches.iter().rev().skip(1).all(|b| b.len() == batch));
            let found: Vec<(String, Option<u8>)> = batches
                .into_iter()
                .flatten()
                .map(|(path, read)| (path.strip_prefix(folder.path()).unwrap().to_string_lossy().into(), read.ok().map(|p| p[0])))
                .collect();
            let found: Vec<(&str, Option<u8>)> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let want = [
                ("alone.png", Some(5)),
                ("a/0.png", Some(3)),
                ("a/bad.jpg", None),
                ("a/photo.heic", None),
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
        let message = Stream::open(&[folder.path().to_owned(), gone], 4, 32).err().unwrap().to_string();
        assert!(message.contains("gone.png") && message.contains("check the path"), "{message}");
        let mut stream = Stream::open(&[folder.path().to_owned()], 4, 32).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().len(), 4);
        drop(stream);
        let empty = tempfile::tempdir().unwrap();
        assert!(Stream::open(&[empty.path().to_owned()], 4, 32).unwrap().next().is_none());
    }
}
