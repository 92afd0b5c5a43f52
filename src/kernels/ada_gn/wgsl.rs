//! Launches of the fused AdaGN shaders on cubecl's wgpu runtime.

use super::{
    Activation, AdaGn, AdaGnGradients, AdaGnInputs, AdaGnOptions, AdaGnParameters, Modulation,
};
use super::{backward_work, forward_work, reference};
use crate::device::Class;
use crate::kernels::adapter::{class, on_wgpu};
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::shader::{Elem, Filled, Shader, Types, info};
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::Shape;
use minijinja::{Value, context};

/// How a workgroup covers the feature map: the template values of the forward and the backward
/// shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    /// Invocations per workgroup.
    wg: usize,
    /// Channel units per workgroup.
    cols: usize,
    /// Pixels that one invocation keeps in registers.
    depth: usize,
    /// Whether a unit is four channels rather than one.
    four: bool,
}

impl Tile {
    /// The most pixels that an invocation of the forward and of the backward shader keeps in
    /// registers. The backward shader keeps two values per pixel.
    const DEPTHS: [usize; 2] = [16, 8];

    /// Chooses the tiles of the forward and the backward shader for feature maps of `pixels`
    /// pixels.
    ///
    /// # Panics
    /// If a group has more channels than a workgroup can hold: 1,024, or 256 where C is not a
    /// multiple of four.
    fn choose(class: Class, channels: usize, group_size: usize, pixels: usize) -> [Self; 2] {
        let four = channels.is_multiple_of(4);
        let width = if four { 4 } else { 1 };
        // The fewest units that are whole groups.
        let whole =
            (1..=width).map(|n| n * group_size).find(|n| n % width == 0).expect("n = width fits")
                / width;
        assert!(
            whole <= 256,
            "ada_gn: groups of {group_size} channels are too large for the WGSL kernel"
        );
        let units = channels / width;
        Self::DEPTHS.map(|most| match class {
            // A vector of 8 invocations, preferably with one unit each, so that they share no sum.
            Class::Software => {
                let cols = (whole * (8 / whole).max(1)).min(units);
                Self { wg: cols.next_power_of_two().max(8), cols, depth: 0, four }
            }
            Class::Gpu => {
                // 64 contiguous bytes, more where there are few pixels.
                let wanted = (256 / pixels.next_power_of_two()).clamp(16 / width, 32);
                let mut cols = (whole * (wanted / whole).max(1)).min(units);
                while pixels.div_ceil(256 / cols) > most
                    && cols.is_multiple_of(2 * whole)
                    && cols * width > 8
                {
                    cols /= 2;
                }
                Self { wg: 256, cols, depth: pixels.div_ceil(256 / cols).min(most), four }
            }
        })
    }

    fn context(self) -> Value {
        let Self { cols, depth, four, .. } = self;
        context! { cols, depth, four }
    }
}

info! {
    /// The info block of the forward and the backward shader.
    struct Info {
        workgroups: u32,
        batch: u32,
        units: u32,
        group_size: u32,
        pixels: u32,
        flags: u32,
        eps: f32,
        threshold: u32,
        keep_scale: f32,
        key_0: u32,
        key_1: u32,
    }

    /// The info block of the parameter shader.
    struct ParametersInfo {
        batch: u32,
        units: u32,
        modulated: u32,
        mod_len: u32,
        affine_len: u32,
    }
}

impl Info {
    fn new(h: &CubeTensor, tile: Tile, modulated: bool, options: &AdaGnOptions) -> Self {
        let [b, c, height, width] = layout::dims(h);
        let units = if tile.four { c / 4 } else { c };
        let (threshold, keep_scale, [key_0, key_1]) = match options.dropout {
            Some(d) => (d.threshold(), 1.0 / (1.0 - d.p), d.key),
            None => (0, 1.0, [0, 0]),
        };
        let silu = options.activation == Activation::Silu;
        Self {
            workgroups: (b * units.div_ceil(tile.cols)) as u32,
            batch: b as u32,
            units: units as u32,
            group_size: (c / options.groups) as u32,
            pixels: (height * width) as u32,
            flags: u32::from(modulated)
                | u32::from(silu) << 1
                | u32::from(options.dropout.is_some()) << 2,
            eps: options.eps,
            threshold,
            keep_scale,
            key_0,
            key_1,
        }
    }
}

