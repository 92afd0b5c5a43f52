//! Several processes that work on one run: their ranks, and the communication between them.
//!
//! A thread of its own does all the communication, so that it overlaps with reading and writing the
//! device. All ranks make the same calls in the same order; each call is one collective operation
//! of MPI.

#[cfg(feature = "mpi")]
mod mpi;
pub mod threads;
pub mod watch;

use crate::error::{Error, Result};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// The transport between the ranks.
pub trait Link {
    /// Returns this rank and the number of ranks.
    fn place(&self) -> Place;
    /// Sends every other rank its piece of `send`, which holds a piece for every rank, `counts`
    /// bytes long; this rank's own piece isn't sent. Fills `receive` with the pieces from the
    /// others, in rank order, `received` bytes each (0 for this rank).
    fn all_to_all(&mut self, send: &[u8], counts: &[usize], receive: &mut [u8], received: &[usize]);
    /// Sends `mine` to all others, and fills `receive` with what they send, in rank order,
    /// `received` bytes each (0 for this rank).
    fn all_gather(&mut self, mine: &[u8], receive: &mut [u8], received: &[usize]);
    /// Overwrites `bytes` with those of rank 0; they have the same length on all ranks.
    fn broadcast(&mut self, bytes: &mut [u8]);
    /// Ends the communication; all ranks must call it.
    fn end(self: Box<Self>);
}

/// The position of a process among the ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The number of this process among those on the same machine, from 0.
    pub local: usize,
    /// The machine's name.
    pub host: String,
}

/// Work that the communication thread does with its link.
type Work = dyn FnOnce(&mut dyn Link) + Send;

/// A job for the communication thread.
enum Job {
    Do(Box<Work>),
    End(Sender<()>),
}

/// The ranks, seen from one of them.
#[derive(Clone, Debug)]
pub struct Ranks {
    place: Place,
    jobs: Sender<Job>,
}

impl Ranks {
    /// Starts the communication thread, which creates its `link` itself.
    ///
    /// # Errors
    /// If `link` fails, or the thread can't be started.
    pub fn start(link: impl FnOnce() -> Result<Box<dyn Link>> + Send + 'static) -> Result<Self> {
        let (jobs, work) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let run = move || match link() {
            Ok(link) => {
                let _ = tell.send(Ok(link.place()));
                serve(link, &work);
            }
            Err(error) => drop(tell.send(Err(error))),
        };
        let refused = |e| Error::failed(format!("cannot start the communication thread ({e})"));
        std::thread::Builder::new().name("exchange".into()).spawn(run).map_err(refused)?;
        let place = told.recv().map_err(|_| gone())??;
        Ok(Self { place, jobs })
    }

    /// Returns the position of this process.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the rank of this process, from 0.
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.place.size
    }

    /// Hands `job` to the communication thread, which runs its jobs one after the other.
    pub fn begin<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Link) -> T + Send + 'static,
    ) -> Pending<T> {
        let (give, done) = mpsc::channel();
        let run = move |link: &mut dyn Link| {
            let clock = Instant::now();
            let value = job(link);
            // A receiver that is gone has failed in another way.
            let _ = give.send((value, clock.elapsed()));
        };
        // If the thread is gone, so is the answer, and waiting for it reports the error.
        let _ = self.jobs.send(Job::Do(Box::new(run)));
        Pending { done, ready: None }
    }

    /// Gathers the data of all ranks, of any lengths, in rank order.
    ///
    /// # Errors
    /// If the communication thread is gone.
    pub fn gather(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let size = self.size();
        self.begin(move |link| {
            let lengths = gather(link, (mine.len() as u64).to_le_bytes().to_vec(), &vec![8; size]);
            let length = |bytes: &Vec<u8>| {
                u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes")) as usize
            };
            gather(link, mine, &lengths.iter().map(length).collect::<Vec<_>>())
        })
        .wait()
    }

    /// Returns the bytes of rank 0, which passes them; the others pass `None`.
    ///
    /// # Errors
    /// If the communication thread is gone.
    pub fn broadcast(&self, mine: Option<Vec<u8>>) -> Result<Vec<u8>> {
        /// MPI counts in 32 bits.
        const AT_ONCE: usize = 1 << 28;
        self.begin(move |link| {
            let mut length = (mine.as_ref().map_or(0, Vec::len) as u64).to_le_bytes();
            link.broadcast(&mut length);
            let mut bytes = mine.unwrap_or_else(|| vec![0; u64::from_le_bytes(length) as usize]);
            bytes.chunks_mut(AT_ONCE).for_each(|chunk| link.broadcast(chunk));
            bytes
        })
        .wait()
    }

    /// Ends the communication once the work is done; all ranks must call it.
    ///
    /// # Errors
    /// If the communication thread is gone.
    pub fn end(self) -> Result<()> {
        let (tell, ended) = mpsc::channel();
        let _ = self.jobs.send(Job::End(tell));
        ended.recv().map_err(|_| gone())
    }
}

