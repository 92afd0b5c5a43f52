//! Tar shards: WebDataset, whose samples are members with the same name and different extensions,
//! and archives of folders of images.

use super::samples::{self, Image, Source, scan};
use super::shared::{OfSet, Shard, check_count, choose, classes_of, shards_of, title, unique};
use super::tars::{damaged, walk};
use super::tree::Tree;
use crate::data::listing::{Content, Contents, Entry, LeftOut, Listing, Set};
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

/// The largest image that is read, in bytes.
const LARGEST: u64 = 256 << 20;
/// The file next to the shards that names the classes by number.
const NAMES: &str = "classes.txt";

/// Lists the tar shards at `place`: an archive, gzipped or not, or a folder with `.tar` files in
/// it, in its `data`, or in folders named as sets.
///
/// # Errors
/// A shard that is truncated, damaged or holds no images; a label that can't be read, or that
/// classes.txt doesn't name.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let mut left_out = Vec::new();
    let is_folder = place.is_dir();
    let shards = if is_folder {
        shards_of(place, ".tar", &mut left_out)?
    } else {
        vec![(Shard { path: place.to_path_buf(), name: title(place), set: None }, false)]
    };
    if shards.is_empty() {
        return Ok(None);
    }
    left_out.retain(|kind: &LeftOut| kind.first != [NAMES]);
    let (mut found, mut label_files) = (Vec::new(), Vec::new());
    let mut paths = Vec::new();
    for (number, (shard, validation)) in shards.into_iter().enumerate() {
        let samples::Shard { images, label_files: more } = scan(&shard.path, &mut left_out)?;
        label_files.extend(more);
        let within =
            |path: &str| if is_folder { format!("{}/{path}", shard.name) } else { path.to_owned() };
        found.extend(images.into_iter().map(|image| {
            let one = Found {
                name: within(&image.path),
                shard: number,
                set: shard.set,
                class: None,
                image,
            };
            (one, validation)
        }));
        paths.push(shard.path);
    }
    if found.is_empty() {
        return Err(Error::failed(format!(
            "{} holds no images; name an archive or folder that does",
            place.display()
        )));
    }
    let reading = match labelled(&mut found, place, &mut left_out)? {
        Some(reading) => reading,
        None => {
            for name in label_files {
                LeftOut::add(&mut left_out, "members that are not images", || name);
            }
            by_folders(&mut found, &mut left_out)
        }
    };
    let chosen = choose(found, &mut left_out, "images");
    let named: Vec<&str> = chosen.iter().filter_map(|one| one.class.as_deref()).collect();
    let (classes, labels) = match named.len() {
        0 => (Vec::new(), vec![0; chosen.len()]),
        _ => classes_of(&named, place)?,
    };
    let (classes, labels) =
        named_in_file(classes, labels, if is_folder { Some(place) } else { place.parent() })?;
    let mut names: Vec<String> = chosen.iter().map(|one| one.name.clone()).collect();
    unique(&mut names);
    let mut members = vec![Vec::new(); paths.len()];
    chosen.iter().enumerate().for_each(|(i, one)| members[one.shard].push((one.image.member, i)));
    let entry = |((one, name), label): ((Found, String), u16)| Entry { name, label, set: one.set };
    let entries = chosen.into_iter().zip(names).zip(labels).map(entry).collect();
    let name = format!("images of {}", title(place));
    let contents = contents(paths.into_iter().zip(members).collect());
    Ok(Some(Listing { name, reading, classes, entries, left_out, contents, by_turns: true }))
}

/// An image that was found.
struct Found {
    name: String,
    shard: usize,
    set: Option<Set>,
    class: Option<String>,
    image: Image,
}

