//! CIFAR-10 and CIFAR-100 in their Python version, as a folder or an archive, and the archives of
//! their binary version. Pickles are read as data, see [`pickle`](super::pickle).

use super::pickle::Pickle;
use super::shared::{some_of, unique};
use super::tars::{self, LARGEST, walk};
use crate::data::cifar::CLASSES;
use crate::data::cifar100;
use crate::data::listing::{Content, Contents, Entry, LeftOut, Listing, Set};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Pixels a side.
const SIDE: usize = 32;
/// Bytes of an image.
const IMAGE: usize = 3 * SIDE * SIDE;

/// A published layout of CIFAR.
struct Layout {
    name: &'static str,
    version: &'static str,
    /// The folder that its archive unpacks to.
    folder: &'static str,
    archive: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// The file that names the classes, and the key of the names in it.
    names: Option<(&'static str, &'static str)>,
    kind: Kind,
    classes: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Kind {
    /// A dictionary with `data`, `filenames`, and labels under this key.
    Pickle { labels: &'static str },
    /// Records of this many labels, of which the last one counts, and an image.
    Records { labels: usize },
}

const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "CIFAR-10",
        version: "the Python version",
        folder: "cifar-10-batches-py",
        archive: "cifar-10-python.tar.gz",
        train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: "test_batch",
        names: Some(("batches.meta", "label_names")),
        kind: Kind::Pickle { labels: "labels" },
        classes: &CLASSES,
    },
    Layout {
        name: "CIFAR-100",
        version: "the Python version",
        folder: "cifar-100-python",
        archive: "cifar-100-python.tar.gz",
        train: &["train"],
        test: "test",
        names: Some(("meta", "fine_label_names")),
        kind: Kind::Pickle { labels: "fine_labels" },
        classes: &cifar100::CLASSES,
    },
    Layout {
        name: "CIFAR-10",
        version: "the binary version",
        folder: "cifar-10-batches-bin",
        archive: "cifar-10-binary.tar.gz",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
        names: None,
        kind: Kind::Records { labels: 1 },
        classes: &CLASSES,
    },
    Layout {
        name: "CIFAR-100",
        version: "the binary version",
        folder: "cifar-100-binary",
        archive: "cifar-100-binary.tar.gz",
        train: &["train.bin"],
        test: "test.bin",
        names: None,
        kind: Kind::Records { labels: 2 },
        classes: &cifar100::CLASSES,
    },
];

impl Layout {
    /// Returns the training files, then the test file.
    fn files(&self) -> Vec<&'static str> {
        self.train.iter().copied().chain([self.test]).collect()
    }
}

/// Where the files lie.
enum Store {
    Folder(PathBuf),
    Archive(PathBuf),
}

impl Store {
    /// Calls `take` with the number and content of those of `wanted` that exist, in the order that
    /// is cheapest to read.
    fn each(
        &self,
        layout: &Layout,
        wanted: &[&str],
        take: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Store::Folder(folder) => wanted.iter().enumerate().try_for_each(|(i, name)| {
                let path = folder.join(name);
                match std::fs::metadata(&path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    Ok(found) if found.len() > LARGEST => Err(too_large(&path, name)),
                    _ => take(
                        i,
                        &crate::files::read(&path).map_err(|e| Error::io("read", &path, &e))?,
                    ),
                }
            }),
            Store::Archive(path) => {
                let mut done = vec![false; wanted.len()];
                walk(path, &mut Vec::new(), &mut |member| {
                    let file = member
                        .name
                        .strip_prefix(layout.folder)
                        .and_then(|rest| rest.strip_prefix('/'));
                    if let Some(i) = wanted
                        .iter()
                        .position(|name| Some(*name) == file)
                        .filter(|i| !std::mem::replace(&mut done[*i], true))
                    {
                        let bytes = member.read(LARGEST).map_err(|e| tars::damaged(path, &e))?;
                        take(i, &bytes.ok_or_else(|| too_large(path, wanted[i]))?)?;
                    }
                    Ok(ControlFlow::Continue(()))
                })
            }
        }
    }

    fn path(&self) -> &Path {
        let (Store::Folder(path) | Store::Archive(path)) = self;
        path
    }
}

fn too_large(path: &Path, name: &str) -> Error {
    Error::failed(format!(
        "{name} in {} is larger than any file of CIFAR; get it again",
        path.display()
    ))
}

