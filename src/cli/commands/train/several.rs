//! `mpirun -n N soda train`: one run by several processes. Rank 0 is as a process alone; the others
//! do what it says.

use super::may_train;
use crate::cli::args::{Common, images};
use crate::cli::device::chosen_nth;
use crate::cli::interrupt::Interrupt;
use crate::cli::launcher;
use crate::cli::terminal;
use soda::config::Config;
use soda::error::{Error, Result};
use soda::ranks::watch;
use soda::train::exchange::{Among, Invitation, Wire};
use soda::train::follow::follow;

/// Flags of several processes.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// With several processes (mpirun, srun): what of each batch each of them takes, as
    /// proportions, such as 2,1 for cards of unlike speed (default: all the same).
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    shares: Option<Vec<u32>>,
    /// With several processes: what gradients and changes of weights travel as; f16 halves the
    /// bytes, and results are no longer those of one process to the last bit.
    #[arg(long, value_name = "f32|f16", value_parser = wire)]
    wire: Option<Wire>,
}

fn wire(text: &str) -> std::result::Result<Wire, String> {
    match text {
        "f32" => Ok(Wire::F32),
        "f16" => Ok(Wire::F16),
        _ => Err("expected f32 or f16".into()),
    }
}

impl Args {
    /// The processes that were started together with this one; none where it is the only one.
    ///
    /// # Errors
    /// If they can't be joined, or a flag needs several.
    pub fn join(&self) -> Result<Option<Among>> {
        let shares =
            self.shares.as_ref().map(|shares| shares.iter().map(|share| *share as usize).collect());
        match launcher::join()? {
            Some(ranks) => Ok(Some(Among {
                ranks,
                shares,
                wire: self.wire.unwrap_or_default(),
                resume: String::new(),
            })),
            None if self.shares.is_some() || self.wire.is_some() => Err(Error::usage(
                "--shares and --wire are for several processes, and this is the only one: start them with mpirun -n N soda train .. (docs/scale.md)",
            )),
            None => Ok(None),
        }
    }

    /// As they were given.
    pub fn given(&self) -> String {
        let shares = self.shares.iter().map(|shares| {
            let shares: Vec<String> = shares.iter().map(u32::to_string).collect();
            format!(" --shares {}", shares.join(","))
        });
        let wire = self
            .wire
            .iter()
            .map(|wire| format!(" --wire {}", if *wire == Wire::F16 { "f16" } else { "f32" }));
        shares.chain(wire).collect()
    }
}

/// Trains what rank 0 trains.
///
/// # Errors
/// See [`follow`].
pub fn run(among: &Among, common: &Common) -> Result<()> {
    // Rank 0 says what there is to say.
    terminal::be_quiet();
    let ranks = &among.ranks;
    let interrupt = Interrupt::listen()?.stop;
    let open = |config: &Config, invitation: &Invitation| {
        let device = chosen_nth(common, ranks.place().local)?;
        may_train(&device)?;
        let data =
            images::of_rank(common, &invitation.location, &invitation.options, config.data.side)?;
        Ok((device, data))
    };
    follow(ranks, open, &interrupt)
}

/// Takes leave of the others: all is done.
///
/// # Errors
/// If that can't be sent.
pub fn end(among: Among) -> Result<()> {
    watch::end();
    among.ranks.end()
}
