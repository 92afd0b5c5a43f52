//! AdamW (Loshchilov and Hutter 2019) with gradient clipping by one global norm over both networks,
//! a learning rate for each network, and the EMA of the weights in the same pass.

use super::ema::Ema;
use crate::config::{LrSchedule, Precision, TrainConfig};
use crate::device::lasting;
use crate::kernels::adamw::{BEGINNING, Options, Parameter, adamw, loss_scale};
use crate::model::{Soda, parameters};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients as Tape, Tensor};
use std::collections::{BTreeMap, HashMap};

/// The first and second moments of one parameter.
#[derive(Clone, Debug)]
pub struct Moments {
    /// The running mean of the gradient.
    pub first: Tensor<1>,
    /// The running mean of its square.
    pub second: Tensor<1>,
}

/// The optimizer with its state.
#[derive(Clone, Debug, Default)]
pub struct AdamW {
    /// The moments by parameter name.
    pub moments: HashMap<String, Moments>,
    /// The number of updates so far. (Steps that mixed precision skips count too.)
    pub updates: u64,
    /// The state of dynamic loss scaling in mixed precision, `[4]`; see
    /// [`loss_scale`](fn@loss_scale).
    pub loss_scale: Option<Tensor<1>>,
}

/// Returns the learning rate of the denoiser at `update` of the optimizer (from 1): linear warmup,
/// then constant, with or without a cooldown (1 - sqrt, which Haegele et al. 2024, arXiv
/// 2405.18392, found better than a line), or half a cosine. Cooldown and cosine reach 0 at
/// `progress` = 1. `progress` is the completed fraction of the run, in steps or in time, whichever
/// ends first.
pub fn learning_rate(config: &TrainConfig, update: u64, progress: f64) -> f64 {
    let warmup = (update as f64 / config.warmup_steps.max(1) as f64).min(1.0);
    let decay = match config.lr_schedule {
        LrSchedule::Constant if config.cooldown > 0.0 && progress + config.cooldown > 1.0 => {
            1.0 - ((progress - (1.0 - config.cooldown)) / config.cooldown).clamp(0.0, 1.0).sqrt()
        }
        LrSchedule::Constant => 1.0,
        LrSchedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos()),
    };
    config.lr * warmup * decay
}

impl AdamW {
    /// Returns the factor of the loss before its backward pass, `[1]`; `None` in f32.
    pub fn scale(&mut self, precision: Precision, device: &Device) -> Option<Tensor<1>> {
        match precision {
            Precision::F32 => self.loss_scale = None,
            Precision::Mixed => {
                self.loss_scale.get_or_insert_with(|| Tensor::from_floats(BEGINNING, device));
            }
        }
        self.loss_scale.as_ref().map(|state| state.clone().narrow(0, 0, 1))
    }

    /// Updates every parameter that is `mine` and its average in `ema` once, from the gradients and
    /// the norm `[1]` of the gradients of all parameters. Returns the networks and that norm before
    /// clipping, `[1]`, still on the device. In mixed precision the gradients are those of the
    /// scaled loss; if they aren't finite, everything but the loss scale and BatchNorm's statistics,
    /// which the forward pass updates, stays as it is, and the returned norm isn't finite either.
    pub fn update(
        &mut self,
        lr: f64,
        model: Soda,
        (mut grads, norm): (ByName, Tensor<1>),
        mine: &dyn Fn(&str) -> bool,
        ema: &mut Ema,
        config: &TrainConfig,
    ) -> (Soda, Tensor<1>) {
        self.updates += 1;
        ema.updates += 1;
        let (clip, norm) = self.clip(norm, config.clip_norm);
        let options = Options {
            lr,
            weight_decay: config.weight_decay,
            betas: config.betas,
            update: self.updates as i32,
            ema_decay: Ema::decay(config, ema.updates),
        };
        let factors = factors(options, config, &norm.device());
        let model = parameters::map(model, |name, weight| {
            if parameters::is_statistic(name) || !mine(name) {
                return weight;
            }
            let Some(grad) = grads.remove(name) else {
                let (d, w) = (options.ema_decay, weight.clone());
                ema.update(name, |average| (average * d + w * (1.0 - d), ()));
                return weight;
            };
            let factors = factors[usize::from(name.starts_with("encoder."))]
                [usize::from(ema.is_vector(name))]
            .clone();
            let moments = self.moments.remove(name);
            let new = ema.update(name, |average| {
                let new = match moments {
                    Some(Moments { first, second }) => adamw(
                        Parameter { weight, first, second, average },
                        grad,
                        clip.clone(),
                        factors,
                    ),
                    // The first update allocates the moments, and the average, which until then
                    // shared the tensor of the weights.
                    None => lasting(&grad.device(), || {
                        let [weight, average] = [&weight, &average].map(Tensor::clone);
                        let parameter = Parameter {
                            weight,
                            first: grad.zeros_like(),
                            second: grad.zeros_like(),
                            average,
                        };
                        adamw(parameter, grad.clone(), clip.clone(), factors.clone())
                    }),
                };
                (new.average.clone(), new)
            });
            self.moments.insert(name.to_owned(), Moments { first: new.first, second: new.second });
            new.weight
        });
        ema.copy_statistics(&model);
        (model, norm)
    }

