//! The protocols from images to scores, and what these are compared with.

use super::features::{self, Augmented, FeatureKind, Frozen, Pixels, Rows, Selected};
use super::linear::{LinearProbe, ProbeShape, Scores, batches, mean_and_spread};
use super::method::Method;
use super::whitening::Whitening;
use crate::config::ProbeConfig;
use crate::data::{Dataset, Images, split};
use crate::error::{Error, Result};
use crate::model::Soda;
use serde::{Deserialize, Serialize};

/// What is learnt from.
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

/// Which images are learnt from and which judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// All training images; the test images judge: the number to report.
    Test,
    /// 90 % of the training images; the other 10 % judge: for choosing between recipes.
    Selection,
}

/// Mean and sample standard deviation over the seeds, per cent. Top-3 and top-5 of no more than 3
/// and 5 classes are none: they are right by definition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Top-1 accuracy.
    pub top1: f64,
    /// Top-3 accuracy.
    pub top3: Option<f64>,
    /// Top-5 accuracy.
    pub top5: Option<f64>,
    /// Spread of top-1.
    pub top1_spread: f64,
    /// Spread of top-3.
    pub top3_spread: Option<f64>,
    /// Spread of top-5.
    pub top5_spread: Option<f64>,
}

impl Score {
    fn of(scores: &[Scores]) -> Self {
        let over = |f: fn(&Scores) -> Option<f64>| {
            let values: Option<Vec<f64>> = scores.iter().map(f).collect();
            values.map(|values| mean_and_spread(&values)).unzip()
        };
        let (top1, top1_spread) =
            mean_and_spread(&scores.iter().map(|s| s.top1).collect::<Vec<_>>());
        let [(top3, top3_spread), (top5, top5_spread)] = [over(|s| s.top3), over(|s| s.top5)];
        Self { top1, top3, top5, top1_spread, top3_spread, top5_spread }
    }
}

/// Of each test row the share of the runs that were right about it, `[N]`.
fn share_right(scores: &[Scores]) -> Vec<f32> {
    let rows = scores.first().map_or(0, |s| s.right.len());
    let right =
        |row: usize| scores.iter().filter(|s| s.right[row]).count() as f32 / scores.len() as f32;
    (0..rows).map(right).collect()
}

/// The score with a share of the training labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The share.
    pub fraction: f64,
    /// Images whose labels that is.
    pub n_train: usize,
    /// Runs with seeds 0, 1, .. that the score is over; one where nothing is drawn.
    pub runs: u64,
    /// Nearest neighbours that vote, for the protocols that ask them: fewer in small sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<usize>,
    /// What they came to.
    #[serde(flatten)]
    pub score: Score,
}

/// The score of features; with several shares of the training labels that of the largest, and the
/// curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// With the largest share.
    #[serde(flatten)]
    pub point: Point,
    /// By rising share; empty where there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
    /// With the largest share, of each test row the share of the runs that were right about it,
    /// `[N]`; not stored.
    #[serde(skip)]
    pub right: Vec<f32>,
}

/// How to probe.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// What turns features into a score.
    pub method: Method,
    /// What is learnt from.
    pub views: TrainViews,
    /// Who judges.
    pub split: Split,
    /// Runs where something is drawn, with seeds 0, 1, ..: weights and order of `linear`, and which
    /// labels a share of them is.
    pub seeds: u64,
    /// Shares of the training labels, each above 0 and up to 1; at least one.
    pub fractions: Vec<f64>,
    /// Whether features are whitened first, by what is learnt from (all of it, whatever the share
    /// of labels).
    pub whiten: bool,
}

impl Protocol {
    /// With all labels, on the views that `method` is defined on: image and mirror image for
    /// `linear`, plain images else.
    pub fn new(method: Method, split: Split, seeds: u64) -> Self {
        let views = if method == Method::Linear { TrainViews::Flip } else { TrainViews::Plain };
        Self { method, views, split, seeds, fractions: vec![1.0], whiten: false }
    }

    /// Images that are learnt from and images that judge: indices of the training set, and of the
    /// training or the test set.
    pub fn indices(&self, data: &Dataset) -> (Vec<usize>, Vec<usize>) {
        match self.split {
            Split::Test => ((0..data.train.len()).collect(), (0..data.test.len()).collect()),
            Split::Selection => split::selection_split(data.train.labels()),
        }
    }

