//! Ranks as threads of one process, for tests without MPI.

use super::{Link, Place, Ranks, pieces};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A rank, with a channel to and from each rank, itself included.
struct Thread {
    place: Place,
    /// Bytes per second sent and received, to imitate a network.
    speed: Option<f64>,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Thread {
    fn send(&self, rank: usize, bytes: &[u8]) {
        self.to[rank].send(bytes.to_vec()).expect("the other rank is there");
    }

    /// Receives what the others have sent, after the time that sending `sent` bytes and receiving
    /// takes at the given speed.
    fn take(&self, sent: usize, mut receive: &mut [u8], received: &[usize]) {
        if let Some(speed) = self.speed {
            std::thread::sleep(Duration::from_secs_f64(sent.max(receive.len()) as f64 / speed));
        }
        for (rank, count) in
            received.iter().enumerate().filter(|(rank, _)| *rank != self.place.rank)
        {
            receive
                .split_off_mut(..*count)
                .expect("room for each rank")
                .copy_from_slice(&self.receive(rank));
        }
    }

    fn receive(&self, rank: usize) -> Vec<u8> {
        self.from[rank].recv().expect("the other rank is there")
    }
}

impl Link for Thread {
    fn place(&self) -> Place {
        self.place.clone()
    }

    fn all_to_all(
        &mut self,
        send: &[u8],
        counts: &[usize],
        receive: &mut [u8],
        received: &[usize],
    ) {
        let own = self.place.rank;
        for (rank, piece) in pieces(send, counts).enumerate().filter(|(rank, _)| *rank != own) {
            self.send(rank, piece);
        }
        self.take(counts.iter().sum::<usize>() - counts[own], receive, received);
    }

    fn all_gather(&mut self, mine: &[u8], receive: &mut [u8], received: &[usize]) {
        for rank in (0..self.place.size).filter(|rank| *rank != self.place.rank) {
            self.send(rank, mine);
        }
        self.take(mine.len() * (self.place.size - 1), receive, received);
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        if self.place.rank == 0 {
            (0..self.place.size).for_each(|rank| self.send(rank, bytes));
        }
        bytes.copy_from_slice(&self.receive(0));
    }

    fn end(self: Box<Self>) {}
}

/// Runs `work` as `size` ranks, each a thread; returns the result of each.
///
/// # Panics
/// If one of them panics.
pub fn run<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    run_at(None, size, work)
}

/// Like [`run`], but each rank sends and receives at `speed` bytes per second, where given.
///
/// # Panics
/// If one of them panics.
pub fn run_at<T: Send>(
    speed: Option<f64>,
    size: usize,
    work: impl Fn(Ranks) -> T + Sync,
) -> Vec<T> {
    let mut to: Vec<Vec<Sender<Vec<u8>>>> = (0..size).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Receiver<Vec<u8>>>> = (0..size).map(|_| Vec::new()).collect();
    for sender in &mut to {
        for receiver in &mut from {
            let (send, receive) = channel();
            sender.push(send);
            receiver.push(receive);
        }
    }
    let links = to.into_iter().zip(from).enumerate().map(|(rank, (to, from))| {
        let place = Place { rank, size, local: rank, host: "a thread".into() };
        Thread { place, speed, to, from }
    });
    let ranks: Vec<Ranks> = links
        .map(|link| Ranks::start(move || Ok(Box::new(link) as Box<dyn Link>)).expect("a thread"))
        .collect();
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            ranks.into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no rank panics")).collect()
    })
}
