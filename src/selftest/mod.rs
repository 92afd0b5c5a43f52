//! Whether an adapter computes rightly: every kernel, at the networks' sizes, against the CPU backend.
//!
//! Drivers have been wrong before, and nothing in a loss curve says so. Before the first training step on an adapter that
//! hasn't been seen with this version and driver the test runs by itself.

mod cases;

use crate::device::Selected;
use crate::error::{Error, Result};
use crate::files::{create_parent, sha256, write_atomically};
use crate::progress::say;
use burn::tensor::Device;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// What is tolerated: |got - want| <= RELATIVE * max|want| + ABSOLUTE. Sums of up to 2,304 products in another order and the
/// drivers' own exponentials stay ten times below; an indexing error or a missing barrier is far above.
const RELATIVE: f32 = 1e-4;
/// See [`RELATIVE`].
const ABSOLUTE: f32 = 1e-5;

/// Named results of one case: the value and every gradient.
pub type Results = Result<Vec<(&'static str, Vec<f32>)>>;

/// One kernel at one size.
pub struct Case {
    /// "conv2d 3x3".
    pub kernel: &'static str,
    /// "2x128x16x16 to 128".
    pub size: String,
    /// Computes it on a device.
    pub run: Box<dyn Fn(&Device) -> Results>,
}

/// How a case came out.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The kernel.
    pub kernel: &'static str,
    /// Its size.
    pub size: String,
    /// The largest error, as a multiple of what is tolerated; infinite if anything wasn't finite.
    pub worst: f32,
    /// Of which result.
    pub of: &'static str,
    /// On the adapter, its first launch included.
    pub milliseconds: f64,
}

impl Outcome {
    /// Whether the adapter is right.
    pub fn passed(&self) -> bool {
        self.worst <= 1.0
    }
}

/// The largest error of `got` against `want` as a multiple of what is tolerated.
fn error(got: &[f32], want: &[f32]) -> f32 {
    if got.len() != want.len() || !got.iter().chain(want).all(|v| v.is_finite()) {
        return f32::INFINITY;
    }
    let tolerated = RELATIVE * want.iter().fold(0.0f32, |m, v| m.max(v.abs())) + ABSOLUTE;
    got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / tolerated
}

/// Runs `case` on `device` and on the CPU backend.
fn compare(case: &Case, device: &Device) -> Result<Outcome> {
    let clock = Instant::now();
    let got = (case.run)(device)?;
    let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
    let want = (case.run)(&Device::flex())?;
    let errors = got.iter().zip(&want).map(|((name, got), (_, want))| (error(got, want), *name));
    let (worst, of) = errors.fold((0.0, "nothing"), |a, b| if b.0 > a.0 { b } else { a });
    Ok(Outcome { kernel: case.kernel, size: case.size.clone(), worst, of, milliseconds })
}

/// Every kernel on `device`, one after another; `each` sees an outcome as soon as there is one.
///
/// # Errors
/// If one is wrong: names the adapter, the kernel and the error. (All are run first.) If the device is lost or has too little memory.
pub fn run(device: &Selected, each: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    run_cases(&cases::all(), device, each)
}

fn run_cases(cases: &[Case], device: &Selected, mut each: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for case in cases {
        outcomes.push(compare(case, &device.device)?);
        each(&outcomes[outcomes.len() - 1]);
    }
    match outcomes.iter().find(|o| !o.passed()) {
        Some(wrong) => Err(Error::failed(format!(
            "{} computes {} {} wrongly ({} is {:.0} times the tolerated error off); use --device cpu or another adapter, or update its driver",
            device.describe(),
            wrong.kernel,
            wrong.size,
            wrong.of,
            wrong.worst
        ))),
        None => Ok(outcomes),
    }
}

/// Runs the test unless `device` is the CPU backend, or has passed before with this version of the program and its driver.
///
/// # Errors
/// As [`run`].
pub fn once(device: &Selected) -> Result<()> {
    let record = record(device);
    if device.adapter.is_none() || record.as_ref().is_some_and(|path| path.exists()) {
        return Ok(());
    }
    say(&format!("first use of {}: testing every kernel against the CPU (soda selftest)", device.describe()));
    run(device, |_| ())?;
    // What the test's large tensors lay in is given back: training would take its small ones from there, here and there, and its
    // memory grow for thousands of steps.
    device.device.memory_cleanup();
    // A cache that isn't there or can't be written only means that the test runs again.
    if let Some(passed) = record
        && let Err(e) = create_parent(&passed).and_then(|()| write_atomically(&passed, b"passed\n"))
    {
        log::info!("{e}");
    }
    Ok(())
}

/// The file that says that `device` has passed; `None` for the CPU backend and where there is no cache folder.
fn record(device: &Selected) -> Option<PathBuf> {
    let adapter = device.adapter.as_ref()?;
    let version = env!("CARGO_PKG_VERSION");
    let key = format!("{version} {} {} {} {:?}", adapter.backend, adapter.name, adapter.driver, adapter.limits);
    Some(dirs::cache_dir()?.join("soda/selftest").join(&sha256(key.as_bytes())[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tensor;

    fn case(wrong: bool) -> Case {
        let run = move |device: &Device| -> Results {
            let x = Tensor::<1>::from_floats([1.0, 2.0, 3.0], device);
            // Wrong on adapters only.
            let error = if wrong && *device != Device::flex() { 0.01 } else { 0.0 };
            Ok(vec![("value", (x * 2.0 + error).into_data().try_to_vec().expect("f32"))])
        };
        Case { kernel: "doubling", size: "3".into(), run: Box::new(run) }
    }

    #[test]
    fn an_adapter_that_computes_wrongly_is_refused_by_name_with_the_kernel_and_the_error() {
        let device = crate::device::select("wgpu").expect("an adapter; scripts/test.sh installs a software one");
        run_cases(&[case(false)], &device, |_| ()).expect("a right kernel passes");
        let mut seen = 0;
        let message = run_cases(&[case(true), case(false)], &device, |_| seen += 1).expect_err("refused").to_string();
        assert_eq!(seen, 2, "the others are run all the same");
        for part in [device.name.as_str(), "doubling 3 wrongly", "value", "--device cpu"] {
            assert!(message.contains(part), "{part} isn't in: {message}");
        }
    }

    #[test]
    fn errors_are_measured_against_the_largest_value_and_what_is_not_finite_fails() {
        assert!(error(&[1.0, 100.0], &[1.0, 100.0]) == 0.0);
        assert!(error(&[1.005, 100.0], &[1.0, 100.0]) < 1.0);
        assert!(error(&[1.02, 100.0], &[1.0, 100.0]) > 1.0);
        assert!(error(&[f32::NAN], &[f32::NAN]).is_infinite());
        assert!(error(&[1.0], &[1.0, 2.0]).is_infinite());
    }

    #[test]
    fn the_cpu_backend_needs_no_test() {
        assert!(record(&Selected::cpu("")).is_none());
    }
}
