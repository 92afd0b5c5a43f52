//! One file of images with their labels.

use super::layout::{IMAGE, Kind, SIDE};
use crate::data::formats::pickle::Pickle;
use std::borrow::Cow;

/// The labels, the names if there are any, and the pixels of one file.
pub(super) struct Batch<'a> {
    pub(super) labels: Vec<u16>,
    pub(super) names: Option<Vec<String>>,
    /// Consecutive records, and the number of bytes that precede each image.
    pub(super) pixels: Cow<'a, [u8]>,
    pub(super) skip: usize,
}

impl<'a> Batch<'a> {
    /// Parses a file. An error is a sentence fragment.
    pub(super) fn parse(
        bytes: &'a [u8],
        kind: Kind,
        classes: usize,
    ) -> std::result::Result<Self, String> {
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

    pub(super) fn images(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.skip + IMAGE).map(|record| &record[self.skip..])
    }
}