/// The labels, the names if there are any, and the pixels of one file.
struct Batch<'a> {
    labels: Vec<u16>,
    names: Option<Vec<String>>,
    /// Consecutive records, and the number of bytes that precede each image.
    pixels: Cow<'a, [u8]>,
    skip: usize,
}

impl<'a> Batch<'a> {
    /// Parses a file. An error is a sentence fragment.
    fn parse(bytes: &'a [u8], kind: Kind, classes: usize) -> std::result::Result<Self, String> {
        let (labels, names, pixels, skip) = match kind {
            Kind::Pickle { labels } => {
                let pickle = Pickle::parse(bytes)?;
                if !pickle.is_dict() {
                    return Err("holds no dictionary".into());
                }
                let key = |key: &str| pickle.get(key).ok_or_else(|| format!("has no {key}"));
                let numbers = pickle
                    .numbers(key(labels)?)
                    .ok_or_else(|| format!("has {labels} that are not a list of integers"))?;
                let (shape, pixels) = pickle
                    .bytes(key("data")?)
                    .ok_or("has data that is not an array of bytes (uint8)")?;
                if ![&[numbers.len(), IMAGE][..], &[numbers.len(), 3, SIDE, SIDE]]
                    .contains(&&shape[..])
                {
                    return Err(format!(
                        "has data of the shape {shape:?} instead of [{}, {IMAGE}]",
                        numbers.len()
                    ));
                }
                let names = match pickle.get("filenames") {
                    Some(id) => {
                        let none = "has filenames that are not a list of names";
                        let count = pickle.length(id).ok_or(none)?;
                        if count != numbers.len() {
                            return Err(format!(
                                "has {count} filenames for {} labels",
                                numbers.len()
                            ));
                        }
                        Some(pickle.texts(id).ok_or(none)?)
                    }
                    None => None,
                };
                (numbers, names, pixels, 0)
            }
            Kind::Records { labels } => {
                let (records, rest) =
                    (bytes.chunks_exact(labels + IMAGE), bytes.len() % (labels + IMAGE));
                if rest != 0 {
                    return Err(format!(
                        "has {} bytes, which is not a whole number of {}-byte records",
                        bytes.len(),
                        labels + IMAGE
                    ));
                }
                (
                    records.map(|record| i64::from(record[labels - 1])).collect(),
                    None,
                    Cow::Borrowed(bytes),
                    labels,
                )
            }
        };
        let known = |(i, label): (usize, &i64)| {
            let label = u16::try_from(*label).ok().filter(|label| usize::from(*label) < classes);
            label.ok_or_else(|| {
                format!("has the label {} at image {i}, but there are {classes} classes", labels[i])
            })
        };
        Ok(Self {
            labels: labels
                .iter()
                .enumerate()
                .map(known)
                .collect::<std::result::Result<_, String>>()?,
            names,
            pixels,
            skip,
        })
    }

    fn images(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.skip + IMAGE).map(|record| &record[self.skip..])
    }
}

/// Finds the layout that lies at `place`, and where.
fn locate(place: &Path) -> Result<Option<(&'static Layout, Store)>> {
    static ALL: [Layout; 4] = LAYOUTS;
    if !place.is_dir() {
        let mut found = None;
        // The first member identifies the layout.
        walk(place, &mut Vec::new(), &mut |member| {
            let top = member.name.split('/').next();
            found = ALL.iter().find(|layout| top == Some(layout.folder));
            Ok(ControlFlow::Break(()))
        })?;
        return Ok(found.map(|layout| (layout, Store::Archive(place.to_path_buf()))));
    }
    let pickles = || ALL.iter().filter(|layout| matches!(layout.kind, Kind::Pickle { .. }));
    for layout in pickles() {
        let below = place.join(layout.folder);
        if below.is_dir() {
            return Ok(Some((layout, Store::Folder(below))));
        }
    }
    let named = |layout: &&Layout| place.ends_with(layout.folder);
    // "train" and "test" are common names, so the first bytes must be those of a pickle.
    let holds = |layout: &&Layout| layout.files().iter().any(|name| is_pickle(&place.join(name)));
    let layout = pickles().find(named).or_else(|| pickles().find(holds));
    Ok(layout.map(|layout| (layout, Store::Folder(place.to_path_buf()))))
}

fn is_pickle(path: &Path) -> bool {
    let start = || {
        let mut start = [0; 2];
        std::io::Read::read_exact(&mut std::fs::File::open(path).ok()?, &mut start).ok()?;
        Some(start)
    };
    path.is_file()
        && start().is_some_and(|[first, protocol]| first == 0x80 && (2..=5).contains(&protocol))
}

