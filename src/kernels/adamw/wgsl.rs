//! Launches of the optimizer's shaders on cubecl's wgpu runtime.

use super::{AdamWOp, EPSILON, Options, SquaresOp, parts};
use crate::kernels::launch::{Class, class, grid, launch_words};
use crate::kernels::layout;
use crate::kernels::template::{kernel_source, render};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{DType, Shape};
use minijinja::context;

/// The three shaders, with their template values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/adamw.wgsl
    Update {
        /// Whether a value is four numbers.
        vec4: bool,
    },
    /// shaders/squares.wgsl
    Squares {
        /// What the workgroup is chosen by.
        class: Class,
        /// Whether a value is four numbers.
        vec4: bool,
    },
    /// shaders/norm.wgsl
    Norm(Class),
}

impl Shader {
    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        let (text, vec4) = match self {
            Self::Update { vec4 } => (include_str!("../../../shaders/adamw.wgsl"), vec4),
            Self::Squares { vec4, .. } => (include_str!("../../../shaders/squares.wgsl"), vec4),
            Self::Norm(_) => (include_str!("../../../shaders/norm.wgsl"), false),
        };
        render(text, context! { wg => self.workgroup(), vec4 })
    }

    fn workgroup(self) -> u32 {
        match self {
            // Without barriers any adapter does well with many invocations.
            Self::Update { .. } | Self::Squares { class: Class::Gpu, .. } | Self::Norm(Class::Gpu) => 256,
            Self::Squares { class: Class::Software, .. } | Self::Norm(Class::Software) => 32,
        }
    }
}

kernel_source!(Shader);

fn contiguous(name: &str, tensor: CubeTensor) -> CubeTensor {
    assert!(tensor.dtype == DType::F32, "adamw: {name} is {:?}, the WGSL kernel takes f32", tensor.dtype);
    into_contiguous(tensor)
}

/// `tensor` as memory that may be written to: its own where nobody else holds it.
fn owned(name: &str, tensor: CubeTensor) -> CubeTensor {
    let tensor = contiguous(name, tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

impl AdamWOp for CubeBackend {
    fn adamw(
        weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        average: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [weight, first] = [owned("weight", weight), owned("first", first)];
        let [second, average] = [owned("second", second), owned("average", average)];
        let [grad, clip] = [contiguous("grad", grad), contiguous("clip", clip)];
        let n = weight.meta.shape().num_elements();
        let vec4 = n.is_multiple_of(4);
        let count = if vec4 { n / 4 } else { n };
        let shader = Shader::Update { vec4 };
        let f = options.factors();
        let floats =
            [f.beta[0], f.rest[0], f.beta[1], f.rest[1], f.rate, f.correction, EPSILON as f32, f.shrink, f.ema, f.ema_rest];
        let info: Vec<u32> = std::iter::once(count as u32).chain(floats.map(f32::to_bits)).collect();
        launch_words(
            "adamw",
            shader,
            shader.workgroup(),
            grid(count.div_ceil(shader.workgroup() as usize)),
            &[&weight, &first, &second, &average, &grad, &clip],
            &info,
        );
        (weight, first, second, average)
    }
}

impl SquaresOp for CubeBackend {
    fn squares(x: FloatTensor<Self>, partials: FloatTensor<Self>, at: usize) -> FloatTensor<Self> {
        let x = contiguous("a gradient", x);
        let n = x.meta.shape().num_elements();
        let vec4 = n.is_multiple_of(4);
        let count = if vec4 { n / 4 } else { n };
        let shader = Shader::Squares { class: class(&x), vec4 };
        let workgroups = parts(n);
        let info = [count, workgroups, at].map(|v| v as u32);
        launch_words("gradient norm", shader, shader.workgroup(), grid(workgroups), &[&x, &partials], &info);
        partials
    }

    fn root_of_sum(partials: FloatTensor<Self>) -> FloatTensor<Self> {
        let count = partials.meta.shape().num_elements();
        let norm = layout::empty_acc(&partials, Shape::new([1]));
        let shader = Shader::Norm(class(&partials));
        launch_words("gradient norm", shader, shader.workgroup(), grid(1), &[&partials, &norm], &[count as u32]);
        norm
    }
}
