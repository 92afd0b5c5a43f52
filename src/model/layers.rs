//! A list of all calls of our operations in one training step, without running them.

use crate::config::{ModelConfig, Stem};
use crate::kernels::catalog::Layer;

/// Returns the calls of both networks, in order.
pub fn layers(model: &ModelConfig) -> Vec<Layer> {
    [encoder(model), denoiser(model)].concat()
}

/// Returns the calls of the encoder.
pub fn encoder(model: &ModelConfig) -> Vec<Layer> {
    let mut layers = Layers(Vec::new());
    layers.encoder(model);
    layers.0
}

/// Returns the calls of the denoiser.
pub fn denoiser(model: &ModelConfig) -> Vec<Layer> {
    let mut layers = Layers(Vec::new());
    layers.denoiser(model);
    layers.0
}

/// Returns the floating-point operations per image of the most expensive convolution, which makes
/// up the longest dispatch of a step. The denoiser processes `draws` noised versions of each image.
pub fn longest_convolution(model: &ModelConfig, draws: usize) -> f64 {
    let most = |layers: Vec<Layer>| layers.iter().map(multiply_adds).max().unwrap_or(0);
    2.0 * most(encoder(model)).max(draws * most(denoiser(model))) as f64
}

/// Returns the floating-point operations per image of all convolutions of a training step: the
/// forward pass, and twice as many in the backward pass. The denoiser processes `draws` noised
/// versions of each image.
pub fn step_operations(model: &ModelConfig, draws: usize) -> f64 {
    let all = |layers: Vec<Layer>| layers.iter().map(multiply_adds).sum::<usize>();
    3.0 * 2.0 * (all(encoder(model)) + draws * all(denoiser(model))) as f64
}

/// Returns the multiply-adds per image of a convolution; 0 for other layers.
fn multiply_adds(layer: &Layer) -> usize {
    match *layer {
        // On an upsampled input the nine taps reduce to four, on four times the pixels.
        Layer::Conv2d { from, to, side, upsample: true, .. } => 4 * 4 * from * to * side * side,
        Layer::Conv2d { from, to, kernel, stride, side, .. } => {
            kernel * kernel * from * to * side.div_ceil(stride).pow(2)
        }
        _ => 0,
    }
}

struct Layers(Vec<Layer>);

impl Layers {
    fn convolution(
        &mut self,
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        side: usize,
        bias: bool,
    ) {
        self.0.push(Layer::Conv2d { from, to, kernel, stride, side, upsample: false, bias });
    }

    /// Adds a linear layer over every pixel; `side` is 1 for a vector.
    fn linear(&mut self, from: usize, to: usize, side: usize) {
        self.convolution([from, to], 1, 1, side, true);
    }

    fn norm(&mut self, channels: usize, groups: usize, side: usize) {
        self.0.push(Layer::AdaGn { channels, groups, side });
    }

    fn encoder(&mut self, model: &ModelConfig) {
        let (base, mut side) = (model.encoder.base, model.sides.source);
        match model.encoder.stem {
            Stem::Conv3x3 => self.convolution([3, base], 3, 1, side, false),
            Stem::Conv7x7 => self.convolution([3, base], 7, 2, side, false),
        }
        self.0.push(Layer::BatchNorm { channels: base });
        if model.encoder.stem == Stem::Conv7x7 {
            self.0.push(Layer::MaxPool { channels: base });
            side = side.div_ceil(4);
        }
        let mut channels = base;
        for block in 0..8 {
            let (stage, first) = (block / 2, block % 2 == 0);
            let (width, stride) = (base << stage, if stage > 0 && first { 2 } else { 1 });
            let out = side.div_ceil(stride);
            self.convolution([channels, width], 3, stride, side, false);
            self.0.push(Layer::BatchNorm { channels: width });
            if channels != width {
                self.convolution([channels, width], 1, stride, side, false);
                self.0.push(Layer::BatchNorm { channels: width });
            }
            self.convolution([width, width], 3, 1, out, false);
            self.0.push(Layer::BatchNorm { channels: width });
            (channels, side) = (width, out);
        }
        self.linear(channels, model.z_dim, 1);
    }

    /// Adds a residual block; `stage` is that of the section which modulates it.
    fn block(&mut self, model: &ModelConfig, from: usize, to: usize, side: usize, stage: usize) {
        let (unet, sections) = (&model.unet, model.sections());
        self.norm(from, unet.groups, side);
        self.convolution([from, to], 3, 1, side, true);
        self.linear(4 * unet.base, 2 * to, 1);
        self.linear(sections[stage.min(sections.len() - 1)].len(), 2 * to, 1);
        self.norm(to, unet.groups, side);
        if from != to {
            self.linear(from, to, side);
        }
        self.convolution([to, to], 3, 1, side, true);
    }

    fn attention(&mut self, channels: usize, groups: usize, side: usize) {
        self.norm(channels, groups, side);
        self.linear(channels, 3 * channels, side);
        self.0.push(Layer::Attention { channels, side });
        self.linear(channels, channels, side);
    }

