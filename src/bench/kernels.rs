//! Single kernels: the table of cases, and how one is timed.
//!
//! A case is a row of [`cases`]: add one there, with the fewest bytes and operations that its operation needs.

use super::job::Job;
use super::peaks;
use super::row::{Place, Row};
use super::timing::{Effort, Timing, measure, sample};
use crate::error::Result;
use crate::kernels::ada_gn::{Activation, AdaGnOptions, ada_gn};
use crate::kernels::adamw::{Options, Parameter, adamw};
use crate::kernels::attention::attention;
use crate::kernels::batch_norm::batch_norm;
use crate::kernels::conv2d::{Conv2dOptions, conv2d};
use crate::kernels::vjp::vjp;
use crate::rng::{self, Purpose};
use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Tensor, TensorData};
use std::cell::Cell;
use std::rc::Rc;

/// One timed run.
pub type Run = Box<dyn FnOnce()>;
/// Prepares a run; not timed.
pub type Prepare = Box<dyn Fn() -> Run>;
/// The operation on its inputs, as often as it is called.
type Compute = Box<dyn Fn() -> Tensor<4>>;

/// One kernel at one size.
pub struct Case {
    /// Operation and direction: "conv2d_grad_input".
    pub op: String,
    /// Shape of the input, `[B, C, H, W]` or `[N]`.
    pub shape: Vec<usize>,
    /// What else matters: "3x3 to 64".
    pub variant: Option<String>,
    /// The fewest bytes read and written.
    pub bytes: f64,
    /// Floating-point operations of the direct algorithm; 0 where memory decides. Minimal filtering gets by with fewer, so a
    /// convolution may pass the peak.
    pub flops: f64,
    make: Box<dyn Fn(&Device) -> Prepare>,
}

impl Case {
    /// Makes the inputs on `device` (without autodiff).
    pub fn prepare(&self, device: &Device) -> Prepare {
        (self.make)(device)
    }

    /// "conv2d_forward 16x64x32x32 3x3 to 64".
    pub fn name(&self) -> String {
        self.row(&Place::default()).name()
    }

    /// The row without times.
    fn row(&self, place: &Place) -> Row {
        let row = Row::new(&self.op, place);
        let batch = (self.shape.len() == 4).then(|| self.shape[0]);
        Row { shape: Some(self.shape.clone()), batch, variant: self.variant.clone(), ..row }
    }
}

/// Every case, the cheapest kinds first.
pub fn cases(batch: usize) -> Vec<Case> {
    let mut all = Vec::new();
    for [c, side] in [[64, 32], [128, 16], [256, 8]] {
        all.extend(ada_gn_cases([batch, c, side, side]));
    }
    all.extend(batch_norm_cases([batch, 64, 32, 32]));
    all.extend(attention_cases([batch, 64, 16, 16]));
    all.push(adamw_case(1 << 20));
    // Kernel, stride, channels in and out, side; whether the input's gradient is ever wanted.
    for (kernel, stride, c_in, c_out, side, inner) in [
        (3, 1, 3, 64, 32, false),
        (3, 1, 64, 3, 32, true),
        (3, 1, 256, 256, 4, true),
        (1, 1, 192, 128, 16, true),
        (3, 1, 128, 128, 8, true),
        (3, 2, 64, 64, 32, true),
        (3, 1, 128, 128, 16, true),
        (3, 1, 64, 64, 32, true),
    ] {
        let options = Conv2dOptions::same(kernel, stride);
        all.extend(conv2d_cases([batch, c_in, side, side], c_out, kernel, options, inner));
    }
    all.extend(conv2d_cases([batch, 64, 16, 16], 64, 3, Conv2dOptions::UPSAMPLE, true));
    all
}

