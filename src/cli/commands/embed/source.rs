//! Where `soda embed` gets its images: files, or a set of the data.

use super::args::Args;
use super::shard::Shard;
use soda::data::Dataset;
use soda::data::stream::{Listed, Read, Stream};
use soda::error::{Error, Result};
use soda::eval::features::batch_size_of;
use soda::model::weights::WeightsFile;
use soda::units::grouped;
use std::sync::Arc;

/// One entry found in the source of images.
pub enum Found {
    /// An image: its name and pixels.
    Image(String, Vec<u8>),
    /// An unreadable image: its name and the reason.
    Unreadable(String),
    /// Not an image: its name, and what it is.
    LeftOut(String, String),
}

/// A source of images.
pub struct Source {
    /// The number of images, if known.
    pub count: Option<usize>,
    /// Their labels, if they have any.
    pub labels: Option<Vec<u16>>,
    /// Whether they have names of their own.
    pub named: bool,
    /// The names of all images, if they come from files.
    pub listed: Option<Arc<Listed>>,
    pub batches: Box<dyn Iterator<Item = Result<Vec<Found>>>>,
}

impl Source {
    pub fn open(
        args: &Args,
        weights: &WeightsFile,
        dataset: Option<&Dataset>,
        shard: Option<Shard>,
    ) -> Result<Self> {
        let config = &weights.config;
        let (side, at_once) = (config.data.side, batch_size_of(config.model.sides));
        let (Some(split), Some(dataset)) = (&args.split, dataset) else {
            let found = |read: Read| match read {
                Read::Image(path, Ok(pixels)) => Found::Image(path.display().to_string(), pixels),
                Read::Image(path, Err(why)) => {
                    Found::Unreadable(format!("{} {why}", path.display()))
                }
                Read::LeftOut(path, what) => Found::LeftOut(path.display().to_string(), what),
            };
            let part = shard.map_or((0, 1), |shard| (shard.index, shard.of));
            let stream = Stream::open(&args.paths, part, at_once, side)?;
            let listed = Some(stream.listed());
            let batches = stream.map(move |batch| Ok(batch?.into_iter().map(found).collect()));
            return Ok(Self {
                count: None,
                labels: None,
                named: true,
                listed,
                batches: Box::new(batches),
            });
        };
        let images = Arc::clone(if split == "test" { &dataset.test } else { &dataset.train });
        let count = args.limit.map_or(images.len(), |n| n as usize);
        if count > images.len() {
            return Err(Error::usage(format!(
                "--limit {count}: the {split} set holds {} images",
                grouped(images.len() as u64)
            )));
        }
        let own = shard.map_or(0..count, |shard| shard.range(count));
        let labels = (!dataset.classes.is_empty()).then(|| images.labels()[own.clone()].to_vec());
        if args.labels.is_some() && labels.is_none() {
            return Err(Error::failed(format!(
                "--labels: the images of {} have no classes",
                dataset.origin
            )));
        }
        let named = count > 0 && images.own_name(0).is_some();
        let end = own.end;
        let batch = move |first: usize| {
            let image = |i: usize| {
                Ok(Found::Image(images.name(i).into_owned(), images.image(i)?.into_owned()))
            };
            (first..end.min(first + at_once)).map(image).collect()
        };
        let batches = own.clone().step_by(at_once).map(batch);
        Ok(Self { count: Some(own.len()), labels, named, listed: None, batches: Box::new(batches) })
    }
}