/// Lists CIFAR at `place`: the folder of its Python version or its parent, or an archive of its
/// Python or binary version.
///
/// # Errors
/// A file that is missing, truncated or damaged, or a pickle that requires anything but values and
/// arrays.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let Some((layout, store)) = locate(place)? else { return Ok(None) };
    let shown = store.path().display().to_string();
    let wrong = |name: &str, reason: &str| {
        let (data, version, archive) = (layout.name, layout.version, layout.archive);
        Error::failed(format!(
            "{shown} is {version} of {data}, but {name} {reason}; get {archive} again"
        ))
    };
    let mut classes: Vec<String> = layout.classes.iter().map(|&class| class.into()).collect();
    if let Some((file, key)) = layout.names {
        store.each(layout, &[file], &mut |_, bytes| {
            let pickle = Pickle::parse(bytes).map_err(|e| wrong(file, &e))?;
            let id = pickle
                .get(key)
                .filter(|id| pickle.length(*id).is_some_and(|count| (2..=256).contains(&count)));
            classes = id
                .and_then(|id| pickle.texts(id))
                .ok_or_else(|| wrong(file, &format!("has no list of names under {key}")))?;
            unique(&mut classes);
            Ok(())
        })?;
    }
    let files = layout.files();
    let mut batches: Vec<Option<(Vec<u16>, Vec<String>)>> = files.iter().map(|_| None).collect();
    store.each(layout, &files, &mut |i, bytes| {
        let Batch { labels, names, .. } =
            Batch::parse(bytes, layout.kind, classes.len()).map_err(|e| wrong(files[i], &e))?;
        let names = names.unwrap_or_else(|| {
            (0..labels.len()).map(|row| format!("{}:{row}", files[i])).collect()
        });
        batches[i] = Some((labels, names));
        Ok(())
    })?;
    let missing: Vec<String> =
        files.iter().zip(&batches).filter(|(_, b)| b.is_none()).map(|(f, _)| (*f).into()).collect();
    if !missing.is_empty() {
        return Err(wrong(
            &some_of(&missing),
            if missing.len() == 1 { "is missing" } else { "are missing" },
        ));
    }
    let (mut entries, mut names, mut starts) = (Vec::new(), Vec::new(), vec![0]);
    for (i, (labels, of_batch)) in batches.into_iter().flatten().enumerate() {
        let set = Some(if i < layout.train.len() { Set::Train } else { Set::Test });
        entries.extend(labels.into_iter().map(|label| Entry { name: String::new(), label, set }));
        names.extend(of_batch);
        starts.push(entries.len());
    }
    unique(&mut names);
    entries.iter_mut().zip(names).for_each(|(entry, name)| entry.name = name);
    let mut left_out = Vec::new();
    for other in LAYOUTS
        .iter()
        .filter(|other| other.folder != layout.folder && place.join(other.folder).is_dir())
    {
        LeftOut::add(&mut left_out, "other data sets in the same folder", || other.folder.into());
    }
    let reading =
        format!("{} of {}, with its own training and test images", layout.version, layout.name);
    let name = layout.name.to_owned();
    Ok(Some(Listing {
        name,
        reading,
        contents: contents(layout, store, starts, classes.len()),
        classes,
        entries,
        left_out,
        by_turns: false,
    }))
}

/// Makes the contents. `starts` holds the number of each file's first image, followed by the number
/// of all images.
fn contents(layout: &'static Layout, store: Store, starts: Vec<usize>, classes: usize) -> Contents {
    Box::new(move |visit| {
        let files = layout.files();
        let mut seen = 0;
        store.each(layout, &files, &mut |i, bytes| {
            let path = store.path().display();
            let wrong = |e: &str| {
                Error::failed(format!(
                    "{} in {path} {e} since it was listed; run the command again",
                    files[i]
                ))
            };
            let batch = Batch::parse(bytes, layout.kind, classes).map_err(|e| wrong(&e))?;
            if batch.labels.len() != starts[i + 1] - starts[i] {
                return Err(wrong("has changed"));
            }
            seen += 1;
            let planes = |image: &[u8]| Content::Planes { side: SIDE, pixels: image.to_vec() };
            batch
                .images()
                .zip(starts[i]..)
                .try_for_each(|(image, number)| visit(number, planes(image)))
        })?;
        if seen == files.len() {
            return Ok(());
        }
        Err(Error::failed(format!(
            "{} has lost files since it was listed; run the command again",
            store.path().display()
        )))
    })
}

#[cfg(test)]
mod tests;
