//! `soda report`: a one-page report on a run. Each part is produced by the corresponding command,
//! which the page names.

mod comparison;
mod scores;
mod subcommands;
mod training;

use crate::cli::args::Common;
use crate::cli::args::images;
use crate::cli::args::weights;
use crate::cli::device;
use crate::cli::output::{self, Holds, Output};
use indicatif::HumanCount;
use serde_json::{Value, json};
use soda::config::LrSchedule;
use soda::data::Dataset;
use soda::error::{Error, Result};
use soda::files;
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::report::html::{Figure, Listing, Page, Section, Table, render};
use soda::run_dir::{RunDir, Start};
use soda::shell::{quoted, retyped};
use std::path::PathBuf;
use subcommands::{Finished, Subcommands, typed};

/// Arguments of `soda report`.
#[derive(clap::Args)]
#[command(
    after_help = "The page works offline, can be printed, and is readable on a phone. Results and \
                  pictures are re-computed for the newest weights of the run and kept in \
                  DIR/report; on two processor cores and the full CIFAR-10 that takes ten to \
                  twenty minutes."
)]
pub struct Args {
    /// Run directory.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Page to write (default: DIR/report.html).
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("report");
    let run = RunDir::new(&args.run);
    if !run.exists() {
        return Err(Error::usage(format!(
            "--run {}: this folder holds no run; train one first (`soda train`)",
            args.run.display()
        )));
    }
    let out = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    output::prepare("--out", &out, Holds::Text)?;
    let weights = WeightsFile::open(&run.weights()?)?;
    // Fail before anything is overwritten if the device or the data can't be opened.
    device::selected(common)?;
    let dataset = data_of(&run, &weights, common)?;
    let subcommands = Subcommands {
        run: &args.run,
        common,
        data: common.data.clone(),
        weights: &weights.sha256,
        images: dataset.test.len(),
        folder: args.run.join("report"),
    };
    files::create_dir(&subcommands.folder)?;

    let probes = subcommands.probes();
    let training = training::section(&run, &weights.config, &probes, &subcommands.folder)?;
    let facts = training::facts(&run, &weights.config, &probes)?;
    let mut sections = vec![training, scores::section(&probes), subcommands.health()];
    sections.extend(subcommands.pictures());
    sections.push(repeat(&run, &weights, common)?);
    let missing: Vec<&String> = sections.iter().flat_map(|s| &s.missing).collect();
    for reason in &missing {
        say(&format!("left out: {reason}"));
    }
    let name = args
        .run
        .file_name()
        .map_or_else(|| args.run.display().to_string(), |n| n.to_string_lossy().into_owned());
    output.set("missing", json!(missing));
    let page = Page {
        title: format!("SODA run {name}"),
        lead: training::lead(&run, &weights.config)?,
        facts,
        sections,
    };
    files::write_atomically(&out, render(&page).as_bytes())?;
    outln!("{}", out.display());
    output.weights(&weights);
    output.set("run", json!(args.run));
    output.set("out", json!(out));
    output.write(common)
}

/// Opens the data the run was trained on.
///
/// # Errors
/// If `--data` names other data, or none can be opened.
fn data_of(run: &RunDir, weights: &WeightsFile, common: &Common) -> Result<Dataset> {
    let dataset = images::of_run(common, Some(run), weights.config.data.side)?;
    let starts = run.read_starts();
    let trained =
        weights.trained().map(|t| t.data_sha256).or(starts.last().map(|s| s.data_sha256.clone()));
    match trained.is_none_or(|sha| sha == dataset.sha256) {
        true => Ok(dataset),
        false => Err(Error::usage(format!(
            "{} was not trained on {}; leave --data out to use its own data, or name that data",
            run.path.display(),
            dataset.describe()
        ))),
    }
}

