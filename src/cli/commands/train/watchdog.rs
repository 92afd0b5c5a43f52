//! Keeps launches below the drivers' time limits: drivers reset a GPU that doesn't respond for
//! long.

use soda::config::{Config, MicroBatch};
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::model::layers::longest_convolution;
use soda::progress::say;
use soda::selftest;
use soda::units::grouped;

/// The longest launch allowed, in seconds. Windows resets the GPU after 2, some drivers of
/// integrated GPUs earlier; macOS has been seen to end launches that disturb the display.
const LONGEST: f64 = 0.5;
const LONGEST_ON_METAL: f64 = 0.2;

/// Splits the batch into parts (train.micro_batch) if the longest launch of a step on the whole
/// batch would take too long on `device`, at the speed measured by the self test. Reports the
/// split, and returns whether there was one.
///
/// # Errors
/// If the device fails its self test, or a launch for a single image takes too long.
pub fn shorten(config: &mut Config, device: &Selected) -> Result<bool> {
    let Some(speed) = selftest::once(device)? else { return Ok(false) };
    let longest = if device.backend == "metal" { LONGEST_ON_METAL } else { LONGEST };
    let images = config.train.at_once();
    let seconds = longest_convolution(&config.model, config.train.denoisings) / speed;
    let Some(parts) = parts(images, seconds, longest) else {
        return Err(Error::failed(format!(
            "{}: a convolution of this recipe takes {seconds:.1} s for one image, and drivers end \
             launches longer than about {longest} s; choose smaller networks, or --device cpu",
            device.describe()
        )));
    };
    if parts == images {
        return Ok(false);
    }
    say(&format!(
        "the longest launch for {} images would take {:.1} s on {}, and drivers end launches \
         longer than about {longest} s: using train.micro_batch = {parts}",
        grouped(images as u64),
        images as f64 * seconds,
        device.describe()
    ));
    config.train.micro_batch = MicroBatch::Size(parts);
    Ok(true)
}

/// Returns the size of the largest equal parts of `images` whose launches take no longer than
/// `longest`, at `seconds` per image; `None` if one image takes longer.
fn parts(images: usize, seconds: f64, longest: f64) -> Option<usize> {
    let most = (longest / seconds) as usize;
    (most > 0).then(|| images.div_ceil(images.div_ceil(most.min(images))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_equal_as_they_can_be_and_short_enough() {
        // The paper's 256 images on a UHD 620 of 0.1 TFLOP/s: 2.3 s.
        let seconds = 0.906e9 / 0.1e12;
        assert_eq!(parts(256, seconds, LONGEST), Some(52));
        assert!(52.0 * seconds < LONGEST && 5 * 52 >= 256);
        // An A40 is fast enough for the whole batch.
        assert_eq!(parts(256, 0.906e9 / 12e12, LONGEST), Some(256));
        assert_eq!(parts(256, 0.6, LONGEST), None);
        assert_eq!(parts(3, 0.2, LONGEST), Some(2));
    }
}
