//! Training that is refused because it would take too long on the CPU.

use crate::cli::args::Common;
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::shell::{continued, quoted};

/// Refuses to train on the CPU by mistake, for days, if there is a GPU that can't be used.
pub(super) fn may_train(device: &Selected) -> Result<()> {
    match &device.missed {
        Some(why) => {
            Err(Error::usage(format!("{why}. To train on the CPU anyway, add --device cpu")))
        }
        None => Ok(()),
    }
}

/// Returns the error for `soda train` without a recipe on a CPU, which would not finish; suggests
/// recipes that do.
pub(super) fn too_much(common: &Common) -> Error {
    let place = place(common);
    // Several lines, so that the commands can be copied.
    Error::Usage(format!(
        "`soda train` without --config trains configs/cifar10.toml, which takes days on a GPU and months to years on a CPU. Try:
  soda train --config quick{place}    (minutes, on the bundled images)
  soda train --config small --max-minutes 120{place}    (the recipe of the shipped weights; `soda data fetch` gets the full CIFAR-10 for it)
--config cifar10 starts it anyway, and --dry-run estimates how long it would take"
    ))
}

/// Returns the flags for data and device, as given.
fn place(common: &Common) -> String {
    let data = continued(&common.data_flags());
    let device = if common.device == "auto" {
        String::new()
    } else {
        format!(" --device {}", quoted(&common.device))
    };
    data + &device
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_cannot_be_used_is_not_replaced_by_the_cpu_without_leave() {
        let missed = Selected {
            missed: Some("a GPU is there, hidden".into()),
            ..Selected::cpu("no GPU found")
        };
        let error = may_train(&missed).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("a GPU is there, hidden. To train on the CPU anyway, add --device cpu")
        );
        assert!(
            may_train(&soda::device::select("cpu").expect("always there")).is_ok(),
            "the CPU was requested"
        );
    }
}
