//! Launches of the fused AdaGN shaders on cubecl's wgpu runtime.

use super::{Activation, AdaGnGrads, AdaGnKernels, AdaGnOptions, Modulation};
use crate::kernels::launch::{Class, class, grid, launch};
use crate::kernels::layout;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, KernelSource, SourceTemplate, into_contiguous};
use burn::cubecl::prelude::KernelId;
use burn::tensor::{DType, Shape};
use std::cell::Cell;

/// Template values of one launch: everything that changes the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Invocations of a workgroup; a power of two.
    pub workgroup: u32,
    /// Elements kept in workgroup memory (4 bytes each in the forward shader, 8 in the backward one).
    pub cache: u32,
}

impl Tile {
    /// Within WebGPU's default limits (256 invocations, 16 KiB of workgroup memory), for any adapter.
    pub const PORTABLE_FORWARD: Self = Self { workgroup: 256, cache: 3 * 1024 };
    /// As [`Tile::PORTABLE_FORWARD`], for the backward shader.
    pub const PORTABLE_BACKWARD: Self = Self { workgroup: 256, cache: 3 * 512 };
    /// Adapters that run a workgroup as 8 lanes (software Vulkan) pay for every barrier: fewer invocations are faster.
    pub const SOFTWARE_FORWARD: Self = Self { workgroup: 32, cache: 3 * 1024 };
    /// As [`Tile::SOFTWARE_FORWARD`], for the backward shader.
    pub const SOFTWARE_BACKWARD: Self = Self { workgroup: 32, cache: 3 * 512 };
}

/// The three shaders of AdaGN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/ada_gn_forward.wgsl
    Forward(Tile),
    /// shaders/ada_gn_backward.wgsl
    Backward(Tile),
    /// shaders/ada_gn_parameters.wgsl
    Parameters,
}

impl Shader {
    const PARAMETERS_WORKGROUP: u32 = 64;

    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        KernelSource::source(&self).complete()
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        let (text, tile) = match *self {
            Self::Forward(tile) => (include_str!("../../../shaders/ada_gn_forward.wgsl"), tile),
            Self::Backward(tile) => (include_str!("../../../shaders/ada_gn_backward.wgsl"), tile),
            Self::Parameters => (
                include_str!("../../../shaders/ada_gn_parameters.wgsl"),
                Tile { workgroup: Self::PARAMETERS_WORKGROUP, cache: 0 },
            ),
        };
        SourceTemplate::new(text).register("wg", tile.workgroup.to_string()).register("cache", tile.cache.to_string())
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

thread_local! {
    static FORCED: Cell<Option<[Tile; 2]>> = const { Cell::new(None) };
}

/// Makes launches from this thread use these tiles (forward, backward) instead of the adapter's own: tests run the tiles of
/// real GPUs on a software adapter.
pub fn force_tiles(tiles: Option<[Tile; 2]>) {
    FORCED.set(tiles);
}

/// Tiles of the forward and the backward shader for the adapter that `tensor` lives on.
fn tiles(tensor: &CubeTensor) -> [Tile; 2] {
    FORCED.get().unwrap_or(match class(tensor) {
        Class::Software => [Tile::SOFTWARE_FORWARD, Tile::SOFTWARE_BACKWARD],
        Class::Gpu => [Tile::PORTABLE_FORWARD, Tile::PORTABLE_BACKWARD],
    })
}

/// The info block of the forward and backward shaders.
fn info(h: &CubeTensor, modulated: bool, options: &AdaGnOptions) -> [u32; 10] {
    let [b, c, height, width] = layout::dims(h);
    let (threshold, scale, key) = match options.dropout {
        Some(d) => (d.threshold(), 1.0 / (1.0 - d.p), d.key),
        None => (0, 1.0, [0, 0]),
    };
    let flags =
        u32::from(modulated) | u32::from(options.activation == Activation::Silu) << 1 | u32::from(options.dropout.is_some()) << 2;
    [
        (b * options.groups) as u32,
        c as u32,
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
        let [b, c, _, _] = layout::dims(&h);
        let out = layout::empty_nhwc_like(&h);
        let saved = layout::empty(&h, Shape::new([b, c, 4]));
        let [tile, _] = tiles(&h);
        let (t, z) = modulation.as_ref().map_or((&gamma, &gamma), |m| (&m.t, &m.z));
        launch(
            "ada_gn forward",
            Shader::Forward(tile),
            tile.workgroup,
            grid(b * options.groups),
            &[&h, t, z, &gamma, &beta, &out, &saved],
            &info(&h, modulation.is_some(), &options),
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
        let [b, c, _, _] = layout::dims(&h);
        let dh = layout::empty_nhwc_like(&h);
        let sums = layout::empty(&h, Shape::new([b, c, 2]));
        let [_, tile] = tiles(&h);
        launch(
            "ada_gn backward",
            Shader::Backward(tile),
            tile.workgroup,
            grid(b * options.groups),
            &[&d_out, &h, &saved, &dh, &sums],
            &info(&h, modulation.is_some(), &options),
        );

        let mod_len = if modulation.is_some() { layout::part_len(b * 2 * c) } else { 1 };
        let affine_len = layout::part_len(c);
        let d_mod = layout::empty(&h, Shape::new([2, mod_len]));
        let d_affine = layout::empty(&h, Shape::new([2, affine_len]));
        let (t, z) = modulation.as_ref().map_or((&gamma, &gamma), |m| (&m.t, &m.z));
        launch(
            "ada_gn parameters",
            Shader::Parameters,
            Shader::PARAMETERS_WORKGROUP,
            grid(c.div_ceil(Shader::PARAMETERS_WORKGROUP as usize)),
            &[&sums, t, z, &gamma, &beta, &d_mod, &d_affine],
            &[b as u32, c as u32, u32::from(modulation.is_some()), mod_len as u32, affine_len as u32],
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
