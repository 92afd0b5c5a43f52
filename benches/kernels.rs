//! Times the kernels of `soda bench` whose name holds a text, in this process. Prints one JSON line a case.
//!
//! cargo bench --bench kernels -- --device cpu --filter grad_weight

use clap::Parser;
use serde_json::json;
use soda::bench::kernels::{cases, time};
use soda::device;

#[derive(Parser)]
struct Args {
    /// As `soda --device`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Part of "OP SHAPE VARIANT", for example "conv2d_forward 16x64".
    #[arg(long, default_value = "")]
    filter: String,
    /// Images at once.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Seconds for each case.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// cargo gives it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let _ = args.bench;
    let device = device::select(&args.device).expect("the device");
    for case in cases(args.batch).iter().filter(|c| c.name().contains(&args.filter)) {
        let (first, timing) = time(case, &device.device, args.seconds).expect("the device works");
        println!(
            "{}",
            json!({
                "op": case.op, "shape": case.shape, "variant": case.variant, "device": device.backend, "adapter": device.name,
                "first_ms": first * 1e3, "median_ms": timing.median * 1e3, "spread": timing.spread,
                "repetitions": timing.repetitions, "gb_per_s": case.bytes / timing.median / 1e9,
                "tflops": (case.flops > 0.0).then(|| case.flops / timing.median / 1e12),
            })
        );
    }
}
