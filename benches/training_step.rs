//! Times training steps: encoder, noising, denoiser, backward pass, clip, AdamW, EMA. Prints one JSON line.
//!
//! cargo bench --bench training_step -- --device cpu --width 32 --batch 16 --steps 20

use clap::Parser;
use serde_json::json;
use soda::config::Config;
use soda::diffusion::Schedule;
use soda::rng::{self, Purpose};
use soda::train::checkpoint::State;
use soda::train::step::{Pair, step};
use soda::{device, model::parameters};
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// As `soda --device`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Base channels of both networks, otherwise those of configs/cifar10.toml.
    #[arg(long, default_value_t = 32)]
    width: usize,
    /// Images a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Timed steps.
    #[arg(long, default_value_t = 20)]
    steps: u64,
    /// Steps before.
    #[arg(long, default_value_t = 3)]
    warmup: u64,
    /// cargo gives it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let _ = args.bench;
    let overrides = [
        format!("model.encoder.base={}", args.width),
        format!("model.unet.base={}", args.width),
        format!("model.unet.groups={}", args.width.min(32)),
        format!("train.batch_size={}", args.batch),
    ];
    let recipe = include_str!("../configs/cifar10.toml");
    let config = Config::parse(recipe, "configs/cifar10.toml", &overrides).expect("a valid recipe");
    let device = device::select(&args.device).expect("the device");
    let (schedule, autodiff) = (Schedule::new(&config.diffusion), device.device.clone().autodiff());
    let start = Instant::now();
    let mut state = State::new(&config, "", &device.device);
    let counts = [parameters::count(&state.model.encoder), parameters::count(&state.model.unet)];
    let images = rng::normal(&mut rng::stream(1, Purpose::Test, 0), args.batch * 3072);
    let images: Vec<f32> = images.into_iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let (mut times, mut first, mut memory) = (Vec::new(), 0.0, Vec::new());
    for number in 1..=args.warmup + args.steps {
        let clock = Instant::now();
        let pair = Pair::new(images.clone(), images.clone(), &autodiff);
        let outcome;
        (state, outcome) = step(state, pair, &schedule, &config, number, 1e-4);
        let loss = outcome.loss.into_scalar::<f32>();
        assert!(loss.is_finite(), "the loss is {loss} at step {number}");
        if number == 1 {
            first = start.elapsed().as_secs_f64();
        }
        if number > args.warmup {
            times.push(clock.elapsed().as_secs_f64());
        }
        if number == 10 || number == args.warmup + args.steps {
            memory.push(json!({ "step": number, "resident_mib": resident_mib() }));
        }
    }
    if std::env::var_os("PROF").is_some() {
        for _ in 0..2 {
            let clock = Instant::now();
            let n = 1 + args.warmup + args.steps;
            let (next, profile) = soda::kernels::profile::observe(true, || {
                let pair = Pair::new(images.clone(), images.clone(), &autodiff);
                let (state, outcome) = step(state, pair, &schedule, &config, n, 1e-4);
                outcome.loss.into_scalar::<f32>();
                state
            });
            state = next;
            let wall = clock.elapsed().as_secs_f64();
            eprintln!("wall {:.1} ms, kernels {:.1} ms", wall * 1e3, profile.time().as_secs_f64() * 1e3);
            for (name, k) in &profile.kernels {
                eprintln!("{:8.2} ms {:4} {name}", k.time.as_secs_f64() * 1e3, k.launches);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{}",
        json!({
            "op": "train_step", "device": device.backend, "adapter": device.name, "width": args.width, "batch": args.batch,
            "parameters": { "encoder": counts[0], "denoiser": counts[1] }, "images_per_s": args.batch as f64 / median,
            "step_s": [times[0], median, times[times.len() - 1]], "cold_start_s": first, "memory": memory,
        })
    );
}

/// Resident memory of this process, where the system tells.
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? / 1024)
}
