//! A step of training by several ranks, each of which takes a part of the batch.
//!
//! What comes of it is, bit for bit, what one process makes of the same parts
//! (`train.micro_batch`), on devices of one kind: gradients are added up in the order of the parts,
//! and so are the sums of squares that their norm is made of. Each rank updates its own parameters
//! (Rajbhandari et al. 2020, arXiv 1910.02054, stage 1) and hands the new weights to the others,
//! which therefore all have the same.

mod layout;
mod lead;
mod wire;

pub use lead::{Invitation, Joined, Order, dismiss, join_in, lead};
pub use wire::Wire;

use self::layout::Layout;
use super::checkpoint::State;
use super::optim::{ByName, Gradients};
use super::step::{Cut, Outcome, Pair, gradients, update};
use crate::config::{Config, MicroBatch};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::kernels::adamw;
use crate::kernels::batch_norm::{Pending as Taken, put_off};
use crate::model::parameters;
use crate::model::weights::Tensors;
use crate::ranks::{Link, Pending, Ranks, gather, pieces};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a run is shared out.
#[derive(Clone, Debug)]
pub struct Among {
    /// The processes.
    pub ranks: Ranks,
    /// What of a batch each takes, as proportions; none: all the same.
    pub shares: Option<Vec<usize>>,
    /// What numbers travel as.
    pub wire: Wire,
    /// The command that goes on with the run, for what is said where a rank fails.
    pub resume: String,
}

impl Among {
    /// Images of a batch of `batch` by rank.
    ///
    /// # Errors
    /// If not every rank gets one, or there are other shares than ranks.
    pub fn sizes(&self, batch: usize) -> Result<Vec<usize>> {
        let size = self.ranks.size();
        let shares = self.shares.clone().unwrap_or_else(|| vec![1; size]);
        if shares.len() != size {
            return Err(Error::usage(format!(
                "there are {} shares of a batch for {size} ranks",
                shares.len()
            )));
        }
        let sizes = split(batch, &shares);
        match sizes.contains(&0) {
            true => Err(Error::usage(format!(
                "train.batch_size = {batch} leaves one of {size} ranks without an image; take fewer ranks, or a larger batch"
            ))),
            false => Ok(sizes),
        }
    }
}

/// `batch` images in proportion to `shares`, the first ones of equals getting what is left over.
fn split(batch: usize, shares: &[usize]) -> Vec<usize> {
    let total: usize = shares.iter().sum::<usize>().max(1);
    let mut sizes: Vec<usize> = shares.iter().map(|share| batch * share / total).collect();
    let mut left: Vec<usize> = (0..shares.len()).collect();
    left.sort_by_key(|rank| std::cmp::Reverse(batch * shares[*rank] % total));
    for rank in left.into_iter().take(batch - sizes.iter().sum::<usize>()) {
        sizes[rank] += 1;
    }
    sizes
}

/// Where the time of the exchange of gradients and weights goes, in seconds, since it was last
/// asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// All of it: reading, exchange and writing go on at once.
    pub whole: f64,
    /// Reading the device.
    pub read: f64,
    /// Sending, receiving and adding up.
    pub exchange: f64,
    /// Writing to the device.
    pub upload: f64,
    /// Waiting for the others at the end of the backward pass.
    pub waited: f64,
}

