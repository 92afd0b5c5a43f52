//! Ranks as processes, connected by MPI.

use super::{Link, Place};
use crate::error::{Error, Result};
use ::mpi::Threading;
use ::mpi::datatype::{Partition, PartitionMut};
use ::mpi::environment::{self, Universe};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Root};

/// All processes that were started together. Only the thread that creates it calls MPI.
struct World {
    world: SimpleCommunicator,
    place: Place,
    /// Last, as dropping it finalises MPI.
    universe: Universe,
}

/// Joins the processes that were started together.
pub(super) fn join() -> Result<Box<dyn Link>> {
    let Some((universe, _)) = environment::initialize_with_threading(Threading::Funneled) else {
        return Err(Error::failed("MPI can't be initialised; please report this"));
    };
    let world = universe.world();
    let host = environment::processor_name().unwrap_or_default();
    let local = world.split_shared(world.rank()).rank() as usize;
    let place = Place { rank: world.rank() as usize, size: world.size() as usize, local, host };
    Ok(Box::new(World { world, place, universe }))
}

/// Returns `bytes`; an empty slice at an address that can't be mistaken for one of MPI's constants:
/// Open MPI's MPI_IN_PLACE is address 1, which Rust uses for empty slices.
fn at_an_address<'a>(bytes: &'a [u8], spare: &'a [u8; 1]) -> &'a [u8] {
    if bytes.is_empty() { &spare[..0] } else { bytes }
}

/// The mutable version of [`at_an_address`].
fn at_an_address_mut<'a>(bytes: &'a mut [u8], spare: &'a mut [u8; 1]) -> &'a mut [u8] {
    if bytes.is_empty() { &mut spare[..0] } else { bytes }
}

/// MPI counts in 32 bits.
fn counts(bytes: &[usize]) -> Vec<i32> {
    bytes.iter().map(|count| i32::try_from(*count).expect("less than 2 GiB at once")).collect()
}

/// Returns the offset of each piece.
fn begins(counts: &[i32]) -> Vec<i32> {
    let after = counts.iter().scan(0, |at, count| {
        *at += count;
        Some(*at - count)
    });
    after.collect()
}

impl World {
    /// Sends each rank `sent` bytes of `send`, starting at `begin`; receives `received` bytes from
    /// each.
    fn exchange(
        &self,
        send: &[u8],
        (sent, begin): (&[i32], &[i32]),
        receive: &mut [u8],
        received: &[usize],
    ) {
        let received = counts(received);
        let (none, mut room) = ([0], [0]);
        let send = Partition::new(at_an_address(send, &none), sent, begin);
        let receive = at_an_address_mut(receive, &mut room);
        let mut receive = PartitionMut::new(receive, received.as_slice(), begins(&received));
        self.world.all_to_all_varcount_into(&send, &mut receive);
    }
}

impl Link for World {
    fn place(&self) -> Place {
        self.place.clone()
    }

    fn all_to_all(&mut self, send: &[u8], sent: &[usize], receive: &mut [u8], received: &[usize]) {
        let mut sent = counts(sent);
        let begins = begins(&sent);
        sent[self.place.rank] = 0;
        self.exchange(send, (&sent, &begins), receive, received);
    }

    /// Uses MPI_Alltoallv with the same bytes for every rank, as MPI_Allgatherv would also copy
    /// this rank's own.
    fn all_gather(&mut self, mine: &[u8], receive: &mut [u8], received: &[usize]) {
        let mut sent = counts(&vec![mine.len(); self.place.size]);
        sent[self.place.rank] = 0;
        self.exchange(mine, (&sent, &vec![0; self.place.size]), receive, received);
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        self.world.process_at_rank(0).broadcast_into(at_an_address_mut(bytes, &mut [0]));
    }

    fn end(self: Box<Self>) {
        let Self { universe, .. } = *self;
        drop(universe);
    }
}
