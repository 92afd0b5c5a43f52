//! Validation during training: k-NN and a linear probe on training images held out from both.

use super::features;
use super::knn::{self, Rule};
use super::linear::train_and_score;
use super::probe::trained;
use crate::config::{Config, TrainConfig};
use crate::data::{Dataset, split};
use crate::error::Result;
use crate::model::Soda;
use crate::rng::{self, Purpose};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Scores on the validation split, in per cent. The encoder was trained on all of these images,
/// without labels; the test set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Top-1 of `knn` on z.
    pub knn: f64,
    /// Top-1 of `linear` on z of plain images, probe seed 0.
    pub linear: f64,
    /// Number of images that k-NN and the probe were fitted on.
    pub n_train: usize,
    /// Number of evaluation images.
    pub n_validation: usize,
}

/// Checks whether training with the settings `train` scores the networks on the selection split of
/// `data`, which takes two classes and images to hold out.
pub fn is_scored(train: &TrainConfig, data: &Dataset) -> bool {
    let has_held_out = || !split::selection_split(data.train.labels()).1.is_empty();
    train.evaluate_every > 0 && data.classes.len() > 1 && has_held_out()
}

/// Scores `model` on the selection split of `data`. k-NN and the probe are fitted on `limit` images
/// of its training part (0: all), the same ones each time. Returns `None` if there are fewer than
/// two classes or too few images to hold any out.
///
/// # Errors
/// If the features aren't finite or the device fails.
pub fn validate(
    model: &Soda,
    config: &Config,
    data: &Dataset,
    limit: usize,
    device: &Device,
) -> Result<Option<Validation>> {
    let (train, held_out) = split::selection_split(data.train.labels());
    let classes = data.classes.len();
    if classes < 2 || held_out.is_empty() {
        return Ok(None);
    }
    let order = rng::permutation(&mut rng::stream(0, Purpose::Split, 1), train.len());
    let limit = if limit == 0 { train.len() } else { limit.min(train.len()) };
    let train: Vec<usize> = order.iter().take(limit).map(|&i| train[i as usize]).collect();
    let encode = |indices: &[usize]| {
        features::encode(model, &data.train, indices, &config.data, false, device)
    };
    let (train, held_out) = (encode(&train)?, encode(&held_out)?);
    Ok(Some(Validation {
        knn: knn::score(&train, &held_out, classes, Rule::KNN)?.top1,
        linear: train_and_score(
            &train,
            &held_out,
            classes,
            &trained(&config.probe, data, train.rows(), 1),
            0,
        )?
        .top1,
        n_train: train.rows(),
        n_validation: held_out.rows(),
    }))
}
