//! Checks the groups of GroupNorm.

use super::{Checked, need};
use crate::config::{Config, UNetConfig};

/// The most units of a group, of one channel or of four, that the WGSL kernel of AdaGN holds.
const LARGEST_GROUP: usize = 256;

impl Config {
    /// Checks that the groups of GroupNorm divide the channels and fit into the kernel.
    pub(super) fn check_groups(&self) -> Checked {
        let u = &self.model.unet;
        let last = u.base * u.multipliers[0];
        let blocks =
            u.group_norm_channels().into_iter().map(|c| ("model.unet.groups", u.groups, c));
        for (key, groups, channels) in
            blocks.chain([("model.unet.final_groups", u.final_groups, last)])
        {
            need(
                channels % groups == 0,
                format!("{key} = {groups} does not divide {channels} channels; choose a divisor"),
            )?;
            let size = channels / groups;
            // The kernel takes four channels at once where it can: then a unit is four channels, or
            // as many groups as are a multiple of four.
            let shared = if channels % 4 == 0 { 1 << size.trailing_zeros().min(2) } else { 1 };
            need(
                size / shared <= LARGEST_GROUP,
                format!(
                    "{key} = {groups}: groups of {size} of {channels} channels are larger than the \
                     GPU kernel holds; choose more groups",
                ),
            )?;
        }
        Ok(())
    }
}

impl UNetConfig {
    /// Returns the channel counts of all GroupNorms except the last: every block's input and
    /// output.
    fn group_norm_channels(&self) -> Vec<usize> {
        let mut channels = vec![self.base];
        channels.extend(self.widths());
        let mut skips = self.skip_widths();
        let mut c = *self.widths().last().expect("at least one stage");
        for width in self.widths().into_iter().rev() {
            for _ in 0..=self.blocks {
                channels.push(c + skips.pop().expect("one skip for each up block"));
                c = width;
            }
        }
        channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_divide_the_channels_and_fit_the_kernel() {
        let check = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| format!("model.unet.{set}")).collect();
            Config::named("quick".as_ref(), &sets).map_err(|e| e.to_string())
        };
        let of = |base: &'static str| ["multipliers=[1]", "final_groups=1", "groups=1", base];
        check(&of("base=512")).expect("groups of 1,024 in the blocks with skip connections");
        let error = check(&of("base=516")).expect_err("groups of 1,032");
        assert!(error.contains("model.unet.groups = 1: groups of 1032"), "{error}");
        let error = check(&of("base=258")).expect_err("groups of 258");
        assert!(error.contains("model.unet.groups = 1: groups of 258"), "{error}");
        let error = check(&["groups=5"]).expect_err("no divisor");
        assert!(error.contains("model.unet.groups = 5 does not divide"), "{error}");
        let error = check(&["final_groups=5"]).expect_err("no divisor");
        assert!(error.contains("model.unet.final_groups = 5 does not divide"), "{error}");
    }
}
