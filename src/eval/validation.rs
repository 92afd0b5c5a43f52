//! What z is worth while a run goes on: k-NN and a linear probe, judged by training images that
//! were held out from both.

use super::features;
use super::knn::{self, Rule};
use super::linear::train_and_score;
use super::probe::trained;
use crate::config::Config;
use crate::data::{Dataset, split};
use crate::error::Result;
use crate::model::Soda;
use crate::rng::{self, Purpose};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Scores on the validation split, per cent. The encoder has seen all of these images, without
/// labels; the test set is not touched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Top-1 of `knn` on z.
    pub knn: f64,
    /// Top-1 of `linear` on z, of plain images, probe seed 0.
    pub linear: f64,
    /// Images that k-NN and probe learnt from.
    pub n_train: usize,
    /// Images that judged.
    pub n_validation: usize,
}

/// Scores `model` on the selection split of `data`; k-NN and probe learn from `limit` images of its
/// training part (0: all), the same ones each time. `None` where the images have no two classes or
/// too few to hold any out.
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
    let (train, judge) = split::selection_split(data.train.labels());
    let classes = data.classes.len();
    if classes < 2 || judge.is_empty() {
        return Ok(None);
    }
    let order = rng::permutation(&mut rng::stream(0, Purpose::Split, 1), train.len());
    let limit = if limit == 0 { train.len() } else { limit.min(train.len()) };
    let train: Vec<usize> = order.iter().take(limit).map(|&i| train[i as usize]).collect();
    let encode = |indices: &[usize]| {
        features::encode(model, &data.train, indices, &config.data, false, device)
    };
    let (train, judge) = (encode(&train)?, encode(&judge)?);
    Ok(Some(Validation {
        knn: knn::score(&train, &judge, classes, Rule::KNN)?.top1,
        linear: train_and_score(
            &train,
            &judge,
            classes,
            &trained(&config.probe, data, train.rows(), 1),
            0,
        )?
        .top1,
        n_train: train.rows(),
        n_validation: judge.rows(),
    }))
}
