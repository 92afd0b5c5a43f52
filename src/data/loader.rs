//! Batches of view pairs, prepared ahead of time by background threads and returned in order.

use super::images::Images;
use super::planes::bytes_of;
use super::views::make_pair;
use crate::config::{DataConfig, Sides};
use crate::error::{Error, Hint, Result};
use crate::rng::{self, Purpose};
use crate::units::grouped;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// One batch of B images.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The training step it belongs to, counted from 0.
    pub step: u64,
    /// The images in it, `[B]`, as positions in the training set.
    pub indices: Vec<usize>,
    /// Source views, `[B, 3, side, side]`: the encoder's input, normalised.
    pub source: Vec<f32>,
    /// Target views, `[B, 3, side, side]`: x_0 in [-1, 1].
    pub target: Vec<f32>,
    /// The geometry of each target relative to its source, `[B, 4]`, see
    /// [`Geometry::within`](super::crop::Geometry::within).
    pub geometry: Vec<f32>,
}

/// Everything that determines a batch. The content of batch s is a function of the images, the
/// configuration, the batch size, the seed and s. It depends neither on the number of threads nor
/// on the step from which a run resumed.
struct Recipe {
    images: Arc<Images>,
    data: DataConfig,
    batch_size: usize,
    /// The rows of each batch that are made.
    rows: Range<usize>,
    seed: u64,
    /// The image orders of the epochs requested most recently.
    orders: Mutex<BTreeMap<u64, Arc<Vec<u32>>>>,
}

impl Recipe {
    /// Makes batch number `step`. Each epoch has its own random order of the images, and its
    /// incomplete last batch is dropped.
    fn batch(&self, step: u64) -> Result<Batch> {
        let per_epoch = (self.images.len() / self.batch_size) as u64;
        let (epoch, within) = (step / per_epoch, (step % per_epoch) as usize);
        let order = self.order(epoch);
        let whole = &order[within * self.batch_size..(within + 1) * self.batch_size];
        let indices: Vec<usize> = whole[self.rows.clone()].iter().map(|&i| i as usize).collect();
        let Sides { source, target } = self.data.sides();
        let sizes = [source, target].map(bytes_of);
        let [mut source, mut target] = sizes.map(|size| vec![0.0; indices.len() * size]);
        let mut geometry = Vec::with_capacity(4 * indices.len());
        let views = source.chunks_exact_mut(sizes[0]).zip(target.chunks_exact_mut(sizes[1]));
        for (&i, (source, target)) in indices.iter().zip(views) {
            geometry.extend(make_pair(
                &self.images.image(i)?,
                &self.data,
                self.seed,
                epoch,
                i,
                source,
                target,
            ));
        }
        Ok(Batch { step, indices, source, target, geometry })
    }

    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut orders = lock(&self.orders);
        let draw = || {
            Arc::new(rng::permutation(
                &mut rng::stream(self.seed, Purpose::Order, epoch),
                self.images.len(),
            ))
        };
        let order = orders.entry(epoch).or_insert_with(draw).clone();
        orders.retain(|&e, _| e.abs_diff(epoch) <= 1);
        order
    }
}

/// The state shared by the consumer and the threads.
struct Shared {
    queue: Mutex<Queue>,
    /// Signals that a batch is ready or that a thread failed.
    ready: Condvar,
    /// Signals that there is room for another batch, or that the threads should stop.
    room: Condvar,
    /// The maximum number of batches queued or in progress.
    ahead: u64,
}

struct Queue {
    /// The step that the consumer takes next.
    wanted: u64,
    /// The step that the next idle thread makes.
    unclaimed: u64,
    done: BTreeMap<u64, Batch>,
    failure: Option<Error>,
    stopped: bool,
}

