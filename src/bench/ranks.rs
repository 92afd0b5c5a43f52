//! Training steps on several processes, and the cost of the exchange between them.

use super::plan::Size;
use super::recipe::{noise, recipe};
use super::timing::Timing;
use crate::device::Selected;
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::train::checkpoint::State;
use crate::train::exchange::{Among, Exchange, Spent};
use crate::train::step::Pair;
use serde::Serialize;
use std::time::Instant;

/// The smallest and the largest number of timed steps, and their approximate total time in seconds.
const STEPS: [usize; 2] = [3, 20];
const ENOUGH: f64 = 12.0;
/// The number of timed exchanges without a step.
const EXCHANGES: usize = 7;

/// A measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `train_step/width32`, or `exchange/paper`.
    pub op: String,
    /// The number of processes.
    pub ranks: usize,
    /// Images per step, over all ranks; `None` for an exchange alone.
    pub images: Option<usize>,
    /// Images per second, over all ranks.
    pub images_per_s: Option<f64>,
    /// Megabytes of gradients; as many of weights are exchanged as well.
    pub megabytes: f64,
    /// Times of a step or an exchange, in seconds.
    #[serde(flatten)]
    pub timing: Timing,
    /// The breakdown of one exchange, in seconds.
    pub spent: Spent,
    /// The fraction of the exchange that is hidden.
    pub hidden: f64,
    /// The time of the exchange over that of its slowest part.
    pub over_slowest: f64,
}

/// Measures steps at the size that suits the device, and exchanges at width 32 and at paper size.
///
/// # Errors
/// If a device fails.
pub fn measure(among: &Among, device: &Selected) -> Result<Vec<Row>> {
    let size = if device.gpu { Size::Paper } else { Size::Width(32) };
    let mut rows = vec![steps(among, size, device)?];
    for size in [Size::Width(32), Size::Paper] {
        rows.push(exchanges(among, size, device)?);
    }
    Ok(rows)
}

fn row(
    op: &str,
    size: Size,
    among: &Among,
    times: Vec<f64>,
    spent: Spent,
    numbers: usize,
) -> Result<Row> {
    let timing = Timing::of(times).ok_or_else(|| Error::failed("nothing was measured"))?;
    let name = match size {
        Size::Paper => "paper".to_owned(),
        Size::Recipe => "recipe".to_owned(),
        Size::Width(width) => format!("width{width}"),
    };
    Ok(Row {
        op: format!("{op}/{name}"),
        ranks: among.ranks.size(),
        images: None,
        images_per_s: None,
        megabytes: numbers as f64 * 4e-6,
        hidden: spent.hidden(),
        over_slowest: spent.over_slowest(),
        spent,
        timing,
    })
}

fn steps(among: &Among, size: Size, device: &Selected) -> Result<Row> {
    let config = recipe(size)?;
    let schedule = Schedule::new(&config.diffusion);
    let mut exchange = Exchange::new(among, &config, &device.device)?;
    let mut state = State::new(&config, "", &device.device);
    let [source, target] = noise(config.model.sides, exchange.rows().len());
    let mut number = 0;
    let mut step = |mut state: State| {
        number += 1;
        let (source, target) = (source.clone(), target.clone());
        let clock = Instant::now();
        let pair =
            Pair::new(config.model.sides, source, target, None, &device.device.clone().autodiff());
        let outcome;
        (state, outcome, _) =
            exchange.step(state, pair, &schedule, &config, number, 1e-4, false)?;
        let loss = outcome
            .loss
            .try_into_scalar::<f32>()
            .map_err(|e| Error::device("computing a step", &e))?;
        let took = clock.elapsed().as_secs_f64();
        if !loss.is_finite() {
            return Err(Error::failed(format!("the loss is {loss}: a device computes wrongly")));
        }
        Ok((state, took, exchange.spent()))
    };
    (state, ..) = step(state)?;
    let took;
    (state, took, _) = step(state)?;
    // Rank 0 decides how many.
    let count = ((ENOUGH / took) as usize).clamp(STEPS[0], STEPS[1]) as u64;
    let told =
        among.ranks.broadcast((among.ranks.rank() == 0).then(|| count.to_le_bytes().to_vec()))?;
    let count = u64::from_le_bytes(*told.first_chunk().expect("eight bytes"));
    let mut times = Vec::new();
    let mut spent = Vec::new();
    for _ in 0..count {
        let (took, one);
        (state, took, one) = step(state)?;
        times.push(took);
        spent.push(one);
    }
    state.tally.check()?;
    let numbers = exchange.rehearse(&mut state)?;
    let batch = config.train.batch_size;
    let row = row("train_step", size, among, times, median(spent), numbers)?;
    Ok(Row { images: Some(batch), images_per_s: Some(batch as f64 / row.timing.median), ..row })
}

fn exchanges(among: &Among, size: Size, device: &Selected) -> Result<Row> {
    let config = recipe(size)?;
    let mut exchange = Exchange::new(among, &config, &device.device)?;
    let mut state = State::new(&config, "", &device.device);
    let mut numbers = exchange.rehearse(&mut state)?;
    exchange.spent();
    let (mut times, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..EXCHANGES {
        let clock = Instant::now();
        numbers = exchange.rehearse(&mut state)?;
        device.device.sync().map_err(|e| Error::device("exchanging gradients", &e))?;
        times.push(clock.elapsed().as_secs_f64());
        spent.push(exchange.spent());
    }
    row("exchange", size, among, times, median(spent), numbers)
}

/// Returns the element whose total time is the median.
fn median(mut all: Vec<Spent>) -> Spent {
    all.sort_by(|a, b| a.whole.total_cmp(&b.whole));
    all.get(all.len() / 2).copied().unwrap_or_default()
}
