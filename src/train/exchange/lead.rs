//! Coordination of the ranks: rank 0 decides what is done next, and the others follow.

use super::{Among, Exchange};
use crate::config::Config;
use crate::data::{Dataset, Options};
use crate::device::Selected;
use crate::error::{Error, Hint, Result};
use crate::progress::warn;
use crate::ranks::{Ranks, watch};
use crate::train::checkpoint::{Snapshot, State, of_sections};
use serde::{Deserialize, Serialize};

/// An order of rank 0 for all ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Take a training step.
    Step {
        /// The number of the step, from 1.
        number: u64,
        /// The learning rate of the denoiser.
        lr: f64,
    },
    /// Call [`Exchange::collect`].
    Collect,
    /// End training.
    End,
}

impl Order {
    fn words(self) -> [u64; 3] {
        match self {
            Self::Step { number, lr } => [0, number, lr.to_bits()],
            Self::Collect => [1, 0, 0],
            Self::End => [2, 0, 0],
        }
    }

    fn of([kind, number, lr]: [u64; 3]) -> Self {
        match kind {
            0 => Self::Step { number, lr: f64::from_bits(lr) },
            1 => Self::Collect,
            _ => Self::End,
        }
    }
}

/// The description of a run for the ranks that don't see its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// The recipe, as TOML.
    pub config: String,
    /// The location of the data.
    pub location: String,
    /// The options for opening it.
    pub options: Options,
    /// The command that resumes the run.
    pub resume: String,
    shares: Option<Vec<usize>>,
    half: bool,
}

/// The description of a rank for the others.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Hello {
    version: String,
    data_sha256: String,
    device: String,
    /// The kind of the device. Devices of one kind compute the same results bit for bit.
    kind: String,
}

fn encoded(what: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(what)
        .map_err(|e| Error::failed(format!("cannot encode a message to the other ranks: {e}")))
}

fn decoded<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::failed(format!(
            "cannot decode a message from another rank ({e}); run the same program on all ranks"
        ))
    })
}

/// Sends the description of this rank to the others, and returns those of all ranks.
fn introduce(ranks: &Ranks, data: &Dataset, device: &Selected) -> Result<Vec<Hello>> {
    let own = Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        data_sha256: data.sha256.clone(),
        device: device.describe(),
        // Without the threads of a CPU, which don't change results.
        kind: device
            .adapter
            .as_ref()
            .map_or("cpu".into(), |adapter| format!("{} {}", adapter.name, adapter.driver)),
    };
    let all = ranks.gather(encoded(&own)?)?;
    all.iter().map(|hello| decoded(hello)).collect()
}

/// Starts training `state` with the other ranks, as rank 0.
///
/// # Errors
/// If a rank has other data or another version of the program, or the batch can't be divided.
pub fn lead(
    among: &Among,
    config: &Config,
    data: &Dataset,
    device: &Selected,
    state: &State,
) -> Result<Exchange> {
    let ranks = &among.ranks;
    among.sizes(config.train.batch_size)?;
    let invitation = Invitation {
        config: config.to_toml(),
        location: data.location(),
        options: data.options,
        resume: among.resume.clone(),
        shares: among.shares.clone(),
        half: among.wire == super::Wire::F16,
    };
    ranks.broadcast(Some(encoded(&Some(invitation.clone()))?))?;
    let all = introduce(ranks, data, device)?;
    for (rank, other) in all.iter().enumerate() {
        if other.version != all[0].version {
            let (one, two) = (&all[0].version, &other.version);
            return Err(Error::usage(format!(
                "rank {rank} runs version {two} of this program and rank 0 version {one}; run the \
                same version on all ranks"
            )));
        }
        if other.data_sha256 != all[0].data_sha256 {
            return Err(Error::usage(format!(
                "rank {rank} finds other images in {} than rank 0 (checksum {:.16}.. instead of \
                {:.16}..); give all ranks the same data",
                invitation.location, other.data_sha256, all[0].data_sha256
            )));
        }
    }
    if let Some(rank) = all.iter().position(|other| other.kind != all[0].kind) {
        let (one, two) = (&all[0].device, &all[rank].device);
        warn(&format!(
            "warning: rank 0 computes on {one}, rank {rank} on {two}: each step takes as long as \
            on the slower of them (set {} to give it less), and results no longer equal those of one process bit for \
            bit",
            Hint::Shares
        ));
    }
    let exchange = Exchange::new(among, config, &device.device)?;
    for section in Snapshot::of(state, config)?.sections()? {
        ranks.broadcast(Some(section))?;
    }
    watch::set_resume(among.resume.clone());
    Ok(exchange)
}

/// Tells the other ranks, as rank 0, that there is nothing to train.
///
/// # Errors
/// If the thread that sends is gone.
pub fn dismiss(ranks: &Ranks) -> Result<()> {
    ranks.broadcast(Some(encoded(&None::<Invitation>)?)).map(drop)
}

/// Everything that a rank other than 0 needs to take steps.
pub struct Joined {
    /// Its side of the exchange.
    pub exchange: Exchange,
    /// The recipe of rank 0.
    pub config: Config,
    /// Its own device.
    pub device: Selected,
    /// Its own copy of the images.
    pub data: Dataset,
    /// The state of rank 0, on its own device.
    pub state: State,
}

/// Waits, as a rank other than 0, for what rank 0 trains. `open` opens the device and the data.
/// Returns `None` if there is nothing to train.
///
/// # Errors
/// If device or data can't be opened, or the state of rank 0 belongs to other networks.
pub fn join_in(
    ranks: &Ranks,
    open: impl FnOnce(&Config, &Invitation) -> Result<(Selected, Dataset)>,
) -> Result<Option<Joined>> {
    let told = ranks.broadcast(None)?;
    let Some(invitation) = decoded::<Option<Invitation>>(&told)? else { return Ok(None) };
    let config = Config::parse(&invitation.config, "the recipe of rank 0", &[])?;
    let (device, data) = open(&config, &invitation)?;
    introduce(ranks, &data, &device)?;
    let wire = if invitation.half { super::Wire::F16 } else { super::Wire::F32 };
    let among =
        Among { ranks: ranks.clone(), shares: invitation.shares, wire, resume: invitation.resume };
    let exchange = Exchange::new(&among, &config, &device.device)?;
    let mut sections: [Vec<u8>; 4] = Default::default();
    for section in &mut sections {
        *section = ranks.broadcast(None)?;
    }
    let state = of_sections(&sections, &config, &device.device)?;
    watch::set_resume(among.resume);
    Ok(Some(Joined { exchange, config, device, data, state }))
}

impl Exchange {
    /// Gives an order to the other ranks, as rank 0.
    ///
    /// # Errors
    /// If the thread that sends is gone.
    pub fn order(&self, order: Order) -> Result<()> {
        self.pass(order).map(drop)
    }

    /// Waits for the next order, as another rank.
    ///
    /// # Errors
    /// If the thread that sends is gone.
    pub fn ordered(&self) -> Result<Order> {
        self.pass(Order::End)
    }

    fn pass(&self, order: Order) -> Result<Order> {
        let mut words = order.words();
        let passed = self.ranks().begin(move |link| {
            link.broadcast(bytemuck::bytes_of_mut(&mut words));
            words
        });
        passed.wait().map(Order::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_encoding() {
        for order in [Order::Step { number: 7, lr: 0.1 }, Order::Collect, Order::End] {
            assert_eq!(Order::of(order.words()), order);
        }
    }
}
