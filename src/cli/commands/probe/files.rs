//! `soda probe --features-from F`: features read from files.

use super::{Args, Common};
use crate::cli::output::Output;
use crate::cli::scores;
use serde_json::{Value, json};
use soda::config::ProbeConfig;
use soda::error::{Error, Result};
use soda::eval::features::Features;
use soda::eval::probe::TrainViews;
use soda::eval::table;
use soda::files;
use std::path::{Path, PathBuf};

/// Flags that features from files have no use for. clap drops the `requires` of a flag where what
/// it requires conflicts with another one, so they are refused with each flag of these files.
const OTHERS: [&str; 8] =
    ["run", "weights", "precision", "features", "train_views", "split", "baselines", "grid"];

/// The files of the features.
#[derive(clap::Args)]
pub struct FileArgs {
    /// Train on features from this file, without weights or images. It is an array [N, D] in a .npy
    /// file, or the tensor `features` of a .safetensors file.
    #[arg(
        long, value_name = "FILE", requires = "test_features", conflicts_with_all = OTHERS
    )]
    features_from: Option<PathBuf>,
    /// Labels of --features-from, integers [N] from 0 (default: the tensor `labels` in that file).
    #[arg(long, value_name = "FILE", requires = "features_from", conflicts_with_all = OTHERS)]
    labels_from: Option<PathBuf>,
    /// Test features, in the same formats.
    #[arg(long, value_name = "FILE", requires = "features_from", conflicts_with_all = OTHERS)]
    test_features: Option<PathBuf>,
    /// Labels of --test-features.
    #[arg(long, value_name = "FILE", requires = "features_from", conflicts_with_all = OTHERS)]
    test_labels: Option<PathBuf>,
}

/// Reads features with their labels; the labels of a .npy file are in a separate file, which `flag`
/// names.
fn read((features, labels): Named, flag: &str) -> Result<Features> {
    if labels.is_none() && features.extension().is_some_and(|e| e == "npy") {
        return Err(Error::usage(format!(
            "{} holds no labels; name a file of labels with {flag}",
            features.display()
        )));
    }
    table::read(features, labels)
}

/// Scores features from files; `None` if no files are named.
pub fn run(args: &Args, common: &Common) -> Option<Result<()>> {
    let FileArgs { features_from, labels_from, test_features, test_labels } = &args.files;
    let (train, test) = (features_from.as_deref()?, test_features.as_deref()?);
    Some(score(args, common, (train, labels_from.as_deref()), (test, test_labels.as_deref())))
}

type Named<'a> = (&'a Path, Option<&'a Path>);

fn score(args: &Args, common: &Common, train: Named, test: Named) -> Result<()> {
    const WHY: &str = "the features are read from files";
    common.warn_unused_device(WHY);
    common.warn_unused_data(WHY);
    let mut output = Output::new("probe");
    let mut protocol = args.protocol()?;
    // Mirror images among the rows, if any, are unknown.
    protocol.views = TrainViews::Plain;
    let [of_train, of_test] = [read(train, "--labels-from")?, read(test, "--test-labels")?];
    let largest = of_train.labels.iter().chain(&of_test.labels).max().copied().unwrap_or(0);
    let config = args.training(ProbeConfig::default());
    let probed = protocol.of_features(&of_train, &of_test, usize::from(largest) + 1, &config)?;
    let name = train.0.display().to_string();
    super::print_head(&protocol, &name, "rows", &probed, of_test.rows());
    super::print_scores(&protocol, &name, &probed);
    let whitened = args.whitened(&name, &protocol, |protocol| {
        protocol.of_features(&of_train, &of_test, usize::from(largest) + 1, &config)
    })?;
    output.set("device", json!("cpu"));
    output.set("adapter", Value::Null);
    let files = [train, test].map(|(features, labels)| {
        let of = |path: &Path| {
            Ok::<_, Error>(json!({ "path": path, "sha256": files::sha256_of(path)? }))
        };
        Ok::<_, Error>(json!({ "features": of(features)?, "labels": labels.map(of).transpose()? }))
    });
    let [train, test] = files;
    output.set("data", json!({ "train": train?, "test": test? }));
    output.merge(scores::to_json(&protocol, &config, &name, &probed, None, of_test.rows()));
    // The split is given by the files.
    output.set("split", json!("files"));
    output.set("train_views", Value::Null);
    whitened.iter().for_each(|probed| output.set("whitened", scores::scored(probed)));
    output.write(common)
}
