//! The assignment of parameters to ranks, and of parameters to buckets that are sent together.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// The approximate size of a bucket in bytes. A bucket is read from the device while the previous
/// one is sent.
const BUCKET: usize = 25 << 20;
/// The approximate minimum number of buckets for small networks: with a single bucket, nothing
/// could overlap.
const LEAST: usize = 8;

/// All parameters that have gradients, in the order of their names, in buckets. Each parameter
/// belongs to one rank, which updates it.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    owner: HashMap<String, usize>,
    pub buckets: Vec<Bucket>,
}

/// Parameters that are sent together.
#[derive(Debug, PartialEq)]
pub(super) struct Bucket {
    /// By owner: the names of the parameters, and the number of values of each.
    pub owned: Vec<Vec<(String, usize)>>,
}

impl Bucket {
    /// Returns the number of values by owner.
    pub fn counts(&self) -> Vec<usize> {
        self.owned.iter().map(|owned| owned.iter().map(|(_, len)| len).sum()).collect()
    }
}

impl Layout {
    /// Lays out parameters with `lengths` values each for `ranks` ranks. The largest parameters of
    /// a bucket are assigned first, each to the rank with the fewest values so far, so that all
    /// ranks own about as much of each bucket and of the whole.
    pub fn new(lengths: &[(String, usize)], ranks: usize) -> Self {
        let total: usize = lengths.iter().map(|(_, len)| len).sum();
        let most = (BUCKET / 4).min(total.div_ceil(LEAST)).max(1);
        let mut cut: Vec<Vec<(String, usize)>> = Vec::new();
        let mut room = 0;
        for (name, len) in lengths {
            if *len > room {
                cut.push(Vec::new());
                room = most.max(*len);
            }
            cut.last_mut().expect("a bucket").push((name.clone(), *len));
            room -= len;
        }
        let mut load = vec![0; ranks];
        let buckets: Vec<Bucket> = cut
            .into_iter()
            .map(|mut all| {
                all.sort_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
                let mut owned = vec![Vec::new(); ranks];
                for (name, len) in all {
                    let owner = (0..ranks).min_by_key(|rank| load[*rank]).expect("a rank");
                    load[owner] += len;
                    owned[owner].push((name, len));
                }
                Bucket { owned }
            })
            .collect();
        let owners = buckets.iter().flat_map(|bucket| bucket.owned.iter().enumerate());
        let owner = owners
            .flat_map(|(rank, owned)| owned.iter().map(move |(name, _)| (name.clone(), rank)))
            .collect();
        Self { owner, buckets }
    }

    /// Checks that the counts of all messages fit into MPI's integers.
    ///
    /// # Errors
    /// If a bucket is too large for `ranks` ranks.
    pub fn check(&self, ranks: usize) -> Result<()> {
        for bucket in &self.buckets {
            let counts = bucket.counts();
            let most = (ranks * counts.iter().max().copied().unwrap_or(0)).max(counts.iter().sum());
            if most > i32::MAX as usize / 8 {
                let largest = bucket
                    .owned
                    .iter()
                    .flatten()
                    .max_by_key(|(_, len)| len)
                    .map_or("", |(name, _)| name);
                return Err(Error::usage(format!(
                    "the parameter {largest} is too large for {ranks} ranks to exchange over MPI; \
                    use fewer ranks"
                )));
            }
        }
        Ok(())
    }

    /// Returns the rank that updates parameter `name`; `None` if no rank does, because it has no
    /// gradient.
    pub fn owner(&self, name: &str) -> Option<usize> {
        self.owner.get(name).copied()
    }

    /// Returns all names in order, each with its owner.
    pub fn in_order(&self) -> Vec<(&str, usize)> {
        let mut all: Vec<_> =
            self.owner.iter().map(|(name, owner)| (name.as_str(), *owner)).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranks_own_about_as_many_values() {
        let lengths: Vec<_> = (0..200).map(|i| (format!("{i:03}"), 1000 + 37 * i)).collect();
        let total: usize = lengths.iter().map(|(_, len)| len).sum();
        for ranks in [1, 2, 3, 7] {
            let layout = Layout::new(&lengths, ranks);
            assert!((LEAST..=LEAST + 2).contains(&layout.buckets.len()));
            let counts: Vec<Vec<usize>> = layout.buckets.iter().map(Bucket::counts).collect();
            assert_eq!(counts.iter().flatten().sum::<usize>(), total);
            for rank in 0..ranks {
                let own: usize = counts.iter().map(|counts| counts[rank]).sum();
                assert!(
                    own.abs_diff(total / ranks) < total / ranks / 20,
                    "{ranks} ranks: {own} of {total}"
                );
            }
            let order = layout.in_order();
            assert!(order.is_sorted() && order.len() == 200);
            assert_eq!(layout.owner("007"), Some(order[7].1));
        }
    }

    #[test]
    fn buckets_hold_25_mib_and_a_larger_parameter_has_its_own() {
        let million = 1 << 20;
        let lengths = [2, 2, 2, 30, 3, 3, 1].map(|n| n * million);
        let lengths: Vec<_> =
            lengths.iter().enumerate().map(|(i, len)| (i.to_string(), *len)).collect();
        let layout = Layout::new(&lengths, 2);
        let sizes: Vec<usize> = layout
            .buckets
            .iter()
            .map(|bucket| bucket.counts().iter().sum::<usize>() / million)
            .collect();
        assert_eq!(sizes, [4, 2, 30, 3, 4]);
        assert_eq!(layout.owner("none"), None);
        assert!(
            layout.check(2).is_ok() && layout.check(9).is_err(),
            "270 million values at once are more than MPI can count"
        );
    }
}
