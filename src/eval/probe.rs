//! The evaluation protocols from images to scores, and the baselines.

mod score;

pub use score::{Baselines, Point, Probed, Score};

use super::features::{self, Augmented, FeatureKind, Frozen, Pixels, Rows, Selected};
use super::linear::{LinearProbe, ProbeShape, batches};
use super::method::Method;
use super::whitening::Whitening;
use crate::config::ProbeConfig;
use crate::data::{Dataset, Images, split};
use crate::error::{Error, Hint, Result};
use crate::model::Soda;
use score::share_right;
use serde::Serialize;

/// The views of the training images that a probe is fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainViews {
    /// The plain image.
    #[serde(rename = "1")]
    Plain,
    /// The plain image and its mirror image, encoded once.
    #[serde(rename = "2")]
    Flip,
    /// Random crops with probability 0.65, then flips, sampled and encoded again in each epoch.
    Online,
}

/// The images that a probe is fitted on and evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Fits on all training images and evaluates on the test images: the score to report.
    Test,
    /// Fits on 90 % of the training images and evaluates on the other 10 %: for choosing between
    /// recipes.
    Selection,
}

/// The settings of an evaluation.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// The method that turns features into a score.
    pub method: Method,
    /// The views of the training images.
    pub views: TrainViews,
    /// The training and evaluation images.
    pub split: Split,
    /// Runs where something is random, with seeds 0, 1, ..: the initial weights and order of
    /// `linear`, and the choice of a fraction of the labels.
    pub seeds: u64,
    /// Fractions of the training labels, each above 0 and up to 1; at least one.
    pub fractions: Vec<f64>,
    /// Whether features are first whitened, fitted on all training features whatever the fraction
    /// of labels.
    pub whiten: bool,
}

impl Protocol {
    /// Creates the protocol with all labels, on the default views of `method`: images and mirrored
    /// images for `linear`, plain images otherwise.
    pub fn new(method: Method, split: Split, seeds: u64) -> Self {
        let views = if method == Method::Linear { TrainViews::Flip } else { TrainViews::Plain };
        Self { method, views, split, seeds, fractions: vec![1.0], whiten: false }
    }

    /// Returns the indices of the training images (in the training set) and of the evaluation
    /// images (in the training or the test set).
    pub fn indices(&self, data: &Dataset) -> (Vec<usize>, Vec<usize>) {
        match self.split {
            Split::Test => ((0..data.train.len()).collect(), (0..data.test.len()).collect()),
            Split::Selection => split::selection_split(data.train.labels()),
        }
    }

