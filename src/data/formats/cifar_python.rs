//! CIFAR-10 and CIFAR-100 in their Python version, as a folder or an archive, and the archives of
//! their binary version. Pickles are read as data, see [`pickle`](super::pickle).

mod batch;
mod layout;

use self::batch::Batch;
use self::layout::{Kind, LAYOUTS, Layout, SIDE};
use super::pickle::Pickle;
use super::shared::{some_of, unique};
use super::tars::{self, LARGEST, walk};
use crate::data::listing::{Content, Contents, Entry, LeftOut, Listing, Set};
use crate::error::{Error, Result};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

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