impl Spent {
    /// The share of the exchange that went on while the device was read or written.
    pub fn hidden(&self) -> f64 {
        let seen = (self.whole - self.read - self.upload).max(0.0);
        if self.exchange > 0.0 { (1.0 - seen / self.exchange).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The whole over the slowest of its parts: 1 where all else is hidden behind that.
    pub fn over_slowest(&self) -> f64 {
        self.whole / self.read.max(self.exchange).max(self.upload)
    }
}

/// One rank's side of it.
pub struct Exchange {
    ranks: Ranks,
    wire: Wire,
    /// Images of a batch by rank.
    sizes: Vec<usize>,
    cut: Cut,
    /// Parts of a batch by rank.
    parts: Vec<usize>,
    /// Numbers that a sum of squares has, by rank.
    widths: Vec<usize>,
    device: Device,
    /// Once the first gradients are there.
    layout: Option<Arc<Layout>>,
    /// With 16 bits: the weights of each bucket by owner, as all ranks have them.
    known: Vec<Vec<Vec<f32>>>,
    /// Memory that has been sent from, for the next buckets: new memory takes as long as the copy.
    spare: Vec<Vec<f32>>,
    spent: Spent,
}

/// What a rank says of a step beside its gradients.
struct News {
    interrupted: bool,
    loss: f32,
    /// By part and layer: pixels, mean and variance.
    statistics: Vec<(usize, Vec<f32>)>,
}

impl Exchange {
    /// For steps of `config`; all ranks begin it at once, each on its `device`.
    ///
    /// # Errors
    /// If the batch can't be shared out, or the thread that sends is gone.
    pub fn new(among: &Among, config: &Config, device: &Device) -> Result<Self> {
        let train = &config.train;
        if let MicroBatch::Sizes(_) = train.micro_batch {
            return Err(Error::usage(
                "train.micro_batch is a list of parts, and several processes divide a batch by themselves: set their shares instead, and train.micro_batch to a number",
            ));
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

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The images of a batch that are this rank's.
    pub fn rows(&self) -> Range<usize> {
        let start = self.sizes[..self.ranks.rank()].iter().sum();
        start..start + self.sizes[self.ranks.rank()]
    }

    /// Where the time went since this was last asked.
    pub fn spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Step number `step` of training, all ranks together; `pair` holds this rank's images.
    /// `interrupted` says whether this rank was asked to stop; the third result whether any was.
    ///
    /// # Errors
    /// If the device fails.
    #[allow(clippy::too_many_arguments, reason = "those of a step, and two")]
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
        let (own, taken) =
            put_off(|| gradients(&mut state, pair, schedule, config, step, &self.cut));
        let (loss, interrupted) = self.news(&own, &taken, interrupted)?;
        let (by_name, norm) = self.sum(&mut state, own.by_name)?;
        let (layout, rank) = (self.layout(), self.ranks.rank());
        let mine = |name: &str| layout.owner(name).is_none_or(|owner| owner == rank);
        state.position.images += self.cut.batch as u64;
        let (mut state, outcome) =
            update(state, Gradients::of(loss, by_name), norm, &mine, config, step, lr);
        self.share_weights(&mut state)?;
        Ok((state, outcome, interrupted))
    }

    /// Adds up the losses, and lets rank 0's running statistics take in those of all parts, as one
    /// process does: the others' are never asked for.
    fn news(
        &mut self,
        own: &Gradients,
        taken: &[Taken],
        interrupted: bool,
    ) -> Result<(Tensor<1>, bool)> {
        let all = std::iter::once(own.loss())
            .chain(taken.iter().map(|taken| taken.statistics.clone().without_autodiff()));
        let numbers = read(Tensor::cat(all.collect(), 0), "computing a step")?;
        let mut words = vec![u32::from(interrupted)];
        let (loss, mut rest) = numbers.split_at(1);
        words.push(loss[0].to_bits());
        for taken in taken {
            let (statistics, others) = rest.split_at(taken.statistics.dims()[0]);
            rest = others;
            words.push(taken.pixels as u32);
            words.extend(statistics.iter().map(|x| x.to_bits()));
        }
        let layers = taken.len() / self.cut.own.len();
        let one: usize = taken[..layers].iter().map(|taken| 1 + taken.statistics.dims()[0]).sum();
        let counts: Vec<usize> = self.parts.iter().map(|parts| 4 * (2 + parts * one)).collect();
        let clock = Instant::now();
        let bytes: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
        let gathered = self.ranks.begin(move |link| gather(link, bytes, &counts)).wait()?;
        let all: Vec<Vec<u32>> =
            gathered.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
        self.spent.waited += clock.elapsed().as_secs_f64();
        let news: Vec<News> = all.iter().map(|words| News::of(words, &taken[..layers])).collect();
        if self.ranks.rank() == 0 {
            for (layer, (pixels, statistics)) in
                news.iter().flat_map(|news| news.statistics.iter().enumerate())
            {
                taken[layer % layers]
                    .take_in(Tensor::from_floats(statistics.as_slice(), &self.device), *pixels);
            }
        }
        let loss =
            news.iter().map(|news| news.loss).reduce(|sum, loss| sum + loss).expect("a rank");
        Ok((Tensor::from_floats([loss], &self.device), news.iter().any(|news| news.interrupted)))
    }

    /// Adds up the gradients of all ranks: those of this rank's parameters, and the norm of all.
    fn sum(&mut self, state: &mut State, mut own: ByName) -> Result<(ByName, Tensor<1>)> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        if self.layout.is_none() {
            let lengths: Vec<(String, usize)> =
                own.iter().map(|(name, grad)| (name.clone(), grad.dims()[0])).collect();
            let layout = Layout::new(&lengths, size);
            layout.check(size)?;
            // A checkpoint holds everybody's.
            state
                .optim
                .moments
                .retain(|name, _| layout.owner(name).is_none_or(|owner| owner == rank));
            self.layout = Some(Arc::new(layout));
            if self.wire == Wire::F16 {
                self.known = self.weights(state)?;
            }
        }
        let layout = self.layout();
        let (wire, ranks, device) = (self.wire, self.ranks.clone(), self.device.clone());
        let mut pipe = Pipe::default();
        let mut summed = ByName::new();
        let mut take = |index: usize, sum: Vec<f32>, spent: &mut Spent| {
            let clock = Instant::now();
            upload(layout.buckets[index].owned[rank].iter(), sum, &device, &mut summed);
            spent.upload += clock.elapsed().as_secs_f64();
        };
        for (index, bucket) in layout.buckets.iter().enumerate() {
            let clock = Instant::now();
            let of = |(name, _): &(String, usize)| {
                own.remove(name).expect("the same parameters have gradients in every step")
            };
            let mut values = self.spare.pop().unwrap_or_default();
            read_into(
                &mut values,
                bucket.owned.iter().flatten().map(of).collect(),
                "reading gradients",
            )?;
            self.spent.read += clock.elapsed().as_secs_f64();
            let counts = bucket.counts();
            pipe.push(
                index,
                ranks.begin(move |link| (add_up(link, wire, &values, &counts, rank), values)),
            );
            while let Some((index, (sum, sent))) = pipe.ready() {
                take(index, sum, &mut self.spent);
                self.spare.push(sent);
            }
        }
        while let Some((index, (sum, sent))) = pipe.wait()? {
            take(index, sum, &mut self.spent);
            self.spare.push(sent);
        }
        pipe.count(&mut self.spent);
        let norm = self.norm(&summed)?;
        Ok((summed, norm))
    }

    /// The norm of all gradients, of which `own` are this rank's.
    fn norm(&mut self, own: &ByName) -> Result<Tensor<1>> {
        let layout = self.layout();
        let order = layout.in_order();
        let first = order.first().map(|(name, _)| *name);
        let squares = own
            .iter()
            .map(|(name, grad)| adamw::squares(grad.clone(), first == Some(name)))
            .collect::<Vec<_>>();
        // A rank may have no parameter.
        let squares = read_all(squares, "adding up squares")?;
        let mut tensors = vec![0; self.ranks.size()];
        order.iter().for_each(|(_, owner)| tensors[*owner] += 1);
        let counts: Vec<usize> =
            tensors.iter().zip(&self.widths).map(|(tensors, width)| 4 * tensors * width).collect();
        let squares = bytemuck::cast_slice(&squares).to_vec();
        let gathered = self.ranks.begin(move |link| gather(link, squares, &counts)).wait()?;
        let gathered: Vec<Vec<f32>> =
            gathered.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
        let mut rest: Vec<&[f32]> = gathered.iter().map(Vec::as_slice).collect();
        let sums = order.iter().map(|(_, owner)| {
            rest[*owner].split_off(..self.widths[*owner]).expect("one each").to_vec()
        });
        let mut sums: Vec<Vec<f32>> = sums.collect();
        // Devices that round otherwise must agree on whether the step is left out: a norm of more
        // than 1e19 is none, long before f32 ends.
        let total: f64 = sums.iter().flatten().map(|x| f64::from(*x)).sum();
        if total.is_nan() || total >= 1e38 {
            sums = vec![vec![f32::INFINITY]];
        }
        Ok(adamw::norm_of_squares(&sums, &self.device))
    }

    /// The weights by bucket and owner, on the host.
    fn weights(&self, state: &State) -> Result<Vec<Vec<Vec<f32>>>> {
        let layout = self.layout();
        let named = by_name(state);
        let of = |owned: &Vec<(String, usize)>| {
            read_all(owned.iter().map(|(name, _)| named[name].clone()).collect(), "reading weights")
        };
        layout.buckets.iter().map(|bucket| bucket.owned.iter().map(of).collect()).collect()
    }

    /// Gives the others this rank's new weights, and takes theirs. With 16 bits what travels is the
    /// change, which the owner rounds too.
    fn share_weights(&mut self, state: &mut State) -> Result<()> {
        let layout = self.layout();
        let (rank, wire, ranks) = (self.ranks.rank(), self.wire, self.ranks.clone());
        let named = by_name(state);
        let mut pipe = Pipe::default();
        let mut new = ByName::new();
        for (index, bucket) in layout.buckets.iter().enumerate() {
            let clock = Instant::now();
            let own = bucket.owned[rank].iter().map(|(name, _)| named[name].clone()).collect();
            let mut values = self.spare.pop().unwrap_or_default();
            read_into(&mut values, own, "reading weights")?;
            if let Wire::F16 = wire {
                let known = &mut self.known[index][rank];
                values.iter_mut().zip(known.iter()).for_each(|(new, known)| *new -= known);
                // As it will arrive.
                values = wire::decode(&wire::encode(&values, &[values.len()]), &[values.len()]);
                known.iter_mut().zip(&values).for_each(|(known, change)| *known += change);
            }
            self.spent.read += clock.elapsed().as_secs_f64();
            let counts = bucket.counts();
            pipe.push(
                index,
                ranks.begin(move |link| (from_others(link, wire, &values, &counts, rank), values)),
            );
            while let Some((index, (all, sent))) = pipe.ready() {
                self.take_weights(index, all, &mut new);
                self.spare.push(sent);
            }
        }
        while let Some((index, (all, sent))) = pipe.wait()? {
            self.take_weights(index, all, &mut new);
            self.spare.push(sent);
        }
        pipe.count(&mut self.spent);
        drop(named);
        let map = |name: &str, old: Tensor<1>| new.remove(name).unwrap_or(old);
        state.model = parameters::map(state.model.clone(), map);
        Ok(())
    }

    /// Writes the weights of bucket `index` that other ranks update, or what they change by, to the
    /// device.
    fn take_weights(&mut self, index: usize, others: Vec<f32>, new: &mut ByName) {
        let clock = Instant::now();
        let (layout, rank) = (self.layout(), self.ranks.rank());
        let owned = layout.buckets[index].owned.iter().enumerate();
        match self.wire {
            Wire::F32 => {
                let others_own =
                    owned.filter(|(owner, _)| *owner != rank).flat_map(|(_, owned)| owned);
                upload(others_own, others, &self.device, new);
            }
            Wire::F16 => {
                let mut changes = others.as_slice();
                for (owner, owned) in owned {
                    let known = &mut self.known[index][owner];
                    if owner != rank {
                        let change = changes.split_off(..known.len()).expect("all of them");
                        known.iter_mut().zip(change).for_each(|(known, change)| *known += change);
                    }
                    upload(owned.iter(), known.clone(), &self.device, new);
                }
            }
        }
        self.spent.upload += clock.elapsed().as_secs_f64();
    }

    fn layout(&self) -> Arc<Layout> {
        Arc::clone(self.layout.as_ref().expect("made of the first gradients"))
    }

    /// Exchanges gradients as if `state` had just been through a backward pass, and its weights,
    /// which nothing has changed: what a step spends on it. Gives the numbers that each of them
    /// has.
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

    /// Gives rank 0 the averages and moments that this rank updates; rank 0 puts the averages of
    /// all into `state` and gets the moments. Weights are compared on the way.
    ///
    /// # Errors
    /// If the device fails, or the weights of a rank aren't those of rank 0.
    pub fn collect(&mut self, state: &mut State) -> Result<Tensors> {
        let Some(layout) = self.layout.clone() else { return Ok(Tensors::new()) };
        let rank = self.ranks.rank();
        self.compare(state)?;
        let mut moments = Tensors::new();
        for bucket in &layout.buckets {
            let owned = &bucket.owned[rank];
            let mut own = Vec::new();
            if rank != 0 {
                for kind in Kept::ALL {
                    own.extend(read_all(
                        owned.iter().map(|(name, _)| kind.of(state, name)).collect(),
                        "reading moments",
                    )?);
                }
            }
            let counts = bucket.counts();
            let sent = self
                .ranks
                .begin(move |link| to_first(link, &own, &counts, Kept::ALL.len()))
                .wait()?;
            for (owned, values) in
                bucket.owned.iter().zip(&sent).filter(|(_, values)| !values.is_empty())
            {
                let mut kinds = values.chunks(values.len() / Kept::ALL.len());
                let mut averages = ByName::new();
                upload(
                    owned.iter(),
                    kinds.next().expect("averages").to_vec(),
                    &self.device,
                    &mut averages,
                );
                averages
                    .into_iter()
                    .for_each(|(name, average)| state.ema.update(&name, |_| (average, ())));
                for (kind, values) in ["first", "second"].into_iter().zip(kinds) {
                    let mut rest = values;
                    moments.extend(owned.iter().map(|(name, len)| {
                        (
                            format!("{name}.{kind}"),
                            vec![*len],
                            rest.split_off(..*len).expect("all of them").to_vec(),
                        )
                    }));
                }
            }
        }
        Ok(moments)
    }

    /// Compares the weights of all ranks.
    fn compare(&self, state: &State) -> Result<()> {
        let mut digest = Sha256::new();
        for weight in parameters::collect(&state.model.valid())
            .into_iter()
            .filter(|t| !parameters::is_statistic(&t.name))
        {
            digest.update(bytemuck::cast_slice(&read(weight.values, "reading weights")?));
        }
        let all = self.ranks.gather(digest.finalize().to_vec())?;
        // Rank 0 says so for all.
        match all.iter().position(|digest| *digest != all[0]).filter(|_| self.ranks.rank() == 0) {
            None => Ok(()),
            Some(rank) => Err(Error::failed(format!(
                "the weights of rank {rank} aren't those of rank 0 after step {}: one of the two machines does what it shouldn't; the last checkpoint is intact",
                state.position.step
            ))),
        }
    }
}

/// What a rank keeps of the parameters that it updates.
#[derive(Clone, Copy)]
enum Kept {
    Average,
    First,
    Second,
}

impl Kept {
    const ALL: [Self; 3] = [Self::Average, Self::First, Self::Second];

    fn of(self, state: &State, name: &str) -> Tensor<1> {
        let moments = || &state.optim.moments[name];
        match self {
            Self::Average => state.ema.average(name),
            Self::First => moments().first.clone(),
            Self::Second => moments().second.clone(),
        }
    }
}

/// The weights by name, without autodiff.
fn by_name(state: &State) -> HashMap<String, Tensor<1>> {
    parameters::collect(&state.model.valid()).into_iter().map(|t| (t.name, t.values)).collect()
}

fn read(tensor: Tensor<1>, doing: &str) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|e| Error::device(doing, &e))
}

