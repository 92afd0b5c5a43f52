//! Exchanging the updated weights.

use super::host::{by_name, read_all, read_into, upload};
use super::pipe::Pipe;
use super::{Exchange, Wire, wire};
use crate::error::Result;
use crate::model::parameters;
use crate::ranks::Link;
use crate::train::checkpoint::State;
use crate::train::optim::ByName;
use burn::tensor::Tensor;
use std::time::Instant;

impl Exchange {
    /// Returns the weights by bucket and owner, on the host.
    pub(super) fn weights(&self, state: &State) -> Result<Vec<Vec<Vec<f32>>>> {
        let layout = self.layout();
        let named = by_name(state);
        let of = |owned: &Vec<(String, usize)>| {
            read_all(owned.iter().map(|(name, _)| named[name].clone()).collect(), "reading weights")
        };
        layout.buckets.iter().map(|bucket| bucket.owned.iter().map(of).collect()).collect()
    }

    /// Sends the other ranks this rank's new weights, and receives theirs. With f16 the change of
    /// each weight is sent, and the owner applies the same rounded change.
    pub(super) fn share_weights(&mut self, state: &mut State) -> Result<()> {
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
                // Rounded as it will arrive.
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

    /// Writes the weights of bucket `index` that other ranks have sent to the device. With f16,
    /// adds the changes they have sent to the known weights, and writes the whole bucket.
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
}

/// Sends the other ranks `own`, and returns what they send, concatenated: `counts` values by rank.
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
