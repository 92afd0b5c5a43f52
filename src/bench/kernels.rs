//! Single kernels: the calls in the catalogue, and their timing.

use super::job::Job;
use super::peaks;
use super::row::{Place, Row};
use super::timing::{Effort, Timing, measure, sample};
use crate::error::Result;
use crate::kernels::catalog::{self, Case, Inputs, Operation, Pass, Suite, Value, random};
use crate::kernels::plan::Recorder;
use crate::kernels::vjp::vjp;
use burn::tensor::{Device, Tensor};
use std::cell::RefCell;
use std::rc::Rc;

/// One timed run.
pub type Run = Box<dyn FnOnce()>;
/// The untimed preparation of a run.
pub type Prepare = Box<dyn Fn() -> Run>;

/// One direction of one call.
pub struct Timed {
    case: Rc<Case>,
    /// The direction, and its cost.
    pub pass: Pass,
}

/// Returns every direction of the calls of `operations` to be timed, in order.
pub fn timed(operations: &[&dyn Operation], batch: usize) -> Vec<Timed> {
    let cases = catalog::cases(operations, Suite::Bench { batch }).into_iter().map(Rc::new);
    let all = cases.flat_map(|case| {
        case.passes.clone().into_iter().map(move |pass| Timed { case: case.clone(), pass })
    });
    all.collect()
}

impl Timed {
    /// Returns the row without times: "conv2d_forward", its shape and variant.
    pub fn row(&self, place: &Place) -> Row {
        let Case { kernel, shape, variant, .. } = &*self.case;
        let op = if self.pass.name.is_empty() {
            (*kernel).to_owned()
        } else {
            format!("{kernel}_{}", self.pass.name)
        };
        let batch = (shape.len() == 4).then(|| shape[0]);
        Row { shape: Some(shape.clone()), batch, variant: variant.clone(), ..Row::new(&op, place) }
    }

    /// Returns its name: "conv2d_forward 16x64x32x32 3x3 to 64".
    pub fn name(&self) -> String {
        self.row(&Place::default()).name()
    }

    /// Creates the inputs on `device` (without autodiff).
    pub fn prepare(&self, device: &Device) -> Prepare {
        let (case, learns) = (self.case.clone(), self.pass.learns.clone());
        let device = if learns.is_empty() { device.clone() } else { device.clone().autodiff() };
        let inputs = case.draw(&device, |input| learns.contains(&input.name));
        if learns.is_empty() { forward(case, inputs) } else { backward(case, inputs) }
    }
}

impl Timed {
    /// Records it on `device` (without autodiff) as the pass `name`, whose inputs are whatever it
    /// reads.
    ///
    /// # Errors
    /// If WebGPU would refuse a launch.
    pub fn record(&self, recorder: &mut Recorder, name: &str, device: &Device) -> Result<()> {
        recorder.timed(name, || self.prepare(device)(), |run| run())
    }
}

fn forward(case: Rc<Case>, inputs: Inputs) -> Prepare {
    let held = Rc::new(RefCell::new(inputs));
    Box::new(move || {
        let (case, held) = (case.clone(), held.clone());
        Box::new(move || {
            if case.in_place.is_empty() {
                let mut inputs = held.borrow().clone();
                return drop(case.run(&mut inputs));
            }
            // Tensors that are modified in place must have no other owner.
            let mut inputs = held.take();
            let read = inputs.without(&case.in_place);
            let results = case.run(&mut inputs);
            let mut inputs = read;
            inputs.extend(results.into_iter().filter(|(name, _)| case.in_place.contains(name)));
            held.replace(inputs);
        })
    })
}

/// Prepares the backward pass alone, from a gradient in NHWC memory.
fn backward(case: Rc<Case>, inputs: Inputs) -> Prepare {
    let compute = move || match case.run(&mut inputs.clone()).swap_remove(0).1 {
        Value::Map(y) => y,
        other => unreachable!("only feature maps are differentiated, not {other:?}"),
    };
    let y = compute();
    let [b, c, h, w] = y.dims();
    let dy: Tensor<4> = random([b, h, w, c], 99, &y.device()).permute([0, 3, 1, 2]);
    Box::new(move || {
        let (y, dy) = (compute(), dy.clone());
        Box::new(move || drop(vjp(y, dy)))
    })
}

