//! Ranks that are processes, by MPI.

use super::{Link, Place};
use crate::error::{Error, Result};
use ::mpi::Threading;
use ::mpi::datatype::{Partition, PartitionMut};
use ::mpi::environment::{self, Universe};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Root};

/// All processes that were started together. The thread that makes it is the only one that calls MPI.
struct World {
    world: SimpleCommunicator,
    place: Place,
    /// Last: without it there is no MPI.
    universe: Universe,
}

/// Joins them.
pub(super) fn join() -> Result<Box<dyn Link>> {
    let Some((universe, _)) = environment::initialize_with_threading(Threading::Funneled) else {
        return Err(Error::failed("MPI doesn't start; please report this"));
    };
    let world = universe.world();
    let host = environment::processor_name().unwrap_or_default();
    let local = world.split_shared(world.rank()).rank() as usize;
    let place = Place { rank: world.rank() as usize, size: world.size() as usize, local, host };
    Ok(Box::new(World { world, place, universe }))
}

/// MPI counts in 32 bits; what is larger is sent in several calls.
fn counts(bytes: &[usize]) -> Vec<i32> {
    bytes.iter().map(|count| i32::try_from(*count).expect("less than 2 GiB at once")).collect()
}

/// Where each piece begins.
fn begins(counts: &[i32]) -> Vec<i32> {
    let after = counts.iter().scan(0, |at, count| {
        *at += count;
        Some(*at - count)
    });
    after.collect()
}

impl Link for World {
    fn place(&self) -> Place {
        self.place.clone()
    }

    fn all_to_all(&mut self, send: &[u8], sent: &[usize], receive: &mut [u8], received: &[usize]) {
        let (sent, received) = (counts(sent), counts(received));
        let send = Partition::new(send, sent.as_slice(), begins(&sent));
        let mut receive = PartitionMut::new(receive, received.as_slice(), begins(&received));
        self.world.all_to_all_varcount_into(&send, &mut receive);
    }

    fn all_gather(&mut self, mine: &[u8], receive: &mut [u8], received: &[usize]) {
        let received = counts(received);
        let mut receive = PartitionMut::new(receive, received.as_slice(), begins(&received));
        self.world.all_gather_varcount_into(mine, &mut receive);
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        self.world.process_at_rank(0).broadcast_into(bytes);
    }

    fn end(self: Box<Self>) {
        let Self { universe, .. } = *self;
        drop(universe);
    }
}