impl Subcommands<'_> {
    /// Returns `n`, or the number of test images if there are fewer.
    fn most(&self, n: usize) -> usize {
        n.min(self.images)
    }

    /// Runs the probes of z, with baselines where they are cheap.
    fn probes(&self) -> Vec<(&'static str, Finished)> {
        // Baselines only under `linear` and `knn`: logistic regression on 3,072 pixels takes
        // minutes.
        let protocols =
            [("linear", true), ("linear-full", false), ("knn", true), ("knn-lightly", false)];
        let run = |(p, baselines)| {
            let words =
                format!("probe --protocol {p}{}", if baselines { " --baselines" } else { "" });
            (p, self.run(&format!("probe_{p}"), &words, false))
        };
        protocols.into_iter().map(run).collect()
    }

    /// Builds the section on the probe's errors and the distribution of z.
    fn health(&self) -> Section {
        let mut section = Section {
            id: "health".into(),
            title: "Health of the representation".into(),
            ..Default::default()
        };
        let health = self.run("health", "health", true);
        if let Ok(v) = &health.result {
            section.tables.push(health_table(v));
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

    /// Builds the sections of images generated from z.
    fn pictures(&self) -> Vec<Section> {
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
            &format!("interpolate test:{} test:{}", self.most(2) - 1, self.most(14) - 1),
            true,
        );
        add(
            &mut editing,
            &finished,
            "From one test image to another, by linear and spherical interpolation in z; a single \
             row if the two look the same.",
            |_| Vec::new(),
        );
        let finished = self.run("directions", "directions --pca 4 --classes", true);
        add(
            &mut editing,
            &finished,
            "Along the principal components of z, and along the direction that most increases each \
             class's logit in a linear classifier.",
            |_| Vec::new(),
        );
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

/// Adds the result of `finished` to `section`: its picture with `caption`, its command, and the
/// sentences that `words` derives from its JSON.
fn add(
    section: &mut Section,
    finished: &Finished,
    caption: &str,
    words: impl FnOnce(&Value) -> Vec<String>,
) {
    let figure = |v: &Value| Ok((Figure::read(&finished.picture, caption, false)?, words(v)));
    match finished
        .result
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|v| figure(v).map_err(|e: Error| e.to_string()))
    {
        Ok((figure, words)) => {
            section.words.extend(words);
            section.figures.push(figure);
            section.commands.push(finished.typed.clone());
        }
        Err(reason) => section.missing.push(format!("{}: {reason}", finished.typed)),
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

fn health_table(v: &Value) -> Table {
    let number = |key: &str, digits: usize| {
        v[key].as_f64().map_or(String::new(), |n| format!("{n:.digits$}"))
    };
    let rows = [
        (
            "alignment",
            number("alignment", 3),
            "squared distance between two views of an image on the sphere: 0 identical, 2 \
             unrelated",
        ),
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

/// Builds the section on how to reproduce the run and the report.
fn repeat(run: &RunDir, weights: &WeightsFile, common: &Common) -> Result<Section> {
    let mut rows = vec![
        vec!["weights".to_owned(), weights.path.display().to_string()],
        vec!["their SHA-256".to_owned(), weights.sha256.clone()],
    ];
    let starts = run.read_starts();
    if let Some(start) = starts.first() {
        let from = training::beginning(start).zip(start.from.as_ref());
        rows.extend(from.map(|(name, sha256)| {
            vec!["started from".into(), format!("{name}, SHA-256 {sha256:.12}..")]
        }));
    }
    for (i, start) in starts.iter().enumerate() {
        let machine = |key: &str| match &start.machine[key] {
            Value::String(text) => text.clone(),
            Value::Null => "unknown".into(),
            value => value.to_string(),
        };
        let commit = start.commit.as_ref().map_or(String::new(), |c| format!(", commit {c}"));
        rows.push(vec![
            (if i == 0 { "training started" } else { "training resumed" }).to_owned(),
            format!(
                "{} after step {}: soda {}{commit} on {} ({}); {}, {} threads, {} {}",
                start.time,
                start.step,
                start.version,
                start.adapter,
                start.device,
                machine("cpu"),
                machine("threads"),
                machine("os"),
                machine("arch")
            ),
        ]);
        rows.push(vec![
            String::new(),
            format!(
                "{}{}, {} training images, SHA-256 {}",
                start.data,
                start.data_location.as_ref().map_or(String::new(), |place| format!(" ({place})")),
                start.images,
                start.data_sha256
            ),
        ]);
    }
    let mut commands: Vec<String> = starts.iter().map(|start| retyped(&start.command)).collect();
    commands.push(typed("report", &run.path, common.data.as_deref()));
    Ok(Section {
        id: "repeat".into(),
        title: "How to reproduce it".into(),
        words: vec![format!(
            "With the recipe below saved as recipe.toml, `{}` repeats the training. On one device, \
             the same seed and data give the same results{}.",
            from_recipe(&starts),
            match (weights.config.train.lr_schedule, weights.config.train.cooldown > 0.0) {
                (LrSchedule::Constant, false) => "",
                _ =>
                    ", unless a time limit ended the run: the learning rate then depended on the \
                     clock",
            }
        )],
        tables: vec![Table { head: Vec::new(), rows }],
        commands,
        listing: Some(Listing { title: "The recipe".into(), text: weights.config.to_toml() }),
        ..Default::default()
    })
}

/// Returns the command that trains a saved recipe as a run with these `starts` was trained.
fn from_recipe(starts: &[Start]) -> String {
    let from = starts
        .first()
        .and_then(weights::began_with)
        .map_or(String::new(), |from| format!(" --from {}", quoted(from)));
    // Only a run with --continue starts after the last step of its starting weights.
    let on = if !from.is_empty() && starts[0].step > 0 { " --continue" } else { "" };
    let data = starts.last().and_then(|start| start.data_location.as_ref());
    format!(
        "soda train --config recipe.toml{from}{on}{}",
        data.map_or(String::new(), |data| format!(" --data {}", quoted(data)))
    )
}

/// Formats a percentage as "41.2 %", or returns nothing.
fn per_cent(value: &Value) -> String {
    value.as_f64().map_or(String::new(), |v| format!("{v:.1} %"))
}

/// Formats a score as "41.2 % ± 0.3", with the spread if there is one.
fn scored(value: &Value, spread: &Value) -> String {
    match spread.as_f64() {
        Some(spread) if spread > 0.0 => format!("{} ± {spread:.1}", per_cent(value)),
        _ => per_cent(value),
    }
}

/// Adds a capital letter and a full stop; a symbol such as z stays as it is.
fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    match rest.chars().next() {
        Some(next) if next.is_alphabetic() => format!("{}{rest}.", first.to_uppercase()),
        _ => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_is_trained_from_the_same_weights_on_the_same_data() {
        let start = |more: Value| -> Start {
            let mut start = json!({
                "time": "", "step": 0, "command": [], "version": "", "commit": null, "device": "cpu", "adapter": "a", "machine": {},
                "data": "CIFAR-10", "data_sha256": "ab", "images": 9,
            });
            let Value::Object(more) = more else { panic!("no object") };
            start.as_object_mut().expect("an object").extend(more);
            serde_json::from_value(start).expect("a start")
        };
        assert_eq!(from_recipe(&[start(json!({}))]), "soda train --config recipe.toml");
        let first = start(
            json!({ "from": "cd", "from_name": "/it's/w.safetensors", "data_location": "/old data" }),
        );
        let command = from_recipe(&[first, start(json!({ "data_location": "/my data" }))]);
        assert_eq!(
            shlex::split(&command).expect("whole quotes")[4..],
            ["--from", "/it's/w.safetensors", "--data", "/my data"]
        );
        let on = from_recipe(&[start(json!({ "from": "cd", "from_name": "shipped", "step": 40 }))]);
        assert_eq!(on, "soda train --config recipe.toml --from shipped --continue");
        // If the record of the first start is lost, the first one left is a later start.
        assert_eq!(from_recipe(&[start(json!({ "step": 40 }))]), "soda train --config recipe.toml");
    }

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

    #[test]
    fn sentences_start_with_a_capital_letter_but_symbols_stay() {
        assert_eq!(sentence("warning: z has collapsed"), "Warning: z has collapsed.");
        assert_eq!(sentence("z has an effective rank of 3"), "z has an effective rank of 3.");
        assert_eq!(sentence("x"), "x.");
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
