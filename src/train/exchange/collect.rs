//! Collecting the EMA and the moments, of which each rank holds a part.

use super::Exchange;
use super::host::{read, read_all, upload};
use crate::error::{Error, Result};
use crate::model::parameters;
use crate::model::weights::Tensors;
use crate::ranks::{Link, pieces};
use crate::train::checkpoint::State;
use crate::train::optim::ByName;
use burn::module::Module;
use burn::tensor::Tensor;
use sha2::{Digest, Sha256};

impl Exchange {
    /// Sends rank 0 the EMA and the moments of the parameters that this rank updates. Rank 0 stores
    /// the EMA of all parameters in `state`, and returns the moments of the other ranks. The
    /// weights of all ranks are compared first.
    ///
    /// # Errors
    /// If the device fails or has left out work, or the weights of a rank differ from those of rank 0.
    pub fn collect(&mut self, state: &mut State) -> Result<Tensors> {
        let Some(layout) = self.layout.clone() else { return Ok(Tensors::new()) };
        let rank = self.ranks.rank();
        // First, because weights also differ where a device has left out work.
        state.tally.check()?;
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
                // Rank 0 writes the checkpoint. This rank's part of it is valid only if its device
                // has left out no work.
                state.tally.check()?;
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

    /// Checks that all ranks have the same weights.
    pub(super) fn compare(&self, state: &State) -> Result<()> {
        let mut digest = Sha256::new();
        for weight in parameters::collect(&state.model.valid())
            .into_iter()
            .filter(|t| !parameters::is_statistic(&t.name))
        {
            digest.update(bytemuck::cast_slice(&read(weight.values, "reading weights")?));
        }
        let all = self.ranks.gather(digest.finalize().to_vec())?;
        // Only rank 0 reports a difference.
        match all.iter().position(|digest| *digest != all[0]).filter(|_| self.ranks.rank() == 0) {
            None => Ok(()),
            Some(rank) => Err(Error::failed(format!(
                "the weights of rank {rank} differ from those of rank 0 after step {}: one of the \
                two machines computes wrongly; the last checkpoint is intact",
                state.position.step
            ))),
        }
    }
}

/// The tensors that a rank keeps only for the parameters that it updates.
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

/// Sends rank 0 `own`, which has `times` as many values as `counts` says. Returns what rank 0
/// receives, by rank.
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