/// The shader shaders/ada_gn_forward.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Forward(Tile, Types);

impl Shader for Forward {
    type Info = Info;
    const FILE: &'static str = "ada_gn_forward";
    const TEXT: &'static str = include_str!("../../../shaders/ada_gn_forward.wgsl");
    const BUFFERS: usize = 7;

    fn workgroup(&self) -> u32 {
        self.0.wg as u32
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }
}

/// The shader shaders/ada_gn_backward.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Backward(Tile, Types);

impl Shader for Backward {
    type Info = Info;
    const FILE: &'static str = "ada_gn_backward";
    const TEXT: &'static str = include_str!("../../../shaders/ada_gn_backward.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        self.0.wg as u32
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }
}

/// The shader shaders/ada_gn_parameters.wgsl, whose tensors are all small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Parameters {
    wg: usize,
    four: bool,
}

impl Parameters {
    /// Channel units per workgroup.
    const COLS: usize = 8;

    fn new(class: Class, channels: usize) -> Self {
        let wg = if class == Class::Software { 8 } else { 256 };
        Self { wg, four: channels.is_multiple_of(4) }
    }
}

impl Shader for Parameters {
    type Info = ParametersInfo;
    const FILE: &'static str = "ada_gn_parameters";
    const TEXT: &'static str = include_str!("../../../shaders/ada_gn_parameters.wgsl");
    const BUFFERS: usize = 7;

    fn workgroup(&self) -> u32 {
        self.wg as u32
    }

    fn values(&self) -> Value {
        context! { cols => Self::COLS, four => self.four }
    }
}

/// Returns every variant for feature maps of the given `[channels, channels per group, pixels]`.
pub(super) fn shaders(sizes: &[[usize; 3]]) -> Vec<Filled> {
    let classes = [Class::Gpu, Class::Software].into_iter();
    let all = classes.flat_map(|class| {
        sizes.iter().flat_map(move |size| Types::ALL.map(|types| (class, *size, types)))
    });
    all.flat_map(|(class, size, types)| of_size(class, size, types)).collect()
}

/// Returns the GPU variants for f32 feature maps of the given
/// `[channels, channels per group, pixels]`.
pub(super) fn launched(size: [usize; 3]) -> [Filled; 3] {
    of_size(Class::Gpu, size, Types::F32)
}

fn of_size(class: Class, [channels, group_size, pixels]: [usize; 3], types: Types) -> [Filled; 3] {
    let [forward, backward] = Tile::choose(class, channels, group_size, pixels);
    let parameters = Filled::new(Parameters::new(class, channels));
    [Filled::new(Forward(forward, types)), Filled::new(Backward(backward, types)), parameters]
}

/// The operands in the memory layouts that the shaders expect, and the element type of h. gamma
/// stands in for absent operands, as every binding needs a buffer.
struct Operands {
    h: CubeTensor,
    elem: Elem,
    modulated: bool,
    t: CubeTensor,
    z: CubeTensor,
    gamma: CubeTensor,
    beta: CubeTensor,
    options: AdaGnOptions,
}

impl Operands {
    fn new(inputs: AdaGnInputs<CubeBackend>) -> Self {
        let AdaGnInputs { h, parameters: AdaGnParameters { modulation, gamma, beta, options } } =
            inputs;
        let elem = layout::elem("ada_gn", "h", &h);
        let small = |name: &str, tensor: CubeTensor| {
            layout::check("ada_gn", name, &tensor, Elem::F32);
            into_contiguous(tensor)
        };
        let (gamma, beta) = (small("gamma", gamma), small("beta", beta));
        let (modulated, t, z) = match modulation {
            Modulation::Absent => (false, gamma.clone(), gamma.clone()),
            Modulation::By { t, z } => (true, small("t_mod", t), small("z_mod", z)),
        };
        Self { h: layout::into_nhwc(h), elem, modulated, t, z, gamma, beta, options }
    }