/// Puts the numbers of `tensors`, one after the other, into `values`.
fn read_into(values: &mut Vec<f32>, tensors: Vec<Tensor<1>>, doing: &str) -> Result<()> {
    values.clear();
    let failed = |e: &dyn std::fmt::Display| Error::device(doing, e);
    // An adapter is asked once. On the CPU each tensor is there as it is.
    if tensors.first().is_some_and(|tensor| tensor.device() != Device::flex()) {
        *values = read(Tensor::cat(tensors, 0), doing)?;
        return Ok(());
    }
    for tensor in tensors {
        let data = tensor.try_into_data_as::<f32>().map_err(|e| failed(&e))?;
        values.extend_from_slice(data.as_slice().map_err(|e| failed(&format!("{e:?}")))?);
    }
    Ok(())
}

/// The numbers of `tensors`, one after the other; there may be none.
fn read_all(tensors: Vec<Tensor<1>>, doing: &str) -> Result<Vec<f32>> {
    if tensors.is_empty() { Ok(Vec::new()) } else { read(Tensor::cat(tensors, 0), doing) }
}

/// Writes `values` to the device, as these tensors.
fn upload<'a>(
    owned: impl Iterator<Item = &'a (String, usize)>,
    values: Vec<f32>,
    device: &Device,
    into: &mut ByName,
) {
    if values.is_empty() {
        return;
    }
    let count = values.len();
    let all = Tensor::<1>::from_data(TensorData::new(values, [count]), device);
    let mut start = 0;
    for (name, len) in owned {
        into.insert(name.clone(), all.clone().narrow(0, start, *len));
        start += len;
    }
}

