//! Several processes that work on one thing: which one this is, and what they send each other.
//!
//! A thread of its own does all the sending, so that the device is read and written meanwhile.
//! Everybody makes the same calls in the same order; each is one collective operation of MPI.

#[cfg(feature = "mpi")]
mod mpi;
pub mod threads;
pub mod watch;

use crate::error::{Error, Result};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// How bytes travel between the ranks.
pub trait Link {
    /// Which one this is, and of how many.
    fn place(&self) -> Place;
    /// Sends each other rank its piece of `send`, which holds one for every rank, `counts` bytes
    /// long; its own stays. Fills `receive` with what the others have sent, in the order of ranks,
    /// `received` bytes each (of itself none).
    fn all_to_all(&mut self, send: &[u8], counts: &[usize], receive: &mut [u8], received: &[usize]);
    /// Sends `mine` to all others, and fills `receive` with what they have sent, in the order of
    /// ranks, `received` bytes each (of itself none).
    fn all_gather(&mut self, mine: &[u8], receive: &mut [u8], received: &[usize]);
    /// Makes `bytes` those of rank 0; all have the same length.
    fn broadcast(&mut self, bytes: &mut [u8]);
    /// Takes leave of the others, all of which do so.
    fn end(self: Box<Self>);
}

/// Where a process stands among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Its number among those on the same machine.
    pub local: usize,
    /// The machine's name.
    pub host: String,
}

/// What the thread that sends does with its link.
type Work = dyn FnOnce(&mut dyn Link) + Send;

/// Work for it.
enum Job {
    Do(Box<Work>),
    End(Sender<()>),
}

/// The ranks, as one of them sees them.
#[derive(Clone, Debug)]
pub struct Ranks {
    place: Place,
    jobs: Sender<Job>,
}

impl Ranks {
    /// Starts the thread that sends; it makes its `link` itself.
    ///
    /// # Errors
    /// What `link` says; the system refuses a thread.
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
        let refused = |e| Error::failed(format!("cannot start the thread that sends ({e})"));
        std::thread::Builder::new().name("exchange".into()).spawn(run).map_err(refused)?;
        let place = told.recv().map_err(|_| gone())??;
        Ok(Self { place, jobs })
    }

    /// Where this process stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Which one this is, from 0.
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.place.size
    }

    /// Hands `job` to the thread that sends, which does one after the other.
    pub fn begin<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Link) -> T + Send + 'static,
    ) -> Pending<T> {
        let (give, done) = mpsc::channel();
        let run = move |link: &mut dyn Link| {
            let clock = Instant::now();
            let value = job(link);
            // Who doesn't want it any more has failed in another way.
            let _ = give.send((value, clock.elapsed()));
        };
        // Without the thread the answer is missing too.
        let _ = self.jobs.send(Job::Do(Box::new(run)));
        Pending { done, ready: None }
    }

    /// What all ranks have to send, in their order; of any lengths.
    ///
    /// # Errors
    /// If the thread is gone.
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

    /// The bytes of rank 0, which gives them; the others give none.
    ///
    /// # Errors
    /// If the thread is gone.
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

    /// Takes leave of the others, all of which do so: the work is done.
    ///
    /// # Errors
    /// If the thread is gone.
    pub fn end(self) -> Result<()> {
        let (tell, ended) = mpsc::channel();
        let _ = self.jobs.send(Job::End(tell));
        ended.recv().map_err(|_| gone())
    }
}

/// What all ranks have to send, in their order, `counts` bytes long.
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

/// `all`, cut into pieces of so many.
///
/// # Panics
/// If there are fewer.
pub fn pieces<'a, T>(mut all: &'a [T], counts: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    counts.iter().map(move |count| all.split_off(..*count).expect("as many as they are counted"))
}

/// Does what it is given, to the end.
fn serve(mut link: Box<dyn Link>, work: &Receiver<Job>) {
    loop {
        match work.recv() {
            Ok(Job::Do(job)) => job(&mut *link),
            Ok(Job::End(tell)) => {
                link.end();
                let _ = tell.send(());
                return;
            }
            // Something has failed: taking leave would wait for the others, who wait for this one.
            Err(_) => return std::mem::forget(link),
        }
    }
}

fn gone() -> Error {
    Error::failed("the thread that sends to the other ranks has ended; please report this")
}

/// What a job will have come to.
pub struct Pending<T> {
    done: Receiver<(T, Duration)>,
    ready: Option<(T, Duration)>,
}

impl<T> Pending<T> {
    /// Whether it is there.
    pub fn is_ready(&mut self) -> bool {
        self.ready = self.ready.take().or_else(|| self.done.try_recv().ok());
        self.ready.is_some()
    }