    /// The images that the second indices belong to.
    pub fn judges<'a>(&self, data: &'a Dataset) -> &'a Images {
        if self.split == Split::Test { &data.test } else { &data.train }
    }

    /// [`Protocol::indices`], where `data` has what a probe needs.
    ///
    /// # Errors
    /// Fewer than two classes, no images to hold out.
    pub fn probe_indices(&self, data: &Dataset) -> Result<(Vec<usize>, Vec<usize>)> {
        data.require_classes("a probe")?;
        let (train, judge) = self.indices(data);
        if judge.is_empty() {
            let origin = &data.origin;
            let message = format!(
                "{origin}: the training set holds {} images, none of its classes the 5 of which one can be held out (10 %); judge by the test set (--split test)",
                data.train.len()
            );
            return Err(Error::failed(message));
        }
        Ok((train, judge))
    }

    /// The score of features that were made elsewhere, or are at hand: `train` has a row for each
    /// image, with [`TrainViews::Flip`] those of the mirror images after them. `config` is that of
    /// `linear`; with a share of the labels it trains for as many steps as with all of them.
    ///
    /// # Errors
    /// Features that no score can be given to: not finite, fewer rows than classes, one class only,
    /// vectors of different lengths.
    pub fn of_features(
        &self,
        train: &dyn Rows,
        test: &dyn Rows,
        classes: usize,
        config: &ProbeConfig,
    ) -> Result<Probed> {
        assert!(self.views != TrainViews::Online && !self.fractions.is_empty());
        check_pair(train, test, classes)?;
        if self.whiten {
            let whitening = Whitening::fit(train)?;
            let plain = Protocol { whiten: false, ..self.clone() };
            return plain.of_features(&whitening.of(train), &whitening.of(test), classes, config);
        }
        let images = if self.views == TrainViews::Flip { train.rows() / 2 } else { train.rows() };
        let mut right = Vec::new();
        let largest = self.fractions.iter().copied().fold(0.0, f64::max);
        let point = |&fraction: &f64| {
            let runs = if self.method.is_drawn() || fraction < 1.0 { self.seeds } else { 1 };
            let mut n_train = images;
            let share = if fraction < 1.0 {
                format!(" with {} % of the labels", 100.0 * fraction)
            } else {
                String::new()
            };
            let score = |seed| {
                let name = format!("linear probe{share}, seed {} of {runs}", seed + 1);
                if fraction == 1.0 {
                    return self.method.score(train, test, classes, (config, seed, &name));
                }
                let mut rows = split::few_labels(&train.labels()[..images], fraction, seed);
                n_train = rows.len();
                if self.views == TrainViews::Flip {
                    rows.extend(rows.clone().iter().map(|i| i + images));
                }
                let steps = |rows| batches(rows, config.batch_size).max(1);
                let epochs = (config.epochs * steps(train.rows())).div_ceil(steps(rows.len()));
                let config = ProbeConfig { epochs, ..config.clone() };
                self.method.score(
                    &Selected::new(train, rows),
                    test,
                    classes,
                    (&config, seed, &name),
                )
            };
            let scores = (0..runs).map(score).collect::<Result<Vec<_>>>()?;
            if fraction == largest {
                right = share_right(&scores);
            }
            let rows = if self.views == TrainViews::Flip { 2 * n_train } else { n_train };
            let neighbours = self.method.rule().map(|rule| rule.among(rows, classes).k);
            Ok(Point { fraction, n_train, runs, neighbours, score: Score::of(&scores) })
        };
        let curve = self.fractions.iter().map(point).collect::<Result<Vec<Point>>>()?;
        let point = *curve
            .iter()
            .max_by(|a, b| a.fraction.total_cmp(&b.fraction))
            .expect("at least one share");
        Ok(Probed { point, curve: if curve.len() > 1 { curve } else { Vec::new() }, right })
    }

    /// The score of the features `kind` of `model`.
    ///
    /// # Errors
    /// If the data has no two classes or too few images, the networks have no such features, views
    /// and method don't go together, the features aren't finite or the device fails.
    pub fn of_model(&self, frozen: &Frozen, kind: &FeatureKind) -> Result<Probed> {
        if self.views == TrainViews::Online {
            return self.online(frozen, kind);
        }
        let (mut train, judge) = self.probe_indices(frozen.data)?;
        let n = frozen.data.train.len();
        let all = frozen.train(kind, self.views == TrainViews::Flip)?;
        let classes = frozen.data.classes.len();
        if self.split == Split::Test {
            return self.of_features(&all, &frozen.test(kind)?, classes, &frozen.config.probe);
        }
        if self.views == TrainViews::Flip {
            train.extend(train.clone().iter().map(|i| i + n));
        }
        self.of_features(
            &Selected::new(&all, train),
            &Selected::new(&all, judge),
            classes,
            &frozen.config.probe,
        )
    }

    /// The score of raw pixels; the test set or the images held out judge, as for any other
    /// features.
    ///
    /// # Errors
    /// If the data has no two classes or too few images.
    pub fn of_pixels(&self, data: &Dataset, config: &ProbeConfig) -> Result<Probed> {
        let (train, judge) = self.probe_indices(data)?;
        let of_train = Pixels::new(&data.train, &train, self.views == TrainViews::Flip)?;
        self.of_features(
            &of_train,
            &Pixels::new(self.judges(data), &judge, false)?,
            data.classes.len(),
            config,
        )
    }

    /// [`TrainViews::Online`]: one encoding an epoch serves the probes of every seed.
    fn online(&self, frozen: &Frozen, kind: &FeatureKind) -> Result<Probed> {
        let Frozen { model, config, data, device, .. } = *frozen;
        if self.method != Method::Linear || *kind != FeatureKind::Z || self.fractions != [1.0] {
            let message = "--train-views online: fresh crops in each epoch go with --protocol linear, --features z and all labels";
            return Err(Error::usage(format!("{message}; take 1 or 2")));
        }
        if self.whiten {
            return Err(Error::usage(
                "--train-views online can't be whitened: views are drawn anew in each epoch; take 1 or 2",
            ));
        }
        let (train, judge) = self.probe_indices(data)?;
        let test = features::encode(model, self.judges(data), &judge, &config.data, false, device)?;
        let mut probes: Vec<LinearProbe> = Vec::new();
        let mut views = Augmented::new(&data.train, &train, &config.data);
        for epoch in 0..config.probe.epochs {
            let features = views.encode(model, epoch as u64, device)?;
            if probes.is_empty() {
                let shape = ProbeShape::linear(data.classes.len());
                let new = |seed| {
                    LinearProbe::new(features.dim, features.rows(), shape, &config.probe, seed)
                };
                probes = (0..self.seeds).map(new).collect::<Result<_>>()?;
            }
            for probe in &mut probes {
                probe.train_epoch(&features)?;
            }
        }
        let scores = probes.iter().map(|p| p.score(&test)).collect::<Result<Vec<_>>>()?;
        let score = Score::of(&scores);
        let point = Point {
            fraction: 1.0,
            n_train: train.len(),
            runs: self.seeds,
            neighbours: None,
            score,
        };
        Ok(Probed { point, curve: Vec::new(), right: share_right(&scores) })
    }

    /// The same protocol on raw pixels and on the same features of randomly initialised networks
    /// with calibrated BatchNorm statistics; encoded once, with mirror images where
    /// [`TrainViews::Online`] draws afresh.
    ///
    /// # Errors
    /// As [`Protocol::of_model`].
    pub fn baselines(&self, frozen: &Frozen, kind: &FeatureKind) -> Result<Baselines> {
        let views = if self.views == TrainViews::Online { TrainViews::Flip } else { self.views };
        let once = Protocol { views, ..self.clone() };
        let Frozen { config, data, device, .. } = *frozen;
        let pixels = once.of_pixels(data, &config.probe)?;
        let random = Soda::new(&config.model, config.seed, device);
        let random =
            features::calibrate(random, &data.train, &self.indices(data).0, &config.data, device)?;
        let random =
            frozen.untrained(&random, if self.split == Split::Test { "all" } else { "selection" });
        Ok(Baselines { pixels, random_encoder: once.of_model(&random, kind)? })
    }
}

