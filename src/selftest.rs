//! The self test of an adapter: every operation at the networks' sizes against the CPU backend,
//! bitwise repeatability, many launches and large buffers.
//!
//! Drivers do have bugs, and a loss curve doesn't reveal them. The test runs automatically
//! before the first training step on an adapter that hasn't passed it with these shaders and this
//! driver.

mod again;
mod burn;
mod faster;
mod limits;
mod outcome;

pub use self::faster::faster;
pub use self::outcome::Outcome;

use self::burn::BurnOperations;
use self::limits::LIMITS;
use self::outcome::{key, key_of};
use crate::device::{Adapter, Selected};
use crate::error::{Error, Hint, Result};
use crate::files::{create_parent, write_atomically};
use crate::kernels::catalog::{self, Case, Operation, Results, Suite};
use crate::progress::{Progress, say, warn};
use ::burn::tensor::Device;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

/// The folder within the user's cache folder that records which adapters have passed.
const PASSED: &str = "soda/selftest";

/// Compares `got`, computed on an adapter in `milliseconds`, with `want`.
fn compare(case: &Case, got: &Results, want: &Results, milliseconds: f64) -> Outcome {
    let tolerance = case.tolerances.wgsl;
    let errors = got
        .iter()
        .zip(want)
        .map(|((name, got), (_, want))| (tolerance.error(got, want), name.clone()));
    let nothing = (if got.is_empty() { f32::INFINITY } else { 0.0 }, "nothing".to_owned());
    let (worst, of) = errors.fold(nothing, |a, b| if b.0 >= a.0 { b } else { a });
    Outcome { kernel: case.kernel, size: case.size(), worst, of, milliseconds, warns: false }
}

/// Runs every case of `operations` on `device`, one after another. Calls `each` with every outcome
/// as soon as it is known, and with the number of cases.
///
/// # Errors
/// If a result is wrong; the message names the adapter, the kernel and the error. (All cases are
/// run first.) If the device is lost or has too little memory.
pub fn run(
    operations: &[&dyn Operation],
    device: &Selected,
    mut each: impl FnMut(&Outcome, usize),
) -> Result<Vec<Outcome>> {
    let cases = catalog::cases(operations, Suite::SelfTest);
    let mut outcomes = Vec::new();
    // The CPU computes the expected results while the adapter's driver compiles.
    std::thread::scope(|scope| {
        let (sender, wanted) = mpsc::channel();
        scope.spawn(|| {
            let sender = sender;
            for case in &cases {
                // The receiver is gone once the adapter has failed.
                if sender.send(case.results(&Device::flex())).is_err() {
                    return;
                }
            }
        });
        for case in &cases {
            let clock = Instant::now();
            let got = case.results(&device.device)?;
            let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
            let want = wanted.recv().map_err(|_| {
                Error::failed("the self test ended early on the CPU; please report this")
            })??;
            outcomes.push(compare(case, &got, &want, milliseconds));
            each(&outcomes[outcomes.len() - 1], cases.len());
        }
        Ok::<_, Error>(())
    })?;
    accept(&outcomes, device).map(|()| outcomes)
}

/// Checks that none of `outcomes` on `device` is wrong, except those that only warn.
fn accept(outcomes: &[Outcome], device: &Selected) -> Result<()> {
    match outcomes.iter().find(|o| !o.passed() && !o.warns) {
        Some(wrong) => Err(Error::failed(format!(
            "{} computes {} {} wrongly (the error of {} is {:.0} times the tolerance); use {} \
             or another adapter, or update its driver",
            device.describe(),
            wrong.kernel,
            wrong.size,
            wrong.of,
            wrong.worst,
            Hint::UseCpu
        ))),
        None => Ok(()),
    }
}

/// The results of the whole test.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// The outcome of each case.
    pub outcomes: Vec<Outcome>,
    /// The speed of the largest layer's convolution, in floating-point operations per second.
    pub speed: Option<f64>,
}

/// Returns the number of cases of the whole test.
fn count() -> usize {
    let first = again::first_cases(catalog::operations()).len();
    catalog::cases(&operations(), Suite::SelfTest).len() + 2 * first + LIMITS.len()
}

/// Returns our operations and Burn's.
fn operations() -> Vec<&'static dyn Operation> {
    catalog::operations().iter().copied().chain([&BurnOperations as &dyn Operation]).collect()
}

/// Runs the whole test on `device`: the cases of all operations, our kernels twice and on
/// non-finite inputs, and the limits that matter only at scale. Calls `each` with every outcome as
/// soon as it is known, and with the number of cases.
///
/// # Errors
/// As [`run`].
pub fn whole(device: &Selected, mut each: impl FnMut(&Outcome, usize)) -> Result<Findings> {
    let count = count();
    let mut outcomes = run(&operations(), device, |outcome, _| each(outcome, count))?;
    let mut add = |outcome: Outcome| {
        each(&outcome, count);
        outcomes.push(outcome);
    };
    for mut case in again::first_cases(catalog::operations()) {
        add(again::same_bits(&case, device)?);
        add(again::shows_what_is_not_finite(&mut case, device)?);
    }
    let mut speed = None;
    for limit in LIMITS {
        let (outcome, measured) = limit.outcome(device)?;
        add(outcome);
        speed = measured.or(speed);
    }
    accept(&outcomes, device)?;
    Ok(Findings { outcomes, speed })
}

