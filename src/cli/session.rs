//! State shared by the commands that generate images from z: weights, device, sampling settings,
//! and images named on the command line.

use crate::cli::args::{Common, SamplingArgs, WeightsArgs, images};
use crate::cli::device;
use crate::cli::fitted::{frozen, linear_decoder, prior};
use crate::cli::output::{self, Holds, Output};
use burn::tensor::Device;
use serde_json::json;
use soda::config::{Config, SampleConfig, Sampler};
use soda::data::picture::{distinct, resolve};
use soda::data::{Dataset, Images, bytes_of};
use soda::device::Selected;
use soda::edit::generator::Generator;
use soda::edit::linear_decoder::LinearDecoder;
use soda::edit::prior::Prior;
use soda::edit::reconstruct::reconstruct;
use soda::error::{Error, Result};
use soda::eval::features::Frozen;
use soda::eval::psnr_ssim::{Similarity, similarity};
use soda::kernels::precision::Precision;
use soda::model::Soda;
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::report::grid;
use std::cell::OnceCell;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// An open command.
pub struct Session<'a> {
    /// The command's JSON.
    pub output: Output,
    /// The file of the trained networks.
    pub weights: WeightsFile,
    device: Selected,
    model: Soda,
    sample: SampleConfig,
    common: &'a Common,
    dataset: OnceCell<Dataset>,
    linear: OnceCell<Option<Arc<LinearDecoder>>>,
}

/// Images that the user named.
pub struct Named {
    /// Their pixels, resized to the weights' data.side.
    pub images: Images,
    /// Their labels in a picture.
    pub names: Vec<String>,
}

impl<'a> Session<'a> {
    /// Opens the weights and the device for `command`, whose picture goes to `out`.
    ///
    /// # Errors
    /// If there are no weights, the settings in `sampling` are invalid for them, there is no such
    /// device, or `out` can't be written.
    pub fn open(
        command: &str,
        weights: &WeightsArgs,
        sampling: &SamplingArgs,
        out: &Path,
        common: &'a Common,
    ) -> Result<Self> {
        let mut output = Output::new(command);
        let weights = weights.open()?;
        weights.require_denoiser()?;
        let sample = sampling.resolve(&weights.config)?;
        // Fail before the work if the picture can't be written.
        output::prepare("--out", out, Holds::Picture)?;
        let device = device::selected(common)?;
        say(&format!("{} with {} on {}", command, weights.path.display(), device.describe()));
        let model = sampling.precision.model(&weights, &device, &mut output)?;
        output.device(&device);
        output.weights(&weights);
        output.set("sample", json!(sample));
        output.set("seed", json!(sampling.seed));
        output.set("out", json!(out));
        Ok(Self {
            output,
            weights,
            device,
            model,
            sample,
            common,
            dataset: OnceCell::new(),
            linear: OnceCell::new(),
        })
    }

    /// Returns the device that holds the networks.
    pub fn device(&self) -> &Device {
        &self.device.device
    }

    /// Returns the recipe of the weights.
    pub fn config(&self) -> &Config {
        &self.weights.config
    }