    /// Returns the set of images that the evaluation indices refer to.
    pub fn judges<'a>(&self, data: &'a Dataset) -> &'a Images {
        if self.split == Split::Test { &data.test } else { &data.train }
    }

    /// Returns [`Protocol::indices`] after checking that `data` has what a probe needs.
    ///
    /// # Errors
    /// If there are fewer than two classes, or no images to hold out.
    pub fn probe_indices(&self, data: &Dataset) -> Result<(Vec<usize>, Vec<usize>)> {
        data.require_classes("a probe")?;
        let (train, eval) = self.indices(data);
        if eval.is_empty() {
            let origin = &data.origin;
            let message = format!(
                "{origin}: the training set holds {} images, and no class has the 5 images needed \
                to hold one out (10 %); {}",
                data.train.len(),
                Hint::TestSplit
            );
            return Err(Error::failed(message));
        }
        Ok((train, eval))
    }

    /// Scores features that were computed elsewhere or are in memory. `train` has a row for each
    /// image, with [`TrainViews::Flip`] followed by those of the mirrored images. `config` is that
    /// of `linear`; with a fraction of the labels it trains for as many steps as with all of them.
    ///
    /// # Errors
    /// If the features can't be scored: not finite, fewer rows than classes, only one class, or
    /// vectors of different lengths.
    ///
    /// # Panics
    /// If the views are [`TrainViews::Online`], which takes the networks, or there are no fractions.
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
            let score = Score::of(&scores).among(neighbours);
            Ok(Point { fraction, n_train, runs, neighbours, score })
        };
        let curve = self.fractions.iter().map(point).collect::<Result<Vec<Point>>>()?;
        let point = *curve
            .iter()
            .max_by(|a, b| a.fraction.total_cmp(&b.fraction))
            .expect("at least one share");
        Ok(Probed { point, curve: if curve.len() > 1 { curve } else { Vec::new() }, right })
    }

    /// Scores the features `kind` of `frozen`'s networks.
    ///
    /// # Errors
    /// If the data has fewer than two classes or too few images, the networks have no such
    /// features, views and method are incompatible, the features aren't finite or the device fails.
    pub fn of_model(&self, frozen: &Frozen, kind: &FeatureKind) -> Result<Probed> {
        if self.views == TrainViews::Online {
            return self.online(frozen, kind);
        }
        let (mut train, eval) = self.probe_indices(frozen.data)?;
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
            &Selected::new(&all, eval),
            classes,
            &frozen.config.probe,
        )
    }

    /// Scores raw pixels, evaluated on the same images as other features.
    ///
    /// # Errors
    /// If the data has fewer than two classes or too few images.
    pub fn of_pixels(&self, data: &Dataset, config: &ProbeConfig) -> Result<Probed> {
        let (train, eval) = self.probe_indices(data)?;
        let of_train = Pixels::new(&data.train, &train, self.views == TrainViews::Flip)?;
        self.of_features(
            &of_train,
            &Pixels::new(self.judges(data), &eval, false)?,
            data.classes.len(),
            config,
        )
    }

    /// Scores with [`TrainViews::Online`]: the probes of all seeds share one encoding per epoch.
    fn online(&self, frozen: &Frozen, kind: &FeatureKind) -> Result<Probed> {
        let Frozen { model, config, data, device, .. } = *frozen;
        if self.method != Method::Linear || *kind != FeatureKind::Z || self.fractions != [1.0] {
            return Err(Error::usage(format!(
                "online training views (new crops in each epoch) need the protocol linear, \
                 features z and all labels; {}",
                Hint::StoredViews
            )));
        }
        if self.whiten {
            return Err(Error::usage(format!(
                "online training views can't be whitened, as they are sampled again in each \
                 epoch; {}",
                Hint::StoredViews
            )));
        }
        let (train, eval) = self.probe_indices(data)?;
        let test = features::encode(model, self.judges(data), &eval, &config.data, false, device)?;
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

    /// Scores raw pixels, and the same features of randomly initialised networks with calibrated
    /// BatchNorm statistics, by the same protocol. Features are encoded once; in place of
    /// [`TrainViews::Online`], mirrored images are used.
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

/// The fewest steps that [`trained`] lets `linear` take; the 1,170 of the 5,000 bundled images are
/// enough.
const LEAST_STEPS: usize = 1000;

/// Returns the settings of `linear` for `images` training images of `data`, each used `views` times
/// per epoch. For CIFAR they are those of the protocol, so that scores are comparable; for other
/// data the epochs are raised to reach at least 1,000 steps, as 15 epochs of few images are not
/// enough to train it.
pub fn trained(config: &ProbeConfig, data: &Dataset, images: usize, views: usize) -> ProbeConfig {
    if data.inventory.reading.is_empty() {
        return config.clone();
    }
    let steps = batches(views * images, config.batch_size).max(1);
    ProbeConfig { epochs: config.epochs.max(LEAST_STEPS.div_ceil(steps)), ..config.clone() }
}

/// Refuses features that can't be scored.
fn check_pair(train: &dyn Rows, test: &dyn Rows, classes: usize) -> Result<()> {
    if train.dim() != test.dim() {
        let (train, test) = (train.dim(), test.dim());
        return Err(Error::failed(format!(
            "training features have {train} values each and test features {test}; take both from \
            the same source"
        )));
    }
    train.check("training", train.dim(), classes)?;
    test.check("test", train.dim(), classes)?;
    if test.rows() == 0 {
        return Err(Error::failed("there are no test features to evaluate on"));
    }
    let Some(first) = train.labels().first() else {
        return Err(Error::failed("there are no training features to fit on"));
    };
    if train.labels().iter().all(|label| label == first) {
        return Err(Error::failed(format!(
            "all training features are of one class, {first}; a probe needs at least two"
        )));
    }
    if train.rows() < classes {
        let rows = train.rows();
        return Err(Error::failed(format!(
            "{rows} training features are fewer than the {classes} classes (0 to the largest \
            label); give more features, or check the labels"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
