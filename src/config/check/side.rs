//! Checks the size of images.

use super::Checked;
use crate::config::{Config, Sides, check_side};

impl Config {
    /// Checks the sides; the message names the key of the first impossible one.
    pub(super) fn check_sides(&self) -> Checked {
        let (data, Sides { source, target }) = (&self.data, self.data.sides());
        for (key, side) in
            [("data.side", data.side), ("data.source.side", source), ("data.target.side", target)]
        {
            check_side(side).map_err(|what| format!("{key} = {side}: {what}"))?;
        }
        let stages = self.model.unet.multipliers.len();
        if !target.is_multiple_of(1 << (stages - 1)) {
            return Err(format!(
                "model.unet.multipliers names {stages} stages, which halve the denoiser's images \
                 {} times, but {target} pixels a side can be halved only {} times; use fewer \
                 stages or a multiple of {} as data.target.side",
                stages - 1,
                target.trailing_zeros(),
                1 << (stages - 1)
            ));
        }
        Ok(())
    }

    /// Returns the sides named by `model.unet.attention` that no stage of the denoiser has.
    pub fn unused_attention(&self) -> Vec<usize> {
        let unet = &self.model.unet;
        let sides: Vec<usize> =
            (0..unet.multipliers.len()).map(|stage| self.model.sides.target >> stage).collect();
        unet.attention.iter().copied().filter(|side| !sides.contains(side)).collect()
    }
}
