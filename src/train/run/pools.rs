//! The check that the adapter's memory pools don't grow: memory that is never freed ends a run
//! after days.

use crate::units::{bytes, grouped};

/// The number of steps of a call during which pools may grow.
const SETTLED: u64 = 100;
/// The largest size of the pools from then on, as a multiple of their size after these steps.
const GROWN: f64 = 1.25;

/// A watch on the pools.
pub(super) struct Pools {
    /// The first step at which the pools should have reached their final size.
    settled: u64,
    /// The step and the bytes from which growth is measured.
    base: Option<(u64, u64)>,
    last: u64,
    /// Whether work other than steps was done since the last row.
    other_work: bool,
    told: bool,
}

impl Pools {
    /// Makes a watch for a call that continues after `step`.
    pub fn new(step: u64) -> Self {
        Self { settled: step + SETTLED, base: None, last: 0, other_work: false, told: false }
    }

    /// Notes that pictures or scores have taken memory of their own, which isn't growth.
    pub fn other_work(&mut self) {
        self.other_work = true;
    }

    /// Notes that the pools have `reserved` bytes at `step`. Returns a warning once if they have
    /// grown.
    pub fn seen(&mut self, step: u64, reserved: u64) -> Option<String> {
        let since = reserved.saturating_sub(std::mem::replace(&mut self.last, reserved));
        if step < self.settled {
            return None;
        }
        let (began, before) = self.base.get_or_insert((step, reserved));
        if std::mem::take(&mut self.other_work) && *began < step {
            *before += since;
        }
        if self.told || reserved as f64 <= GROWN * *before as f64 {
            return None;
        }
        self.told = true;
        let [before, now] = [*before, reserved].map(|count| bytes(count as f64));
        Some(format!(
            "the adapter's memory pools have grown from {before} at step {} to {now} at step {}: \
            please report this; if the adapter runs out of memory, the run can be resumed from its \
            last checkpoint",
            grouped(*began),
            grouped(step)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_grow_are_told_of_once_and_pictures_excuse_what_they_take() {
        let mut pools = Pools::new(50);
        // The pools may still grow.
        assert!(
            [(60, 10), (149, 100)]
                .iter()
                .all(|(step, reserved)| pools.seen(*step, *reserved).is_none())
        );
        assert!(pools.seen(150, 100).is_none() && pools.seen(160, 125).is_none());
        // A picture.
        pools.other_work();
        assert!(pools.seen(170, 250).is_none() && pools.seen(180, 280).is_none());
        let told = pools.seen(190, 282).expect("grown");
        assert!(told.contains("at step 150") && told.contains("at step 190"), "{told}");
        assert!(pools.seen(200, 1000).is_none(), "once");
        // Other work before the base was measured doesn't count.
        let mut pools = Pools::new(0);
        pools.other_work();
        assert!(pools.seen(100, 400).is_none() && pools.seen(110, 501).is_some());
    }
}
