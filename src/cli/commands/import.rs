//! `soda import`: weights from another program's checkpoint.

use crate::cli::args::Common;
use crate::cli::output::{self, Holds, Output};
use burn::tensor::Device;
use serde_json::json;
use soda::error::{Error, Result};
use soda::files::{self, Destination};
use soda::model::futurexiang::{self, Which};
use soda::model::parameters::is_statistic;
use soda::model::torchvision;
use soda::model::weights::{self, ENCODER_ALONE, NETWORKS, WeightsFile};
use soda::shell::quoted;
use soda::units::megabytes;
use std::path::{Path, PathBuf};

/// Arguments of `soda import`.
#[derive(clap::Args)]
#[command(
    after_help = "futurexiang: a checkpoint saved by train.py of github.com/FutureXiang/soda. \
                  Sizes are read from the tensors, the rest of the recipe is \
                  configs/futurexiang.toml. Add --set diffusion.schedule=inverted_cosine if it was \
                  trained with that schedule, and --set data.mean=[..] and data.std=[..] if it was \
                  trained on other data.\ntorchvision: a state dictionary of its resnet18, with \
                  its 7x7 stem or a 3x3 stem (conv1 replaced, no maxpool). z is then the pooled \
                  vector of 512 values. Pixels are normalised as for ImageNet unless --set says \
                  otherwise, and 7x7 stems use images of 64 pixels (--set data.side=128 changes \
                  that). There is no denoiser: embed, probe, neighbours, map and health \
                  work.\nFiles are those of torch.save with its default protocol (zip archives, \
                  and the format before PyTorch 1.6) and safetensors. No code in them is run."
)]
pub struct Args {
    /// Checkpoint to import (.pth, .pt, .safetensors).
    checkpoint: PathBuf,
    /// Origin of the checkpoint.
    #[arg(long, value_parser = ["futurexiang", "torchvision"])]
    from: String,
    /// Weights file to write; its name ends in .safetensors.
    #[arg(long, value_name = "FILE", default_value = "weights.safetensors")]
    out: PathBuf,
    /// Weights to take: the EMA (ema) or the raw weights (model) (default: ema; for torchvision:
    /// model).
    #[arg(long, value_parser = ["ema", "model"])]
    which: Option<String>,
    /// Override a value of the recipe stored with the weights (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Imports the weights of another program.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("import");
    output::require_ending("--out", &args.out, "safetensors")?;
    output::prepare("--out", &args.out, Holds::Bytes)?;
    let encoder_alone = args.from == "torchvision";
    let which = args.which.as_deref().unwrap_or(if encoder_alone { "model" } else { "ema" });
    let which = if which == "ema" { Which::Ema } else { Which::Model };
    let import = if encoder_alone { torchvision::import } else { futurexiang::import };
    let (tensors, config) = import(&args.checkpoint, which, &args.set)
        .map_err(|e| if is_own(&args.checkpoint) { own(&args.checkpoint) } else { e })?;
    let sha256 = files::sha256_of(&args.checkpoint)?;
    let mut metadata = weights::metadata(&config);
    let origin = if encoder_alone { "torchvision's resnet18" } else { "FutureXiang/soda" };
    metadata.insert("imported_from".into(), format!("{origin}, {}", which.key()));
    if encoder_alone {
        metadata.insert(NETWORKS.into(), ENCODER_ALONE.into());
    }
    metadata.insert("imported_sha256".into(), sha256.clone());
    let file = weights::encode(&tensors, metadata)?;
    files::write_atomically(&args.out, &file)?;

    let written = WeightsFile::parse(&args.out, &file)?;
    let parameters = |network: &str| {
        let own =
            tensors.iter().filter(|(name, ..)| name.starts_with(network) && !is_statistic(name));
        own.map(|(.., values)| values.len()).sum::<usize>()
    };
    let (encoder, denoiser) = (parameters("encoder."), parameters("unet."));
    let model = &config.model;
    let denoiser = match encoder_alone {
        true => "no denoiser".to_owned(),
        false => format!(
            "denoiser of base {} x {:?} ({denoiser} parameters)",
            model.unet.base, model.unet.multipliers
        ),
    };
    outln!(
        "{} of {}: encoder of base {} ({encoder} parameters), {denoiser}, z of {}",
        which.key(),
        args.checkpoint.display(),
        model.encoder.base,
        model.z_dim
    );
    outln!("{}", written_line(&args.out, file.len() as u64));
    output.set("from", json!(args.from));
    output.set("which", json!(which.option()));
    output.set("checkpoint", json!({ "path": args.checkpoint, "sha256": sha256 }));
    output.set("model", json!(model));
    output.weights(&written);
    output.write(common)
}

/// Checks whether `file` holds weights of this program, which need no import.
fn is_own(file: &Path) -> bool {
    // A pipe can't be read again.
    file.is_file()
        && WeightsFile::open(file).is_ok_and(|weights| weights.model(&Device::flex()).is_ok())
}

/// Refuses weights of this program.
fn own(file: &Path) -> Error {
    Error::usage(format!(
        "{} holds weights of this program, which need no import; use them with --weights {}",
        file.display(),
        quoted(file)
    ))
}

/// Reports that `out` has been written, with its size, and suggests the next command.
fn written_line(out: &Path, bytes: u64) -> String {
    let written = format!("{}: {}", output::place(out), megabytes(bytes));
    // There is no file to name after writing to a pipe.
    match Destination::of(out) {
        Ok(Destination::File(_)) => {
            format!("{written}; next: soda probe --weights {}", quoted(out))
        }
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
