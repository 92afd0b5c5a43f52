//! Times fused AdaGN against the same function composed of tensor operations, forward + backward.
//! Prints one JSON line per shape.
//!
//! `cargo bench --bench ada_gn -- --device vulkan`

use burn::tensor::Device;
use clap::Parser;
use serde_json::json;
use soda::device;
use soda::kernels::ada_gn::{Activation, AdaGnOptions, ada_gn};
use soda::kernels::catalog::random;
use soda::kernels::testing::with_references;
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// The device, as in `soda --device`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Timed repetitions.
    #[arg(long, default_value_t = 20)]
    repetitions: usize,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let _ = args.bench;
    let device = device::select(&args.device).expect("the device");
    for [b, c, h, w, groups] in [[16, 64, 32, 32, 32], [16, 128, 16, 16, 32], [16, 256, 8, 8, 32]] {
        let time = |fused: bool| {
            let mut times: Vec<f64> = (0..args.repetitions + 3)
                .map(|_| forward_backward([b, c, h, w], groups, fused, &device.device))
                .skip(3)
                .collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let (fused, composed) = (time(true), time(false));
        println!(
            "{}",
            json!({
                "op": "ada_gn", "device": device.backend, "adapter": device.name,
                "shape": [b, c, h, w], "groups": groups,
                "fused_ms": fused * 1e3, "composed_ms": composed * 1e3, "ratio": composed / fused,
            })
        );
    }
}

/// Returns the seconds of one forward and backward pass on NHWC memory, with all gradients that
/// training needs.
fn forward_backward([b, c, h, w]: [usize; 4], groups: usize, fused: bool, device: &Device) -> f64 {
    let autodiff = device.clone().autodiff();
    let x = random([b, h, w, c], 0, &autodiff).permute([0, 3, 1, 2]).detach().require_grad();
    let (t, z) = (
        random([b, 2 * c], 1, &autodiff).require_grad(),
        random([b, 2 * c], 2, &autodiff).require_grad(),
    );
    let (gamma, beta) =
        (random([c], 3, &autodiff).require_grad(), random([c], 4, &autodiff).require_grad());
    let weights = random([b, h, w, c], 5, &autodiff).permute([0, 3, 1, 2]);
    let options = AdaGnOptions { groups, eps: 1e-5, activation: Activation::Silu, dropout: None };
    device.sync().expect("the device works");
    let start = Instant::now();
    let run = || ada_gn(x.clone(), t.clone(), z.clone(), gamma.clone(), beta.clone(), options);
    let out = if fused { run() } else { with_references(run) };
    let grads = (out * weights).sum().backward();
    assert!(x.grad(&grads).is_some() && t.grad(&grads).is_some() && gamma.grad(&grads).is_some());
    device.sync().expect("the device works");
    start.elapsed().as_secs_f64()
}
