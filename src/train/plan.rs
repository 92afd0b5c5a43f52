//! The resources of a run, known before its first step: parameters, memory and disk.

use super::trial::recorded;
use crate::config::{Config, TrainConfig};
use crate::data::{Dataset, bytes_of};
use crate::device::Selected;
use crate::edit::linear_decoder::{LARGEST_SIDE, MOST_IMAGES};
use crate::error::Result;
use crate::model::activations::activations;
use crate::model::{Soda, parameters};
use crate::units::{bytes, grouped};
use burn::tensor::Device;

/// Bytes of an f32 value.
const NUMBER: f64 = 4.0;
/// Bytes of the program itself and of the memory that its allocator keeps.
const PROGRAM: f64 = 80.0 * 1024.0 * 1024.0;
/// The fraction of the activations that exist at the same time: the backward pass starts to free
/// them before the last ones are computed. Measured from 8 to 128 images at once, base 16 to 128
/// (`train --try-step`, peak resident memory).
const AT_ONCE: f64 = 0.87;
/// The copies of the parameters that training holds and a checkpoint stores: weights, EMA and two
/// moments.
const COPIES: f64 = 4.0;
/// The same while the optimizer computes new ones, when there are no activations.
const COPIES_IN_UPDATE: f64 = 5.5;
/// The copies of its images that the closing fit of the linear decoder holds, in addition to what
/// training still holds.
const COPIES_IN_FIT: f64 = 1.5;
/// Approximate bytes of a row of metrics.jsonl.
const ROW: f64 = 200.0;
/// Approximate bytes of a picture.
const PICTURE: f64 = 150e3;

/// The resources of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The number of trainable parameters of the encoder.
    pub encoder: usize,
    /// The number of trainable parameters of the denoiser.
    pub denoiser: usize,
    /// Peak memory in bytes: on the CPU an estimate for the process; on an adapter the memory of
    /// the tensors, once [`Plan::count`] has counted it.
    pub memory: Option<f64>,
    /// Bytes of a checkpoint.
    pub checkpoint: f64,
    /// The number of checkpoints at the end of the run.
    pub kept: usize,
    /// Bytes of the run directory at its end.
    pub disk: f64,
}

impl Plan {
    /// Estimates the resources of `config` on `data` and `device`.
    ///
    /// On the CPU, memory is the sum of: four times the weights (weights, EMA, two moments) plus
    /// the [`activations`] of as many images as pass through the networks at once, or what the
    /// optimizer needs if that is more; the checkpoint that is being written; the images; the fit
    /// of the linear decoder from which the closing picture starts; and the program.
    pub fn new(config: &Config, data: &Dataset, device: &Selected) -> Self {
        let train = &config.train;
        // Only names and shapes: the weights take no memory.
        let shapes = parameters::shapes(&Soda::blank(&config.model, &Device::flex()));
        let count = |of_encoder: bool| {
            let wanted = shapes.iter().filter(|(name, _)| {
                name.starts_with("encoder.") == of_encoder && !parameters::is_statistic(name)
            });
            wanted.map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>()
        };
        let (encoder, denoiser) = (count(true), count(false));
        let weights = NUMBER * (encoder + denoiser) as f64;

        let activations = AT_ONCE
            * NUMBER
            * (activations(&config.model, train.denoisings) * train.at_once()) as f64;
        let training = (COPIES * weights + activations).max(COPIES_IN_UPDATE * weights);
        let images =
            [&data.train, &data.test].map(|images| images.held_bytes()).iter().sum::<usize>();
        let fitted =
            if config.sample.begins_with_picture() { MOST_IMAGES.min(data.train.len()) } else { 0 };
        let fit = COPIES_IN_FIT
            * NUMBER
            * (fitted * bytes_of(config.model.sides.target.min(LARGEST_SIDE))) as f64;
        let on_cpu = training + COPIES * weights + images as f64 + fit + PROGRAM;
        let memory = device.adapter.is_none().then_some(on_cpu);

        let times = |every: usize| train.steps.checked_div(every).unwrap_or(0);
        let saved = checkpoints(train);
        let kept =
            if train.keep_checkpoints == 0 { saved } else { saved.min(train.keep_checkpoints) };
        // The best one is kept too, if the run is scored.
        let kept = if train.evaluate_every > 0 && kept < saved { kept + 1 } else { kept };
        let checkpoint = COPIES * weights;
        let rows = times(train.log_every) + times(train.evaluate_every);
        let disk = kept as f64 * checkpoint
            + ROW * rows as f64
            + PICTURE * (times(train.sample_every) + 2) as f64;
        Self { encoder, denoiser, memory, checkpoint, kept, disk }
    }

    /// Counts the memory of the tensors of a step on an adapter, whose launches are only
    /// [`recorded`]. Does nothing on the CPU, where launches can't be skipped.
    ///
    /// # Errors
    /// If the device fails.
    pub fn count(&mut self, config: &Config, device: &Selected) -> Result<()> {
        if let Some(adapter) = &device.adapter {
            self.memory =
                Some(recorded(config, device, adapter.profile.clone())?.live_bytes as f64);
        }
        Ok(())
    }

