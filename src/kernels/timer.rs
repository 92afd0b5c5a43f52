//! The timer of the CPU kernels: every call is recorded, and measured while launches are observed.

use super::profile::{CPU, table};
use super::record;
use super::work::Work;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Measures a CPU kernel, which costs `work`, until the returned timer is dropped. Costs next to
/// nothing if launches aren't observed.
#[must_use]
pub(crate) fn timer(name: &'static str, work: impl FnOnce() -> Work) -> Option<Timer> {
    record::called(name, work);
    CPU.load(Ordering::Relaxed).then(|| Timer { name, start: Instant::now() })
}

/// A running measurement.
pub(crate) struct Timer {
    name: &'static str,
    start: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut table = table();
        let kernel = table.entry(self.name).or_default();
        kernel.launches += 1;
        kernel.time += self.start.elapsed();
    }
}