/// Makes batches in the background. Dropping it stops and joins its threads.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Starts making batches of `batch_size` view pairs of `images`, from step `first_step` on.
    ///
    /// # Errors
    /// Fewer images than `batch_size`, or the system can't start a thread.
    pub fn new(
        images: Arc<Images>,
        data: DataConfig,
        batch_size: usize,
        seed: u64,
        first_step: u64,
    ) -> Result<Loader> {
        Self::of_rows(images, data, (batch_size, 0..batch_size), seed, first_step)
    }

    /// Like [`Loader::new`], but makes only the `rows` of each batch of that size.
    ///
    /// # Errors
    /// See [`Loader::new`].
    pub fn of_rows(
        images: Arc<Images>,
        data: DataConfig,
        (batch_size, rows): (usize, Range<usize>),
        seed: u64,
        first_step: u64,
    ) -> Result<Loader> {
        if batch_size == 0 || images.len() < batch_size {
            let n = images.len();
            return Err(Error::usage(format!(
                "train.batch_size = {batch_size}: the data holds {} images; {}, or less",
                grouped(n as u64),
                Hint::Set(format!("train.batch_size={n}"))
            )));
        }
        let threads = match data.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let recipe = Recipe { images, data, batch_size, rows, seed, orders: Mutex::default() };
        Self::start(threads, first_step, move |step| recipe.batch(step))
    }

    fn start(
        threads: usize,
        first_step: u64,
        make: impl Fn(u64) -> Result<Batch> + Send + Sync + 'static,
    ) -> Result<Loader> {
        let queue = Queue {
            wanted: first_step,
            unclaimed: first_step,
            done: BTreeMap::new(),
            failure: None,
            stopped: false,
        };
        // One in progress per thread, and two waiting.
        let ahead = threads as u64 + 2;
        let shared =
            Shared { queue: Mutex::new(queue), ready: Condvar::new(), room: Condvar::new(), ahead };
        let mut loader = Loader { shared: Arc::new(shared), threads: Vec::with_capacity(threads) };
        let make = Arc::new(make);
        for i in 0..threads {
            let (shared, make) = (loader.shared.clone(), make.clone());
            let thread = std::thread::Builder::new()
                .name(format!("views-{i}"))
                .spawn(move || shared.work(&*make));
            let refused = |e| {
                Error::failed(format!(
                    "cannot start thread {} of {threads} ({e}); set data.threads lower",
                    i + 1
                ))
            };
            loader.threads.push(thread.map_err(refused)?);
        }
        Ok(loader)
    }

    /// Returns the next batch; blocks until it is ready.
    ///
    /// # Errors
    /// A background thread failed. Every later call returns the same error.
    #[allow(clippy::should_implement_trait)] // never ends, and can fail
    pub fn next(&mut self) -> Result<Batch> {
        let mut queue = lock(&self.shared.queue);
        loop {
            let wanted = queue.wanted;
            if let Some(batch) = queue.done.remove(&wanted) {
                queue.wanted += 1;
                self.shared.room.notify_one();
                return Ok(batch);
            }
            if let Some(failure) = &queue.failure {
                return Err(failure.clone());
            }
            queue = self.shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        lock(&self.shared.queue).stopped = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // Panics are caught inside the thread, so the result carries no information.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The main loop of a background thread. It returns once the loader is stopped or a batch
    /// fails.
    fn work(&self, make: &dyn Fn(u64) -> Result<Batch>) {
        loop {
            let mut queue = lock(&self.queue);
            while !queue.stopped
                && queue.failure.is_none()
                && queue.unclaimed >= queue.wanted + self.ahead
            {
                queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.stopped || queue.failure.is_some() {
                return;
            }
            let step = queue.unclaimed;
            queue.unclaimed += 1;
            drop(queue);
            let made = catch_unwind(AssertUnwindSafe(|| make(step)));
            let mut queue = lock(&self.queue);
            match made {
                Ok(Ok(batch)) => {
                    queue.done.insert(step, batch);
                }
                Ok(Err(e)) => {
                    queue.failure = Some(e);
                    self.room.notify_all();
                }
                Err(panic) => {
                    let text = panic
                        .downcast_ref::<String>()
                        .map(String::as_str)
                        .or(panic.downcast_ref::<&str>().copied());
                    let text = text.unwrap_or("a thread stopped");
                    queue.failure = Some(Error::failed(format!(
                        "making a batch of views failed: step {step}: {text}; please report this"
                    )));
                    self.room.notify_all();
                }
            }
            self.ready.notify_all();
        }
    }
}

/// Locks `mutex`, even if a thread panicked while holding it: every change under the lock is
/// complete in itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures the view pairs per second that a [`Loader`] delivers over about `seconds` when its
/// consumer does nothing else.
///
/// # Errors
/// See [`Loader::new`] and [`Loader::next`].
pub fn measure_pairs(
    images: Arc<Images>,
    data: &DataConfig,
    batch_size: usize,
    seconds: f64,
) -> Result<f64> {
    let mut loader = Loader::new(images, data.clone(), batch_size, 0, 0)?;
    // Warm up threads and caches before the clock starts.
    for _ in 0..loader.shared.ahead {
        loader.next()?;
    }
    let (start, mut batches) = (Instant::now(), 0);
    loop {
        loader.next()?;
        batches += 1;
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed >= seconds {
            return Ok((batches * batch_size) as f64 / elapsed);
        }
    }
}

#[cfg(test)]
mod tests;
