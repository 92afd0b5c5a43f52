//! The comparison of z with raw pixels, in words.

use crate::cli::output::ENOUGH_TO_SCORE;
use serde_json::Value;
use soda::units::counted;

/// The number of standard deviations that a difference must exceed to count.
const DEVIATIONS: f64 = 2.0;

/// Two scores of one probe on the same test images, in per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    z: f64,
    pixels: f64,
    /// The standard deviation of their difference, over the probe's seeds and over the choice of
    /// test images.
    deviation: f64,
    images: u64,
}

impl Comparison {
    /// Compares z with raw pixels, from the JSON of `soda probe --baselines`; `None` without
    /// baselines.
    pub fn pixels(probe: &Value) -> Option<Self> {
        let of = |v: &Value| Some((v["top1"].as_f64()?, v["top1_spread"].as_f64().unwrap_or(0.0)));
        let ((z, z_spread), (pixels, pixels_spread)) =
            (of(probe)?, of(&probe["baselines"]["pixels"])?);
        let images = probe["n_test"].as_u64().filter(|n| *n > 0)?;
        // The variance of a proportion of so many images, as if the two scores were measured on
        // different images, which is conservative.
        let sampling = |top1: f64| top1 * (100.0 - top1) / images as f64;
        let variance = z_spread.powi(2) + pixels_spread.powi(2) + sampling(z) + sampling(pixels);
        Some(Self { z, pixels, deviation: variance.sqrt(), images })
    }

    /// Whether there are enough test images for a verdict.
    pub fn is_measurable(&self) -> bool {
        self.images >= ENOUGH_TO_SCORE as u64
    }

    fn margin(&self) -> f64 {
        DEVIATIONS * self.deviation
    }

    /// Formats the difference in points as "+20.5 ± 4.4".
    pub fn points(&self) -> String {
        format!("{:+.1} ± {:.1}", self.z - self.pixels, self.margin())
    }

    /// Describes the comparison under the probe `protocol`.
    pub fn in_words(&self, protocol: &str) -> String {
        if !self.is_measurable() {
            return format!(
                "Under `{protocol}`, z scores {:.1} % and raw pixels {:.1} %, but {} cannot show \
                 which is better.",
                self.z,
                self.pixels,
                counted(self.images as usize, "test image")
            );
        }
        let (difference, margin) = (self.z - self.pixels, self.margin());
        let verdict = match difference {
            d if d > margin => "z beats raw pixels",
            d if d < -margin => "Raw pixels beat z",
            _ => "It is unclear whether z beats raw pixels",
        };
        let why = match difference.abs() > margin {
            true => "more than",
            false => "no more than",
        };
        format!(
            "{verdict} under `{protocol}`: {:.1} % against {:.1} %. The difference of {:.1} points \
             is {why} the {margin:.1} points that the probe's seeds and the choice of {} test \
             images can explain (two standard deviations).",
            self.z,
            self.pixels,
            difference.abs(),
            indicatif::HumanCount(self.images)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn comparison(z: f64, pixels: f64, spread: f64, n: u64) -> Comparison {
        let baselines = json!({ "pixels": { "top1": pixels, "top1_spread": spread } });
        Comparison::pixels(
            &json!({ "top1": z, "top1_spread": spread, "n_test": n, "baselines": baselines }),
        )
        .expect("scores")
    }

    #[test]
    fn a_difference_counts_where_it_is_more_than_seeds_and_few_images_explain() {
        let clear = comparison(55.6, 35.1, 0.3, 1000).in_words("linear");
        assert!(
            clear.starts_with("z beats raw pixels under `linear`: 55.6 % against 35.1 %."),
            "{clear}"
        );
        assert!(clear.contains("20.5 points is more than the 4.4"), "{clear}");
        // A lead of a point or two on 40 images is luck.
        let few = comparison(45.0, 43.3, 5.0, 40).in_words("linear");
        assert!(
            few.starts_with("It is unclear") && few.contains("1.7 points is no more than"),
            "{few}"
        );
        // Two of two images against none seems clear to a formula, but isn't.
        let two = comparison(100.0, 0.0, 0.0, 2).in_words("linear");
        assert!(two.ends_with("2 test images cannot show which is better."), "{two}");
        assert!(
            comparison(20.0, 40.0, 0.3, 1000)
                .in_words("knn")
                .starts_with("Raw pixels beat z under `knn`")
        );
        // A wide spread over seeds hides what many images would show.
        assert!(comparison(50.0, 47.0, 0.1, 10_000).in_words("linear").starts_with("z beats"));
        assert!(
            comparison(50.0, 47.0, 3.0, 10_000).in_words("linear").starts_with("It is unclear")
        );
        assert_eq!(comparison(55.6, 35.1, 0.3, 1000).points(), "+20.5 ± 4.4");
    }

    #[test]
    fn without_baselines_nothing_is_said() {
        assert_eq!(
            Comparison::pixels(&json!({ "top1": 50.0, "n_test": 10, "baselines": null })),
            None
        );
        assert_eq!(Comparison::pixels(&json!({})), None);
    }
}
