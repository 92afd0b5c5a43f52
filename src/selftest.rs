//! Whether an adapter computes correctly: every operation, at the networks' sizes, against the CPU backend.
//!
//! Drivers have been wrong before, and nothing in a loss curve says so. The test runs by itself before the first training step on
//! an adapter that hasn't passed it with these shaders and this driver.

use crate::device::{Adapter, Selected};
use crate::error::{Error, Result};
use crate::files::{create_parent, sha256, write_atomically};
use crate::kernels::catalog::{self, Case, Operation, Results, Suite};
use crate::progress::{Progress, say};
use burn::tensor::Device;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

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
    pub of: String,
    /// On the adapter, its first launch included.
    pub milliseconds: f64,
}

impl Outcome {
    /// Whether the adapter is right.
    pub fn passed(&self) -> bool {
        self.worst <= 1.0
    }
}

/// How `got`, computed on an adapter in so many milliseconds, compares with `want`.
fn compare(case: &Case, got: &Results, want: &Results, milliseconds: f64) -> Outcome {
    let tolerance = case.tolerances.wgsl;
    let errors = got.iter().zip(want).map(|((name, got), (_, want))| (tolerance.error(got, want), name.clone()));
    let nothing = (if got.is_empty() { f32::INFINITY } else { 0.0 }, "nothing".to_owned());
    let (worst, of) = errors.fold(nothing, |a, b| if b.0 > a.0 { b } else { a });
    Outcome { kernel: case.kernel, size: case.size(), worst, of, milliseconds }
}

/// Runs every case of `operations` on `device`, one after another. `each` gets an outcome as soon as there is one, and the number
/// of cases.
///
/// # Errors
/// If one is wrong: names the adapter, the kernel and the error. (All are run first.) If the device is lost or has too little memory.
pub fn run(operations: &[&dyn Operation], device: &Selected, mut each: impl FnMut(&Outcome, usize)) -> Result<Vec<Outcome>> {
    let cases = catalog::cases(operations, Suite::SelfTest);
    let mut outcomes = Vec::new();
    // The CPU computes what is right while the adapter's driver compiles.
    std::thread::scope(|scope| {
        let (sender, wanted) = mpsc::channel();
        scope.spawn(|| {
            let sender = sender;
            for case in &cases {
                // Nobody listens any more once the adapter has failed.
                if sender.send(case.results(&Device::flex())).is_err() {
                    return;
                }
            }
        });
        for case in &cases {
            let clock = Instant::now();
            let got = case.results(&device.device)?;
            let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
            let want = wanted.recv().map_err(|_| Error::failed("the self test ended early on the CPU; please report this"))??;
            outcomes.push(compare(case, &got, &want, milliseconds));
            each(&outcomes[outcomes.len() - 1], cases.len());
        }
        Ok::<_, Error>(())
    })?;
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

/// Runs the test unless `device` is the CPU backend, or has passed before with these shaders and its driver.
///
/// # Errors
/// As [`run`].
pub fn once(device: &Selected) -> Result<()> {
    let record = record(device);
    if device.adapter.is_none() || record.as_ref().is_some_and(|path| path.exists()) {
        return Ok(());
    }
    say(&format!("first use of {}: testing every kernel against the CPU (soda selftest)", device.describe()));
    let progress = Progress::new("testing kernels", Some(catalog::cases(catalog::operations(), Suite::SelfTest).len()));
    run(catalog::operations(), device, |_, _| progress.add(1))?;
    progress.finish();
    // Gives the memory of the test's large tensors back: training would scatter its small ones over it, and its own memory would
    // grow for thousands of steps.
    device.device.memory_cleanup();
    // A cache that isn't there or can't be written only means that the test runs again.
    if let Some(passed) = record
        && let Err(e) = create_parent(&passed).and_then(|()| write_atomically(&passed, b"passed\n"))
    {
        log::info!("{e}");
    }
    Ok(())
}

/// Returns the file that says that `device` has passed; `None` for the CPU backend and where there is no cache folder.
fn record(device: &Selected) -> Option<PathBuf> {
    let adapter = device.adapter.as_ref()?;
    let (shaders, Adapter { backend, name, driver, limits, .. }) = (shaders_hash(catalog::operations()), adapter);
    let key = format!("{shaders} {backend} {name} {driver} {limits:?}");
    Some(dirs::cache_dir()?.join("soda/selftest").join(&sha256(key.as_bytes())[..16]))
}

/// Returns a hash of the texts of all shaders of `operations`.
fn shaders_hash(operations: &[&dyn Operation]) -> String {
    let texts: Vec<String> = catalog::shaders(operations).into_iter().map(|(_, filled)| filled.text).collect();
    sha256(texts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalog::{Input, Tolerances};
    use crate::kernels::shader::Filled;

    /// Doubles three numbers; wrongly on adapters if so said.
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
        let device = crate::device::select("wgpu").expect("an adapter; scripts/test.sh installs a software one");
        let (right, wrong) = (Doubling { wrong: false }, Doubling { wrong: true });
        run(&[&right], &device, |_, _| ()).expect("a right kernel passes");
        let mut seen = 0;
        let message = run(&[&wrong, &right], &device, |_, _| seen += 1).expect_err("refused").to_string();
        assert_eq!(seen, 2, "the others are run all the same");
        for part in [device.name.as_str(), "doubling 3 wrongly", "value", "--device cpu"] {
            assert!(message.contains(part), "{part} isn't in: {message}");
        }
    }

    #[test]
    fn no_result_is_no_right_result() {
        let case = &Doubling { wrong: false }.cases(Suite::SelfTest)[0];
        assert!(!compare(case, &Vec::new(), &Vec::new(), 0.0).passed());
        let result = |value| vec![("the value".to_owned(), vec![value])];
        assert!(compare(case, &result(1.0), &result(1.0), 0.0).passed());
        assert!(!compare(case, &result(1.1), &result(1.0), 0.0).passed());
    }

    #[test]
    fn other_shaders_are_tested_again() {
        let all = catalog::operations();
        assert_eq!(shaders_hash(all), shaders_hash(all));
        assert_ne!(shaders_hash(all), shaders_hash(&all[1..]));
    }

    #[test]
    fn the_cpu_backend_needs_no_test() {
        assert!(record(&Selected::cpu("")).is_none());
    }
}
