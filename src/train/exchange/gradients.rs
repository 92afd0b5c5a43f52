//! Summing the gradients of all ranks, and the norm of the sum.

use super::host::{read_all, read_into, upload};
use super::layout::Layout;
use super::pipe::{Pipe, Spent};
use super::{Exchange, Wire, wire};
use crate::error::Result;
use crate::kernels::adamw;
use crate::ranks::{Link, gather, pieces};
use crate::train::checkpoint::State;
use crate::train::optim::ByName;
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

impl Exchange {
    /// Sums the gradients of all ranks. Returns the sums for this rank's parameters, and the norm
    /// over all parameters.
    pub(super) fn sum(
        &mut self,
        state: &mut State,
        mut own: ByName,
    ) -> Result<(ByName, Tensor<1>)> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        if self.layout.is_none() {
            let lengths: Vec<(String, usize)> =
                own.iter().map(|(name, grad)| (name.clone(), grad.dims()[0])).collect();
            let layout = Layout::new(&lengths, size);
            layout.check(size)?;
            // A checkpoint holds the moments of all ranks.
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

    /// Returns the norm of all gradients, of which `own` are this rank's.
    fn norm(&mut self, own: &ByName) -> Result<Tensor<1>> {
        let layout = self.layout();
        let order = layout.in_order();
        let first = order.first().map(|(name, _)| *name);
        let squares = own
            .iter()
            .map(|(name, grad)| adamw::squares(grad.clone(), first == Some(name)))
            .collect::<Vec<_>>();
        // A rank may own no parameter.
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
        // Devices that round differently must agree on whether the step is skipped, so a norm of
        // 1e19 or more counts as infinite. Its square is still well within the range of f32.
        let total: f64 = sums.iter().flatten().map(|x| f64::from(*x)).sum();
        if total.is_nan() || total >= 1e38 {
            sums = vec![vec![f32::INFINITY]];
        }
        Ok(adamw::norm_of_squares(&sums, &self.device))
    }
}

thread_local! {
    /// The receive buffer of the thread that sends. It is reused, because allocating it each time
    /// would take as long as the copy.
    static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Sends each owner the gradients of its parameters from `values`, and sums those that all ranks
/// have of this rank's parameters, in the order of ranks.
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
        Wire::F32 => BUFFER.with_borrow_mut(|buffer| {
            let count: usize = arriving.iter().sum();
            buffer.resize(count.max(buffer.len()), 0.0);
            link.all_to_all(
                bytemuck::cast_slice(values),
                &sent,
                bytemuck::cast_slice_mut(&mut buffer[..count]),
                &received,
            );
            sum(&buffer[..count])
        }),
        Wire::F16 => {
            let mut all = vec![0; received.iter().sum()];
            link.all_to_all(&wire::encode(values, counts), &sent, &mut all, &received);
            sum(&wire::decode(&all, &arriving))
        }
    }
}
