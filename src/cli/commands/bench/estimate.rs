//! `soda bench --estimate`: an estimated training step on another card.

use super::recipe;
use crate::cli::args::{Common, count};
use crate::cli::device;
use crate::cli::output::Output;
use serde_json::json;
use soda::bench::estimate::shares::Shares;
use soda::bench::estimate::{card, check, estimate, launches, text};
use soda::config::Config;
use soda::error::{Error, Result};
use soda::machine;
use soda::progress::say;

/// Arguments of an estimate.
#[derive(clap::Args)]
pub struct Args {
    /// With --estimate check: the width at which the shares are measured, then the widths to
    /// estimate.
    #[arg(long, hide = true, value_delimiter = ',', value_parser = count::<usize>(1..), default_values_t = [32, 24, 48], requires = "estimate")]
    widths: Vec<usize>,
}

/// Estimates a step on the card `name`, or checks the method if that is `check`.
pub fn run(
    name: &str,
    args: &Args,
    recipe: &recipe::Args,
    common: &Common,
    mut output: Output,
) -> Result<()> {
    if name == "check" {
        if recipe.config.is_some() || !recipe.set.is_empty() {
            return Err(Error::usage(
                "--estimate check uses its own recipes; leave out --config and --set",
            ));
        }
        let device = device::selected(common)?;
        let checks =
            check::check(&device, &args.widths, |width| say(&format!("steps of width {width}")))?;
        outln!("{}", device.describe());
        out!("{}", text::checks(&checks));
        output.device(&device);
        output.set("machine", machine::describe());
        output.set("checks", json!(checks));
        return output.write(common);
    }
    let cards = card::known()?;
    let (card, shares) = (card::named(name, &cards)?, Shares::known()?);
    if let Some(compiler) = &card.compiler
        && !shares.compilers().contains(&compiler.as_str())
    {
        let known = shares.compilers().join(", ");
        return Err(Error::usage(format!(
            "{name}: compiler = \"{compiler}\": expected one of {known}; or remove the line"
        )));
    }
    let path = recipe.config.clone().unwrap_or_else(|| "configs/cifar10.toml".into());
    let config = Config::named(&path, &recipe.set)?;
    say("recording the launches of a step");
    let recording = launches(&config, &card, device::environment)?;
    let images = config.train.batch_size;
    let estimate = estimate(&recording, images, &card, &shares, &cards.assumed);
    let what = format!("a training step of {} images, {}", images, path.display());
    out!("{}", text::step(&estimate, &card, &cards.assumed, &what));
    output.set("estimate", json!(true));
    output.set("card", json!(card));
    output.set("assumed", json!(cards.assumed));
    output.set("recipe", json!({ "config": path, "set": recipe.set, "batch": images, "micro_batch": config.train.micro_batch }));
    output.merge(json!(estimate));
    output.write(common)
}
