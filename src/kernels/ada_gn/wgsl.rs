//! Launches of the fused AdaGN shaders on cubecl's wgpu runtime.

use super::{Activation, AdaGnGrads, AdaGnKernels, AdaGnOptions, Modulation};
use crate::kernels::launch::{Class, class, grid, launch};
use crate::kernels::layout;
use crate::kernels::template::{kernel_source, render};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{DType, Shape};
use minijinja::context;

/// Template values of one launch: everything that changes the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Invocations of a workgroup.
    pub wg: usize,
    /// Units of channels of a workgroup.
    pub cols: usize,
    /// Pixels that an invocation keeps in registers.
    pub depth: usize,
    /// Whether a unit is four channels, not one.
    pub four: bool,
}

impl Tile {
    /// Pixels that the forward shader keeps at most, and the backward one, which keeps two numbers of each.
    const DEPTHS: [usize; 2] = [16, 8];

    /// The tiles of the forward and the backward shader for feature maps of `pixels` pixels.
    ///
    /// # Panics
    /// If a group has more channels than a workgroup can hold, 1,024 (256 where C is no multiple of four).
    pub fn choose(class: Class, channels: usize, group_size: usize, pixels: usize) -> [Self; 2] {
        let four = channels.is_multiple_of(4);
        let width = if four { 4 } else { 1 };
        // Units that are whole groups.
        let whole = (1..=width).map(|n| n * group_size).find(|n| n % width == 0).expect("width times it") / width;
        assert!(whole <= 256, "ada_gn: groups of {group_size} channels are too large for the WGSL kernel");
        let units = channels / width;
        Self::DEPTHS.map(|most| match class {
            // A vector of 8 invocations, preferably with a unit each: then they share no sum.
            Class::Software => {
                let cols = (whole * (8 / whole).max(1)).min(units);
                Self { wg: cols.next_power_of_two().max(8), cols, depth: 0, four }
            }
            Class::Gpu => {
                // 64 bytes in a row, more where there are few pixels.
                let wanted = (256 / pixels.next_power_of_two()).clamp(16 / width, 32);
                let mut cols = (whole * (wanted / whole).max(1)).min(units);
                while pixels.div_ceil(256 / cols) > most && cols.is_multiple_of(2 * whole) && cols * width > 8 {
                    cols /= 2;
                }
                Self { wg: 256, cols, depth: pixels.div_ceil(256 / cols).min(most), four }
            }
        })
    }

    /// Invocations that share a unit's pixels.
    fn lanes(self) -> usize {
        self.wg / self.cols
    }
}

const FORWARD: &str =
    concat!(include_str!("../../../shaders/ada_gn_forward.wgsl"), include_str!("../../../shaders/ada_gn_common.wgsl"));
const BACKWARD: &str =
    concat!(include_str!("../../../shaders/ada_gn_backward.wgsl"), include_str!("../../../shaders/ada_gn_common.wgsl"));

/// The three shaders of AdaGN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/ada_gn_forward.wgsl
    Forward(Tile),
    /// shaders/ada_gn_backward.wgsl
    Backward(Tile),
    /// shaders/ada_gn_parameters.wgsl
    Parameters(Tile),
}

impl Shader {
    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        let (text, tile) = match self {
            Self::Forward(tile) => (FORWARD, tile),
            Self::Backward(tile) => (BACKWARD, tile),
            Self::Parameters(tile) => (include_str!("../../../shaders/ada_gn_parameters.wgsl"), tile),
        };
        let Tile { wg, cols, depth, four } = tile;
        // Where the tree over the lanes begins.
        let top = tile.lanes().next_power_of_two() / 2;
        render(text, context! { wg, cols, depth, four, top })
    }

    /// The variant of ada_gn_parameters.wgsl for feature maps of `channels` channels.
    pub fn parameters(class: Class, channels: usize) -> Self {
        let wg = if class == Class::Software { 8 } else { 256 };
        Self::Parameters(Tile { wg, cols: 8, depth: 0, four: channels.is_multiple_of(4) })
    }
}

kernel_source!(Shader);