/// Returns the speed measured when `adapter` passed the test, in floating-point operations per
/// second; `None` if it hasn't passed with these shaders and this driver.
pub fn measured(adapter: &Adapter) -> Option<f64> {
    let record = dirs::cache_dir()?.join(PASSED).join(key_of(adapter));
    std::fs::read_to_string(record).ok()?.trim().parse().ok()
}

/// Runs the test, unless `device` is the CPU backend or has passed before with these shaders and
/// its driver. Returns the speed of the largest layer's convolution, measured when the device
/// passed, in floating-point operations per second; `None` on the CPU backend.
///
/// # Errors
/// As [`run`].
pub fn once(device: &Selected) -> Result<Option<f64>> {
    let record = record(device);
    let passed = record.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    if device.adapter.is_none() || passed.is_some() {
        return Ok(passed.and_then(|speed| speed.trim().parse().ok()));
    }
    say(&format!(
        "first use of {}: testing every kernel against the CPU (soda selftest)",
        device.describe()
    ));
    let progress = Progress::new("testing kernels", Some(count()));
    let found = whole(device, |_, _| progress.add(1))?;
    progress.finish();
    for hidden in found.outcomes.iter().filter(|outcome| !outcome.passed()) {
        warn(&format!(
            "{}: {} {} returns a finite value where its input is {}, so a diverging run may be \
             noticed some steps late",
            device.describe(),
            hidden.kernel,
            hidden.size,
            hidden.of
        ));
    }
    // Frees the memory of the test's large tensors. Training would otherwise scatter its small
    // tensors over it, and memory use would grow for thousands of steps.
    device.device.memory_cleanup();
    passed_by(device, &found);
    Ok(found.speed)
}

/// Records that `device` has passed, with the measured speed, so that [`once`] doesn't test it
/// again and [`measured`] returns that speed. Without a writable cache folder nothing is recorded,
/// and the test runs again the next time.
pub fn passed_by(device: &Selected, found: &Findings) {
    let Some(record) = record(device) else { return };
    let speed = found.speed.map_or(String::new(), |speed| format!("{speed}\n"));
    let written = create_parent(&record).and_then(|()| write_atomically(&record, speed.as_bytes()));
    if let Err(e) = written {
        log::info!("{e}");
    }
}

/// Returns the path of the file that records that `device` has passed; `None` for the CPU backend
/// and where there is no cache folder.
fn record(device: &Selected) -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join(PASSED).join(key(device)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalog::{Input, Tolerances};
    use crate::kernels::shader::Filled;

    /// An operation that doubles three values; wrongly on adapters if `wrong`.
    struct Doubling {
        wrong: bool,
    }

    impl Operation for Doubling {
        fn name(&self) -> &'static str {
            "doubling"
        }

        fn cases(&self, _suite: Suite) -> Vec<Case> {
            let wrong = self.wrong;
            let inputs = vec![Input::vector("x", 3)];
            vec![Case::new("doubling", &[3], inputs, Tolerances::SELF_TEST, move |inputs| {
                let x = inputs.vector("x");
                let error = if wrong && x.device().inner() != Device::flex() { 0.01 } else { 0.0 };
                vec![("the value", (x * 2.0 + error).into())]
            })]
        }

        fn shaders(&self) -> Vec<Filled> {
            Vec::new()
        }
    }

    #[test]
    fn an_adapter_that_computes_wrongly_is_refused_by_name_with_the_kernel_and_the_error() {
        let device = crate::device::select("wgpu")
            .expect("an adapter; scripts/test.sh installs a software one");
        let (right, wrong) = (Doubling { wrong: false }, Doubling { wrong: true });
        run(&[&right], &device, |_, _| ()).expect("a right kernel passes");
        let mut seen = 0;
        let message =
            run(&[&wrong, &right], &device, |_, _| seen += 1).expect_err("refused").to_string();
        assert_eq!(seen, 2, "the others still run");
        for part in [device.name.as_str(), "doubling 3 wrongly", "value", "use the CPU"] {
            assert!(message.contains(part), "{part} isn't in: {message}");
        }
    }

    #[test]
    fn an_empty_result_does_not_pass() {
        let case = &Doubling { wrong: false }.cases(Suite::SelfTest)[0];
        assert!(!compare(case, &Vec::new(), &Vec::new(), 0.0).passed());
        let result = |value| vec![("the value".to_owned(), vec![value])];
        assert!(compare(case, &result(1.0), &result(1.0), 0.0).passed());
        assert!(!compare(case, &result(1.1), &result(1.0), 0.0).passed());
    }

    #[test]
    fn the_cpu_backend_needs_no_test() {
        assert!(record(&Selected::cpu("")).is_none());
    }
}