    /// Returns the factor `[1]` that clips gradients of `norm` to `limit` (0: no limit), and their
    /// norm. In mixed precision, both without the factor of the loss, which is updated for the next
    /// step.
    fn clip(&mut self, norm: Tensor<1>, limit: f64) -> (Tensor<1>, Tensor<1>) {
        if let Some(state) = self.loss_scale.take() {
            let scaling = loss_scale(norm, state, limit);
            self.loss_scale = Some(scaling.state);
            return (scaling.clip, scaling.norm);
        }
        if limit == 0.0 {
            return (norm.ones_like(), norm);
        }
        ((norm.clone() + 1e-6).recip().mul_scalar(limit).clamp_max(1.0), norm)
    }
}

/// Returns the factors of an update: of the denoiser, then of the encoder, each for matrices and
/// for vectors. One tensor serves all parameters with the same learning rate and weight decay.
fn factors(options: Options, config: &TrainConfig, device: &Device) -> [[Tensor<1>; 2]; 2] {
    [options.lr, options.lr * config.encoder_lr_ratio].map(|lr| {
        let factors = |weight_decay| {
            Tensor::<1>::from_floats(Options { lr, weight_decay, ..options }.factors(), device)
        };
        let all = factors(config.weight_decay);
        let vectors = if config.decay_1d { all.clone() } else { factors(0.0) };
        [all, vectors]
    })
}

/// Flattened gradients by parameter name, in a fixed order, so that sums over them are
/// reproducible.
pub type ByName = BTreeMap<String, Tensor<1>>;

/// The loss and gradients of a batch, summed over its parts.
#[derive(Default)]
pub struct Gradients {
    loss: Option<Tensor<1>>,
    /// The gradients so far.
    pub by_name: ByName,
}

impl Gradients {
    /// Wraps the loss and gradients of a whole batch.
    pub fn of(loss: Tensor<1>, by_name: ByName) -> Self {
        Self { loss: Some(loss), by_name }
    }

    /// Adds a part that is the fraction `share` of the batch, whose mean loss is `loss`: the loss
    /// times `share`, and the gradients of that, times `scale` `[1]` if there is one. (BatchNorm
    /// sees one part at a time.)
    pub fn add<M: Module>(
        &mut self,
        model: &M,
        loss: Tensor<1>,
        share: f64,
        scale: Option<&Tensor<1>>,
    ) {
        let loss = if share == 1.0 { loss } else { loss * share };
        let scaled =
            scale.map_or(loss.clone(), |scale| loss.clone() * Tensor::from_inner(scale.clone()));
        let mut new = collect_gradients(model, &scaled.backward());
        for (name, sum) in std::mem::take(&mut self.by_name) {
            let sum = match new.remove(&name) {
                Some(gradient) => gradient + sum,
                None => sum,
            };
            new.insert(name, sum);
        }
        self.by_name = new;
        let loss = loss.inner();
        self.loss = Some(self.loss.take().map_or(loss.clone(), |sum| sum + loss));
    }

    /// Returns the mean loss of the batch, `[1]`.
    pub fn loss(&self) -> Tensor<1> {
        self.loss.clone().expect("a batch has a part")
    }
}

/// Collects the gradients of `model` from the tape `grads`.
pub fn collect_gradients<M: Module>(model: &M, grads: &Tape) -> ByName {
    struct Collect<'a> {
        path: Vec<String>,
        grads: &'a Tape,
        out: ByName,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() {
                return;
            }
            if let Some(grad) = param.val().grad(self.grads) {
                let count = grad.shape().num_elements();
                self.out.insert(self.path.join("."), grad.reshape([count]));
            }
        }
    }
    let mut visitor = Collect { path: Vec::new(), grads, out: BTreeMap::new() };
    model.visit(&mut visitor);
    visitor.out
}
