//! What a forward pass keeps for the backward pass: the outputs of all convolutions, normalisations
//! and attention layers.

use crate::config::{ModelConfig, Stem, UNetConfig};

/// Returns the number of values that both networks hold per image in training, where the denoiser
/// processes `draws` noised versions of the image. Vectors, which have no pixels, aren't counted.
pub fn activations(model: &ModelConfig, draws: usize) -> usize {
    maps(model, draws).iter().sum()
}

/// Returns the size of the largest tensor per image and its `draws` noised versions, in values.
pub fn largest(model: &ModelConfig, draws: usize) -> usize {
    maps(model, draws).into_iter().max().unwrap_or(0)
}

/// Returns the size of every feature map per image, in values.
fn maps(model: &ModelConfig, draws: usize) -> Vec<usize> {
    let mut maps = encoder(model);
    maps.extend(denoiser(&model.unet, model.sides.target).into_iter().map(|map| map * draws));
    maps
}

fn encoder(model: &ModelConfig) -> Vec<usize> {
    let (base, side) = (model.encoder.base, model.sides.source);
    let (half, quarter) = (side.div_ceil(2), side.div_ceil(4));
    let (mut maps, first) = match model.encoder.stem {
        // The convolution and its normalisation.
        Stem::Conv3x3 => (vec![base * side * side; 2], side),
        // The same at half the side, then the max-pool.
        Stem::Conv7x7 => {
            (vec![base * half.pow(2), base * half.pow(2), base * quarter.pow(2)], quarter)
        }
    };
    for stage in 0..4 {
        // Two blocks of two convolutions and their normalisations; from the second stage on also a
        // shortcut and its normalisation.
        let outputs = 2 * 4 + 1 + if stage > 0 { 2 } else { 0 };
        maps.extend(vec![(base << stage) * first.div_ceil(1 << stage).pow(2); outputs]);
    }
    maps
}

fn denoiser(unet: &UNetConfig, side: usize) -> Vec<usize> {
    let widths = unet.widths();
    let pixels = |stage: usize| (side >> stage).pow(2);
    let at = |stage: usize, widths: &[usize]| {
        widths.iter().map(|width| width * pixels(stage)).collect::<Vec<_>>()
    };
    // Two normalisations, two convolutions and the sum.
    let block = |stage: usize, from: usize, to: usize| at(stage, &[from, to, to, to]);
    // Normalisation; queries, keys and values; the attention output; the last layer.
    let attention = |stage: usize, width: usize| at(stage, &[width, 3 * width, width, width]);
    let attends = |stage: usize, width: usize| match unet.attention.contains(&(side >> stage)) {
        true => attention(stage, width),
        false => Vec::new(),
    };

    let mut maps = at(0, &[unet.base]);
    let mut channels = unet.base;
    for (stage, &width) in widths.iter().enumerate() {
        for _ in 0..unet.blocks {
            maps.extend(block(stage, channels, width));
            maps.extend(attends(stage, width));
            channels = width;
        }
        if stage + 1 < widths.len() {
            maps.extend(at(stage + 1, &[width]));
        }
    }
    let last = widths.len() - 1;
    maps.extend((0..2).flat_map(|_| block(last, channels, channels)));
    maps.extend(attention(last, channels));
    let mut skips = unet.skip_widths();
    for (stage, &width) in widths.iter().enumerate().rev() {
        for _ in 0..=unet.blocks {
            // The skip connection, concatenated with the map from the coarser stage.
            let both = channels + skips.pop().unwrap_or(0);
            maps.extend(at(stage, &[both]));
            maps.extend(block(stage, both, width));
            maps.extend(attends(stage, width));
            channels = width;
        }
        if stage > 0 {
            maps.extend(at(stage - 1, &[channels]));
        }
    }
    maps.extend(at(0, &[channels]));
    maps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BUILT_IN, Config};

    #[test]
    fn activations_quadruple_at_twice_the_side_and_halve_at_half_the_width() {
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            activations(
                &Config::parse(BUILT_IN[1].1, "quick.toml", &sets).expect("a recipe").model,
                1,
            )
        };
        let quick = of(&[]);
        assert_eq!(of(&["data.side=64"]), 4 * quick);
        let half = [
            "model.encoder.base=8",
            "model.unet.base=8",
            "model.unet.groups=4",
            "model.unet.final_groups=4",
        ];
        assert_eq!(2 * of(&half), quick);
        // The stem for large images leaves a sixteenth of the pixels to the stages.
        let [small, large] =
            ["3x3", "7x7"].map(|stem| of(&["data.side=64", &format!("model.encoder.stem={stem}")]));
        assert!(
            large < small && large > 4 * of(&["model.encoder.base=8"]) / 2,
            "{large} of {small}"
        );
        assert_eq!(of(&["model.unet.attention=[16]"]) - quick, 3 * 6 * 32 * 16 * 16);
    }

    #[test]
    fn the_largest_tensor_is_that_of_the_finest_stage_with_its_skip_connection() {
        let (_, text) =
            BUILT_IN.iter().find(|(name, _)| name.ends_with("cifar10.toml")).expect("a recipe");
        let config = Config::parse(text, "cifar10.toml", &[]).expect("a recipe");
        assert_eq!(config.train.batch_size * 4 * largest(&config.model, 1), 384 << 20);
        assert_eq!(
            largest(&config.model, 3),
            3 * largest(&config.model, 1),
            "it is the denoiser's"
        );
    }
}
