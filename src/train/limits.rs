//! The check, before the first step, that an adapter can hold the tensors of a recipe.

use crate::config::Config;
use crate::device::Selected;
use crate::error::{Error, Hint, Result};
use crate::model::activations::largest;
use crate::ranks::watch;
use crate::units::bytes;

/// Bytes of an f32 value.
const NUMBER: u64 = 4;

/// Checks that no tensor of a recipe exceeds what the adapter can bind to a shader. The CPU has no
/// such limit.
///
/// # Errors
/// If one does; names the `train.micro_batch` that fits.
pub fn check(config: &Config, device: &Selected) -> Result<()> {
    let Some(adapter) = &device.adapter else { return Ok(()) };
    fits(config, adapter.limits.max_storage_binding.min(adapter.limits.max_buffer))
        .map_err(|what| Error::usage(format!("{}: {what}", device.describe())))
}

/// Checks the recipe against buffers of at most `limit` bytes, or returns what is wrong with it.
fn fits(config: &Config, limit: u64) -> std::result::Result<(), String> {
    let (image, at_once) =
        (NUMBER * largest(&config.model, config.train.denoisings) as u64, config.train.at_once());
    let whole = image * at_once as u64;
    if whole <= limit {
        return Ok(());
    }
    let [needed, taken] = [whole, limit].map(|count| bytes(count as f64));
    let draws = if config.train.denoisings > 1 {
        format!(", {} denoisings each,", config.train.denoisings)
    } else {
        String::new()
    };
    let too_large = format!(
        "{at_once} images at once{draws} make a tensor of {needed}, and the adapter takes at most \
        {taken} in one buffer"
    );
    // Equal parts of the batch, like those that the search for the largest number tries.
    let batch = config.train.batch_size;
    let mut sizes = (0..usize::BITS)
        .map(|halvings| batch.div_ceil(1 << halvings))
        .take_while(|size| *size > 1)
        .chain([1]);
    let fits = sizes.find(|size| image * *size as u64 <= limit);
    let smaller = if draws.is_empty() {
        "model.unet.base or data.side"
    } else {
        "train.denoisings, model.unet.base or data.side"
    };
    Err(match fits {
        Some(size) => {
            format!("{too_large}; {}", Hint::MicroBatch { size, search: !watch::is_on() })
        }
        None => format!(
            "{too_large}, less than one image needs; take a smaller {smaller}, or {}",
            Hint::UseCpu
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BUILT_IN;

    #[test]
    fn a_tensor_beyond_the_limit_names_the_parts_that_fit() {
        let (_, text) =
            BUILT_IN.iter().find(|(name, _)| name.ends_with("cifar10.toml")).expect("a recipe");
        let config =
            |set: &str| Config::parse(text, "cifar10.toml", &[set.to_owned()]).expect("a recipe");
        let whole = config("train.batch_size=256");
        assert_eq!(fits(&whole, 384 << 20), Ok(()));
        let what = fits(&whole, 128 << 20).expect_err("too large");
        assert!(
            what.contains("256 images at once make a tensor of 384")
                && what.contains("train.micro_batch = 64"),
            "{what}"
        );
        assert_eq!(fits(&config("train.micro_batch=85"), 128 << 20), Ok(()));
        assert!(fits(&config("train.micro_batch=86"), 128 << 20).is_err());
        let what = fits(&whole, 1 << 20).expect_err("too large");
        assert!(
            what.contains("less than one image needs") && !what.contains("micro_batch"),
            "{what}"
        );
        assert!(check(&whole, &Selected::cpu("a test")).is_ok());
    }
}