/// What knows nothing, scored in the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// Raw pixels as features.
    pub pixels: Probed,
    /// The same features of untrained networks.
    pub random_encoder: Probed,
}

/// Steps that [`trained`] has `linear` take at least: the 1,170 of the 5,000 bundled images reach
/// this.
const LEAST_STEPS: usize = 1000;

/// The settings of `linear` for `images` training images of `data`, each seen `views` times an
/// epoch: for CIFAR those of the protocol, which scores compare by; for others so many epochs that
/// it takes 1,000 steps at least, as 15 epochs of few images teach it nothing.
pub fn trained(config: &ProbeConfig, data: &Dataset, images: usize, views: usize) -> ProbeConfig {
    if data.inventory.reading.is_empty() {
        return config.clone();
    }
    let steps = batches(views * images, config.batch_size).max(1);
    ProbeConfig { epochs: config.epochs.max(LEAST_STEPS.div_ceil(steps)), ..config.clone() }
}

/// Refuses features that no score can be given to.
fn check_pair(train: &dyn Rows, test: &dyn Rows, classes: usize) -> Result<()> {
    if train.dim() != test.dim() {
        let (train, test) = (train.dim(), test.dim());
        return Err(Error::failed(format!(
            "training features have {train} numbers each and test features {test}; take both from the same place"
        )));
    }
    train.check("training", train.dim(), classes)?;
    test.check("test", train.dim(), classes)?;
    if test.rows() == 0 {
        return Err(Error::failed("there are no test features to judge by"));
    }
    let Some(first) = train.labels().first() else {
        return Err(Error::failed("there are no training features to learn from"));
    };
    if train.labels().iter().all(|label| label == first) {
        return Err(Error::failed(format!(
            "all training features are of one class, {first}; a probe needs at least two to tell apart"
        )));
    }
    if train.rows() < classes {
        let rows = train.rows();
        return Err(Error::failed(format!(
            "{rows} training features are fewer than the {classes} classes (the largest label and 0 to it); give it more, or check the labels"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
