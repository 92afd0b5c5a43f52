//! Training steps by several ranks, each of which takes a part of the batch.
//!
//! On devices of one kind, the result is bit for bit that of one process with the same parts, one
//! for each rank (`train.micro_batch`; docs/scale.md lists the exceptions): gradients are summed in the order of the parts, and so are the sums of
//! squares that make up their norm. Each rank updates its own parameters (Rajbhandari et al. 2020,
//! arXiv 1910.02054, stage 1) and sends the new weights to the others, so that all ranks have the
//! same weights.

mod among;
mod collect;
mod gradients;
mod host;
mod layout;
mod lead;
mod news;
mod pipe;
#[cfg(test)]
mod tests;
mod weights;
mod wire;

pub use among::Among;
pub use lead::{Invitation, Joined, Order, dismiss, join_in, lead};
pub use pipe::Spent;
pub use wire::Wire;

use self::host::by_name;
use self::layout::Layout;
use super::checkpoint::State;
use super::optim::{ByName, Gradients};
use super::step::{Cut, Outcome, Pair, gradients, update};
use crate::config::{Config, MicroBatch};
use crate::diffusion::Schedule;
use crate::error::{Error, Hint, Result};
use crate::kernels::adamw;
use crate::kernels::batch_norm::put_off;
use crate::model::parameters;
use crate::ranks::Ranks;
use burn::tensor::{Device, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// One rank's side of the exchange.
pub struct Exchange {
    ranks: Ranks,
    wire: Wire,
    /// The number of images of a batch by rank.
    sizes: Vec<usize>,
    cut: Cut,
    /// The number of parts of a batch by rank.
    parts: Vec<usize>,
    /// The number of partial sums in a sum of squares, by rank.
    widths: Vec<usize>,
    device: Device,
    /// Known once the first gradients exist.
    layout: Option<Arc<Layout>>,
    /// With f16: the weights of each bucket by owner, as all ranks have them.
    known: Vec<Vec<Vec<f32>>>,
    /// Send buffers to reuse for the next buckets: allocating one takes as long as the copy.
    spare: Vec<Vec<f32>>,
    spent: Spent,
}

impl Exchange {
    /// Sets up the exchange for steps of `config`. All ranks call it together, each with its own
    /// `device`.
    ///
    /// # Errors
    /// If the batch can't be divided, or the thread that sends is gone.
    pub fn new(among: &Among, config: &Config, device: &Device) -> Result<Self> {
        let train = &config.train;
        if let MicroBatch::Sizes(_) = train.micro_batch {
            return Err(Error::usage(format!(
                "train.micro_batch is a list of parts, but several processes divide a batch by \
                themselves: set {} instead, and train.micro_batch to a number",
                Hint::Shares
            )));
        }
        let Among { ranks, wire, .. } = among;
        let sizes = among.sizes(train.batch_size)?;
        let by_rank: Vec<Vec<usize>> =
            sizes.iter().map(|size| train.micro_batch.parts(*size)).collect();
        let cut = Cut {
            before: by_rank[..ranks.rank()].concat(),
            own: by_rank[ranks.rank()].clone(),
            batch: train.batch_size,
        };
        let width = adamw::squares(Tensor::ones([1], device), false).dims()[0] as u64;
        let widths = ranks.gather(width.to_le_bytes().to_vec())?;
        let widths = widths
            .iter()
            .map(|width| u64::from_le_bytes(*width.first_chunk().expect("eight bytes")) as usize)
            .collect();
        Ok(Self {
            ranks: ranks.clone(),
            wire: *wire,
            parts: by_rank.iter().map(Vec::len).collect(),
            sizes,
            cut,
            widths,
            device: device.clone(),
            layout: None,
            known: Vec::new(),
            spare: Vec::new(),
            spent: Spent::default(),
        })
    }

    /// Returns the ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Returns which images of a batch this rank takes.
    pub fn rows(&self) -> Range<usize> {
        let start = self.sizes[..self.ranks.rank()].iter().sum();
        start..start + self.sizes[self.ranks.rank()]
    }

    /// Returns where the time went since the last call.
    pub fn spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Takes training step number `step`, all ranks together. `pair` holds this rank's images.
    /// `interrupted` says whether this rank was asked to stop, and the third result whether any
    /// rank was.
    ///
    /// # Errors
    /// If the device fails.
    #[allow(clippy::too_many_arguments, reason = "those of a step, and two more")]
    pub fn step(
        &mut self,
        mut state: State,
        pair: Pair,
        schedule: &Schedule,
        config: &Config,
        step: u64,
        lr: f64,
        interrupted: bool,
    ) -> Result<(State, Outcome, bool)> {
        let (own, deferred) =
            put_off(|| gradients(&mut state, pair, schedule, config, step, &self.cut));
        let (loss, interrupted) = self.news(&own, &deferred, interrupted)?;
        let (by_name, norm) = self.sum(&mut state, own.by_name)?;
        let (layout, rank) = (self.layout(), self.ranks.rank());
        let mine = |name: &str| layout.owner(name).is_none_or(|owner| owner == rank);
        state.position.images += self.cut.batch as u64;
        let (mut state, outcome) =
            update(state, Gradients::of(loss, by_name), norm, &mine, config, step, lr);
        self.share_weights(&mut state)?;
        Ok((state, outcome, interrupted))
    }

    /// Returns the layout, which must be known.
    fn layout(&self) -> Arc<Layout> {
        Arc::clone(self.layout.as_ref().expect("known since the first gradients"))
    }

    /// Exchanges gradients as if `state` had just been through a backward pass, and its weights
    /// unchanged: the exchange of a step without the step. Returns the number of values in the
    /// gradients.
    ///
    /// # Errors
    /// If the device fails.
    pub fn rehearse(&mut self, state: &mut State) -> Result<usize> {
        let grads: ByName = by_name(state)
            .into_iter()
            .filter(|(name, _)| !parameters::is_statistic(name))
            .collect();
        let numbers = grads.values().map(|grad| grad.dims()[0]).sum();
        self.sum(state, grads)?;
        self.share_weights(state)?;
        Ok(numbers)
    }
}