/// The info block of the forward and backward shaders.
fn info(h: &CubeTensor, tile: Tile, modulated: bool, options: &AdaGnOptions) -> [u32; 11] {
    let [b, c, height, width] = layout::dims(h);
    let units = if tile.four { c / 4 } else { c };
    let (threshold, scale, key) = match options.dropout {
        Some(d) => (d.threshold(), 1.0 / (1.0 - d.p), d.key),
        None => (0, 1.0, [0, 0]),
    };
    let flags =
        u32::from(modulated) | u32::from(options.activation == Activation::Silu) << 1 | u32::from(options.dropout.is_some()) << 2;
    [
        (b * units.div_ceil(tile.cols)) as u32,
        b as u32,
        units as u32,
        (c / options.groups) as u32,
        (height * width) as u32,
        flags,
        options.eps.to_bits(),
        threshold,
        scale.to_bits(),
        key[0],
        key[1],
    ]
}

/// Shape, dtype and contiguity of every operand, by name.
fn operands(
    h: CubeTensor,
    modulation: Option<Modulation<CubeTensor>>,
    gamma: CubeTensor,
    beta: CubeTensor,
) -> (CubeTensor, Option<Modulation<CubeTensor>>, CubeTensor, CubeTensor) {
    for (name, tensor) in [("h", &h), ("gamma", &gamma), ("beta", &beta)] {
        assert!(tensor.dtype == DType::F32, "ada_gn: {name} is {:?}, the WGSL kernel takes f32", tensor.dtype);
    }
    let modulation = modulation.map(|m| Modulation { t: into_contiguous(m.t), z: into_contiguous(m.z) });
    (layout::into_nhwc(h), modulation, into_contiguous(gamma), into_contiguous(beta))
}

impl AdaGnKernels for CubeBackend {
    fn forward(
        h: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (h, modulation, gamma, beta) = operands(h, modulation, gamma, beta);
        let [b, c, height, width] = layout::dims(&h);
        let out = layout::empty_nhwc_like(&h);
        let saved = layout::empty(&h, Shape::new([4, b, c]));
        let [tile, _] = Tile::choose(class(&h), c, c / options.groups, height * width);
        let info = info(&h, tile, modulation.is_some(), &options);
        let (t, z) = modulation.as_ref().map_or((&gamma, &gamma), |m| (&m.t, &m.z));
        launch(
            "ada_gn forward",
            Shader::Forward(tile),
            tile.wg as u32,
            grid(info[0] as usize),
            &[&h, t, z, &gamma, &beta, &out, &saved],
            &info,
        );
        (out, saved)
    }

    fn backward(
        d_out: FloatTensor<Self>,
        h: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        modulation: Option<Modulation<FloatTensor<Self>>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: AdaGnOptions,
    ) -> AdaGnGrads<FloatTensor<Self>> {
        let (h, modulation, gamma, beta) = operands(h, modulation, gamma, beta);
        let d_out = layout::into_nhwc(d_out);
        let [b, c, height, width] = layout::dims(&h);
        let dh = layout::empty_nhwc_like(&h);
        let sums = layout::empty(&h, Shape::new([2, b, c]));
        let [_, tile] = Tile::choose(class(&h), c, c / options.groups, height * width);
        let info = info(&h, tile, modulation.is_some(), &options);
        launch(
            "ada_gn backward",
            Shader::Backward(tile),
            tile.wg as u32,
            grid(info[0] as usize),
            &[&d_out, &h, &saved, &dh, &sums],
            &info,
        );

        let mod_len = layout::part_len(if modulation.is_some() { b * 2 * c } else { 1 });
        let affine_len = layout::part_len(c);
        let d_mod = layout::empty(&h, Shape::new([2, mod_len]));
        let d_affine = layout::empty(&h, Shape::new([2, affine_len]));
        let (t, z) = modulation.as_ref().map_or((&gamma, &gamma), |m| (&m.t, &m.z));
        let shader = Shader::parameters(class(&h), c);
        let Shader::Parameters(tile) = shader else { unreachable!("made above") };
        let unit = if tile.four { 4 } else { 1 };
        launch(
            "ada_gn parameters",
            shader,
            tile.wg as u32,
            grid((c / unit).div_ceil(tile.cols)),
            &[&sums, t, z, &gamma, &beta, &d_mod, &d_affine],
            &[b, c / unit, usize::from(modulation.is_some()), mod_len / unit, affine_len / unit].map(|v| v as u32),
        );
        AdaGnGrads {
            h: dh,
            modulation: modulation.map(|_| Modulation {
                t: layout::part(&d_mod, 0, Shape::new([b, 2 * c])),
                z: layout::part(&d_mod, 1, Shape::new([b, 2 * c])),
            }),
            gamma: layout::part(&d_affine, 0, Shape::new([c])),
            beta: layout::part(&d_affine, 1, Shape::new([c])),
        }
    }
}
