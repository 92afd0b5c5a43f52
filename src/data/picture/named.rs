//! Images that a user names: a file, or an image of the data set.

use super::read_picture;
use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::units::grouped;
use std::path::{Component, Path};

/// One image, ready for the encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `[3, side, side]`.
    pub pixels: Vec<u8>,
    /// Its class, if it belongs to a data set that has classes.
    pub label: Option<u16>,
    /// The display name: the file's name, or the position in the data set with the class name:
    /// "test:17 (ship)".
    pub name: String,
}

/// Makes the `names` of the images that `specs` name distinct: where files of several folders have
/// the same name, each gets as many of the folders above it as tell them apart.
pub fn distinct(specs: &[String], names: &mut [String]) {
    // The last `depth` parts of a path.
    let tail = |spec: &str, depth: usize| {
        let parts: Vec<_> = Path::new(spec)
            .components()
            .filter(|part| !matches!(part, Component::CurDir | Component::RootDir))
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        parts[parts.len().saturating_sub(depth)..].join("/")
    };
    let shared: Vec<Vec<usize>> = names
        .iter()
        .map(|name| (0..names.len()).filter(|&i| names[i] == *name).collect())
        .collect();
    for (i, same) in shared.iter().enumerate() {
        let others = || same.iter().map(|&other| &specs[other]).filter(|spec| **spec != specs[i]);
        let deepest = Path::new(&specs[i]).components().count();
        let apart =
            |depth: &usize| others().all(|other| tail(other, *depth) != tail(&specs[i], *depth));
        if others().next().is_some() {
            names[i] = (2..=deepest)
                .find(apart)
                .map_or_else(|| specs[i].clone(), |depth| tail(&specs[i], depth));
        }
    }
}

/// Loads the image that `spec` names at `side` pixels a side. `test:17` or `train:3`, counted from
/// 0, is an image of the data set; only then is `dataset` called (its images must have that side).
/// Anything else is the path of a file for [`read_picture`].
///
/// # Errors
/// An index that isn't a number or is out of range; errors of `dataset` and of [`read_picture`].
pub fn resolve(
    spec: &str,
    side: usize,
    dataset: impl FnOnce() -> Result<Dataset>,
) -> Result<Picture> {
    let indexed = ["test", "train"]
        .into_iter()
        .find_map(|set| Some((set, spec.strip_prefix(set)?.strip_prefix(':')?)));
    // An existing file of that name takes precedence.
    let Some((set, index)) = indexed.filter(|_| !Path::new(spec).exists()) else {
        let path = Path::new(spec);
        if let Some((set, index)) = spec.split_once(':')
            && index.parse::<usize>().is_ok()
            && !path.exists()
        {
            return Err(Error::usage(format!(
                "{spec}: there is no such file, and no set {set}; images of the data set are \
                 test:N and train:N"
            )));
        }
        let name = path.file_name().map_or_else(|| spec.into(), |name| name.to_string_lossy());
        return Ok(Picture {
            pixels: read_picture(path, side)?,
            label: None,
            name: name.into_owned(),
        });
    };
    let index: usize = index.parse().map_err(|_| {
        Error::usage(format!(
            "{spec}: {set}: must be followed by the number of an image, counted from 0, for \
             example {set}:17"
        ))
    })?;
    let dataset = dataset()?;
    let images = if set == "test" { &dataset.test } else { &dataset.train };
    if index >= images.len() {
        let (n, last) = (images.len(), images.len().saturating_sub(1));
        return Err(Error::usage(format!(
            "{spec}: the {set} set of {} holds {} images; choose 0 to {last}",
            dataset.name,
            grouped(n as u64)
        )));
    }
    let label = images.label(index);
    let class = dataset.classes.get(usize::from(label));
    // Its position in the data set, as the user gave it, followed by what is known of it: "test:17
    // (ship)", "test:17 (cats/3.jpg, cats)".
    let known: Vec<&str> =
        images.own_name(index).into_iter().chain(class.map(String::as_str)).collect();
    let name =
        if known.is_empty() { spec.to_owned() } else { format!("{spec} ({})", known.join(", ")) };
    Ok(Picture { pixels: images.image(index)?.into_owned(), label: class.map(|_| label), name })
}
