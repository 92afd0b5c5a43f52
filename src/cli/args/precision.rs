//! The `--precision` flag.

use crate::cli::output::Output;
use serde_json::json;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::kernels::precision::Precision;
use soda::model::Soda;
use soda::model::weights::WeightsFile;

/// The precision of commands that run the networks.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PrecisionArgs {
    /// Precision of the networks. f16 halves the memory of feature maps and multiplies in f16,
    /// accumulating in f32, on adapters with shader-f16 (see `soda devices`). f16-emulated rounds
    /// the same way on the CPU, without being faster, to show the effect.
    #[arg(long, value_enum, default_value_t = Choice::F32)]
    precision: Choice,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    F32,
    F16,
    F16Emulated,
}

impl PrecisionArgs {
    /// Loads the networks of `weights` on `device` in this precision, and records it in `output` if
    /// it isn't f32.
    ///
    /// # Errors
    /// If the device doesn't support it, or the weights don't match their recipe.
    pub fn model(
        self,
        weights: &WeightsFile,
        device: &Selected,
        output: &mut Output,
    ) -> Result<Soda> {
        let chosen = self.on(device)?;
        if !self.is_f32() {
            output.set("precision", json!(self.name()));
        }
        Ok(weights.model(&device.device)?.in_precision(chosen))
    }

    /// Checks whether it is the default.
    pub fn is_f32(self) -> bool {
        self.precision == Choice::F32
    }

    /// Returns the precision as written on the command line.
    pub fn name(self) -> &'static str {
        match self.precision {
            Choice::F32 => "f32",
            Choice::F16 => "f16",
            Choice::F16Emulated => "f16-emulated",
        }
    }

    /// Returns the precision of networks on `device`.
    ///
    /// # Errors
    /// If the device doesn't support it.
    pub fn on(self, device: &Selected) -> Result<Precision> {
        match (self.precision, &device.adapter) {
            (Choice::F32, _) => Ok(Precision::F32),
            (Choice::F16, None) => Err(Error::usage(
                "--precision f16: the CPU computes in f32, so f16 would only be slower; \
                 `--precision f16-emulated` rounds as f16 does, to show the effect",
            )),
            (Choice::F16, Some(adapter)) if !adapter.profile.extensions.f16 => {
                Err(Error::usage(format!(
                    "--precision f16: {} has no shader-f16, so f16 would save neither memory nor \
                     time; leave --precision out",
                    adapter.name
                )))
            }
            (Choice::F16Emulated, Some(adapter)) => Err(Error::usage(format!(
                "--precision f16-emulated is for the CPU (--device cpu); on {} use --precision f16",
                adapter.name
            ))),
            (Choice::F16, Some(_)) | (Choice::F16Emulated, None) => Ok(Precision::F16),
        }
    }
}
