//! The members of a tar shard: images, and the labels that belong to them by name.

use super::tars::{Member, damaged, walk};
use crate::data::listing::LeftOut;
use crate::data::picture::named_image;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// The longest label file, in bytes.
const LONGEST: u64 = 1 << 20;
/// The longest label in characters; anything longer is a description of the image.
const LONGEST_LABEL: usize = 100;

/// The source of a label, most reliable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Cls,
    Json,
    ClsTxt,
    Txt,
}

impl Source {
    /// Returns the source by what follows the first dot of a member's name.
    fn of(ending: &str) -> Option<Self> {
        match ending.to_ascii_lowercase().as_str() {
            "cls" => Some(Self::Cls),
            "json" => Some(Self::Json),
            "cls.txt" => Some(Self::ClsTxt),
            "txt" => Some(Self::Txt),
            _ => None,
        }
    }

    pub fn ending(self) -> &'static str {
        match self {
            Self::Cls => ".cls",
            Self::Json => ".json",
            Self::ClsTxt => ".cls.txt",
            Self::Txt => ".txt",
        }
    }
}

/// An image in a shard.
pub(super) struct Image {
    /// The member's path and its number among the plain files.
    pub path: String,
    pub member: usize,
    /// The labels of its sample.
    pub labels: Vec<(Source, String)>,
    /// Whether another image of the same sample is used instead.
    pub further: bool,
}

/// The contents of a shard.
pub(super) struct Shard {
    pub images: Vec<Image>,
    /// Members that hold labels, if the samples are labelled; otherwise they count as files that
    /// are not images.
    pub label_files: Vec<String>,
}

/// Splits a member's path at the first dot of its file name, into what precedes and what follows
/// that dot.
fn parts(path: &str) -> (&str, &str) {
    let own = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[own..].find('.') {
        Some(dot) => (&path[..own + dot], &path[own + dot + 1..]),
        None => (path, ""),
    }
}

/// Reads the names and the labels of the shard at `path`.
pub(super) fn scan(path: &Path, left_out: &mut Vec<LeftOut>) -> Result<Shard> {
    let (mut images, mut label_files): (Vec<Image>, Vec<String>) = (Vec::new(), Vec::new());
    let mut labels: HashMap<String, Vec<(Source, String)>> = HashMap::new();
    let mut others = Vec::new();
    walk(path, left_out, &mut |member| {
        let (key, ending) = parts(&member.name);
        if named_image(&member.name) {
            let (path, member) = (member.name.clone(), member.number);
            images.push(Image { path, member, labels: Vec::new(), further: false });
        } else if let Some(source) = Source::of(ending) {
            let key = key.to_owned();
            if let Some(label) = label(path, member, source)? {
                let of_sample = labels.entry(key).or_default();
                // Every image of the sample gets all its labels. Of several with the same
                // extension, the first one counts.
                if of_sample.iter().all(|(other, _)| *other != source) {
                    of_sample.push((source, label));
                }
            }
            label_files.push(member.name.clone());
        } else {
            LeftOut::add(&mut others, "members that are not images", || member.name.clone());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    left_out.extend(others);
    // If a labelled sample has several images, the one whose extension is just that of an image
    // counts.
    let plain = |ending: &str| !ending.contains('.') && named_image(&format!(".{ending}"));
    let mut first: HashMap<String, usize> = HashMap::new();
    for i in 0..images.len() {
        let (key, ending) = parts(&images[i].path);
        let Some(found) = labels.get(key) else { continue };
        let (key, is_plain) = (key.to_owned(), plain(ending));
        images[i].labels.clone_from(found);
        match first.get(&key) {
            None => drop(first.insert(key, i)),
            Some(&other) if is_plain && !plain(parts(&images[other].path).1) => {
                images[other].further = true;
                first.insert(key, i);
            }
            Some(_) => images[i].further = true,
        }
    }
    Ok(Shard { images, label_files })
}

/// Reads the label that a member holds.
fn label(path: &Path, member: &mut Member, source: Source) -> Result<Option<String>> {
    let name = member.name.clone();
    let wrong = |what: &str| {
        let path = path.display();
        Err(Error::failed(format!(
            "{name} in {path} {what}; fix it, or pack the shard again without it"
        )))
    };
    let Some(bytes) = member.read(LONGEST).map_err(|e| damaged(path, &e))? else {
        // Long descriptions are not labels.
        return if source == Source::Txt { Ok(None) } else { wrong("is too long for a label") };
    };
    let short = |text: &str| {
        let text = text.trim();
        let fits =
            !text.is_empty() && !text.contains('\n') && text.chars().count() <= LONGEST_LABEL;
        // "007" is 7.
        fits.then(|| {
            text.parse::<i64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
        })
    };
    match source {
        Source::Json => {
            let value: serde_json::Value = match serde_json::from_slice(&bytes) {
                Ok(value) => value,
                Err(e) => return wrong(&format!("is not JSON ({e})")),
            };
            let found = value.get("label").or_else(|| value.get("cls"));
            Ok(match found {
                Some(serde_json::Value::Number(number)) => Some(number.to_string()),
                Some(serde_json::Value::String(text)) => short(text),
                _ => None,
            })
        }
        _ => match short(&String::from_utf8_lossy(&bytes)) {
            None if source != Source::Txt => wrong("is not a label, which is one short line"),
            label => Ok(label),
        },
    }
}
