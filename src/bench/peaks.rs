//! The device's peak rates, measured by a copy and by multiply-adds, with which the kernels are
//! compared.

use super::job::Job;
use super::row::Row;
use super::timing::{Effort, measure, sample};
use crate::error::Result;
use crate::kernels::peak;
use crate::kernels::plan::Recorder;
use burn::tensor::{Device, Tensor};

/// Elements of the copy: 64 MiB, larger than the caches of most processors.
const COPY: usize = 1 << 24;
/// Elements of the multiply-adds.
const CHAINS: usize = 1 << 20;
/// The approximate duration of a run of multiply-adds, in seconds.
const LONG: f64 = 5e-3;

/// Records both on `device` as the passes `copy` and `multiply_add`; returns their shapes, and the
/// bytes or floating-point operations of one run.
///
/// # Errors
/// If WebGPU would refuse a launch.
pub fn record(recorder: &mut Recorder, device: &Device) -> Result<[(Vec<usize>, f64); 2]> {
    // 2 ms on a fast GPU, 100 ms on a slow one.
    const ROUNDS: usize = 1024;
    let ones = |n| Tensor::<1>::ones([n], device);
    recorder.timed("copy", || ones(COPY), |x| drop(peak::copy(x)))?;
    recorder.timed("multiply_add", || ones(CHAINS), |x| drop(peak::multiply_add(x, ROUNDS)))?;
    Ok([(vec![COPY], 8.0 * COPY as f64), (vec![CHAINS], peak::multiply_add_flops(CHAINS, ROUNDS))])
}

/// The peak rates of one device.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// Bytes per second, read and written.
    pub bytes: f64,
    /// Floating-point operations per second.
    pub flops: f64,
}

impl Peaks {
    /// Returns the shortest time, in seconds, for `bytes` and `flops` operations.
    pub fn seconds(&self, bytes: f64, flops: f64) -> f64 {
        (bytes / self.bytes).max(flops / self.flops)
    }
}

/// Returns the number of elements of the copy, a multiple of 1024; `limit` is the largest binding
/// of the adapter, in bytes.
fn copy_elements(limit: Option<u64>) -> usize {
    let most = limit.map_or(COPY, |bytes| (bytes / 4).min(COPY as u64) as usize);
    (most / 1024).max(1) * 1024
}

/// Returns the rows of the copy and of the multiply-adds, without measurements.
pub(super) fn rows(job: &Job) -> [Row; 2] {
    let copy =
        Row { shape: Some(vec![copy_elements(job.max_binding)]), ..Row::new("copy", &job.place) };
    let variant = Some("in registers".into());
    [copy, Row { shape: Some(vec![CHAINS]), variant, ..Row::new("multiply_add", &job.place) }]
}

/// Measures both within `seconds` and sends their rows.
///
/// # Errors
/// If the device was lost.
pub fn run(job: &mut Job, seconds: f64) -> Result<Peaks> {
    let [mut copy, mut multiply_add] = rows(job);
    let device = job.device.clone();
    let effort = Effort { seconds: seconds / 2.0, most: 20, together: 16 };

    let n = copy_elements(job.max_binding);
    let x = Tensor::<1>::ones([n], &device);
    let (mut prepare, mut run) = (|| x.clone(), |x| drop(peak::copy(x)));
    sample(&device, 1, &mut prepare, &mut run)?;
    let once = sample(&device, 1, &mut prepare, &mut run)?;
    let timing = measure(&device, effort, once, prepare, run)?;
    let bytes = 8.0 * n as f64 / timing.median;
    copy.gb_per_s = Some(bytes / 1e9);
    copy.timed(&timing);
    job.row(copy)?;

    let x = Tensor::<1>::ones([CHAINS], &device);
    let time = |rounds: usize| {
        sample(&device, 1, &mut || x.clone(), &mut |x| drop(peak::multiply_add(x, rounds)))
    };
    time(64)?;
    let rounds = ((64.0 * LONG / time(64)?.max(1e-6)).ceil() as usize).clamp(64, 1 << 15);
    let once = time(rounds)?;
    let timing =
        measure(&device, effort, once, || x.clone(), |x| drop(peak::multiply_add(x, rounds)))?;
    let flops = peak::multiply_add_flops(CHAINS, rounds) / timing.median;
    multiply_add.tflops = Some(flops / 1e12);
    multiply_add.timed(&timing);
    job.row(multiply_add)?;
    Ok(Peaks { bytes, flops })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_stays_within_one_binding() {
        assert_eq!(copy_elements(None), COPY);
        assert_eq!(copy_elements(Some(u64::MAX)), COPY);
        assert_eq!(copy_elements(Some(1 << 20)), 1 << 18);
        assert!(copy_elements(Some((1 << 20) - 1)) * 4 < 1 << 20);
    }

    #[test]
    fn the_slower_of_memory_and_arithmetic_decides() {
        let peaks = Peaks { bytes: 10.0, flops: 100.0 };
        assert_eq!((peaks.seconds(20.0, 100.0), peaks.seconds(20.0, 500.0)), (2.0, 5.0));
    }
}
