//! A custom kernel in WGSL: Mish, x tanh(ln(1 + e^x)), next to the same function in plain tensor
//! operations.
//!
//! ```text
//! cargo run --release --example custom_kernel -- vulkan
//! ```

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, into_contiguous};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Distribution, Tensor, activation};
use burn_flex::Flex;
use soda::kernels::adapter::on_wgpu;
use soda::kernels::launch::launch;
use soda::kernels::layout;
use soda::kernels::shader::{Elem, Shader, Value, context};
use soda::kernels::work::Work;
use soda::prelude::*;

// The info block: the uniform buffer that the shader reads.
soda::info_block! {
    /// Sizes.
    struct Info {
        /// The number of elements.
        total: u32,
    }
}

/// The shader, with no template values of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MishShader;

impl Shader for MishShader {
    type Info = Info;
    const FILE: &'static str = "mish";
    const TEXT: &'static str = "
struct Info { total: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>,
        @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.total { return; }
    // tanh(ln(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1); beyond 20 it is 1 in f32.
    let e = exp(min(x[i], 20.0));
    let s = (1.0 + e) * (1.0 + e);
    y[i] = x[i] * (s - 1.0) / (s + 1.0);
}
";
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        64
    }

    fn values(&self) -> Value {
        context! {}
    }
}

/// The operation. Its default body runs on any backend; WGSL replaces it on wgpu.
#[backend_extension(Cube, Flex)]
trait Mish: Backend {
    fn mish(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let softplus = Self::float_log1p(Self::float_exp(x.clone()));
        Self::float_mul(x, Self::float_tanh(softplus))
    }
}

impl Mish for Flex {}

impl Mish for CubeBackend {
    fn mish(x: FloatTensor<Self>) -> FloatTensor<Self> {
        assert!(on_wgpu(&x), "the example runs on the CPU and on wgpu devices");
        layout::check("mish", "x", &x, Elem::F32);
        let x = into_contiguous(x);
        let y = layout::empty(&x, x.meta.shape().clone(), x.dtype);
        let total = x.meta.shape().num_elements();
        let workgroups = total.div_ceil(MishShader.workgroup() as usize);
        let (info, work) = (Info { total: total as u32 }, Work::floats(&[2 * total]));
        launch("mish", MishShader, workgroups, &[&x, &y], &info, work);
        y
    }
}

/// Computes Mish of a matrix on any device.
fn mish(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Mish>::mish(x.into_dispatch()))
}

fn main() -> Result<()> {
    let selection = std::env::args().nth(1).unwrap_or_else(|| "auto".into());
    let device = select(&selection)?;
    let x = Tensor::<2>::random([100, 30], Distribution::Normal(0.0, 3.0), &device.device);

    let reference = x.clone() * activation::softplus(x.clone(), 1.0).tanh();
    let error = (mish(x) - reference).abs().max().into_scalar::<f32>();
    println!("on {}: largest difference {error:.1e}", device.describe());
    if error.is_nan() || error > 1e-5 {
        return Err(Error::failed("the kernel is wrong"));
    }
    Ok(())
}
