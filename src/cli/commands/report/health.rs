//! The section on the probe's errors and the distribution of z.

use super::subcommands::{Subcommands, add};
use super::words::{per_cent, sentence};
use crate::cli::output::ENOUGH_TO_SCORE;
use indicatif::HumanCount;
use serde_json::Value;
use soda::report::html::{Section, Table};
use soda::units::counted;

impl Subcommands<'_> {
    /// Builds the section on the probe's errors and the distribution of z.
    pub fn health(&self) -> Section {
        let mut section = Section {
            id: "health".into(),
            title: "Health of the representation".into(),
            ..Default::default()
        };
        let health = self.run("health", "health", true);
        if let Ok(v) = &health.result {
            section.tables.push(health_table(v));
            section.words.extend(chance(self.images));
        }
        let caption = "Confusion matrix of the linear probe: each row is a true class, its values \
                       are per cent of that class's test images.";
        add(&mut section, &health, caption, |v| {
            let c = &v["calibration"];
            let [right, sure, error] = [&v["top1"], &c["confidence"], &c["ece"]].map(per_cent);
            vec![format!(
                "Linear probe: accuracy {right}, mean confidence {sure}, expected calibration \
                 error {error}."
            )]
        });
        let diagnosis = self.run("diagnosis", &format!("diagnose -n {}", self.most(200)), true);
        add(
            &mut section,
            &diagnosis,
            "How much of the denoiser's loss z explains, by noise level: 0 % is the loss without \
             z. The curve for another image's z shows the cost of a wrong z.",
            |v| {
                v["findings"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|f| f.as_str().map(sentence))
                    .collect()
            },
        );
        let map = self.run("map", "map --method tsne --limit 2000", true);
        let caption = map.result.as_ref().map_or_else(|_| String::new(), map_caption);
        add(&mut section, &map, &caption, |_| Vec::new());
        section
    }
}

/// Returns the caption of the map, which shows the test images, or all images of a small set.
fn map_caption(v: &Value) -> String {
    let n = HumanCount(v["n"].as_u64().unwrap_or(0));
    let which = if v["data"]["split"] == "all" {
        "images; dots are test images, rings training images"
    } else {
        "test images"
    };
    let coloured = if v["classes"].as_array().is_some_and(|c| !c.is_empty()) {
        ", coloured by class"
    } else {
        ""
    };
    format!("t-SNE of z{coloured}, of {n} {which}.")
}

/// Returns a warning where scores of `n` test images are mostly chance.
fn chance(n: usize) -> Option<String> {
    (n < ENOUGH_TO_SCORE).then(|| {
        format!(
            "With {}, purity, accuracy and calibration are mostly chance.",
            counted(n, "test image")
        )
    })
}

fn health_table(v: &Value) -> Table {
    let number = |key: &str, digits: usize| {
        v[key].as_f64().map_or(String::new(), |n| format!("{n:.digits$}"))
    };
    let rows = [
        (
            "alignment",
            number("alignment", 3),
            "squared distance between two views of an image on the sphere",
        ),
        ("separation", number("separation", 3), "the same between different images"),
        (
            "uniformity",
            number("uniformity", 3),
            "0 all in one point, -4 spread over the whole sphere",
        ),
        ("effective rank", number("effective_rank", 1), "number of directions of z in use"),
        (
            "purity",
            per_cent(&v["purity"]["same_class"]),
            "of the nearest test images have the same class",
        ),
    ];
    let rows = rows
        .map(|(name, value, meaning)| vec![name.to_owned(), value, meaning.to_owned()])
        .to_vec();
    Table { head: vec!["z of the test images".into(), String::new(), String::new()], rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_small_test_set_is_called_chance() {
        assert!(chance(2).is_some_and(|words| words.starts_with("With 2 test images, ")));
        assert_eq!(chance(30), None);
    }

    #[test]
    fn the_caption_of_a_map_says_which_images_it_shows() {
        let some =
            map_caption(&json!({ "n": 2000, "data": { "split": "test" }, "classes": ["cat"] }));
        assert_eq!(some, "t-SNE of z, coloured by class, of 2,000 test images.");
        let all = map_caption(&json!({ "n": 20, "data": { "split": "all" }, "classes": [] }));
        assert_eq!(all, "t-SNE of z, of 20 images; dots are test images, rings training images.");
    }
}
