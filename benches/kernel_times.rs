//! Times the kernels of `soda bench` whose names contain a text, in this process. Prints one JSON
//! line per case.
//!
//! `cargo bench --bench kernel_times -- --device cpu --filter grad_weight`

use clap::Parser;
use serde_json::json;
use soda::bench::kernels::{time, timed};
use soda::bench::row::Place;
use soda::device;
use soda::kernels::catalog::operations;

#[derive(Parser)]
struct Args {
    /// The device, as in `soda --device`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Part of "OP SHAPE VARIANT", for example "conv2d_forward 16x64".
    #[arg(long, default_value = "")]
    filter: String,
    /// Batch size.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Seconds for each case.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let _ = args.bench;
    let device = device::select(&args.device).expect("the device");
    for timed in timed(operations(), args.batch).iter().filter(|t| t.name().contains(&args.filter))
    {
        let (first, timing) = time(timed, &device.device, args.seconds).expect("the device works");
        let (row, work) = (timed.row(&Place::of(&device)), timed.pass.work);
        println!(
            "{}",
            json!({
                "op": row.op, "shape": row.shape, "variant": row.variant,
                "device": device.backend, "adapter": device.name,
                "first_ms": first * 1e3, "median_ms": timing.median * 1e3, "spread": timing.spread,
                "repetitions": timing.repetitions, "gb_per_s": work.bytes / timing.median / 1e9,
                "tflops": (work.operations > 0.0).then(|| work.operations / timing.median / 1e12),
            })
        );
    }
}
