//! The checks that a recipe must pass before a run starts.

mod groups;
mod side;

use super::{Config, Levels, LrSchedule, MicroBatch, Views};

/// Whether a recipe can be used, or a message that names the key which can't.
type Checked = Result<(), String>;

/// Beyond any machine, yet small enough that products of sizes don't overflow.
const LARGEST: usize = 1 << 20;

fn need(ok: bool, message: String) -> Checked {
    if ok { Ok(()) } else { Err(message) }
}

fn positive(key: &str, value: usize) -> Checked {
    need(
        (1..=LARGEST).contains(&value),
        format!("{key} = {value}: must be between 1 and {LARGEST}"),
    )
}

fn at_most(key: &str, value: usize, largest: usize) -> Checked {
    need(value <= largest, format!("{key} = {value}: must be at most {largest}"))
}

fn probability(key: &str, value: f64) -> Checked {
    need(
        (0.0..=1.0).contains(&value),
        format!("{key} = {value}: a probability must lie between 0 and 1"),
    )
}

impl Config {
    /// Checks every value; the message names the key of the first impossible one.
    pub(super) fn check(&self) -> Checked {
        self.check_sizes()?;
        self.check_sides()?;
        self.check_groups()?;
        self.check_data()?;
        self.check_unet()?;
        self.check_diffusion()?;
        self.check_train()?;
        self.check_sample()?;
        self.check_probe()
    }