/// Gathers the data of all ranks, `counts` bytes long, in rank order.
pub fn gather(link: &mut dyn Link, mine: Vec<u8>, counts: &[usize]) -> Vec<Vec<u8>> {
    let rank = link.place().rank;
    let mut received = counts.to_vec();
    received[rank] = 0;
    let mut others = vec![0; received.iter().sum()];
    link.all_gather(&mine, &mut others, &received);
    let mut all: Vec<Vec<u8>> = pieces(&others, &received).map(<[u8]>::to_vec).collect();
    all[rank] = mine;
    all
}

/// Splits `all` into pieces of `counts` elements.
///
/// # Panics
/// If `all` is too short.
pub fn pieces<'a, T>(mut all: &'a [T], counts: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    counts.iter().map(move |count| all.split_off(..*count).expect("as many as they are counted"))
}

/// Runs jobs until told to end.
fn serve(mut link: Box<dyn Link>, work: &Receiver<Job>) {
    loop {
        match work.recv() {
            Ok(Job::Do(job)) => job(&mut *link),
            Ok(Job::End(tell)) => {
                link.end();
                let _ = tell.send(());
                return;
            }
            // Something has failed. Ending the link would wait for the other ranks, which are
            // waiting for this one.
            Err(_) => return std::mem::forget(link),
        }
    }
}

fn gone() -> Error {
    Error::failed("the thread that communicates with the other ranks has ended; please report this")
}

/// The future result of a job.
pub struct Pending<T> {
    done: Receiver<(T, Duration)>,
    ready: Option<(T, Duration)>,
}

impl<T> Pending<T> {
    /// Returns whether the result is available.
    pub fn is_ready(&mut self) -> bool {
        self.ready = self.ready.take().or_else(|| self.done.try_recv().ok());
        self.ready.is_some()
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// If the communication thread is gone.
    pub fn wait(self) -> Result<T> {
        self.timed().map(|(value, _)| value)
    }

    /// Waits for the result; returns it with the time that the communication thread took.
    ///
    /// # Errors
    /// If the communication thread is gone.
    pub fn timed(self) -> Result<(T, Duration)> {
        self.ready.map_or_else(|| self.done.recv().map_err(|_| gone()), Ok)
    }
}

/// Joins the other processes that a launcher started together with this one, by MPI.
///
/// # Errors
/// If MPI can't be initialised.
#[cfg(feature = "mpi")]
pub fn join() -> Result<Ranks> {
    Ranks::start(mpi::join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_in_the_order_of_ranks() {
        let sent = threads::run(3, |ranks| {
            let rank = ranks.rank();
            let gathered = ranks.gather(vec![rank as u8; rank]).expect("all answer");
            let told = ranks.broadcast((rank == 0).then(|| b"all".to_vec())).expect("all answer");
            let exchanged = ranks.begin(move |link| {
                // Rank r sends r, r + 10 and r + 20, one byte to each.
                let send = [0, 10, 20].map(|to| to + rank as u8);
                let mut receive = [0; 2];
                link.all_to_all(
                    &send,
                    &[1; 3],
                    &mut receive,
                    &[0, 1, 2].map(|from| usize::from(from != rank)),
                );
                receive
            });
            let exchanged = exchanged.wait().expect("all answer");
            ranks.end().expect("all take leave");
            (gathered, told, exchanged)
        });
        for (rank, (gathered, told, exchanged)) in sent.into_iter().enumerate() {
            assert_eq!(gathered, [vec![], vec![1], vec![2, 2]]);
            let others: Vec<u8> = (0..3)
                .filter(|from| *from != rank as u8)
                .map(|from| from + 10 * rank as u8)
                .collect();
            assert_eq!((told.as_slice(), &exchanged[..]), (&b"all"[..], &others[..]));
        }
    }
}
