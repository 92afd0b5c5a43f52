//! The messages before the first step.

use super::limit::Limit;
use super::options::Options;
use super::pace::Pace;
use crate::config::{Config, Precision};
use crate::data::Dataset;
use crate::device::Selected;
use crate::error::Result;
use crate::progress::say;
use crate::train::checkpoint::State;
use crate::train::plan::Plan;
use crate::train::trial;
use crate::units::grouped;
use std::time::Instant;

/// Says what will be trained, what resources it needs and about how long it takes. Returns the pace
/// and the time limit. `own` is the recipe with this process's part of the batch.
#[allow(clippy::too_many_arguments, reason = "everything that a call of training consists of")]
pub(super) fn announce<'a>(
    config: &Config,
    own: &Config,
    data: &Dataset,
    device: &'a Selected,
    options: &Options,
    state: &State,
    began: Instant,
) -> Result<(Pace<'a>, Limit)> {
    let (batch, last_step) = (config.train.batch_size, config.train.steps as u64);
    let plan = Plan::new(own, data, device);
    let limit = Limit::new(options.limit, began, config, data, &plan);
    if state.position.finished {
        return Ok((Pace::new(device, batch, None), limit));
    }
    if let Some(means) = mixed(config, device) {
        say(means);
    }
    let memory = plan.memory().map_or(String::new(), |memory| format!("memory {memory}; "));
    say(&format!("parameters {}; {memory}disk {}", plan.parameters(), plan.disk()));
    // If even one step could exceed the limit, a step of few images is tried first. Not on a GPU,
    // where compiling takes longer than the step itself.
    let guess = if options.limit.is_some() && !device.gpu {
        Some(trial::rate(own, device)?.step)
    } else {
        None
    };
    let pace = Pace::new(device, batch, guess);
    let first = state.position.step + 1;
    let compiles = if device.adapter.is_some() { "compiling shaders and " } else { "" };
    if let Some(short) = limit.too_short(&pace) {
        say(&short);
    } else if guess.is_some() {
        say(&format!("{} (a rough estimate)", limit.to_go(first - 1, &pace)));
    }
    say(&format!(
        "{compiles}taking step {} of {}, {batch} images each",
        grouped(first),
        grouped(last_step)
    ));
    Ok((pace, limit))
}

/// Returns what mixed precision means on `device`; `None` if the recipe says f32.
fn mixed(config: &Config, device: &Selected) -> Option<&'static str> {
    match (config.train.precision, &device.adapter) {
        (Precision::F32, _) => None,
        (Precision::Mixed, None) => Some(
            "mixed precision: the CPU rounds as f16 does and computes in f32; this shows the \
            effect of mixed precision, but isn't faster",
        ),
        (Precision::Mixed, Some(adapter)) if adapter.profile.extensions.f16 => Some(
            "mixed precision: feature maps are f16, and products take f16 factors and accumulate \
            in f32",
        ),
        (Precision::Mixed, Some(_)) => Some(
            "mixed precision: the adapter has no shader-f16, so feature maps stay f32 and products \
            round their factors to f16",
        ),
    }
}