    /// Checks the sizes of everything, before anything is computed from them. A weights file can
    /// claim any value before a tensor is read, and the structure of its networks must stay small.
    fn check_sizes(&self) -> Checked {
        let (m, u, t) = (&self.model, &self.model.unet, &self.train);
        for (key, value) in [
            ("model.z_dim", m.z_dim),
            ("model.encoder.base", m.encoder.base),
            ("model.unet.base", u.base),
            ("model.unet.blocks", u.blocks),
            ("model.unet.groups", u.groups),
            ("model.unet.final_groups", u.final_groups),
            ("diffusion.steps", self.diffusion.steps),
            ("train.batch_size", t.batch_size),
            ("train.denoisings", t.denoisings),
            ("train.log_every", t.log_every),
            ("train.checkpoint_every", t.checkpoint_every),
            ("sample.steps", self.sample.steps),
            ("sample.inversion_steps", self.sample.inversion_steps),
            ("probe.epochs", self.probe.epochs),
            ("probe.batch_size", self.probe.batch_size),
        ] {
            positive(key, value)?;
        }
        need(
            u.base.is_multiple_of(2),
            format!(
                "model.unet.base = {}: must be even, as t is embedded as that many sines and \
                 cosines",
                u.base
            ),
        )?;
        if let MicroBatch::Sizes(sizes) = &t.micro_batch {
            let sum = sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size));
            need(
                sum == Some(t.batch_size) && !sizes.contains(&0),
                format!(
                    "train.micro_batch = {sizes:?}: the sizes must be at least 1 and add up to \
                     train.batch_size = {}",
                    t.batch_size
                ),
            )?;
        }
        need(t.steps >= 1, "train.steps = 0: must be at least 1".into())?;
        for (key, value, largest) in [
            ("model.encoder.base", m.encoder.base, 1 << 12),
            ("model.unet.base", u.base, 1 << 14),
            ("model.unet.blocks", u.blocks, 64),
            ("train.steps", t.steps, 1 << 40),
            ("train.denoisings", t.denoisings, 1 << 8),
            ("data.threads", self.data.threads, 1 << 10),
            ("data.source.rand_augment_ops", self.data.source.rand_augment_ops, 1 << 10),
            ("data.target.rand_augment_ops", self.data.target.rand_augment_ops, 1 << 10),
        ] {
            at_most(key, value, largest)?;
        }
        need(
            (1..=6).contains(&u.multipliers.len())
                && u.multipliers.iter().all(|&m| (1..=1024).contains(&m)),
            format!(
                "model.unet.multipliers = {:?}: name 1 to 6 stages, each between 1 and 1024",
                u.multipliers
            ),
        )?;
        Ok(())
    }

    /// Checks `data`.
    fn check_data(&self) -> Checked {
        for (name, view) in [("source", &self.data.source), ("target", &self.data.target)] {
            probability(&format!("data.{name}.crop"), view.crop.into())?;
            probability(&format!("data.{name}.flip"), view.flip.into())?;
            probability(&format!("data.{name}.color_jitter"), view.color_jitter.into())?;
            need(
                (0.0..=1.0).contains(&view.color_jitter_strength),
                format!(
                    "data.{name}.color_jitter_strength = {}: must lie in [0, 1]",
                    view.color_jitter_strength
                ),
            )?;
            probability(&format!("data.{name}.grayscale"), view.grayscale.into())?;
            probability(&format!("data.{name}.rand_augment"), view.rand_augment.into())?;
            let [low, high] = view.crop_scale;
            need(
                0.0 < low && low <= high && high <= 1.0,
                format!(
                    "data.{name}.crop_scale = {:?}: must satisfy 0 < smallest <= largest <= 1",
                    view.crop_scale
                ),
            )?;
            let [low, high] = view.crop_ratio;
            need(
                0.0 < low && low <= high && high.is_finite(),
                format!(
                    "data.{name}.crop_ratio = {:?}: must satisfy 0 < smallest <= largest",
                    view.crop_ratio
                ),
            )?;
            need(
                view.rand_augment_magnitude <= 30,
                format!(
                    "data.{name}.rand_augment_magnitude = {}: must be at most 30",
                    view.rand_augment_magnitude
                ),
            )?;
            need(
                view.noise >= 0.0 && view.noise.is_finite(),
                format!("data.{name}.noise = {}: must be 0 or more", view.noise),
            )?;
        }
        need(
            self.data.std.iter().all(|s| *s > 0.0 && s.is_finite())
                && self.data.mean.iter().all(|m| m.is_finite()),
            format!(
                "data.mean = {:?}, data.std = {:?}: standard deviations must be above 0",
                self.data.mean, self.data.std
            ),
        )?;
        Ok(())
    }

    /// Checks the rest of `model`.
    fn check_unet(&self) -> Checked {
        let (m, u) = (&self.model, &self.model.unet);
        probability("model.unet.dropout", u.dropout.into())?;
        need(
            u.time_scale > 0.0 && u.time_scale.is_finite(),
            format!("model.unet.time_scale = {}: must be above 0", u.time_scale),
        )?;
        need(
            u.dropout < 1.0,
            "model.unet.dropout = 1: would zero every feature; choose less than 1".into(),
        )?;
        need(
            u.view_conditioning == (self.data.views == Views::Conditioned),
            format!(
                "model.unet.view_conditioning = {}: it requires data.views = \"conditioned\" and \
                 vice versa; set both or neither",
                u.view_conditioning
            ),
        )?;
        let stages = u.multipliers.len();
        need(
            !u.layer_modulation || m.z_dim > stages,
            format!(
                "model.z_dim = {}: layer modulation splits z into {} sections; choose at least \
                 that many",
                m.z_dim,
                stages + 1
            ),
        )
    }

    /// Checks `diffusion`.
    fn check_diffusion(&self) -> Checked {
        let d = &self.diffusion;
        need(
            (0.0..1.0).contains(&d.high_noise),
            format!(
                "diffusion.high_noise = {}: a fraction of the samples, from 0 to less than 1",
                d.high_noise
            ),
        )?;
        need(
            (-10.0..=10.0).contains(&d.log_snr_shift),
            format!(
                "diffusion.log_snr_shift = {}: must lie in [-10, 10]; 0 for none, -1.386 for 64 \
                 pixels a side instead of 32",
                d.log_snr_shift
            ),
        )?;
        need(
            d.high_noise == 0.0 || d.levels == Levels::Continuous,
            format!(
                "diffusion.high_noise = {}: requires diffusion.levels = \"continuous\"",
                d.high_noise
            ),
        )
    }

    /// Checks the rest of `train`.
    fn check_train(&self) -> Checked {
        let (u, t) = (&self.model.unet, &self.train);
        probability("train.z_drop", t.z_drop)?;
        probability("train.layer_mask", t.layer_mask)?;
        need(
            t.layer_mask == 0.0 || u.layer_modulation,
            format!(
                "train.layer_mask = {}: there are no sections to mask without \
                 model.unet.layer_modulation = true",
                t.layer_mask
            ),
        )?;
        need(
            t.lr > 0.0
                && t.lr.is_finite()
                && t.encoder_lr_ratio >= 0.0
                && t.encoder_lr_ratio.is_finite(),
            format!(
                "train.lr = {}, train.encoder_lr_ratio = {}: must be positive numbers",
                t.lr, t.encoder_lr_ratio
            ),
        )?;
        need(
            t.betas.iter().all(|b| (0.0..1.0).contains(b)),
            format!("train.betas = {:?}: each must lie in [0, 1)", t.betas),
        )?;
        need(
            (0.0..=1.0).contains(&t.cooldown),
            format!("train.cooldown = {}: a fraction of the run, between 0 and 1", t.cooldown),
        )?;
        need(
            t.cooldown == 0.0 || t.lr_schedule == LrSchedule::Constant,
            format!(
                "train.cooldown = {}: it follows a constant rate; set train.lr_schedule = \
                 \"constant\", or train.cooldown = 0",
                t.cooldown
            ),
        )?;
        for (key, value) in [
            ("weight_decay", t.weight_decay),
            ("clip_norm", t.clip_norm),
            ("ema_power", t.ema_power),
            ("decorrelation", t.decorrelation),
        ] {
            need(
                value >= 0.0 && value.is_finite(),
                format!("train.{key} = {value}: must be 0 or more"),
            )?;
        }
        need(
            t.evaluate_images == 0 || t.evaluate_images >= 20,
            format!(
                "train.evaluate_images = {}: k-NN uses 20 neighbours; choose at least that many, \
                 or 0 for all",
                t.evaluate_images
            ),
        )?;
        need(
            (0.0..1.0).contains(&t.ema_decay),
            format!("train.ema_decay = {}: must lie in [0, 1)", t.ema_decay),
        )
    }

    /// Checks the rest of `sample`.
    fn check_sample(&self) -> Checked {
        let (steps, sample) = (self.diffusion.steps, &self.sample);
        need(
            sample.steps <= steps,
            format!("sample.steps = {}: must be at most diffusion.steps = {}", sample.steps, steps),
        )?;
        need(
            sample.inversion_steps <= steps,
            format!(
                "sample.inversion_steps = {}: must be at most diffusion.steps = {}",
                sample.inversion_steps, steps
            ),
        )?;
        need(
            (0.0..=1.0).contains(&sample.eta),
            format!("sample.eta = {}: must lie in [0, 1]", sample.eta),
        )?;
        need(
            sample.start > 0.0 && sample.start <= 1.0,
            format!(
                "sample.start = {}: must be above 0 and at most 1, which is pure noise",
                sample.start
            ),
        )?;
        sample
            .guidance
            .check(self.model.sections().len())
            .map_err(|e| format!("sample.guidance: {e}"))
    }

    /// Checks the rest of `probe`.
    fn check_probe(&self) -> Checked {
        need(
            self.probe.batch_size >= 2,
            format!(
                "probe.batch_size = {}: batch statistics need at least 2",
                self.probe.batch_size
            ),
        )?;
        need(
            self.probe.lr > 0.0 && self.probe.lr.is_finite(),
            format!("probe.lr = {}: must be above 0", self.probe.lr),
        )
    }
}
