//! What a command computes in.

use crate::cli::output::Output;
use serde_json::json;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::kernels::precision::Precision;
use soda::model::Soda;
use soda::model::weights::WeightsFile;

/// The choice of a precision, for commands that run the networks.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PrecisionArgs {
    /// What the networks compute in: f16 stores feature maps in half the memory and takes f16
    /// factors with sums in f32, on adapters that have shader-f16 (see `soda devices`);
    /// f16-emulated rounds as much on the CPU and is no faster, to see what it changes.
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
    /// The networks of `weights` on `device` in this precision, which `output` notes where it isn't
    /// f32.
    ///
    /// # Errors
    /// If the device doesn't have it, or the weights don't fit.
    pub fn model(
        self,
        weights: &WeightsFile,
        device: &Selected,
        output: &mut Output,
    ) -> Result<Soda> {
        let chosen = self.on(device)?;
        if self.precision != Choice::F32 {
            output.set("precision", json!(self.name()));
        }
        Ok(weights.model(&device.device)?.in_precision(chosen))
    }

    /// The choice as it is written on the command line.
    pub fn name(self) -> &'static str {
        match self.precision {
            Choice::F32 => "f32",
            Choice::F16 => "f16",
            Choice::F16Emulated => "f16-emulated",
        }
    }

    /// What networks on `device` then compute in.
    ///
    /// # Errors
    /// If the device doesn't have it.
    pub fn on(self, device: &Selected) -> Result<Precision> {
        match (self.precision, &device.adapter) {
            (Choice::F32, _) => Ok(Precision::F32),
            (Choice::F16, None) => Err(Error::usage(
                "--precision f16: the CPU computes in f32, so f16 would only be slower; `--precision f16-emulated` rounds as f16 does, to see what it changes",
            )),
            (Choice::F16, Some(adapter)) if !adapter.profile.extensions.f16 => {
                Err(Error::usage(format!(
                    "--precision f16: {} has no shader-f16, so f16 would save neither memory nor time; leave --precision out",
                    adapter.name
                )))
            }
            (Choice::F16Emulated, Some(adapter)) => Err(Error::usage(format!(
                "--precision f16-emulated is the CPU's (--device cpu); {} takes --precision f16",
                adapter.name
            ))),
            (Choice::F16, Some(_)) | (Choice::F16Emulated, None) => Ok(Precision::F16),
        }
    }
}
