//! Tests at scale: many launches, many uploads, more workgroups than a grid has along one axis,
//! large buffers, and a convolution of the paper's largest layer, which also measures the speed of
//! the adapter.

use super::outcome::Outcome;
use crate::device::{Kind, Selected};
use crate::error::{Error, Result};
use crate::kernels::ada_gn::{Activation, AdaGnOptions, group_norm};
use crate::kernels::catalog::Tolerance;
use crate::kernels::conv2d::{Conv2dOptions, conv2d};
use crate::kernels::peak;
use crate::rng::{self, Purpose};
use burn::tensor::{Device, Tensor, TensorData};
use std::time::Instant;

/// The scale of the tests on software adapters: a hundred times smaller.
const OF_SOFTWARE: f64 = 0.01;
/// Tensors that are uploaded and then read, as many as networks have.
const UPLOADS: usize = 300;
/// Launches without a read between them: more than some queues hold.
const LAUNCHES: usize = 5_000;
/// Bytes of the largest buffer of a step at paper size.
const LARGEST_BUFFER: u64 = 384 << 20;
/// The largest layer at paper size: input channels, output channels, side of the image and of the
/// kernel; and the number of images here.
const LAYER: [usize; 4] = [384, 128, 32, 3];
const IMAGES: usize = 64;
/// The number of its outputs that are compared.
const SAMPLES: usize = 300;

/// One of the tests.
pub(super) struct Limit {
    pub name: &'static str,
    pub run: fn(&Selected, f64) -> Result<Finding>,
}

/// The result of a test.
pub(super) struct Finding {
    size: String,
    /// The error as a multiple of the tolerance; infinite where no error is tolerated.
    worst: f32,
    of: &'static str,
    /// Floating-point operations per second, where measured.
    pub speed: Option<f64>,
}

/// All tests, the cheap ones first.
pub(super) const LIMITS: [Limit; 5] = [
    Limit { name: "uploads", run: uploads },
    Limit { name: "launches", run: launches },
    Limit { name: "folded grid", run: folded_grid },
    Limit { name: "large buffer", run: large_buffer },
    Limit { name: "large layer", run: large_layer },
];

impl Limit {
    /// Runs the test on `device`.
    pub fn outcome(&self, device: &Selected) -> Result<(Outcome, Option<f64>)> {
        let software = device.adapter.as_ref().is_none_or(|adapter| adapter.kind == Kind::Software);
        let clock = Instant::now();
        let found = (self.run)(device, if software { OF_SOFTWARE } else { 1.0 })?;
        let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
        let Finding { size, worst, of, speed } = found;
        Ok((
            Outcome { kernel: self.name, size, worst, of: of.into(), milliseconds, warns: false },
            speed,
        ))
    }
}

/// Returns 0 for equal values, else infinity.
fn exact(got: &[f32], want: &[f32]) -> f32 {
    if got == want { 0.0 } else { f32::INFINITY }
}

fn scaled(whole: usize, share: f64) -> usize {
    ((whole as f64 * share) as usize).max(1)
}

fn read(x: Tensor<1>) -> Result<Vec<f32>> {
    x.try_into_vec_as().map_err(|e| Error::device("testing its limits", &e))
}

fn uploads(device: &Selected, _: f64) -> Result<Finding> {
    let values = |i: usize| -> Vec<f32> {
        (0..1 + i * 37 % 4099).map(|j| (i * 10_000 + j) as f32).collect()
    };
    let tensors: Vec<_> = (0..UPLOADS)
        .map(|i| Tensor::<1>::from_data(values(i).as_slice(), &device.device))
        .collect();
    let mut worst = 0.0;
    for (i, tensor) in tensors.into_iter().enumerate() {
        worst = exact(&read(tensor)?, &values(i)).max(worst);
    }
    Ok(Finding {
        size: format!("{UPLOADS} tensors"),
        worst,
        of: "the values read back",
        speed: None,
    })
}

fn launches(device: &Selected, share: f64) -> Result<Finding> {
    let n = scaled(LAUNCHES, share);
    let mut x = Tensor::<1>::zeros([256], &device.device);
    for _ in 0..n {
        x = x + 1.0;
    }
    Ok(Finding {
        size: format!("{n} without a read"),
        worst: exact(&read(x)?, &[n as f32; 256]),
        of: "the count",
        speed: None,
    })
}

fn folded_grid(device: &Selected, _: f64) -> Result<Finding> {
    // One workgroup per group: 65,600 groups of 8 values, which cost nothing.
    let [images, channels, groups] = [4_100, 32, 16];
    let values = |stream: u64, n: usize| rng::normal(&mut rng::stream(7, Purpose::Test, stream), n);
    let run = |device: &Device| {
        let x = Tensor::<4>::from_data(
            TensorData::new(values(3, images * channels * 4), [images, 2, 2, channels]),
            device,
        );
        let [gamma, beta] = [4, 5]
            .map(|stream| Tensor::<1>::from_data(values(stream, channels).as_slice(), device));
        let options =
            AdaGnOptions { groups, eps: 1e-5, activation: Activation::Silu, dropout: None };
        read(
            group_norm(x.permute([0, 3, 1, 2]), gamma, beta, options)
                .permute([0, 2, 3, 1])
                .reshape([images * channels * 4]),
        )
    };
    // Sums of 8 values and the driver's own exponentials.
    let worst = Tolerance::new(1e-4, 1e-5).error(&run(&device.device)?, &run(&Device::flex())?);
    Ok(Finding { size: format!("{} groups", images * groups), worst, of: "the value", speed: None })
}

