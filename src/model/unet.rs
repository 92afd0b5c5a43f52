//! The denoiser: a DDPM UNet (Ho et al. 2020) in which t and z modulate every residual block.

use super::blocks::{
    Attention, DropoutPass, GroupNorm, ResBlock, conv3x3, convolve, upsample_convolve,
};
use super::embedding::TimeEmbedding;
use super::modulation::ZSections;
use super::view_conditioning::{self, position_map, same_view};
use crate::config::ModelConfig;
use crate::kernels::ada_gn::Activation;
use crate::kernels::concat::concat;
use crate::kernels::layout;
use crate::kernels::pixel_mean::pixel_mean;
use crate::kernels::precision::in_f32;
use crate::kernels::silu::silu;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use std::ops::Range;

/// A residual block, followed by attention at some resolutions.
#[derive(Module, Debug)]
pub struct Level {
    block: ResBlock,
    attention: Option<Attention>,
}

impl Level {
    fn forward(
        &self,
        x: Tensor<4>,
        time: &Tensor<2>,
        z: &Tensor<2>,
        dropout: Option<DropoutPass>,
    ) -> Tensor<4> {
        let h = self.block.forward(x, time.clone(), z.clone(), dropout);
        match &self.attention {
            Some(attention) => attention.forward(h),
            None => h,
        }
    }
}

/// The network that maps (x_t, t, z) to the predicted eps or v.
#[derive(Module, Debug)]
pub struct UNet {
    time: TimeEmbedding,
    stem: Conv2d,
    down: Vec<Level>,
    downsample: Vec<Conv2d>,
    middle1: ResBlock,
    middle_attention: Attention,
    middle2: ResBlock,
    up: Vec<Level>,
    upsample: Vec<Conv2d>,
    norm_out: GroupNorm,
    out: Conv2d,
    #[module(skip)]
    view_conditioning: bool,
    #[module(skip)]
    sections: Vec<Range<usize>>,
    #[module(skip)]
    blocks: usize,
    #[module(skip)]
    dropout: f32,
}

impl UNet {
    /// Creates the stages of `model.unet`, each with the configured number of residual blocks down
    /// and one more up. Stages whose feature maps have one of the sides in its `attention` get
    /// attention.
    pub fn new(model: &ModelConfig, device: &Device) -> Self {
        let (config, sections, side) = (&model.unet, model.sections(), model.sides.target);
        let widths = config.widths();
        let mut layers = 0;
        // `stage` is that of the section which modulates the block; the middle comes after the last
        // stage.
        let mut res_block = |from, to, stage: usize| {
            layers += 1;
            let section = &sections[stage.min(sections.len() - 1)];
            ResBlock::new(from, to, section.len(), config, layers, device)
        };
        let attention = |stage: usize, width| {
            config
                .attention
                .contains(&(side >> stage))
                .then(|| Attention::new(width, config.groups, device))
        };

        let mut channels = config.base;
        let (mut down, mut downsample) = (Vec::new(), Vec::new());
        for (stage, &width) in widths.iter().enumerate() {
            for _ in 0..config.blocks {
                down.push(Level {
                    block: res_block(channels, width, stage),
                    attention: attention(stage, width),
                });
                channels = width;
            }
            if stage + 1 < widths.len() {
                downsample.push(conv3x3(width, width, 2, true, device));
            }
        }
        let middle1 = res_block(channels, channels, widths.len());
        let middle2 = res_block(channels, channels, widths.len());
        let middle_attention = Attention::new(channels, config.groups, device);

        let mut skips = config.skip_widths();
        let (mut up, mut upsample) = (Vec::new(), Vec::new());
        for (stage, &width) in widths.iter().enumerate().rev() {
            for _ in 0..=config.blocks {
                let skip = skips.pop().expect("as many skips as up blocks");
                up.push(Level {
                    block: res_block(channels + skip, width, stage),
                    attention: attention(stage, width),
                });
                channels = width;
            }
            if stage > 0 {
                upsample.push(conv3x3(width, width, 1, true, device));
            }
        }
        Self {
            time: TimeEmbedding::new(config.base, 4 * config.base, config.time_scale, device),
            stem: conv3x3(
                if config.view_conditioning { 3 + view_conditioning::CHANNELS } else { 3 },
                config.base,
                1,
                true,
                device,
            ),
            down,
            downsample,
            middle1,
            middle_attention,
            middle2,
            up,
            upsample,
            norm_out: GroupNorm::new(config.final_groups, channels, device),
            out: conv3x3(channels, 3, 1, true, device),
            view_conditioning: config.view_conditioning,
            sections,
            blocks: config.blocks,
            dropout: config.dropout,
        }
    }

