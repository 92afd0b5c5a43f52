//! `soda import`

use crate::cli::args::Common;
use crate::cli::output::{self, Holds, Output};
use serde_json::json;
use soda::error::Result;
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
    after_help = "futurexiang: what train.py of github.com/FutureXiang/soda saves. Sizes are read from the tensors, the rest of the recipe is \
    configs/futurexiang.toml; --set diffusion.schedule=inverted_cosine where that was trained, --set data.mean=[..] and data.std=[..] where \
    the data was other.\n\
    torchvision: a state dictionary of its resnet18, with its 7x7 stem or a 3x3 one (conv1 replaced, no maxpool). z is then the pooled \
    vector of 512 numbers; pixels are normalised as for ImageNet unless --set says otherwise, and 7x7 stems see images of 64 pixels \
    (--set data.side=128). There is no denoiser: embed, probe, neighbours, map and health work.\n\
    Files are those of torch.save with its default protocol (zip archives, and the form before PyTorch 1.6) and safetensors. Nothing in them is run."
)]
pub struct Args {
    /// The checkpoint (.pth, .pt, .safetensors).
    checkpoint: PathBuf,
    /// Whose networks it holds.
    #[arg(long, value_parser = ["futurexiang", "torchvision"])]
    from: String,
    /// The weights file to write.
    #[arg(long, value_name = "FILE", default_value = "weights.safetensors")]
    out: PathBuf,
    /// Which of its weights: the average over training (ema), or those in training (model)
    /// (default: ema; of torchvision: model).
    #[arg(long, value_parser = ["ema", "model"])]
    which: Option<String>,
    /// Override one value of the recipe that goes with the weights; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Takes the weights of another program.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let mut output = Output::new("import");
    output::prepare("--out", &args.out, Holds::Bytes)?;
    let encoder_alone = args.from == "torchvision";
    let which = args.which.as_deref().unwrap_or(if encoder_alone { "model" } else { "ema" });
    let which = if which == "ema" { Which::Ema } else { Which::Model };
    let import = if encoder_alone { torchvision::import } else { futurexiang::import };
    let (tensors, config) = import(&args.checkpoint, which, &args.set)?;
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

/// Says that `out` has been written, `bytes` long, and what can be done with it.
fn written_line(out: &Path, bytes: u64) -> String {
    let written = format!("{}: {}", out.display(), megabytes(bytes));
    // What went down a pipe is read by others.
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