fn large_buffer(device: &Selected, share: f64) -> Result<Finding> {
    let most = device.adapter.as_ref().map_or(LARGEST_BUFFER, |adapter| {
        adapter.limits.max_storage_binding.min(adapter.limits.max_buffer)
    });
    // `copy` takes multiples of 1024 values.
    let n = (scaled(most.min(LARGEST_BUFFER) as usize / 4, share) / 1024 * 1024).max(1024);
    let mut x = Tensor::<1>::zeros([n], &device.device);
    let marks = [0, n / 2, n - 4];
    let values = |at: usize| [1.0, 2.0, 3.0, 4.0].map(|v| v + (at % 1000) as f32);
    for at in marks {
        x = x.slice_assign(at..at + 4, Tensor::from_data(values(at), &device.device));
    }
    let y = peak::copy(x);
    let mut worst = 0.0;
    for at in marks {
        worst = exact(&read(y.clone().narrow(0, at, 4))?, &values(at)).max(worst);
    }
    Ok(Finding {
        size: format!("{} MiB", (4 * n) >> 20),
        worst,
        of: "the first, middle and last values",
        speed: None,
    })
}

fn large_layer(device: &Selected, share: f64) -> Result<Finding> {
    let [from, to, side, kernel] = LAYER;
    let images = scaled(IMAGES, share);
    let draw = |stream: u64, n: usize| rng::normal(&mut rng::stream(7, Purpose::Test, stream), n);
    let (x, weight) = (draw(1, images * side * side * from), draw(2, to * from * kernel * kernel));
    let on = |values: &[f32], shape: [usize; 4], device: &Device| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), device)
    };
    // Channels last, the layout of feature maps.
    let x_there = on(&x, [images, side, side, from], &device.device).permute([0, 3, 1, 2]);
    let weight_there = on(&weight, [to, from, kernel, kernel], &device.device);
    let run = || {
        let y = conv2d(
            x_there.clone(),
            weight_there.clone(),
            None,
            None,
            Conv2dOptions::same(kernel, 1),
        );
        y.permute([0, 2, 3, 1]).reshape([images * side * side * to])
    };
    let y = read(run())?;
    // Compiled by now. Reading one value waits for all.
    let clock = Instant::now();
    read(run().narrow(0, 0, 1))?;
    let operations = 2.0 * (kernel * kernel * from * to * side * side * images) as f64;
    let speed = operations / clock.elapsed().as_secs_f64();

    let places: Vec<usize> = (0..SAMPLES)
        .map(|i| (i * 7_919 + i * i * 104_729) % y.len())
        .chain([0, y.len() - 1])
        .collect();
    let got: Vec<f32> = places.iter().map(|&at| y[at]).collect();
    let want: Vec<f32> = places.iter().map(|&at| output(&x, &weight, at)).collect();
    // Sums of 3,456 products, in a different order.
    let worst = Tolerance::new(1e-4, 1e-4).error(&got, &want);
    let size = format!(
        "{images}x{from}x{side}x{side}, {kernel}x{kernel} to {to}, {:.3} TFLOP/s",
        speed / 1e12
    );
    Ok(Finding { size, worst, of: "a sample of the value", speed: Some(speed) })
}

/// Returns element `at` of the layer's output, summed in f64.
fn output(x: &[f32], weight: &[f32], at: usize) -> f32 {
    let [from, to, side, kernel] = LAYER;
    let (o, column, row, image) =
        (at % to, at / to % side, at / to / side % side, at / to / side / side);
    let mut sum = 0.0;
    for (k, l) in (0..kernel).flat_map(|k| (0..kernel).map(move |l| (k, l))) {
        let (i, j) = (row + k, column + l);
        // One pixel of zeros around the image.
        if i == 0 || j == 0 || i > side || j > side {
            continue;
        }
        let pixel = ((image * side + i - 1) * side + j - 1) * from;
        sum += (0..from)
            .map(|c| {
                f64::from(x[pixel + c])
                    * f64::from(weight[((o * from + c) * kernel + k) * kernel + l])
            })
            .sum::<f64>();
    }
    sum as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_backend_passes_and_a_single_wrong_value_does_not() {
        for limit in LIMITS {
            let (outcome, speed) = limit.outcome(&Selected::cpu("a test")).expect("a result");
            assert!(
                outcome.passed(),
                "{}: {} off in {}",
                outcome.kernel,
                outcome.worst,
                outcome.of
            );
            assert_eq!(speed.is_some_and(|speed| speed > 1e8), limit.name == "large layer");
        }
        assert_eq!((exact(&[1.0], &[1.0]), exact(&[1.0], &[1.5])), (0.0, f32::INFINITY));
        assert_eq!(
            (exact(&[], &[1.0]), exact(&[f32::NAN], &[f32::NAN])),
            (f32::INFINITY, f32::INFINITY)
        );
    }
}
