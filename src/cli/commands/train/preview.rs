//! `soda train --dry-run`: reports what would be trained, and the resources it would take.

use super::Args;
use crate::cli::args::{Common, images};
use crate::cli::device;
use crate::cli::output::Output;
use serde_json::json;
use soda::config::{Config, Views};
use soda::data::Dataset;
use soda::device::Selected;
use soda::error::Result;
use soda::eval::validation::is_scored;
use soda::model::weights::WeightsFile;
use soda::progress::say;
use soda::run_dir::RunDir;
use soda::train::checkpoint::check_networks;
use soda::train::plan::Plan;
use soda::train::trial;
use soda::units::{about, grouped, rate};
use std::ops::Range;
use std::time::Duration;

/// Reports what has no effect: attention in the recipe that no stage of the denoiser uses, and keys
/// that `set` changes (`KEY=VALUE`) although the recipe switches off what they are of; and scores
/// that `data` doesn't allow.
pub(super) fn say_unused(config: &Config, set: &[String], data: &Dataset) {
    if config.train.evaluate_every > 0 && !is_scored(&config.train, data) {
        say("train.evaluate_every has no effect: scores need images of two classes, some held out");
    }
    for key in set.iter().filter_map(|set| set.split_once('=')).map(|(key, _)| key.trim()) {
        if let Some(switch) = switched_off(config, key) {
            say(&format!("{key} has no effect with {switch}"));
        }
    }
    if let [side, ..] = config.unused_attention()[..] {
        say(&format!(
            "model.unet.attention: no stage of the denoiser has feature maps of {side} x {side} \
             pixels, so {side} has no effect"
        ));
    }
}

/// Returns the setting that makes `key` of the recipe have no effect, if one does.
fn switched_off(config: &Config, key: &str) -> Option<String> {
    let is_off = |switch: &str, off: bool| off.then(|| format!("{switch}=0"));
    let (view, name) = key.strip_prefix("data.")?.split_once('.')?;
    let of = match view {
        "source" => &config.data.source,
        "target" => &config.data.target,
        _ => return None,
    };
    if config.data.views == Views::Same && name != "side" {
        return Some("data.views=\"same\"".into());
    }
    match name {
        "flip" | "crop_scale" | "crop_ratio" => {
            is_off(&format!("data.{view}.crop"), of.crop == 0.0)
        }
        "color_jitter_strength" => {
            is_off(&format!("data.{view}.color_jitter"), of.color_jitter == 0.0)
        }
        "rand_augment_ops" | "rand_augment_magnitude" => {
            is_off(&format!("data.{view}.rand_augment"), of.rand_augment == 0.0)
        }
        _ => None,
    }
}

/// Prints the recipe, and reports what training it would take; nothing is written. `own` is the run
/// that would be resumed, and `from` the weights that training starts from.
///
/// # Errors
/// If the weights have other networks, or the device or the data can't be opened.
pub fn run(
    config: &Config,
    own: Option<&RunDir>,
    from: Option<&WeightsFile>,
    args: &Args,
    common: &Common,
) -> Result<()> {
    if let Some(weights) = from.filter(|_| own.is_none()) {
        check_networks(config, weights)?;
    }
    out!("{}", config.to_toml());
    let mut output = Output::new("train");
    let device = device::selected(common)?;
    let dataset = images::of_run(common, own, config.data.side)?;
    say_unused(config, &args.set, &dataset);
    let done = own.map_or(Ok(None), |run| Ok(run.found_checkpoints()?.last().copied()))?;
    let images_per_s = tell(config, &dataset, &device, done.unwrap_or(0), args.max_minutes)?;
    output.device(&device);
    output.data(&dataset, "train", dataset.train.len());
    output.merge(json!({ "dry_run": true, "recipe": config, "images_per_s": images_per_s }));
    output.write(common)
}

/// Reports on stderr what training takes after the first `done` steps. One step of a few images is
/// timed, except on software adapters; returns the images per second, if it was.
///
/// # Errors
/// If the device fails.
fn tell(
    config: &Config,
    data: &Dataset,
    device: &Selected,
    done: u64,
    max_minutes: Option<f64>,
) -> Result<Option<f64>> {
    let (batch, steps) = (config.train.batch_size, config.train.steps as u64);
    let epochs = steps as f64 * batch as f64 / data.train.len() as f64;
    let mut plan = Plan::new(config, data, device);
    plan.count(config, device)?;
    say(&format!("device      {} ({})", device.describe(), device.why));
    say(&format!("data        {}", data.describe()));
    say(&format!(
        "steps       {} of {} images ({} epochs)",
        grouped(steps),
        grouped(batch as u64),
        rate(epochs)
    ));
    say(&format!("parameters  {}", plan.parameters()));
    let of_adapter = if device.adapter.is_some() { " on the adapter, in tensors" } else { "" };
    say(&format!("memory      {}{of_adapter}", plan.memory().unwrap_or_default()));
    say(&format!("disk        {}", plan.disk()));
    if device.adapter.is_some() && !device.gpu {
        // Compiling for it takes most of a minute, and the CPU backend is several times as fast.
        say("rate        not timed on a software adapter; use --device cpu to time it");
        return Ok(None);
    }
    let found = trial::rate(config, device)?;
    let whole = if found.images == batch {
        String::new()
    } else {
        format!(" (from a step of {} images)", found.images)
    };
    let images_per_s = batch as f64 / found.step;
    say(&format!("rate        about {} images/s{whole}", rate(images_per_s)));
    say(&format!("time        {}", time(found.step, done..steps, max_minutes)));
    Ok(Some(images_per_s))
}

/// Describes how long `steps` of `seconds` each take, or how far they get within the limit.
fn time(seconds: f64, steps: Range<u64>, max_minutes: Option<f64>) -> String {
    let words = |seconds: f64| about(Duration::from_secs_f64(seconds.min(1e11)));
    let left = steps.end.saturating_sub(steps.start);
    let (whole, last) = (seconds * left as f64, grouped(steps.end));
    match max_minutes {
        Some(minutes) if seconds > 60.0 * minutes => {
            let step = words(seconds);
            format!(
                "one step takes {step}, longer than --max-minutes {minutes} allows: it would take \
                 one step and end"
            )
        }
        Some(minutes) if whole > 60.0 * minutes => {
            let reached = grouped(steps.start + (60.0 * minutes / seconds) as u64);
            format!(
                "ends after {minutes} minutes (--max-minutes), near step {reached} of {last}; all \
                 would take {}",
                words(whole)
            )
        }
        _ => format!("{} to step {last}", words(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_names_the_limit_if_that_ends_the_run() {
        assert_eq!(time(0.25, 0..80_000, None), "about 5.5 hours to step 80,000");
        assert_eq!(time(0.25, 0..80, Some(2.0)), "about 20 seconds to step 80");
        assert_eq!(
            time(0.25, 0..80_000, Some(2.0)),
            "ends after 2 minutes (--max-minutes), near step 480 of 80,000; all would take about \
             5.5 hours"
        );
        assert!(
            time(55.0, 0..10, Some(0.5))
                .starts_with("one step takes about 55 seconds, longer than --max-minutes 0.5")
        );
        assert_eq!(time(200.0, 0..156_000, None), "about a year to step 156,000");
    }
}
