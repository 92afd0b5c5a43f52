//! The verdict on features of a user's own images, in one sentence: are they better than the
//! baselines?

use serde::Serialize;
use soda::eval::probe::{Baselines, Probed};
use soda::units::counted;

/// The standard error, in points, above which nothing can be told.
const FEW: f64 = 10.0;

/// The number of standard errors that a difference must exceed to count.
const ERRORS: f64 = 2.0;

/// The results to compare.
pub struct Case<'a> {
    /// The name of the features.
    pub features: &'a str,
    /// The names of the classes.
    pub classes: &'a [String],
    /// The labels of the training and of the evaluation images.
    pub labels: [&'a [u16]; 2],
    /// The score of the features.
    pub probed: &'a Probed,
    /// The scores of the baselines, if they were computed.
    pub baselines: Option<&'a Baselines>,
    /// Whether the evaluation images are held-out training images.
    pub held_out: bool,
    /// Whether the networks were trained on these images.
    pub trained_on_them: bool,
}

/// The verdict; scores are top-1 in per cent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The verdict in words.
    pub sentence: String,
    /// The score of the features.
    pub z: f64,
    /// The score of raw pixels.
    pub pixels: Option<f64>,
    /// The score of the same features of untrained networks.
    pub random_encoder: Option<f64>,
    /// The score of always predicting the largest class of the training images.
    pub largest_class: f64,
    /// The standard error of `z` in points: sqrt(p (1 - p) / n), where p counts two more images,
    /// one of them right, so that the error is never 0.
    pub standard_error: f64,
    /// The lead of the features over what they don't clearly beat, if there is such a thing.
    pub lead: Option<Lead>,
}

impl Verdict {
    /// Compares the features of `case` with the baselines; there must be at least one training and
    /// one evaluation image.
    pub fn of(case: &Case) -> Self {
        let [fitted, evaluated] = case.labels;
        let n = evaluated.len();
        let largest = most_frequent(fitted, case.classes.len());
        let always: Vec<f32> =
            evaluated.iter().map(|&label| f32::from(u8::from(label == largest))).collect();
        let right = &case.probed.right;
        let (z, largest_class) = (per_cent(right), per_cent(&always));
        let p = (z / 100.0 * n as f64 + 1.0) / (n as f64 + 2.0);
        let standard_error = 100.0 * (p * (1.0 - p) / n as f64).sqrt();
        let pixels = case.baselines.map(|b| &b.pixels.right);
        let random = case.baselines.map(|b| &b.random_encoder.right);
        let name = case.classes.get(usize::from(largest)).map_or("", String::as_str);
        let others = [
            (Some(&always), format!("always predicting {name}")),
            (pixels, "raw pixels".into()),
            (random, "an untrained encoder".into()),
        ];
        let unbeaten = others.iter().find_map(|(other, what)| {
            let lead = Lead::of(right, (*other)?);
            (!lead.counts()).then_some((lead, per_cent((*other)?), what))
        });
        let (features, classes) = (case.features, case.classes.len());
        let images = counted(n, if case.held_out { "held-out image" } else { "test image" });
        let error = format!("standard error {standard_error:.1} points with {images}");
        let sentence = match (&unbeaten, pixels.zip(random)) {
            (Some((lead, other, what)), _) => {
                let training = if case.trained_on_them {
                    "train longer, or on more images"
                } else {
                    "train on these images first"
                };
                let (worse, advice) = match lead {
                    _ if standard_error > FEW => {
                        ("not known to be better than", "evaluate on more images".to_owned())
                    }
                    _ if lead.is_behind() => ("worse than", training.to_owned()),
                    _ if lead.points > lead.error => (
                        "not clearly better than",
                        format!("evaluate on more images, or {training}"),
                    ),
                    _ => ("no better than", training.to_owned()),
                };
                format!(
                    "On these {classes} classes, {features} is {worse} {what} ({z:.1} % against \
                     {other:.1} %: {:+.1} points with a standard error of {:.1}, on {images}); \
                     {advice}.",
                    lead.points, lead.error
                )
            }
            (None, Some((pixels, random))) => {
                let [over_pixels, over_random] = [pixels, random].map(|other| z - per_cent(other));
                format!(
                    "{features} beats raw pixels by {over_pixels:.1} points and an untrained \
                     encoder by {over_random:.1} ({z:.1} %, {error}; always predicting {name} \
                     scores {largest_class:.1} %)."
                )
            }
            (None, None) => format!(
                "{features} scores {z:.1} % ({error}), and always predicting {name} scores \
                 {largest_class:.1} %; add --baselines to compare with raw pixels and an untrained \
                 encoder."
            ),
        };
        let [pixels, random_encoder] =
            [pixels, random].map(|right| right.map(|right| per_cent(right)));
        let lead = unbeaten.map(|(lead, ..)| lead);
        Self { sentence, z, pixels, random_encoder, largest_class, standard_error, lead }
    }
}

/// The lead of one classifier over another on the same images, in points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lead {
    points: f64,
    /// The standard error of the points.
    #[serde(rename = "standard_error")]
    error: f64,
}

impl Lead {
    /// Compares `a` and `b`, the fractions of runs that were right about each image. The test is
    /// paired, because images that both get right or wrong carry no information. Two more images,
    /// one right only for `a` and one only for `b`, keep the error above 0 for few images.
    fn of(a: &[f32], b: &[f32]) -> Self {
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).collect();
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().chain(&[1.0, -1.0]).map(|d| (d - mean).powi(2)).sum();
        Self { points: 100.0 * mean, error: 100.0 * (squares / (n + 2.0) / n).sqrt() }
    }

    fn counts(&self) -> bool {
        self.points > ERRORS * self.error
    }

    fn is_behind(&self) -> bool {
        self.points < -ERRORS * self.error
    }
}