    /// Describes the parameters: "2,826,464 + 385,507 (encoder + denoiser)".
    pub fn parameters(&self) -> String {
        format!(
            "{} + {} (encoder + denoiser)",
            grouped(self.encoder as u64),
            grouped(self.denoiser as u64)
        )
    }

    /// Describes the memory, if it is known: "about 500 MiB".
    pub fn memory(&self) -> Option<String> {
        self.memory.map(|memory| format!("about {}", bytes(memory)))
    }

    /// Describes the disk space: "about 130 MiB (2 checkpoints of 50 MiB, metrics, pictures)".
    pub fn disk(&self) -> String {
        let checkpoints = if self.kept == 1 {
            "1 checkpoint"
        } else {
            &format!("{} checkpoints", grouped(self.kept as u64))
        };
        format!(
            "about {} ({checkpoints} of {}, metrics, pictures)",
            bytes(self.disk),
            bytes(self.checkpoint)
        )
    }
}

/// Returns the number of checkpoints that a run writes: at regular steps, before scores, and after
/// the last step.
fn checkpoints(train: &TrainConfig) -> usize {
    let intervals = [train.checkpoint_every, train.evaluate_every];
    let multiples = |every: usize| train.steps.checked_div(every).unwrap_or(0);
    let both = intervals[0].checked_mul(intervals[1] / gcd(intervals).max(1)).unwrap_or(0);
    let at_the_end = intervals.iter().any(|&n| n > 0 && train.steps.is_multiple_of(n));
    intervals.map(multiples).iter().sum::<usize>() - multiples(both) + usize::from(!at_the_end)
}

fn gcd([a, b]: [usize; 2]) -> usize {
    if b == 0 { a } else { gcd([b, a % b]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BUILT_IN;
    use crate::data::bundled;

    #[test]
    fn memory_is_within_a_fifth_of_the_measured_peak() {
        let (cpu, data) = (Selected::cpu("a test"), bundled().expect("the subset"));
        let plan = |name: &str, sets: &[&str]| {
            let (_, text) = BUILT_IN.iter().find(|(n, _)| *n == name).expect("a recipe");
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            Plan::new(&Config::parse(text, name, &sets).expect("a recipe"), &data, &cpu)
        };
        let base_64 = ["model.encoder.base=64", "model.unet.base=64", "train.batch_size=32"];
        // Peak resident memory of `soda train`, closing picture included, on two cores and the
        // bundled images, MiB.
        let measured: [(&str, &[&str], f64); 3] = [
            ("configs/quick.toml", &[], 349.0),
            ("configs/tiny.toml", &[], 451.0),
            ("configs/cifar10.toml", &base_64, 1533.0),
        ];
        for (name, sets, measured) in measured {
            let got = plan(name, sets).memory.expect("a CPU's") / f64::from(1 << 20);
            assert!(
                (got / measured - 1.0).abs() < 0.2,
                "{name}: {got:.0} MiB, measured {measured}"
            );
        }
        let [small, large] = ["16", "64"].map(|n| {
            plan("configs/quick.toml", &[&format!("train.batch_size={n}")]).memory.expect("a CPU's")
        });
        let parts = plan("configs/quick.toml", &["train.batch_size=64", "train.micro_batch=16"])
            .memory
            .expect("a CPU's");
        assert!(large > 1.5 * small && parts == small, "{small} {large} {parts}");
    }

    #[test]
    fn parameters_and_disk_are_counted() {
        let data = bundled().expect("the subset");
        let config =
            |sets: &[String]| Config::parse(BUILT_IN[1].1, "quick.toml", sets).expect("a recipe");
        let plan = Plan::new(&config(&[]), &data, &Selected::cpu("a test"));
        let soda = Soda::new(&config(&[]).model, 1, &Selected::cpu("a test").device);
        assert_eq!(
            (plan.encoder, plan.denoiser),
            (parameters::count(&soda.encoder), parameters::count(&soda.unet))
        );
        assert_eq!(plan.checkpoint, 16.0 * (plan.encoder + plan.denoiser) as f64);
        assert!(
            plan.kept == 2
                && plan.disk > 2.0 * plan.checkpoint
                && plan.disk < 2.2 * plan.checkpoint,
            "{plan:?}"
        );
        let all = Plan::new(
            &config(&["train.keep_checkpoints=0".into()]),
            &data,
            &Selected::cpu("a test"),
        );
        assert_eq!(all.kept, 17);
        // As often as steps are counted.
        for [steps, save, score] in
            [[1000, 1000, 100], [1700, 1000, 0], [12, 4, 6], [7, 0, 0], [9, 0, 3], [10, 4, 4]]
        {
            let train = TrainConfig {
                steps,
                checkpoint_every: save,
                evaluate_every: score,
                ..config(&[]).train
            };
            let due = |step: usize, every: usize| every > 0 && step.is_multiple_of(every);
            let counted = (1..=steps)
                .filter(|&step| due(step, save) || due(step, score) || step == steps)
                .count();
            assert_eq!(checkpoints(&train), counted, "{steps} steps, {save}, {score}");
        }
    }
}
