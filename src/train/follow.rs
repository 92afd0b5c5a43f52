//! The loop of the ranks other than 0: they follow the orders of rank 0 and write nothing.

use super::exchange::{Invitation, Joined, Order, join_in};
use super::limits;
use super::step::Pair;
use crate::config::Config;
use crate::data::Dataset;
use crate::data::loader::Loader;
use crate::device::Selected;
use crate::diffusion::Schedule;
use crate::error::Result;
use crate::ranks::Ranks;
use crate::selftest;
use std::sync::atomic::{AtomicBool, Ordering};

/// Trains what rank 0 trains until rank 0 ends it. `open` opens the device and the data. A caller
/// sets `interrupt` to ask all ranks to stop.
///
/// # Errors
/// If device or data can't be opened, or the device fails.
pub fn follow(
    ranks: &Ranks,
    open: impl FnOnce(&Config, &Invitation) -> Result<(Selected, Dataset)>,
    interrupt: &AtomicBool,
) -> Result<()> {
    let Some(joined) = join_in(ranks, open)? else { return Ok(()) };
    let Joined { mut exchange, config, device, data, mut state } = joined;
    let rows = exchange.rows();
    if !state.position.finished {
        limits::check(&config.for_images(rows.len()), &device)?;
        selftest::once(&device)?;
    }
    let schedule = Schedule::new(&config.diffusion);
    let autodiff = device.device.clone().autodiff();
    let (batch, first) = (config.train.batch_size, state.position.step);
    let mut batches = Loader::of_rows(
        data.train.clone(),
        config.data.clone(),
        (batch, rows),
        config.seed,
        first,
    )?;
    loop {
        match exchange.ordered()? {
            Order::Step { number, lr } => {
                let batch = batches.next()?;
                let pair = Pair::of_batch(batch, &config, &autodiff);
                let stop = interrupt.load(Ordering::Relaxed);
                (state, _, _) = exchange.step(state, pair, &schedule, &config, number, lr, stop)?;
            }
            Order::Collect => drop(exchange.collect(&mut state)?),
            Order::End => return Ok(()),
        }
    }
}