fn per_cent(right: &[f32]) -> f64 {
    100.0 * right.iter().map(|&r| f64::from(r)).sum::<f64>() / right.len() as f64
}

/// Returns the most frequent of `labels`; on a tie the lowest.
fn most_frequent(labels: &[u16], classes: usize) -> u16 {
    let mut counts = vec![0usize; classes.max(1)];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    (0..counts.len()).rev().max_by_key(|&label| counts[label]).unwrap_or(0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use soda::eval::probe::{Point, Score};

    /// A probe of `n` images that is right about `right` of them, starting at image `from`.
    fn probed(n: usize, from: usize, right: usize) -> Probed {
        let score = Score {
            top1: 100.0 * right as f64 / n as f64,
            top3: None,
            top5: None,
            top1_spread: 0.0,
            top3_spread: None,
            top5_spread: None,
        };
        let point = Point { fraction: 1.0, n_train: 90, runs: 1, neighbours: None, score };
        let right =
            (0..n).map(|i| if (from..from + right).contains(&i) { 1.0 } else { 0.0 }).collect();
        Probed { point, curve: Vec::new(), right }
    }

    /// The verdict on `n` images of alternating classes; `right` counts the images that z, pixels
    /// and the untrained encoder get right.
    fn verdict(
        n: usize,
        right: [usize; 3],
        with_baselines: bool,
        trained_on_them: bool,
    ) -> Verdict {
        let labels: Vec<u16> = (0..n).map(|i| (i % 2) as u16).collect();
        let [z, pixels, random_encoder] = right.map(|right| probed(n, 0, right));
        let baselines = Baselines { pixels, random_encoder };
        let classes = ["cats", "dogs"].map(str::to_owned);
        Verdict::of(&Case {
            features: "z",
            classes: &classes,
            labels: [&[0, 0, 0, 1, 1], &labels],
            probed: &z,
            baselines: with_baselines.then_some(&baselines),
            held_out: false,
            trained_on_them,
        })
    }

    #[test]
    fn each_baseline_that_is_not_beaten_is_named_and_a_clear_lead_is_given_in_points() {
        let clear = verdict(200, [180, 130, 120], true, false);
        assert_eq!(
            clear.sentence,
            "z beats raw pixels by 25.0 points and an untrained encoder by 30.0 (90.0 %, standard \
             error 2.2 points with 200 test images; always predicting cats scores 50.0 %)."
        );
        assert_eq!(
            (clear.z, clear.pixels, clear.random_encoder, clear.largest_class),
            (90.0, Some(65.0), Some(60.0), 50.0)
        );
        let pixels = verdict(55, [39, 38, 28], true, false).sentence;
        assert_eq!(
            pixels,
            "On these 2 classes, z is no better than raw pixels (70.9 % against 69.1 %: +1.8 points \
             with a standard error of 3.1, on 55 test images); train on these images first."
        );
        let perhaps = verdict(55, [42, 38, 28], true, false).sentence;
        assert!(
            perhaps.contains("z is not clearly better than raw pixels (76.4 %")
                && perhaps.ends_with("; evaluate on more images, or train on these images first."),
            "{perhaps}"
        );
        let worse = verdict(200, [150, 190, 100], true, true).sentence;
        assert!(
            worse.contains("z is worse than raw pixels (75.0 % against 95.0 %")
                && worse.ends_with("; train longer, or on more images."),
            "{worse}"
        );
        let untrained = verdict(200, [180, 130, 180], true, false).sentence;
        assert!(
            untrained.contains("no better than an untrained encoder (90.0 % against 90.0 %"),
            "{untrained}"
        );
        let nothing = verdict(200, [101, 20, 20], true, false).sentence;
        assert!(
            nothing.contains("no better than always predicting cats (50.5 % against 50.0 %"),
            "{nothing}"
        );
    }

    #[test]
    fn a_few_images_prove_nothing_and_large_sets_suggest_the_baselines() {
        // Right about both of two images, against none: luck.
        let few = verdict(2, [2, 0, 0], true, false);
        assert!(
            few.sentence.contains("not known to be better than") && few.standard_error > 20.0,
            "{few:?}"
        );
        let one = verdict(1, [1, 0, 0], true, false).sentence;
        assert!(
            one.contains("on 1 test image)") && one.contains("not known to be better than"),
            "{one}"
        );
        let large = verdict(10_000, [9000, 0, 0], false, false);
        assert!(
            large.sentence.contains("z scores 90.0 %") && large.sentence.contains("--baselines"),
            "{large:?}"
        );
        assert_eq!((large.pixels, large.random_encoder), (None, None));
    }

    #[test]
    fn leads_are_measured_image_by_image() {
        let right = |from, right| probed(100, from, right).right;
        // The second classifier makes all mistakes of the first, or none of them: the scores are
        // the same, the certainty is not.
        let (same, apart) =
            (Lead::of(&right(0, 60), &right(0, 50)), Lead::of(&right(0, 60), &right(50, 50)));
        assert!((same.points - 10.0).abs() < 1e-9 && (apart.points - 10.0).abs() < 1e-9);
        assert!(same.counts() && !apart.counts(), "{} {}", same.error, apart.error);
        assert!(Lead::of(&right(0, 20), &right(0, 60)).is_behind() && !same.is_behind());
    }

    #[test]
    fn the_largest_class_is_that_of_the_training_images() {
        assert_eq!(
            [most_frequent(&[1, 1, 0], 2), most_frequent(&[1, 0], 2), most_frequent(&[], 0)],
            [1, 0, 0]
        );
    }
}
