//! `soda import`

use super::Common;
use super::export::megabytes;
use super::output::{self, Holds, Output};
use crate::error::Result;
use crate::files::{self, Destination};
use crate::model::futurexiang::{self, Which};
use crate::model::parameters::is_statistic;
use crate::model::weights::{self, WeightsFile};
use crate::shell::quoted;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of `soda import`.
#[derive(clap::Args)]
#[command(
    after_help = "futurexiang: what train.py of github.com/FutureXiang/soda saves. Sizes are read from the tensors, the rest of the recipe is \
    configs/futurexiang.toml; --set diffusion.schedule=inverted_cosine where that was trained, --set data.mean=[..] and data.std=[..] where \
    the data was other. Nothing in the checkpoint is run."
)]
pub struct Args {
    /// The checkpoint (.pth).
    checkpoint: PathBuf,
    /// Whose program wrote it.
    #[arg(long, value_parser = ["futurexiang"])]
    from: String,
    /// The weights file to write.
    #[arg(long, value_name = "FILE", default_value = "weights.safetensors")]
    out: PathBuf,
    /// Which of its weights: the average over training (ema), or those in training (model).
    #[arg(long, value_parser = ["ema", "model"], default_value = "ema")]
    which: String,
    /// Override one value of the recipe that goes with the weights; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Takes the weights of another program.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("import");
    output::prepare("--out", &args.out, Holds::Bytes)?;
    let which = if args.which == "ema" { Which::Ema } else { Which::Model };
    let (tensors, config) = futurexiang::import(&args.checkpoint, which, &args.set)?;
    let sha256 = files::sha256_of(&args.checkpoint)?;
    let mut metadata = weights::metadata(&config);
    metadata.insert("imported_from".into(), format!("FutureXiang/soda, {}", which.key()));
    metadata.insert("imported_sha256".into(), sha256.clone());
    let file = weights::encode(&tensors, metadata)?;
    files::write_atomically(&args.out, &file)?;

    let written = WeightsFile::parse(&args.out, &file)?;
    let parameters = |network: &str| {
        let own = tensors.iter().filter(|(name, ..)| name.starts_with(network) && !is_statistic(name));
        own.map(|(.., values)| values.len()).sum::<usize>()
    };
    let (encoder, denoiser) = (parameters("encoder."), parameters("unet."));
    let model = &config.model;
    outln!(
        "{} of {}: encoder of base {} ({encoder} parameters), denoiser of base {} x {:?} ({denoiser} parameters), z of {}",
        which.key(),
        args.checkpoint.display(),
        model.encoder.base,
        model.unet.base,
        model.unet.multipliers,
        model.z_dim
    );
    outln!("{}", written_line(&args.out, file.len() as u64));
    output.set("from", json!(args.from));
    output.set("which", json!(args.which));
    output.set("checkpoint", json!({ "path": args.checkpoint, "sha256": sha256 }));
    output.set("model", json!(model));
    output.weights(&written);
    output.write(common)
}

/// Says that `out` has been written, `bytes` long, and what can be done with it.
fn written_line(out: &Path, bytes: u64) -> String {
    let written = format!("{}: {}", out.display(), megabytes(bytes));
    // What went down a pipe is read by others.
    match Destination::of(out) {
        Ok(Destination::File(_)) => format!("{written}; next: soda probe --weights {}", quoted(out)),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_takes_any_path() {
        let line = written_line(Path::new("it's/new weights.safetensors"), 1_000_000);
        let (_, command) = line.split_once("next: ").expect("a command");
        let words = shlex::split(command).expect("whole quotes");
        assert_eq!(words, ["soda", "probe", "--weights", "it's/new weights.safetensors"]);
    }
}
