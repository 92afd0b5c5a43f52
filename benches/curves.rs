//! Compares the training losses of our kernels with those of Burn's own operations, for several
//! seeds: the curves must agree within the spread of the seeds. Prints one JSON line per run and a
//! summary of the smoothed losses.
//!
//! `cargo bench --bench curves -- --steps 200`

use clap::Parser;
use serde_json::json;
use soda::config::{BUILT_IN, Config};
use soda::data::bundled;
use soda::data::loader::Loader;
use soda::device::Selected;
use soda::diffusion::Schedule;
use soda::kernels::testing::with_references;
use soda::train::checkpoint::State;
use soda::train::optim::learning_rate;
use soda::train::step::{Pair, step};

#[derive(Parser)]
struct Args {
    /// Steps of each run of configs/quick.toml.
    #[arg(long, default_value_t = 200)]
    steps: u64,
    /// Images per step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Runs with our kernels, and as many with Burn's operations.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let _ = args.bench;
    let mut smoothed = Vec::new();
    for seed in 1..=args.seeds {
        let ours = smooth(&losses(&args, seed));
        let burns = smooth(&with_references(|| losses(&args, seed)));
        for (kernels, curve) in [("ours", &ours), ("burn", &burns)] {
            println!("{}", json!({ "kernels": kernels, "seed": seed, "smoothed": curve }));
        }
        smoothed.push([ours, burns]);
    }
    let points = smoothed[0][0].len();
    // At each point: the largest distance between two seeds, and between the two sets of kernels
    // with the same seed.
    let spread = |i: usize| {
        let values: Vec<f64> = smoothed.iter().map(|[ours, _]| ours[i]).collect();
        values.iter().fold(0.0f64, |m, v| m.max(*v))
            - values.iter().fold(f64::INFINITY, |m, v| m.min(*v))
    };
    let distance = |i: usize| {
        smoothed.iter().map(|[ours, burns]| (ours[i] - burns[i]).abs()).fold(0.0f64, f64::max)
    };
    let (spreads, distances): (Vec<_>, Vec<_>) =
        (0..points).map(|i| (spread(i), distance(i))).unzip();
    let within = spreads.iter().zip(&distances).all(|(s, d)| d <= s);
    println!(
        "{}",
        json!({
            "steps": args.steps, "spread_of_seeds": spreads, "ours_to_burn": distances,
            "within": within,
        })
    );
    assert!(within, "the curves of the two kernels differ by more than those of two seeds");
}

/// Returns the means over blocks of 20 steps.
fn smooth(losses: &[f64]) -> Vec<f64> {
    losses.chunks(20).map(|block| block.iter().sum::<f64>() / block.len() as f64).collect()
}

fn losses(args: &Args, seed: u64) -> Vec<f64> {
    let (name, text) = BUILT_IN[0];
    let overrides = [
        format!("seed={seed}"),
        format!("train.batch_size={}", args.batch),
        format!("train.steps={}", args.steps),
        "model.unet.attention=[16]".into(),
        "model.unet.dropout=0.1".into(),
    ];
    let config = Config::parse(text, name, &overrides).expect("a valid recipe");
    let device = Selected::cpu("asked for").device;
    let (schedule, autodiff) = (Schedule::new(&config.diffusion), device.clone().autodiff());
    let images = bundled().expect("the bundled subset").train;
    let mut batches =
        Loader::new(images, config.data.clone(), args.batch, seed, 0).expect("batches");
    let mut state = State::new(&config, "", &device);
    let mut losses = Vec::new();
    for number in 1..=args.steps {
        let batch = batches.next().expect("a batch");
        let lr = learning_rate(&config.train, number, number as f64 / args.steps as f64);
        let pair = Pair::new(config.model.sides, batch.source, batch.target, None, &autodiff);
        let outcome;
        (state, outcome) = step(state, pair, &schedule, &config, number, lr);
        losses.push(f64::from(outcome.loss.into_scalar::<f32>()));
    }
    losses
}
