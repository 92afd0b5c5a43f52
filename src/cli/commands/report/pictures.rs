//! The sections of images generated from z.

use super::subcommands::{Subcommands, add};
use super::words::per_cent;
use serde_json::Value;
use soda::report::html::{Section, Table};

impl Subcommands<'_> {
    /// Builds the sections of images generated from z.
    pub fn pictures(&self) -> Vec<Section> {
        let section = |id: &str, title: &str| Section {
            id: id.into(),
            title: title.into(),
            ..Default::default()
        };
        let mut reconstructions = section("reconstructions", "Reconstructions");
        let finished =
            self.run("reconstruction", &format!("reconstruct -n {}", self.most(20)), true);
        add(
            &mut reconstructions,
            &finished,
            "Reconstructions of test images from z alone, over the originals.",
            |_| Vec::new(),
        );
        let finished = self.run("quality", &format!("quality -n {}", self.most(200)), true);
        if let Ok(v) = &finished.result {
            reconstructions.tables.extend(quality_tables(v));
        }
        add(
            &mut reconstructions,
            &finished,
            "From top: test images; reconstructions from z and their own x_T; from z alone; from \
             the linear map of z if there is one; samples from the latent prior.",
            |v| {
                let young = worse_than_the_mean(v);
                young
                    .into_iter()
                    .chain([
                        "Frechet distance, precision and recall are measured in this encoder's own \
                         z. They are not FID, and are comparable only within this run, such as \
                         with the training images in the table."
                            .into(),
                    ])
                    .collect()
            },
        );

        let mut samples = section("samples", "Samples");
        let finished = self.run("samples", "sample -n 40", true);
        add(
            &mut samples,
            &finished,
            "New images, with z sampled from a Gaussian mixture fitted to that of the training \
             images; below, the training images nearest to the first row.",
            |_| Vec::new(),
        );

        let mut editing = section("editing", "Editing in z");
        let finished = self.run(
            "interpolation",
            // Of two images, the first and the second.
            &format!(
                "interpolate test:{} test:{}",
                self.most(14).min(3).saturating_sub(2),
                self.most(14) - 1
            ),
            true,
        );
        add(
            &mut editing,
            &finished,
            "From one test image to another, by linear and spherical interpolation in z; a single \
             row if the two look the same.",
            |_| Vec::new(),
        );
        let (words, caption) = if self.classes > 1 {
            (
                "directions --classes",
                "Along the principal components of z, and along the direction that most increases \
                 each class's logit in a linear classifier.",
            )
        } else {
            ("directions", "Along the principal components of z.")
        };
        let finished = self.run("directions", words, true);
        add(&mut editing, &finished, caption, |_| Vec::new());
        let finished = self.run("mix", "mix", true);
        add(
            &mut editing,
            &finished,
            "The finer stages receive the z of the column images (top), the others the z of the \
             row images (left).",
            |_| Vec::new(),
        );
        let mut neighbours = section("neighbours", "Nearest neighbours");
        let finished = self.run(
            "neighbours",
            &format!(
                "neighbours {}",
                (0..self.most(6)).map(|i| format!("test:{i}")).collect::<Vec<_>>().join(" ")
            ),
            true,
        );
        add(
            &mut neighbours,
            &finished,
            "Test images (left) and the training images whose z is nearest.",
            |_| Vec::new(),
        );
        vec![reconstructions, samples, editing, neighbours]
    }
}

fn quality_tables(v: &Value) -> Vec<Table> {
    let number =
        |v: &Value, digits: usize| v.as_f64().map_or(String::new(), |n| format!("{n:.digits$}"));
    let table = |head: &[&str], rows: Vec<Vec<String>>| Table {
        head: head.iter().map(|h| (*h).to_owned()).collect(),
        rows,
    };
    let images = [("z and x_T", &v["z_and_x_T"]), ("z alone", &v["z_alone"])];
    let sets = [("samples", &v["drawn"]), ("training images", &v["training_images"])];
    vec![
        table(
            &["from", "PSNR, dB", "SSIM"],
            images
                .map(|(name, s)| {
                    vec![name.to_owned(), number(&s["psnr"], 2), number(&s["ssim"], 3)]
                })
                .to_vec(),
        ),
        table(
            &["compared with test images, in z", "Frechet distance", "precision", "recall"],
            sets.map(|(name, d)| {
                vec![
                    name.to_owned(),
                    number(&d["frechet"], 4),
                    per_cent(&d["precision"]),
                    per_cent(&d["recall"]),
                ]
            })
            .to_vec(),
        ),
    ]
}

/// Explains poor reconstructions, if they are further from the test images than the mean training
/// image is.
fn worse_than_the_mean(quality: &Value) -> Option<String> {
    let [drawn, mean] = ["z_alone", "mean_image"].map(|kind| quality[kind]["psnr"].as_f64());
    let (drawn, mean) = (drawn?, mean?);
    (drawn < mean).then(|| {
        format!(
            "Reconstructions from z alone are further from the test images ({drawn:.1} dB) than \
             the mean of all training images is ({mean:.1} dB): the denoiser can't separate noise \
             from an image yet. Longer training changes that; z may be useful before then."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reconstructions_worse_than_the_mean_image_are_explained() {
        let quality =
            |drawn: f64| json!({ "z_alone": { "psnr": drawn }, "mean_image": { "psnr": 12.7 } });
        assert!(
            worse_than_the_mean(&quality(9.1))
                .is_some_and(|words| words.contains("(9.1 dB)") && words.contains("(12.7 dB)"))
        );
        assert_eq!(worse_than_the_mean(&quality(14.6)), None);
        assert_eq!(worse_than_the_mean(&json!({})), None);
    }
}