    fn denoiser(&mut self, model: &ModelConfig) {
        let (unet, side) = (&model.unet, model.sides.target);
        let (widths, groups) = (unet.widths(), unet.groups);
        let attends = |stage: usize| unet.attention.contains(&(side >> stage));
        self.linear(unet.base, 4 * unet.base, 1);
        self.linear(4 * unet.base, 4 * unet.base, 1);
        let view = if unet.view_conditioning { super::view_conditioning::CHANNELS } else { 0 };
        self.convolution([3 + view, unet.base], 3, 1, side, true);
        let mut channels = unet.base;
        for (stage, &width) in widths.iter().enumerate() {
            for _ in 0..unet.blocks {
                self.block(model, channels, width, side >> stage, stage);
                if attends(stage) {
                    self.attention(width, groups, side >> stage);
                }
                channels = width;
            }
            if stage + 1 < widths.len() {
                self.convolution([width, width], 3, 2, side >> stage, true);
            }
        }
        let last = widths.len() - 1;
        self.block(model, channels, channels, side >> last, widths.len());
        self.attention(channels, groups, side >> last);
        self.block(model, channels, channels, side >> last, widths.len());
        let mut skips = unet.skip_widths();
        for (stage, &width) in widths.iter().enumerate().rev() {
            for _ in 0..=unet.blocks {
                let skip = skips.pop().unwrap_or(0);
                self.0.push(Layer::Concat { channels: [channels, skip] });
                self.block(model, channels + skip, width, side >> stage, stage);
                if attends(stage) {
                    self.attention(width, groups, side >> stage);
                }
                channels = width;
            }
            if stage > 0 {
                let (from, to, side) = (width, width, side >> stage);
                self.0.push(Layer::Conv2d {
                    from,
                    to,
                    kernel: 3,
                    stride: 1,
                    side,
                    upsample: true,
                    bias: true,
                });
            }
        }
        self.norm(channels, unet.final_groups, side);
        self.convolution([channels, 3], 3, 1, side, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BUILT_IN, Config};
    use crate::model::{Soda, parameters};
    use burn::tensor::Device;

    /// The listed convolutions, linear layers and normalisations have exactly the weights of the
    /// network.
    #[test]
    fn every_weight_of_a_network_belongs_to_one_of_its_layers() {
        let views = vec![
            "data.views=conditioned",
            "model.unet.view_conditioning=true",
            "model.unet.attention=[16]",
        ];
        let narrow = vec!["model.unet.base=32", "model.encoder.base=8"];
        for (name, sets) in [("tiny", vec![]), ("folder64", narrow), ("quick", views)] {
            let (file, text) = BUILT_IN
                .iter()
                .find(|(file, _)| file.contains(&format!("/{name}.")))
                .expect("a recipe");
            let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
            let model = Config::parse(text, file, &sets).expect("a recipe").model;
            let shapes = parameters::shapes(&Soda::blank(&model, &Device::flex()));
            let mut weights: Vec<[usize; 3]> = Vec::new();
            let mut scales = Vec::new();
            for (name, shape) in &shapes {
                match shape[..] {
                    [to, from, kernel, _] => weights.push([from, to, kernel]),
                    [from, to] => weights.push([from, to, 1]),
                    [channels] if name.ends_with("gamma") => scales.push(channels),
                    _ => {}
                }
            }
            let (mut of_layers, mut of_norms) = (Vec::new(), Vec::new());
            for layer in layers(&model) {
                match layer {
                    Layer::Conv2d { from, to, kernel, .. } => of_layers.push([from, to, kernel]),
                    Layer::AdaGn { channels, .. } | Layer::BatchNorm { channels } => {
                        of_norms.push(channels)
                    }
                    _ => {}
                }
            }
            for all in [&mut scales, &mut of_norms] {
                all.sort_unstable();
            }
            weights.sort_unstable();
            of_layers.sort_unstable();
            assert_eq!(of_layers, weights, "{name}");
            assert_eq!(of_norms, scales, "{name}");
        }
    }

    #[test]
    fn the_longest_convolution_at_paper_size_is_the_first_of_the_last_level() {
        let (name, text) = BUILT_IN
            .iter()
            .find(|(name, _)| name.ends_with("cifar10.toml"))
            .expect("a recipe of that name");
        let config = Config::parse(text, name, &[]).expect("a recipe");
        // 384 to 128 channels at 32x32; 256 images of it are 232 GFLOP.
        assert_eq!(longest_convolution(&config.model, 1), 2.0 * (9 * 384 * 128 * 32 * 32) as f64);
    }

    #[test]
    fn maps_hold_what_the_backward_pass_needs() {
        let (file, text) =
            BUILT_IN.iter().find(|(file, _)| file.contains("/paper.")).expect("a recipe");
        let model = Config::parse(text, file, &[]).expect("a recipe").model;
        // Outputs of convolutions, AdaGN and attention on feature maps. BatchNorm, max-pooling and
        // concatenation aren't counted here, so the ratio is below 1.
        let held = layers(&model).into_iter().map(|layer| match layer {
            Layer::Conv2d { side: 1, .. }
            | Layer::BatchNorm { .. }
            | Layer::MaxPool { .. }
            | Layer::Concat { .. } => 0,
            Layer::Conv2d { to, side, upsample: true, .. } => to * 4 * side * side,
            Layer::Conv2d { to, side, stride, .. } => to * side.div_ceil(stride).pow(2),
            Layer::AdaGn { channels, side, .. } | Layer::Attention { channels, side } => {
                channels * side * side
            }
        });
        let (held, counted) =
            (held.sum::<usize>() as f64, crate::model::activations::activations(&model, 1) as f64);
        assert!((0.6..1.0).contains(&(held / counted)), "{held} of {counted}");
    }
}
