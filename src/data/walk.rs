//! Walks folders in a fixed order, by name, and sorts what it finds into images and other things,
//! with the reason.

use super::picture::{FIRST_BYTES, kind};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folders that operating systems and archivers create among images.
pub(super) const OF_SYSTEMS: [&str; 5] =
    ["@eaDir", "$RECYCLE.BIN", "__MACOSX", "System Volume Information", "lost+found"];

/// Something below a folder.
#[derive(Debug)]
pub(super) enum Found {
    /// A file that is an image by its content or extension, whether or not it can be read.
    Image(PathBuf),
    /// Something else; what it is and why, in the plural.
    Other(PathBuf, String),
    /// A folder that can't be read.
    Failed(PathBuf, Error),
}

/// The contents of a folder, each list sorted by name.
#[derive(Default)]
pub(super) struct Entries {
    pub folders: Vec<PathBuf>,
    pub images: Vec<PathBuf>,
    pub others: Vec<(PathBuf, String)>,
}

impl Entries {
    /// Lists `folder`.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let failed = |e| Error::io("read", folder, &e);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        let mut all = Self::default();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') {
                // Some systems put a `._x.jpg` next to each `x.jpg`.
                all.others.push((path, "hidden files and folders".into()));
            } else if OF_SYSTEMS.contains(&name.as_str()) {
                all.others.push((path, "system folders".into()));
            } else if is_run(&path) {
                // Its pictures aren't images of the user, and would change the data of the run.
                all.others.push((path, "directories of runs".into()));
            } else if path.is_dir() {
                all.folders.push(path);
            } else {
                match what(&path, &name) {
                    None => all.images.push(path),
                    Some(other) => all.others.push((path, other)),
                }
            }
        }
        Ok(all)
    }
}

/// Checks whether training has made the folder `path`: it then holds a recipe and a log of starts.
fn is_run(path: &Path) -> bool {
    ["config.toml", "starts.jsonl"].iter().all(|name| path.join(name).is_file())
}

/// Returns what the file `path` is, in the plural, if it isn't an image.
pub(super) fn what(path: &Path, name: &str) -> Option<String> {
    let mut first = Vec::new();
    // Only regular files are opened: opening a pipe would block forever. A broken link is
    // classified by its name.
    let regular = path.metadata().map(|m| m.is_file());
    if let Ok(true) = regular {
        let read =
            File::open(path).and_then(|file| file.take(FIRST_BYTES as u64).read_to_end(&mut first));
        if read.is_err() {
            // Unreadable files are reported later, together with all others.
            first.clear();
        }
    }
    if kind(name, &first).is_some() {
        return None;
    }
    let ending = Path::new(name).extension().map(|ending| ending.to_string_lossy().to_lowercase());
    Some(match (regular, ending) {
        (Ok(false), _) => "pipes, sockets and devices".into(),
        (Err(_), _) => "broken links".into(),
        (_, Some(ending)) => format!("files that are not images (.{ending})"),
        (_, None) => "files that are not images".into(),
    })
}

/// Walks everything below some paths. Files are returned as they are; of each folder first its
/// images, then its sub-folders. Links are followed, but a folder isn't entered again from within
/// itself.
pub(super) struct Walk {
    /// Pending paths, in reverse, each with the real folders that contain it.
    paths: Vec<(PathBuf, Vec<PathBuf>)>,
    /// What was found in the current folder.
    found: std::vec::IntoIter<Found>,
}

impl Walk {
    pub(super) fn new(paths: impl DoubleEndedIterator<Item = PathBuf>) -> Self {
        Self::within(paths, &[])
    }

    /// Like [`Self::new`], for paths inside the real folders `within`, which aren't entered again.
    pub(super) fn within(
        paths: impl DoubleEndedIterator<Item = PathBuf>,
        within: &[PathBuf],
    ) -> Self {
        Self {
            paths: paths.rev().map(|path| (path, within.to_vec())).collect(),
            found: Vec::new().into_iter(),
        }
    }

    fn enter(&mut self, folder: &Path, mut within: Vec<PathBuf>) -> Result<()> {
        let real = folder.canonicalize().map_err(|e| Error::io("read", folder, &e))?;
        if within.contains(&real) {
            let found =
                Found::Other(folder.to_owned(), "links to a folder that contains them".into());
            self.found = vec![found].into_iter();
            return Ok(());
        }
        within.push(real);
        let Entries { folders, images, others } = Entries::of(folder)?;
        let images = images.into_iter().map(Found::Image);
        let found: Vec<_> =
            images.chain(others.into_iter().map(|(path, what)| Found::Other(path, what))).collect();
        self.found = found.into_iter();
        self.paths.extend(folders.into_iter().rev().map(|folder| (folder, within.clone())));
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.found.next() {
                return Some(found);
            }
            let (path, within) = self.paths.pop()?;
            if !path.is_dir() {
                // A file that the caller names is meant to be an image.
                return Some(Found::Image(path));
            }
            if let Err(e) = self.enter(&path, within) {
                return Some(Found::Failed(path, e));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_cycles_end() {
        use super::*;
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::create_dir_all(at("elsewhere")).unwrap();
        image::GrayImage::new(8, 8).save(at("elsewhere/1.png")).unwrap();
        symlink(at("elsewhere"), at("a/linked")).unwrap();
        symlink(at("elsewhere/1.png"), at("a/b/2.png")).unwrap();
        symlink(at("a"), at("a/b/up")).unwrap();
        symlink(at("nowhere"), at("a/lost")).unwrap();
        symlink(at("nowhere"), at("a/lost.png")).unwrap();
        let name = |path: &Path| path.strip_prefix(dir.path()).unwrap().display().to_string();
        let found: Vec<String> = Walk::new([at("a")].into_iter())
            .map(|found| match found {
                Found::Image(path) => name(&path),
                Found::Other(path, what) => format!("{}: {what}", name(&path)),
                Found::Failed(path, e) => panic!("{}: {e}", path.display()),
            })
            .collect();
        let want = [
            // Has an image's name, so it counts as an image that can't be read.
            "a/lost.png",
            "a/lost: broken links",
            "a/b/2.png",
            "a/b/up: links to a folder that contains them",
            "a/linked/1.png",
        ];
        assert_eq!(found, want);
    }
}
