//! The arguments of `soda embed`, and their checks.

use super::shard::Shards;
use crate::cli::args::{PrecisionArgs, WeightsArgs, count};
use crate::cli::output::{self, Holds};
use soda::error::{Error, Result};
use soda::eval::features::FeatureKind;
use soda::eval::table::{Format, Table};
use soda::files::Destination;
use std::path::{Path, PathBuf};

/// Arguments of `soda embed`.
#[derive(clap::Args)]
#[command(
    after_help = "Features: z; backbone, the pooled encoder output before the last linear layer; \
                  or denoiser:BLOCK@T, the output of a residual block of the denoiser, averaged \
                  over its pixels, for the image noised to step T. Blocks are down0.0 (the finest, \
                  at the resolution of the denoiser's images), down1.0 .. middle .. up1.0, up0.0, \
                  as many as the weights have; an unknown name lists them."
)]
pub struct Args {
    /// Image files, or folders searched for images at any depth.
    #[arg(conflicts_with = "split")]
    pub paths: Vec<PathBuf>,
    /// Embed the training or test set of the data set, instead of files.
    #[arg(long, value_parser = ["train", "test"])]
    pub split: Option<String>,
    /// Embed only the first N images.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count::<u64>(1..))]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub weights: WeightsArgs,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    /// Features: z, backbone or denoiser:BLOCK@T, e.g. denoiser:up1.0@11.
    #[arg(long, value_name = "KIND", default_value = "z")]
    pub features: FeatureKind,
    /// Whiten the features: decorrelate them and scale them to variance 1, without using labels.
    /// The dimensions are the principal components, by falling variance. Mean and covariance are
    /// those stored with the weights for z (`soda export --whiten`), else those of the training
    /// images.
    #[arg(long)]
    pub whiten: bool,
    /// Normalise each row to length 1, after whitening.
    #[arg(long)]
    pub normalise: bool,
    /// Output file, one row per image: .npy, .safetensors, .parquet or .npz. A .safetensors file
    /// also holds the labels of a --split; a .parquet or .npz file the name, split, label and class
    /// of each row. `-`, pipes and devices get the .npy format.
    #[arg(long, value_name = "FILE", default_value = "features.npy")]
    pub out: PathBuf,
    /// Also write the labels of a --split, or of the shards of one, to this .npy file.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub labels: Option<PathBuf>,
    /// Also write the name of each row's image to this text file. A name is the image's file name,
    /// or train:17 (default: next to a .npy or .safetensors file, if the images have names of their
    /// own).
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Embed shard I of N (from 0), all/N one after the other, or auto. auto takes the shard that
    /// Slurm's array or MPI assigns to this process. Each shard is a file next to --out with a
    /// JSON, z.3-of-16.parquet for z.parquet; existing shards are kept.
    #[arg(long, value_name = "I/N|all/N|auto", conflicts_with_all = ["labels", "names", "merge"])]
    pub shard: Option<Shards>,
    /// Merge the shards of --out into it. All shards must exist, with the same weights and images.
    #[arg(long, conflicts_with_all = ["paths", "split", "limit", "names", "whiten", "normalise", "run", "weights", "features", "precision"])]
    pub merge: bool,
}

impl Args {
    /// Checks before the work that the flags are valid and all files can be written.
    pub fn check(&self, json: Option<&Path>) -> Result<()> {
        if self.paths.is_empty() && self.split.is_none() && !self.merge {
            return Err(Error::usage(
                "embed: name images or folders, or choose a set of the data with --split train or \
                 --split test",
            ));
        }
        Table::holds_names(&self.out)?;
        if let Some(path) = json.filter(|_| self.shard == Some(Shards::Auto)) {
            return Err(Error::usage(format!(
                "--json {}: with --shard auto every process would write this file; leave it out, \
                 as each shard has a JSON of its own",
                path.display()
            )));
        }
        if self.shard.is_some()
            && self.out.extension().is_none_or(|extension| extension != "parquet")
        {
            return Err(Error::usage(format!(
                "--out {}: shards are Parquet files; name one that ends with .parquet",
                self.out.display()
            )));
        }
        if self.shard.is_some() && self.limit.is_some() && self.split.is_none() {
            return Err(Error::usage(
                "--limit: with files, the shards divide all images; leave it out",
            ));
        }
        if let Some(labels) = self
            .labels
            .as_ref()
            .filter(|path| !Format::to_write(path).is_ok_and(|f| f == Format::Npy))
        {
            return Err(Error::usage(format!("--labels {}: name a .npy file", labels.display())));
        }
        output::prepare("--out", &self.out, Holds::Bytes)?;
        self.labels.iter().try_for_each(|path| output::prepare("--labels", path, Holds::Bytes))
    }

    /// Returns the file for the names, checked to be writable; `named` tells whether the images
    /// have names of their own.
    pub fn names(&self, named: bool) -> Result<Option<PathBuf>> {
        // A pipe has no folder, and a table holds the names itself.
        let beside = named
            && matches!(Destination::of(&self.out)?, Destination::File(_))
            && !Table::holds_names(&self.out)?;
        let names = self.names.clone().or_else(|| beside.then(|| names_beside(&self.out)));
        names.iter().try_for_each(|path| output::prepare("--names", path, Holds::Text))?;
        Ok(names)
    }
}

/// Returns the file for the names of the rows of `out`, next to it: `photos.npy.txt`.
pub fn names_beside(out: &Path) -> PathBuf {
    out.with_added_extension("txt")
}