    /// Maps `x_t` `[B, 3, side, side]`, `t` `[B]` in (0, 1] and `z` `[B, Z]` (zero where dropped)
    /// to eps_hat or v_hat `[B, 3, side, side]`, where the side is that of the target view. `view`
    /// `[B, 4]` is the position of x_t in the source view (`None`: x_t is the source view);
    /// networks without view conditioning ignore it. `dropout_key` is given in training only.
    pub fn forward(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        z: Tensor<2>,
        view: Option<Tensor<2>>,
        dropout_key: Option<u64>,
    ) -> Tensor<4> {
        let waves = self.waves(t);
        self.observed(x_t, waves, z, view, dropout_key, |_| {})
    }

    /// Returns the sinusoids of `t` `[B]` in (0, 1], the form in which the network receives it:
    /// `[B, base]`.
    pub(crate) fn waves(&self, t: Tensor<1>) -> Tensor<2> {
        self.time.waves(t)
    }

    /// Runs [`forward`](UNet::forward) without dropout on `waves` `[B, base]` from
    /// [`waves`](UNet::waves); x_t must show the source view.
    pub(crate) fn forward_waves(
        &self,
        x_t: Tensor<4>,
        waves: Tensor<2>,
        z: Tensor<2>,
    ) -> Tensor<4> {
        self.observed(x_t, waves, z, None, None, |_| {})
    }

    /// Returns the output of each residual level in one forward pass, averaged over the pixels:
    /// `[B, C]` each, in the order of [`UNetConfig::levels`](crate::config::UNetConfig::levels).
    /// Arguments are as for [`forward`](UNet::forward); x_t must show the source view.
    pub fn activations(&self, x_t: Tensor<4>, t: Tensor<1>, z: Tensor<2>) -> Vec<Tensor<2>> {
        let mut pooled = Vec::new();
        self.observed(x_t, self.waves(t), z, None, None, |h| pooled.push(pixel_mean(h.clone())));
        pooled
    }

    /// Runs [`forward`](UNet::forward) on the sinusoids of t and calls `see` with the output of
    /// each residual level.
    fn observed(
        &self,
        x_t: Tensor<4>,
        waves: Tensor<2>,
        z: Tensor<2>,
        view: Option<Tensor<2>>,
        dropout_key: Option<u64>,
        mut see: impl FnMut(&Tensor<4>),
    ) -> Tensor<4> {
        let x_t = match self.view_conditioning {
            true => {
                let [batch, _, side, _] = x_t.dims();
                let view = view.unwrap_or_else(|| same_view(batch, &x_t.device()));
                Tensor::cat(vec![x_t, position_map(view, side)], 1)
            }
            false => x_t,
        };
        let dropout = dropout_key
            .filter(|_| self.dropout > 0.0)
            .map(|key| DropoutPass { p: self.dropout, key });
        let (time, z) = (silu(self.time.forward(waves)), ZSections::activated(z, &self.sections));
        let mut skips = Vec::new();
        let mut keep = |h: Tensor<4>| {
            let (h, skip) = layout::fork(h);
            skips.push(skip);
            h
        };
        let mut h = keep(convolve(&self.stem, x_t));
        for (stage, levels) in self.down.chunks(self.blocks).enumerate() {
            for level in levels {
                h = level.forward(h, &time, z.stage(stage), dropout);
                see(&h);
                h = keep(h);
            }
            if let Some(conv) = self.downsample.get(stage) {
                h = keep(convolve(conv, h));
            }
        }
        h = self.middle1.forward(h, time.clone(), z.middle().clone(), dropout);
        h = self.middle_attention.forward(h);
        h = self.middle2.forward(h, time.clone(), z.middle().clone(), dropout);
        see(&h);
        for (i, levels) in self.up.chunks(self.blocks + 1).enumerate() {
            // The up path starts at the coarsest stage.
            let stage = self.downsample.len() - i;
            for level in levels {
                let skip = skips.pop().expect("as many skips as up blocks");
                h = level.forward(concat(h, skip), &time, z.stage(stage), dropout);
                see(&h);
            }
            if let Some(conv) = self.upsample.get(i) {
                h = upsample_convolve(conv, h);
            }
        }
        in_f32(convolve(&self.out, self.norm_out.forward(h, Activation::Silu)))
    }
}