thread_local! {
    /// Where the thread that sends receives what it adds up: memory that is new each time would
    /// take as long as the copy.
    static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Sends each owner what `values` hold of its parameters, and adds up what all have of this rank's,
/// in the order of ranks.
fn add_up(
    link: &mut dyn Link,
    wire: Wire,
    values: &[f32],
    counts: &[usize],
    rank: usize,
) -> Vec<f32> {
    let mut arriving = vec![counts[rank]; counts.len()];
    arriving[rank] = 0;
    let own = pieces(values, counts).nth(rank).expect("a piece for each rank");
    let sum = |others: &[f32]| {
        let mut all: Vec<&[f32]> = pieces(others, &arriving).collect();
        all[rank] = own;
        let mut sum = all[0].to_vec();
        for piece in &all[1..] {
            sum.iter_mut().zip(*piece).for_each(|(sum, more)| *sum += more);
        }
        sum
    };
    let [sent, received] = [counts, &arriving].map(|counts| wire.bytes(counts));
    match wire {
        Wire::F32 => ROOM.with_borrow_mut(|room| {
            let count: usize = arriving.iter().sum();
            room.resize(count.max(room.len()), 0.0);
            link.all_to_all(
                bytemuck::cast_slice(values),
                &sent,
                bytemuck::cast_slice_mut(&mut room[..count]),
                &received,
            );
            sum(&room[..count])
        }),
        Wire::F16 => {
            let mut all = vec![0; received.iter().sum()];
            link.all_to_all(&wire::encode(values, counts), &sent, &mut all, &received);
            sum(&wire::decode(&all, &arriving))
        }
    }
}

/// What the other ranks have to send, `counts` numbers by rank, one after the other.
fn from_others(
    link: &mut dyn Link,
    wire: Wire,
    own: &[f32],
    counts: &[usize],
    rank: usize,
) -> Vec<f32> {
    let mut arriving = counts.to_vec();
    arriving[rank] = 0;
    let received = wire.bytes(&arriving);
    match wire {
        Wire::F32 => {
            let mut all = vec![0.0f32; arriving.iter().sum()];
            link.all_gather(
                bytemuck::cast_slice(own),
                bytemuck::cast_slice_mut(&mut all),
                &received,
            );
            all
        }
        Wire::F16 => {
            let mut all = vec![0; received.iter().sum()];
            link.all_gather(&wire::encode(own, &[own.len()]), &mut all, &received);
            wire::decode(&all, &arriving)
        }
    }
}

/// Sends rank 0 `own`, which is `times` as many numbers as `counts` says; what it gets, by rank.
fn to_first(link: &mut dyn Link, own: &[f32], counts: &[usize], times: usize) -> Vec<Vec<f32>> {
    let size = counts.len();
    let mut sent = vec![0; size];
    sent[0] = 4 * own.len();
    let received: Vec<usize> = match link.place().rank {
        0 => (0..size).map(|rank| if rank == 0 { 0 } else { 4 * times * counts[rank] }).collect(),
        _ => vec![0; size],
    };
    let mut all = vec![0u8; received.iter().sum()];
    link.all_to_all(bytemuck::cast_slice(own), &sent, &mut all, &received);
    pieces(&all, &received).map(bytemuck::pod_collect_to_vec).collect()
}

impl News {
    /// As it was sent; `layers` tell how many numbers each has.
    fn of(words: &[u32], layers: &[Taken]) -> Self {
        let (head, mut rest) = words.split_at(2);
        let lengths = layers.iter().map(|layer| layer.statistics.dims()[0]).cycle();
        let mut statistics = Vec::new();
        for length in lengths {
            let Some((pixels, others)) = rest.split_first() else { break };
            let (numbers, others) = others.split_at(length);
            rest = others;
            statistics
                .push((*pixels as usize, numbers.iter().map(|x| f32::from_bits(*x)).collect()));
        }
        Self { interrupted: head[0] != 0, loss: f32::from_bits(head[1]), statistics }
    }
}

/// Buckets on their way, in order.
struct Pipe<T> {
    began: Instant,
    under_way: VecDeque<(usize, Pending<T>)>,
    exchanged: Duration,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { began: Instant::now(), under_way: VecDeque::new(), exchanged: Duration::ZERO }
    }
}