    /// Returns the generator, which encodes images to z and samples images from z.
    ///
    /// # Errors
    /// If sampling starts from the linear decoder, and that is damaged or can't be fitted.
    pub fn generator(&self) -> Result<Generator<'_>> {
        let generator = Generator::new(
            &self.model,
            &self.weights.config,
            self.sample.clone(),
            &self.device.device,
        );
        Ok(generator.beginning_with(if self.sample.begins_with_picture() {
            self.linear()?
        } else {
            None
        }))
    }

    /// Returns the linear decoder of the weights; `None` if it would have to be fitted and there
    /// are no images.
    ///
    /// # Errors
    /// If it is damaged or can't be fitted.
    pub fn linear(&self) -> Result<Option<Arc<LinearDecoder>>> {
        if let Some(found) = self.linear.get() {
            return Ok(found.clone());
        }
        let data = || match self.dataset() {
            Ok(dataset) => Ok(Some(dataset)),
            Err(e) if self.common.data.is_none() => {
                say(&format!("{e}. Without training images, sampling starts from pure noise"));
                Ok(None)
            }
            Err(e) => Err(e),
        };
        let found = linear_decoder(&self.weights, &self.exact(), data, &self.device)?;
        Ok(self.linear.get_or_init(|| found).clone())
    }

    /// Returns the networks in f32. Anything fitted to them is cached for later commands, which may
    /// use another precision.
    fn exact(&self) -> Soda {
        self.model.clone().in_precision(Precision::F32)
    }

    /// Returns the frozen networks over the images of `dataset`.
    pub fn frozen<'b>(&'b self, dataset: &'b Dataset) -> Frozen<'b> {
        frozen(&self.weights, &self.model, dataset, &self.device)
    }

    /// Refuses samplers that add noise, because only z may differ between the images of `command`.
    ///
    /// # Errors
    /// `--sampler ddpm`, or `--eta` above 0.
    pub fn deterministic(&self, command: &str) -> Result<()> {
        let adds = |what: &str| {
            Err(Error::usage(format!(
                "{what} adds different noise to every image, and `soda {command}` shows the effect \
                 of z alone; choose ddim with eta 0, or dpm-solver"
            )))
        };
        match self.sample.sampler {
            Sampler::Ddpm => adds("--sampler ddpm"),
            Sampler::Ddim if self.sample.eta > 0.0 => adds(&format!("eta {}", self.sample.eta)),
            _ => Ok(()),
        }
    }

    /// Returns the data set, which is opened on first use.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn dataset(&self) -> Result<&Dataset> {
        if let Some(dataset) = self.dataset.get() {
            return Ok(dataset);
        }
        let dataset = images::open(self.common, &self.weights)?;
        say(&format!("data: {}", dataset.describe()));
        Ok(self.dataset.get_or_init(|| dataset))
    }

    /// Records in the JSON that `n` images of `split` were used, if the data set is open.
    pub fn used(&mut self, split: &str, n: usize) {
        if let Some(dataset) = self.dataset.get() {
            self.output.data(dataset, split, n);
        }
    }

    /// Returns `asked`, or if that is empty the names of the test images in `range` ("test:0",
    /// "test:1", ..), as many as there are.
    ///
    /// # Errors
    /// If the data set is needed and can't be opened.
    pub fn asked_or(&self, asked: &[String], range: Range<usize>) -> Result<Vec<String>> {
        if !asked.is_empty() {
            return Ok(asked.to_vec());
        }
        let end = range.end.min(self.dataset()?.test.len());
        Ok((range.start..end).map(|i| format!("test:{i}")).collect())
    }

    /// Opens the images that `specs` name: files, or images of the data set such as `test:17` and
    /// `train:3`.
    ///
    /// # Errors
    /// For the first image that doesn't exist or can't be read.
    pub fn images(&self, specs: &[String]) -> Result<Named> {
        let side = self.config().data.side;
        let (mut pixels, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            let picture = resolve(spec, side, || self.dataset().cloned())?;
            pixels.extend_from_slice(&picture.pixels);
            labels.push(picture.label.unwrap_or(0));
            names.push(picture.name);
        }
        distinct(specs, &mut names);
        Ok(Named { images: Images::new(side, pixels, labels), names })
    }

    /// Returns the latent prior: a mixture of `components` Gaussians, fitted to the z of the
    /// training images once for these weights and this data, then cached.
    ///
    /// # Errors
    /// If the data can't be opened, the images can't be encoded or the fit fails.
    pub fn prior(&self, components: usize) -> Result<Prior> {
        let dataset = self.dataset()?;
        prior(
            &self.weights,
            dataset,
            &frozen(&self.weights, &self.exact(), dataset, &self.device),
            components,
        )
    }

    /// Writes the JSON if `--json` is given.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(mut self) -> Result<()> {
        if self.dataset.get().is_none() {
            self.common.warn_unused_data("no image of a data set was needed");
        }
        if let Some(dataset) = self.dataset.get().filter(|_| !self.output.has("data")) {
            self.output.dataset(dataset);
        }
        self.output.write(self.common)
    }
}

/// The number of reconstructions in a picture.
const SHOWN: usize = 20;

/// Reconstructs the first `n` test images, saves the first [`SHOWN`] to `out`, and measures all of
/// them. Memory doesn't grow with `n`.
pub fn draw_reconstructions(
    generator: &Generator,
    dataset: &Dataset,
    n: usize,
    seed: u64,
    out: &Path,
) -> Result<Similarity> {
    let side = generator.side();
    let most = SHOWN * bytes_of(side);
    let (mut drawn, mut shown) = (Vec::new(), Vec::new());
    let mut parts = Vec::new();
    for (part, generator) in generator.parts(n) {
        let images = dataset.test.select(&part.collect::<Vec<_>>());
        let (images, originals) = reconstruct(&generator, &images, seed)?;
        parts.push(similarity(&images, &originals, side)?);
        let room = images.len().min(most - drawn.len());
        drawn.extend(&images[..room]);
        shown.extend(&originals[..room]);
    }
    grid::save_reconstructions(out, &drawn, &shown, side)?;
    Ok(Similarity::over(&parts))
}