impl OfSet for Found {
    fn set(&mut self) -> &mut Option<Set> {
        &mut self.set
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Takes the classes from the labels of samples and the sets from the folders around them. Returns
/// a description of how, or `None` if there are no labels.
fn labelled(
    found: &mut Vec<(Found, bool)>,
    place: &Path,
    left_out: &mut Vec<LeftOut>,
) -> Result<Option<String>> {
    let best = found.iter().flat_map(|(one, _)| &one.image.labels).map(|(source, _)| *source).min();
    let Some(source) = best else { return Ok(None) };
    let shown = place.display();
    let labels = |one: &Found| {
        one.image.labels.iter().find(|(of, _)| *of == source).map(|(_, label)| label.clone())
    };
    if source == Source::Txt {
        let all: Vec<String> = found.iter().filter_map(|(one, _)| labels(one)).collect();
        let distinct: HashSet<&String> = all.iter().collect();
        // Descriptions rarely repeat.
        if 2 * distinct.len() > all.len() {
            return Ok(None);
        }
    }
    folders_as_sets(found);
    let mut kept = Vec::with_capacity(found.len());
    for (mut one, validation) in found.drain(..) {
        one.class = labels(&one);
        if one.image.further {
            LeftOut::add(left_out, "further images of a sample", || one.name);
        } else if one.class.is_none() {
            LeftOut::add(
                left_out,
                &format!("images without a label ({})", source.ending()),
                || one.name,
            );
        } else {
            kept.push((one, validation));
        }
    }
    *found = kept;
    if found.is_empty() {
        return Err(Error::failed(format!(
            "{shown} holds no images with labels; name an archive or folder that does"
        )));
    }
    let how = if source == Source::Txt {
        "; they repeat, so they are classes, not descriptions"
    } else {
        ""
    };
    Ok(Some(format!("WebDataset, with the labels in {} members{how}", source.ending())))
}

/// Takes the sets from the folders that samples may lie in.
fn folders_as_sets(found: &mut [(Found, bool)]) {
    let tree = Tree::of(&found.iter().map(|(one, _)| one.image.path.as_str()).collect::<Vec<_>>());
    for ((one, validation), place) in found.iter_mut().zip(tree.images) {
        if let (None, Some(set)) = (one.set, place.set) {
            (one.set, *validation) = (Some(set.0), set.1);
        }
    }
}

/// Takes classes and sets from the folders of the members. Returns a description of how.
fn by_folders(found: &mut Vec<(Found, bool)>, left_out: &mut Vec<LeftOut>) -> String {
    let tree = Tree::of(&found.iter().map(|(one, _)| one.image.path.as_str()).collect::<Vec<_>>());
    let mut kept = Vec::with_capacity(found.len());
    for ((mut one, mut validation), place) in found.drain(..).zip(tree.images) {
        if let (None, Some(set)) = (one.set, place.set) {
            (one.set, validation) = (Some(set.0), set.1);
        }
        one.class = place.class;
        if tree.classes && one.class.is_none() {
            LeftOut::add(left_out, "images next to the class folders", || one.name);
        } else {
            kept.push((one, validation));
        }
    }
    *found = kept;
    format!("an archive of images; {}", tree.reading)
}

/// If `classes.txt` exists in `folder` and the classes are numbers, names them by its lines. All of
/// its lines become classes.
fn named_in_file(
    classes: Vec<String>,
    labels: Vec<u16>,
    folder: Option<&Path>,
) -> Result<(Vec<String>, Vec<u16>)> {
    let numbers: Option<Vec<usize>> = classes.iter().map(|class| class.parse().ok()).collect();
    let path = folder.map(|folder| folder.join(NAMES)).filter(|path| path.is_file());
    let (Some(path), Some(numbers), false) = (path, numbers, classes.is_empty()) else {
        return Ok((classes, labels));
    };
    let failed = |e| Error::io("read", &path, &e);
    if std::fs::metadata(&path).map_err(failed)?.len() > LARGEST {
        return Err(Error::failed(format!(
            "{} is too long for a list of class names, one per line",
            path.display()
        )));
    }
    let text = crate::files::read(&path).map_err(failed)?;
    let text = String::from_utf8_lossy(&text);
    let mut names: Vec<String> =
        text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    check_count(names.len(), &path)?;
    unique(&mut names);
    if let Some(number) = numbers.iter().find(|number| **number >= names.len()) {
        let (shown, count) = (path.display(), names.len());
        return Err(Error::failed(format!(
            "{shown} names {count} classes, counted from 0, but an image has the label {number}; \
             add the missing names, or move the file away"
        )));
    }
    let labels = labels.into_iter().map(|label| numbers[usize::from(label)] as u16).collect();
    Ok((names, labels))
}

/// Makes the contents of `shards`, each with its image members in order: the member's number and
/// that of its image.
fn contents(shards: Vec<(std::path::PathBuf, Vec<(usize, usize)>)>) -> Contents {
    Box::new(move |visit| {
        for (path, members) in &shards {
            let mut wanted = members.iter().peekable();
            walk(path, &mut Vec::new(), &mut |member| {
                if let Some((_, number)) = wanted.next_if(|(at, _)| *at == member.number) {
                    let content = match member.read(LARGEST).map_err(|e| damaged(path, &e))? {
                        Some(bytes) if bytes.len() as u64 == member.size => Content::Encoded(bytes),
                        Some(_) => {
                            return Err(damaged(path, &"a member is shorter than it should be"));
                        }
                        None => {
                            Content::Unreadable(format!("is larger than {} MiB", LARGEST >> 20))
                        }
                    };
                    visit(*number, content)?;
                }
                Ok(if wanted.peek().is_none() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
            if wanted.peek().is_some() {
                let shown = path.display();
                return Err(Error::failed(format!(
                    "{shown} has changed since it was listed; run the command again"
                )));
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