impl<T> Pipe<T> {
    fn push(&mut self, index: usize, pending: Pending<T>) {
        self.under_way.push_back((index, pending));
    }

    /// The next one, if it has arrived.
    fn ready(&mut self) -> Option<(usize, T)> {
        let arrived = self.under_way.front_mut().is_some_and(|(_, pending)| pending.is_ready());
        if arrived { self.wait().ok().flatten() } else { None }
    }

    /// The next one, if there is one.
    fn wait(&mut self) -> Result<Option<(usize, T)>> {
        let Some((index, pending)) = self.under_way.pop_front() else { return Ok(None) };
        let (value, took) = pending.timed()?;
        self.exchanged += took;
        Ok(Some((index, value)))
    }

    /// Notes where the time went, reading and writing left out.
    fn count(&self, spent: &mut Spent) {
        spent.whole += self.began.elapsed().as_secs_f64();
        spent.exchange += self.exchanged.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BUILT_IN;
    use crate::ranks::threads;

    #[test]
    fn what_is_read_and_written_is_hidden_behind_what_travels() {
        let (_, text) =
            BUILT_IN.iter().find(|(name, _)| name.ends_with("cifar10.toml")).expect("a recipe");
        let sets = ["model.encoder.base=32", "model.unet.base=32", "train.batch_size=4"]
            .map(str::to_owned);
        let config = Config::parse(text, "cifar10.toml", &sets).expect("a recipe");
        // 22 MB, of which half go to the other rank, there and back: 550 ms. Reading and writing
        // take a tenth of that on a quiet machine.
        let exchanged = |wire: Wire| {
            let spent = threads::run_at(Some(40e6), 2, |ranks| {
                let among = Among { ranks, shares: None, wire, resume: String::new() };
                let device = Device::flex();
                let mut exchange = Exchange::new(&among, &config, &device).expect("begins");
                let mut state = State::new(&config, "", &device);
                (0..5)
                    .map(|_| {
                        exchange.rehearse(&mut state).expect("exchanges");
                        exchange.spent()
                    })
                    .min_by(|a, b| a.over_slowest().total_cmp(&b.over_slowest()))
                    .expect("five")
            });
            spent[0]
        };
        let [whole, half] = [Wire::F32, Wire::F16].map(exchanged);
        assert!(whole.over_slowest() < 1.15 && whole.exchange > 0.5, "{whole:?}");
        assert!(
            whole.read + whole.upload + whole.exchange > whole.whole,
            "{whole:?}: nothing was hidden"
        );
        // Half the bytes.
        assert!(half.exchange < 0.75 * whole.exchange, "{half:?}");
    }

    #[test]
    fn a_rank_whose_weights_differ_is_named() {
        let (_, text) =
            BUILT_IN.iter().find(|(name, _)| name.ends_with("quick.toml")).expect("a recipe");
        let config = Config::parse(text, "quick.toml", &[]).expect("a recipe");
        let compared = |wrong: Option<usize>| {
            threads::run(3, |ranks| {
                let rank = ranks.rank();
                let among = Among { ranks, shares: None, wire: Wire::F32, resume: String::new() };
                let device = Device::flex();
                let exchange = Exchange::new(&among, &config, &device).expect("begins");
                let mut state = State::new(&config, "", &device);
                if wrong == Some(rank) {
                    let mut first = true;
                    let map = |_: &str, old: Tensor<1>| {
                        if std::mem::take(&mut first) { old * 1.001 } else { old }
                    };
                    state.model = parameters::map(state.model, map);
                }
                exchange.compare(&state).map_err(|e| e.to_string())
            })
        };
        assert!(compared(None).iter().all(|told| told.is_ok()));
        // Rank 0 says so for all. Where it is the wrong one the first of the others differs from
        // it.
        for (wrong, named) in [(2, "rank 2"), (1, "rank 1"), (0, "rank 1")] {
            let told = compared(Some(wrong));
            assert!(told[0].as_ref().is_err_and(|e| e.contains(named)), "{told:?}");
            assert!(told[1..].iter().all(|told| told.is_ok()), "{told:?}");
        }
    }

    #[test]
    fn images_are_shared_out_to_the_last() {
        assert_eq!(split(32, &[1, 1]), [16, 16]);
        assert_eq!(split(32, &[1, 1, 1]), [11, 11, 10]);
        assert_eq!(split(32, &[2, 1]), [21, 11]);
        assert_eq!(split(5, &[1, 1, 1, 1]), [2, 1, 1, 1]);
        assert_eq!(split(3, &[1, 1, 1, 1]), [1, 1, 1, 0]);
        assert_eq!(split(10, &[0, 1]), [0, 10]);
    }
}
