//! Buckets that are exchanged in the background, and the time this takes.

use crate::error::Result;
use crate::ranks::Pending;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time spent on the exchange of gradients and weights, in seconds, since it was last asked
/// for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// The total. Reading, exchange and writing overlap.
    pub whole: f64,
    /// Reading the device.
    pub read: f64,
    /// Sending, receiving and summing.
    pub exchange: f64,
    /// Writing to the device.
    pub upload: f64,
    /// Waiting for the other ranks at the end of the backward pass.
    pub waited: f64,
}

impl Spent {
    /// Returns the fraction of the exchange that overlapped with reading or writing the device.
    pub fn hidden(&self) -> f64 {
        let seen = (self.whole - self.read - self.upload).max(0.0);
        if self.exchange > 0.0 { (1.0 - seen / self.exchange).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Returns the total over the slowest of its parts: 1 if everything else is hidden behind that.
    pub fn over_slowest(&self) -> f64 {
        self.whole / self.read.max(self.exchange).max(self.upload)
    }
}

/// The buckets that are being exchanged, in order.
pub(super) struct Pipe<T> {
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
    /// Adds a bucket whose exchange has begun.
    pub(super) fn push(&mut self, index: usize, pending: Pending<T>) {
        self.under_way.push_back((index, pending));
    }

    /// Returns the next bucket, if it has arrived.
    pub(super) fn ready(&mut self) -> Option<(usize, T)> {
        let arrived = self.under_way.front_mut().is_some_and(|(_, pending)| pending.is_ready());
        if arrived { self.wait().ok().flatten() } else { None }
    }

    /// Waits for the next bucket; `None` if there is none.
    pub(super) fn wait(&mut self) -> Result<Option<(usize, T)>> {
        let Some((index, pending)) = self.under_way.pop_front() else { return Ok(None) };
        let (value, took) = pending.timed()?;
        self.exchanged += took;
        Ok(Some((index, value)))
    }

    /// Adds the total time and that of the exchange to `spent`.
    pub(super) fn count(&self, spent: &mut Spent) {
        spent.whole += self.began.elapsed().as_secs_f64();
        spent.exchange += self.exchanged.as_secs_f64();
    }
}
