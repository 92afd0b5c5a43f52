//! Detection of the launcher that started this process as one of several: mpirun, mpiexec or srun.

use soda::error::{Error, Result};
use soda::ranks::Ranks;

/// The launchers of parallel programs, each with the environment variable that holds the number of
/// processes.
const LAUNCHERS: [(&str, &str); 3] =
    [("mpirun", "OMPI_COMM_WORLD_SIZE"), ("mpiexec", "PMI_SIZE"), ("srun", "SLURM_NTASKS")];

/// Returns the launcher that started this process as one of several, its variable and the number of
/// processes, according to the environment. The first launcher that gives a number takes
/// precedence, because mpirun may have started a single process within a job of several.
fn launched(
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, &'static str, usize)> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let first =
        LAUNCHERS.iter().find_map(|(launcher, name)| Some((*launcher, *name, number(name)?)));
    first.filter(|(.., size)| *size > 1)
}

/// Checks whether this process was started as one of several and isn't the first of them. Such a
/// process must not write files that are written once.
pub fn is_follower() -> bool {
    let variable = |name: &str| std::env::var(name).ok();
    let ranks = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"];
    let rank = ranks.iter().find_map(|name| variable(name)?.parse::<usize>().ok());
    launched(variable).is_some() && rank.is_some_and(|rank| rank > 0)
}

/// Returns the command prefix that starts the same number of processes again, for example
/// `mpirun -n 2 ` with a trailing space; empty for a single process.
pub fn prefix() -> String {
    match launched(|name| std::env::var(name).ok()) {
        Some(("srun", _, size)) => format!("srun --mpi=pmix -n {size} "),
        Some((launcher, _, size)) => format!("{launcher} -n {size} "),
        None => String::new(),
    }
}

/// Checks whether srun started this process without PMI, the interface through which it finds the
/// other processes. Open MPI would end it with an unhelpful message.
#[cfg(feature = "mpi")]
fn without_pmi(launcher: &str, variable: impl Fn(&str) -> Option<String>) -> bool {
    launcher == "srun" && ["PMIX_RANK", "PMI_RANK"].iter().all(|name| variable(name).is_none())
}

/// Joins the other processes that were started with this one; returns `None` where it is the only
/// one.
///
/// # Errors
/// If the environment announces other processes that can't be joined: the program was built without
/// MPI, or the launcher belongs to another MPI.
pub fn join() -> Result<Option<Ranks>> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some((launcher, name, size)) = launched(variable) else { return Ok(None) };
    let others = format!("{name} = {size} announces {size} processes");
    let alone = format!("To run as a single process: env -u {name} soda ..");
    #[cfg(feature = "mpi")]
    {
        if !without_pmi(launcher, variable) {
            let ranks = soda::ranks::join()?;
            if ranks.size() > 1 {
                return Ok(Some(ranks));
            }
            ranks.end()?;
        }
        let remedy = match launcher {
            "srun" => {
                "start them with srun --mpi=pmix (`srun --mpi=list` lists the plugins), or with \
                 mpirun"
            }
            _ => "start them with the mpirun of the MPI that this program was built with",
        };
        Err(Error::usage(format!(
            "{others}, but this one found no others: each would train by itself; {remedy}. {alone}"
        )))
    }
    #[cfg(not(feature = "mpi"))]
    Err(Error::usage(format!(
        "{others}, started by {launcher}, but this program was built without MPI: each would \
         train by itself; build it with `cargo build --release --features mpi` (docs/scale.md). \
         {alone}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_recognised_by_its_environment() {
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
}