    /// Returns the tiles of the forward and the backward shader.
    fn tiles(&self) -> [Tile; 2] {
        let [_, c, height, width] = layout::dims(&self.h);
        Tile::choose(class(&self.h), c, c / self.options.groups, height * width)
    }
}

impl AdaGn for CubeBackend {
    /// Returns the result, and for the backward pass A, D, mean and 1 / sqrt(var + eps) of each
    /// image's channels, `[4, B, C]`.
    fn forward(inputs: AdaGnInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !on_wgpu(&inputs.h) {
            return reference::forward(inputs);
        }
        let operands = Operands::new(inputs);
        let Operands { h, t, z, gamma, beta, .. } = &operands;
        let shape = layout::dims(h);
        let out = layout::empty_nhwc_like(h);
        let saved = layout::empty_acc(h, Shape::new([4, shape[0], shape[1]]));
        let [tile, _] = operands.tiles();
        let info = Info::new(h, tile, operands.modulated, &operands.options);
        launch(
            "ada_gn forward",
            Forward(tile, Types::of(operands.elem)),
            info.workgroups as usize,
            &[h, t, z, gamma, beta, &out, &saved],
            &info,
            forward_work(shape),
        );
        (out, saved)
    }

    fn backward(
        d_out: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        inputs: AdaGnInputs<Self>,
    ) -> AdaGnGradients<Self> {
        if !on_wgpu(&inputs.h) {
            return reference::backward(d_out, inputs);
        }
        let operands = Operands::new(inputs);
        let Operands { h, elem, modulated, t, z, gamma, beta, options } = &operands;
        layout::check("ada_gn", "the result's gradient", &d_out, *elem);
        let d_out = layout::into_nhwc(d_out);
        let [b, c, height, width] = layout::dims(h);
        let dh = layout::empty_nhwc_like(h);
        let sums = layout::empty_acc(h, Shape::new([2, b, c]));
        let [_, tile] = operands.tiles();
        let info = Info::new(h, tile, *modulated, options);
        launch(
            "ada_gn backward",
            Backward(tile, Types::of(*elem)),
            info.workgroups as usize,
            &[&d_out, h, &saved, &dh, &sums],
            &info,
            backward_work([b, c, height, width]),
        );

        let shader = Parameters::new(class(h), c);
        let unit = if shader.four { 4 } else { 1 };
        let mod_len = layout::part_len(if *modulated { b * 2 * c } else { 1 });
        let affine_len = layout::part_len(c);
        let d_mod = layout::empty_acc(h, Shape::new([2, mod_len]));
        let d_affine = layout::empty_acc(h, Shape::new([2, affine_len]));
        let info = ParametersInfo {
            batch: b as u32,
            units: (c / unit) as u32,
            modulated: u32::from(*modulated),
            mod_len: (mod_len / unit) as u32,
            affine_len: (affine_len / unit) as u32,
        };
        launch(
            "ada_gn parameters",
            shader,
            (c / unit).div_ceil(Parameters::COLS),
            &[&sums, t, z, gamma, beta, &d_mod, &d_affine],
            &info,
            // The sums and their totals; with modulation also its scales and shifts and their
            // gradients.
            Work::floats(&[2 * b * c + 2 * c, if *modulated { 8 * b * c + 2 * c } else { 0 }]),
        );
        let pair = |i| layout::part(&d_mod, i, Shape::new([b, 2 * c]));
        AdaGnGradients {
            h: dh,
            modulation: if *modulated {
                Modulation::By { t: pair(0), z: pair(1) }
            } else {
                Modulation::Absent
            },
            gamma: layout::part(&d_affine, 0, Shape::new([c])),
            beta: layout::part(&d_affine, 1, Shape::new([c])),
        }
    }
}
