//! `mpirun -n N soda train`: one run by several processes. Rank 0 behaves like a single process;
//! the other ranks follow it.

use super::refusal::may_train;
use crate::cli::args::{Common, count, images};
use crate::cli::device::chosen_nth;
use crate::cli::interrupt::Interrupt;
use crate::cli::{launcher, terminal};
use soda::config::Config;
use soda::error::{Error, Result};
use soda::ranks::watch;
use soda::train::exchange::{Among, Invitation, Wire};
use soda::train::follow::follow;

/// The flags for several processes.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// With several processes (mpirun, srun): how each batch is divided among them. Proportions,
    /// such as 2,1 for cards of unequal speed (default: equal).
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = count::<u32>(1..))]
    shares: Option<Vec<u32>>,
    /// With several processes: the format in which gradients and weight changes are exchanged. f16
    /// halves the traffic, but results are no longer identical to those of one process.
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
    /// Joins the processes started together with this one; `None` if it is the only one.
    ///
    /// # Errors
    /// If they can't be joined, or a flag needs several processes.
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
            None => self.check().map(|()| None),
        }
    }

    /// Refuses the flags for several processes in the only one.
    ///
    /// # Errors
    /// If one is given and no launcher started this process as one of several.
    pub fn check(&self) -> Result<()> {
        if launcher::prefix().is_empty() && (self.shares.is_some() || self.wire.is_some()) {
            return Err(Error::usage(
                "--shares and --wire are for several processes, and this is the only one; start \
                 them with mpirun -n N soda train .. (docs/scale.md)",
            ));
        }
        Ok(())
    }

    /// Returns the flags as given.
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

/// Follows rank 0 in training.
///
/// # Errors
/// See [`follow`].
pub fn run(among: &Among, common: &Common) -> Result<()> {
    // Only rank 0 reports progress.
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

/// Tells the other ranks that everything is done.
///
/// # Errors
/// If the message can't be sent.
pub fn end(among: Among) -> Result<()> {
    watch::end();
    among.ranks.end()
}