    /// Waits for it.
    ///
    /// # Errors
    /// If the thread is gone.
    pub fn wait(self) -> Result<T> {
        self.timed().map(|(value, _)| value)
    }

    /// Waits for it; and how long it took the thread.
    ///
    /// # Errors
    /// If the thread is gone.
    pub fn timed(self) -> Result<(T, Duration)> {
        self.ready.map_or_else(|| self.done.recv().map_err(|_| gone()), Ok)
    }
}

/// What starts programs on several processors, and how many it says there are: what tells that this
/// process isn't the only one.
const LAUNCHERS: [(&str, &str); 3] =
    [("mpirun", "OMPI_COMM_WORLD_SIZE"), ("mpiexec", "PMI_SIZE"), ("srun", "SLURM_NTASKS")];

/// The launcher that has started this process as one of several, by its environment, and of how
/// many. The first one that says a number is the one: mpirun may have started one process within a
/// job of several.
fn launched(
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, &'static str, usize)> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let first =
        LAUNCHERS.iter().find_map(|(launcher, name)| Some((*launcher, *name, number(name)?)));
    first.filter(|(.., size)| *size > 1)
}

/// Whether this process was started as one of several, and isn't their first: what is written once
/// isn't its to write.
pub fn is_follower() -> bool {
    let variable = |name: &str| std::env::var(name).ok();
    let ranks = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"];
    let rank = ranks.iter().find_map(|name| variable(name)?.parse::<usize>().ok());
    launched(variable).is_some() && rank.is_some_and(|rank| rank > 0)
}

/// What starts this process again as one of so many: `mpirun -n 2 `, or nothing where it is the
/// only one.
pub fn launcher() -> String {
    match launched(|name| std::env::var(name).ok()) {
        Some(("srun", _, size)) => format!("srun --mpi=pmix -n {size} "),
        Some((launcher, _, size)) => format!("{launcher} -n {size} "),
        None => String::new(),
    }
}

/// Whether srun has started this process without telling it of the others: Open MPI would end it
/// with a text that doesn't help.
#[cfg(feature = "mpi")]
fn without_pmi(launcher: &str, variable: impl Fn(&str) -> Option<String>) -> bool {
    launcher == "srun" && ["PMIX_RANK", "PMI_RANK"].iter().all(|name| variable(name).is_none())
}

/// Joins the other processes that were started with this one; none where it is the only one.
///
/// # Errors
/// If the environment says that there are others and they can't be joined: this program was built
/// without MPI, or the launcher speaks another MPI.
pub fn join() -> Result<Option<Ranks>> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some((launcher, name, size)) = launched(variable) else { return Ok(None) };
    let others = format!("{name} = {size} says that there are {size} processes");
    let alone = format!("As the only process: env -u {name} soda ..");
    #[cfg(feature = "mpi")]
    {
        if !without_pmi(launcher, variable) {
            let ranks = Ranks::start(mpi::join)?;
            if ranks.size() > 1 {
                return Ok(Some(ranks));
            }
            ranks.end()?;
        }
        let remedy = match launcher {
            "srun" => {
                "start them with srun --mpi=pmix (`srun --mpi=list` shows what there is), or with mpirun"
            }
            _ => "start them with the mpirun of the MPI that it was built with",
        };
        Err(Error::usage(format!(
            "{others}, and this one finds itself alone: each would train by itself; {remedy}. {alone}"
        )))
    }
    #[cfg(not(feature = "mpi"))]
    Err(Error::usage(format!(
        "{others}, started by {launcher}, and this program was built without MPI: each would train by itself; build it with `cargo build --release --features mpi` (docs/scale.md). {alone}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_known_by_its_environment() {
        let by = |set: &'static [(&'static str, &'static str)]| {
            launched(move |name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(by(&[]), None);
        assert_eq!(by(&[("SLURM_NTASKS", "1"), ("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(by(&[("SLURM_NTASKS", "4")]), Some(("srun", "SLURM_NTASKS", 4)));
        assert_eq!(
            by(&[("SLURM_NTASKS", "4"), ("OMPI_COMM_WORLD_SIZE", "2")]),
            Some(("mpirun", "OMPI_COMM_WORLD_SIZE", 2))
        );
        assert_eq!(by(&[("PMI_SIZE", "many")]), None);
        assert_eq!(
            by(&[("SLURM_NTASKS", "4"), ("OMPI_COMM_WORLD_SIZE", "1")]),
            None,
            "mpirun -n 1 within a job"
        );
    }

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