/// Measures `timed` on `device` for about `seconds`, warmup included. Returns the seconds of the
/// first run, and the timing.
///
/// # Errors
/// If the device was lost.
pub fn time(timed: &Timed, device: &Device, seconds: f64) -> Result<(f64, Timing)> {
    let prepare = timed.prepare(device);
    let (mut make, mut run) = (|| prepare(), |run: Run| run());
    let first = sample(device, 1, &mut make, &mut run)?;
    // A long run needs no second warmup.
    let once = if first < seconds / 4.0 { sample(device, 1, &mut make, &mut run)? } else { first };
    let effort = Effort { seconds: seconds - first - once, most: 30, together: 8 };
    Ok((first, measure(device, effort, once, make, run)?))
}

/// The time limit for a case, in seconds, unless its first runs take longer.
const ENOUGH: f64 = 0.6;

/// Measures the peaks, then every call of `operations` that fits.
///
/// # Errors
/// If the device was lost.
pub(super) fn run(job: &mut Job, operations: &[&dyn Operation]) -> Result<()> {
    let all = timed(operations, if job.gpu { 128 } else { 16 });
    let names = peaks::rows(job).iter().map(Row::name).chain(all.iter().map(Timed::name)).collect();
    job.planned(names)?;
    let peaks = peaks::run(job, (job.left() / 10.0).min(1.0))?;
    // The ratio of the first run of each operation to its time at the peaks, which predicts the
    // operation's next case.
    let mut slowness: Vec<(String, f64)> = Vec::new();
    for (i, timed) in all.iter().enumerate() {
        let mut row = timed.row(&job.place);
        let work = timed.pass.work;
        let ideal = peaks.seconds(work.bytes, work.operations);
        let known = slowness.iter().rev().find(|(op, _)| *op == row.op).or(slowness.last());
        // The first run and one sample.
        let guess = known.map_or(0.0, |(_, factor)| 2.0 * factor * ideal);
        if !job.fits(&row.name(), guess)? {
            continue;
        }
        let share = (job.left() / (all.len() - i) as f64).min(ENOUGH);
        let (first, timing) = time(timed, &job.device, share)?;
        slowness.push((row.op.clone(), (first.min(3.0 * timing.median)) / ideal));
        row.timed(&timing);
        row.gb_per_s = Some(work.bytes / timing.median / 1e9);
        row.tflops = (work.operations > 0.0).then(|| work.operations / timing.median / 1e12);
        row.share_of_peak = Some(ideal / timing.median);
        job.row(row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalog::operations;

    #[test]
    fn every_case_has_a_unique_name_and_counts_its_work() {
        let all = timed(operations(), 16);
        for (i, one) in all.iter().enumerate() {
            assert!(
                all[..i].iter().all(|other| other.name() != one.name()),
                "{} twice",
                one.name()
            );
        }
        let of = |name: &str| {
            all.iter().find(|t| t.name() == name).unwrap_or_else(|| panic!("no {name}")).pass.work
        };
        // 16 * 32 * 32 outputs of 3 channels, 576 multiply-adds each.
        assert_eq!(
            of("conv2d_grad_weight 16x64x32x32 3x3 to 3").operations,
            2.0 * 16.0 * 1024.0 * 3.0 * 576.0
        );
        let n = 4.0 * 16.0 * 64.0 * 1024.0;
        assert_eq!(of("ada_gn_forward 16x64x32x32 32 groups, SiLU").bytes, 2.0 * n);
        assert_eq!(of("ada_gn_backward 16x64x32x32 32 groups, SiLU").bytes, 3.0 * n);
        // The gradient of the input of a network's first layer is never needed.
        assert!(!all.iter().any(|t| t.name() == "conv2d_grad_input 16x3x32x32 3x3 to 64"));
    }

    #[test]
    fn cases_of_every_kind_run() {
        let device = Device::flex();
        let mut seen = Vec::new();
        for timed in timed(operations(), 1) {
            let op = timed.row(&Place::default()).op;
            if !seen.contains(&op) {
                let (_, timing) = time(&timed, &device, 0.0).unwrap();
                assert!(timing.median > 0.0, "{op}");
                seen.push(op);
            }
        }
        assert!(seen.len() >= 10, "{seen:?}");
    }
}