pub(super) fn random<const D: usize>(shape: [usize; D], index: u64, device: &Device) -> Tensor<D> {
    let values = rng::normal(&mut rng::stream(1, Purpose::Test, index), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `[B, C, H, W]` over the NHWC memory that our kernels leave.
fn image([b, c, h, w]: [usize; 4], index: u64, device: &Device) -> Tensor<4> {
    random([b, h, w, c], index, device).permute([0, 3, 1, 2])
}

fn forward(compute: Compute) -> Prepare {
    let compute = Rc::new(compute);
    Box::new(move || {
        let compute = compute.clone();
        Box::new(move || drop(compute()))
    })
}

/// The backward pass alone, from a gradient in NHWC memory.
fn backward(compute: Compute) -> Prepare {
    let y = compute();
    let dy = image(y.dims(), 99, &y.device());
    Box::new(move || {
        let (y, dy) = (compute(), dy.clone());
        Box::new(move || drop(vjp(y, dy)))
    })
}

fn floats(counts: &[usize]) -> f64 {
    4.0 * counts.iter().sum::<usize>() as f64
}

fn conv2d_cases([b, c, h, w]: [usize; 4], out: usize, kernel: usize, options: Conv2dOptions, inner: bool) -> Vec<Case> {
    let stride = options.stride;
    let (pixels, form) = match options {
        // Counted as the direct algorithm on the upsampled input, as all are.
        Conv2dOptions { upsample: true, .. } => (4 * h * w, ", upsampled".to_owned()),
        _ if stride > 1 => (h / stride * (w / stride), format!(", stride {stride}")),
        _ => (h * w, String::new()),
    };
    let (y, weights) = (b * out * pixels, out * c * kernel * kernel);
    // Which of input and weights are learnt from.
    let passes = [("forward", [false, false]), ("grad_input", [true, false]), ("grad_weight", [false, true])];
    let wanted = passes.into_iter().filter(|(name, _)| inner || *name != "grad_input");
    wanted
        .map(|(name, tracked)| Case {
            op: format!("conv2d_{name}"),
            shape: vec![b, c, h, w],
            variant: Some(format!("{kernel}x{kernel} to {out}{form}")),
            bytes: floats(&[b * c * h * w, weights, y]),
            flops: 2.0 * (y * c * kernel * kernel) as f64,
            make: Box::new(move |device| {
                let learns = tracked.contains(&true);
                let device = if learns { device.clone().autodiff() } else { device.clone() };
                let mut x = image([b, c, h, w], 0, &device);
                let mut weight = random([out, c, kernel, kernel], 1, &device);
                if tracked[0] {
                    x = x.detach().require_grad();
                }
                if tracked[1] {
                    weight = weight.require_grad();
                }
                let compute: Compute = Box::new(move || conv2d(x.clone(), weight.clone(), None, None, options));
                if learns { backward(compute) } else { forward(compute) }
            }),
        })
        .collect()
}

fn ada_gn_cases(shape: [usize; 4]) -> [Case; 2] {
    let [b, c, ..] = shape;
    let options = AdaGnOptions { groups: 32, eps: 1e-5, activation: Activation::Silu, dropout: None };
    let compute = move |device: &Device, learns: bool| -> Compute {
        let (h, t, z) = (image(shape, 0, device), random([b, 2 * c], 1, device), random([b, 2 * c], 2, device));
        let (gamma, beta) = (random([c], 3, device), random([c], 4, device));
        if !learns {
            return Box::new(move || ada_gn(h.clone(), t.clone(), z.clone(), gamma.clone(), beta.clone(), options));
        }
        let (h, t, z) = (h.detach().require_grad(), t.require_grad(), z.require_grad());
        let (gamma, beta) = (gamma.require_grad(), beta.require_grad());
        Box::new(move || ada_gn(h.clone(), t.clone(), z.clone(), gamma.clone(), beta.clone(), options))
    };
    let n = shape.iter().product::<usize>();
    let case = |pass: &str, moved| Case {
        op: format!("ada_gn_{pass}"),
        shape: shape.to_vec(),
        variant: Some("32 groups, SiLU".into()),
        bytes: floats(&[moved * n]),
        flops: 0.0,
        make: match moved {
            2 => Box::new(move |device| forward(compute(device, false))),
            _ => Box::new(move |device| backward(compute(&device.clone().autodiff(), true))),
        },
    };
    // h read and the result written; h and its gradient read, the other gradient written.
    [case("forward", 2), case("backward", 3)]
}

fn batch_norm_cases(shape: [usize; 4]) -> [Case; 2] {
    // Both passes as in training: by the batch's statistics.
    let compute = move |device: &Device| -> Compute {
        let device = device.clone().autodiff();
        let norm = BatchNormConfig::new(shape[1]).init(&device);
        let x = image(shape, 0, &device).detach().require_grad();
        Box::new(move || batch_norm(&norm, x.clone(), None, true))
    };
    let n = shape.iter().product::<usize>();
    let case = |pass: &str, moved| Case {
        op: format!("batch_norm_{pass}"),
        shape: shape.to_vec(),
        variant: Some("ReLU".into()),
        bytes: floats(&[moved * n]),
        flops: 0.0,
        make: match moved {
            2 => Box::new(move |device| forward(compute(device))),
            _ => Box::new(move |device| backward(compute(device))),
        },
    };
    [case("forward", 2), case("backward", 3)]
}

fn attention_cases([b, c, h, w]: [usize; 4]) -> [Case; 2] {
    let n = h * w;
    // q k^T and weights * v; backward, each of their gradients and the weights again.
    let product = (2 * b * n * n * c) as f64;
    let case = |pass: &str, moved: usize, flops| Case {
        op: format!("attention_{pass}"),
        shape: vec![b, c, h, w],
        variant: Some("1 head".into()),
        bytes: floats(&[moved * b * n * c]),
        flops,
        make: {
            let learns = moved > 4;
            Box::new(move |device| {
                let device = if learns { device.clone().autodiff() } else { device.clone() };
                let qkv = image([b, 3 * c, h, w], 0, &device);
                let qkv = if learns { qkv.detach().require_grad() } else { qkv };
                let compute: Compute = Box::new(move || attention(qkv.clone()));
                if learns { backward(compute) } else { forward(compute) }
            })
        },
    };
    // q, k, v read and the result written; with its gradient read as well, three gradients written.
    [case("forward", 4, 2.0 * product), case("backward", 7, 5.0 * product)]
}

/// Clip, AdamW and EMA of `n` parameters in one tensor.
fn adamw_case(n: usize) -> Case {
    Case {
        op: "adamw".into(),
        shape: vec![n],
        variant: Some("with EMA".into()),
        // Weight, moments and average read and written, the gradient read.
        bytes: floats(&[9 * n]),
        flops: 0.0,
        make: Box::new(move |device| {
            let vector = |index| random([n], index, device);
            let fresh = Parameter { weight: vector(0), first: vector(1), second: vector(2).square(), average: vector(3) };
            let (grad, clip) = (vector(4), Tensor::ones([1], device));
            let options = Options { lr: 1e-4, weight_decay: 0.05, betas: [0.9, 0.95], update: 9, ema_decay: 0.999 };
            let factors: Tensor<1> = Tensor::from_floats(options.factors(), device);
            // Nobody else holds the parameter, so that it is updated in place.
            let parameter = Rc::new(Cell::new(Some(fresh)));
            Box::new(move || {
                let (parameter, grad, clip, factors) = (parameter.clone(), grad.clone(), clip.clone(), factors.clone());
                Box::new(move || parameter.set(parameter.take().map(|p| adamw(p, grad, clip, factors))))
            })
        }),
    }
}

/// Warm-up and samples of `case` on `device` over about `seconds`: seconds of the first run, then the times.
///
/// # Errors
/// If the device was lost.
pub fn time(case: &Case, device: &Device, seconds: f64) -> Result<(f64, Timing)> {
    let prepare = case.prepare(device);
    let (mut make, mut run) = (|| prepare(), |run: Run| run());
    let first = sample(device, 1, &mut make, &mut run)?;
    // What takes long needs no second warm-up.
    let once = if first < seconds / 4.0 { sample(device, 1, &mut make, &mut run)? } else { first };
    let effort = Effort { seconds: seconds - first - once, most: 30, together: 8 };
    Ok((first, measure(device, effort, once, make, run)?))
}

/// No case takes longer than this many seconds where it needn't.
const ENOUGH: f64 = 0.6;

/// Measures the peaks, then every case that fits.
///
/// # Errors
/// If the device was lost.
pub(super) fn run(job: &mut Job) -> Result<()> {
    let cases = cases(if job.gpu { 128 } else { 16 });
    let names = peaks::rows(job).iter().map(Row::name).chain(cases.iter().map(Case::name)).collect();
    job.planned(names)?;
    let peaks = peaks::run(job, (job.left() / 10.0).min(1.0))?;
    // How much longer than at the peaks the first run of a kind of operation took: the guess for its next case.
    let mut slowness: Vec<(String, f64)> = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let mut row = case.row(&job.place);
        let ideal = peaks.seconds(case.bytes, case.flops);
        let known = slowness.iter().rev().find(|(op, _)| *op == case.op).or(slowness.last());
        // The first run and one sample.
        let guess = known.map_or(0.0, |(_, factor)| 2.0 * factor * ideal);
        if !job.fits(&row.name(), guess)? {
            continue;
        }
        let share = (job.left() / (cases.len() - i) as f64).min(ENOUGH);
        let (first, timing) = time(case, &job.device, share)?;
        slowness.push((case.op.clone(), (first.min(3.0 * timing.median)) / ideal));
        row.timed(&timing);
        row.gb_per_s = Some(case.bytes / timing.median / 1e9);
        row.tflops = (case.flops > 0.0).then(|| case.flops / timing.median / 1e12);
        row.share_of_peak = Some(ideal / timing.median);
        job.row(row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_counts_its_work() {
        let cases = cases(16);
        for (i, case) in cases.iter().enumerate() {
            assert!(cases[..i].iter().all(|other| other.name() != case.name()), "{} twice", case.name());
        }
        let of = |op: &str, shape: [usize; 4]| cases.iter().find(|c| c.op == op && c.shape == shape).expect("a case");
        // 16 * 32 * 32 outputs of 64 channels, 576 multiply-adds each.
        let conv = of("conv2d_grad_weight", [16, 64, 32, 32]);
        assert!(conv.variant.as_deref() == Some("3x3 to 3") && conv.flops == 2.0 * 16.0 * 1024.0 * 3.0 * 576.0);
        let n = 4.0 * 16.0 * 64.0 * 1024.0;
        assert_eq!(of("ada_gn_forward", [16, 64, 32, 32]).bytes, 2.0 * n);
        assert_eq!(of("ada_gn_backward", [16, 64, 32, 32]).bytes, 3.0 * n);
    }

    #[test]
    fn cases_of_every_kind_run() {
        let device = Device::flex();
        for case in
            conv2d_cases([2, 4, 4, 4], 8, 3, Conv2dOptions::same(3, 2), true).into_iter().chain(ada_gn_cases([2, 32, 4, 4]))
        {
            let (_, timing) = time(&case, &device, 0.0).unwrap();
            assert!(timing.median > 0.0, "{}", case.op);
        }
        let others = attention_cases([2, 4, 4, 4]).into_iter().chain([adamw_case(40)]);
        for case in batch_norm_cases([2, 4, 4, 4]).into_iter().chain(others) {
            assert!(time(&case, &device, 0.0).unwrap().1.median > 0.0);
        }
    }
}
