//! The image that a command is given.

use crate::data::{Dataset, IMAGE, Images, PLANE, SIDE};
use crate::error::{Error, Result};
use std::path::Path;

/// The image that `spec` names, alone: `test:17` and `train:3` are images of `dataset`, anything else a file, made 32 x 32.
///
/// # Errors
/// An index out of range; a file that isn't there or can't be read as an image.
pub fn image(spec: &str, dataset: &Dataset) -> Result<Images> {
    for (set, images) in [("test", &dataset.test), ("train", &dataset.train)] {
        let Some(index) = spec.strip_prefix(set).and_then(|rest| rest.strip_prefix(':')) else { continue };
        return match index.parse::<usize>() {
            Ok(i) if i < images.len() => Ok(images.select(&[i])),
            _ => Err(Error::usage(format!(
                "{spec}: the {set} set holds {} images, counted from 0; choose one of them",
                images.len()
            ))),
        };
    }
    let read = image::open(Path::new(spec));
    let read = read.map_err(|e| Error::failed(format!("cannot read the image {spec}: {e}; name a PNG file, or test:0")))?;
    let small = read.resize_to_fill(SIDE as u32, SIDE as u32, image::imageops::FilterType::Triangle).to_rgb8();
    let pixels = (0..IMAGE).map(|i| small.as_raw()[i % PLANE * 3 + i / PLANE]).collect();
    Ok(Images::new(pixels, vec![0]))
}
