//! The `linear` protocol from images to scores, and what it is compared with.

use super::features::{self, Augmented, Features};
use super::linear::{LinearProbe, ProbeShape, Scores, mean_and_spread, train_and_score};
use crate::config::Config;
use crate::data::{Dataset, Images, split};
use crate::error::{Error, Result};
use crate::model::Soda;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// What the probe trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainViews {
    /// The plain image.
    #[serde(rename = "1")]
    Plain,
    /// The plain image and its mirror image, encoded once.
    #[serde(rename = "2")]
    Flip,
    /// Crop and flip with probability 0.65, drawn and encoded afresh in each epoch.
    Online,
}

/// Which images train the probe and which judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// All training images; the test images judge: the number to report.
    Test,
    /// 90 % of the training images; the other 10 % judge: for choosing between recipes.
    Selection,
}

/// Mean and sample standard deviation over the probe seeds, per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Top-1 accuracy.
    pub top1: f64,
    /// Top-3 accuracy.
    pub top3: f64,
    /// Top-5 accuracy.
    pub top5: f64,
    /// Spread of top-1.
    pub top1_spread: f64,
    /// Spread of top-3.
    pub top3_spread: f64,
    /// Spread of top-5.
    pub top5_spread: f64,
}

impl Score {
    fn of(scores: &[Scores]) -> Self {
        let over = |f: fn(&Scores) -> f64| mean_and_spread(&scores.iter().map(f).collect::<Vec<_>>());
        let [(top1, top1_spread), (top3, top3_spread), (top5, top5_spread)] =
            [over(|s| s.top1), over(|s| s.top3), over(|s| s.top5)];
        Self { top1, top3, top5, top1_spread, top3_spread, top5_spread }
    }
}

/// How to probe.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What the probe trains on.
    pub views: TrainViews,
    /// Who judges.
    pub split: Split,
    /// Probes trained, with seeds 0, 1, ..
    pub seeds: u64,
}

impl Protocol {
    /// Images that train and images that judge: indices of the training set, and of the training or the test set.
    pub fn indices(&self, data: &Dataset) -> (Vec<usize>, Vec<usize>) {
        match self.split {
            Split::Test => ((0..data.train.len()).collect(), (0..data.test.len()).collect()),
            Split::Selection => split::selection_split(data.train.labels()),
        }
    }

    /// The images that the second indices belong to.
    fn judges<'a>(&self, data: &'a Dataset) -> &'a Images {
        if self.split == Split::Test { &data.test } else { &data.train }
    }

    /// [`Protocol::indices`], where `data` has what a probe needs.
    fn probe_indices(&self, data: &Dataset) -> Result<(Vec<usize>, Vec<usize>)> {
        data.require_classes("a probe")?;
        let (train, judge) = self.indices(data);
        if judge.is_empty() {
            let origin = &data.origin;
            let message =
                format!("{origin} has too few images to hold 10 % of each class out; judge by the test set (--split test)");
            return Err(Error::failed(message));
        }
        Ok((train, judge))
    }

    fn score(&self, config: &Config, classes: usize, train: &Features, test: &Features) -> Result<Score> {
        let score = |seed| train_and_score(train, test, classes, &config.probe, seed);
        let scores: Result<Vec<_>> = (0..self.seeds).map(score).collect();
        Ok(Score::of(&scores?))
    }

    /// The score of `model`'s z under the `linear` protocol.
    ///
    /// # Errors
    /// If the data has no two classes or too few images, the features aren't finite or the device fails.
    pub fn linear(&self, model: &Soda, config: &Config, data: &Dataset, device: &Device) -> Result<Score> {
        let (train, judge) = self.probe_indices(data)?;
        let classes = data.classes.len();
        let judges = self.judges(data);
        let test = features::encode(model, judges, &judge, &config.data, false, device)?;
        if self.views != TrainViews::Online {
            let train = features::encode(model, &data.train, &train, &config.data, self.views == TrainViews::Flip, device)?;
            return self.score(config, classes, &train, &test);
        }
        let mut probes: Vec<LinearProbe> = Vec::new();
        let mut views = Augmented::new(&data.train, &train, &config.data);
        for epoch in 0..config.probe.epochs {
            // One encoding an epoch serves the probes of every seed.
            let features = views.encode(model, epoch as u64, device)?;
            if probes.is_empty() {
                let shape = ProbeShape::linear(classes);
                let new = |seed| LinearProbe::new(features.dim, features.rows(), shape, &config.probe, seed);
                probes = (0..self.seeds).map(new).collect::<Result<_>>()?;
            }
            for probe in &mut probes {
                probe.train_epoch(&features)?;
            }
        }
        let scores: Result<Vec<_>> = probes.iter().map(|p| p.score(&test)).collect();
        Ok(Score::of(&scores?))
    }

    /// The same protocol on raw pixels and on a randomly initialised encoder with calibrated BatchNorm statistics; encoded
    /// once, with flips unless the views are plain.
    ///
    /// # Errors
    /// If the data has no two classes or too few images, or the device fails.
    pub fn baselines(&self, config: &Config, data: &Dataset, device: &Device) -> Result<Baselines> {
        let (train, judge) = self.probe_indices(data)?;
        let classes = data.classes.len();
        let judges = self.judges(data);
        let flips = self.views != TrainViews::Plain;
        let (of_train, of_judges) = (features::pixels(&data.train, &train, flips), features::pixels(judges, &judge, false));
        let pixels = self.score(config, classes, &of_train, &of_judges)?;
        let random = Soda::new(&config.model, config.seed, device);
        let random = features::calibrate(random, &data.train, &train, &config.data, device);
        let random_encoder = self.score(
            config,
            classes,
            &features::encode(&random, &data.train, &train, &config.data, flips, device)?,
            &features::encode(&random, judges, &judge, &config.data, false, device)?,
        )?;
        Ok(Baselines { pixels, random_encoder })
    }
}

/// What knows nothing, scored in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// Raw pixels as features.
    pub pixels: Score,
    /// z of an untrained encoder.
    pub random_encoder: Score,
}
