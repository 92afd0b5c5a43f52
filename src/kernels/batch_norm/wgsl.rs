//! Launches of the shaders of batch normalisation on cubecl's wgpu runtime.

use super::{BatchNormGradients, BatchNormOp, Gradients, Options, RunningOp};
use crate::kernels::columns::{Blocks, Columns};
use crate::kernels::launch::{Class, class, grid, launch_words};
use crate::kernels::layout;
use crate::kernels::template::{kernel_source, render};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{DType, Shape};
use minijinja::context;

/// The seven shaders, with their template values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// shaders/batch_norm_moments.wgsl
    Moments(Columns),
    /// shaders/batch_norm_statistics.wgsl
    Statistics(Class),
    /// shaders/batch_norm_apply.wgsl
    Apply(Columns),
    /// shaders/batch_norm_running.wgsl
    Running,
    /// shaders/batch_norm_sums.wgsl
    Sums(Columns),
    /// shaders/batch_norm_totals.wgsl
    Totals(Class),
    /// shaders/batch_norm_backward.wgsl
    Backward(Columns),
}

impl Shader {
    /// Channels of a workgroup of the shaders that bring blocks together.
    const TOGETHER: u32 = 8;

    /// The complete WGSL text.
    pub fn wgsl(self) -> String {
        let text = match self {
            Self::Moments(_) => include_str!("../../../shaders/batch_norm_moments.wgsl"),
            Self::Statistics(_) => include_str!("../../../shaders/batch_norm_statistics.wgsl"),
            Self::Apply(_) => include_str!("../../../shaders/batch_norm_apply.wgsl"),
            Self::Running => include_str!("../../../shaders/batch_norm_running.wgsl"),
            Self::Sums(_) => include_str!("../../../shaders/batch_norm_sums.wgsl"),
            Self::Totals(_) => include_str!("../../../shaders/batch_norm_totals.wgsl"),
            Self::Backward(_) => include_str!("../../../shaders/batch_norm_backward.wgsl"),
        };
        let values = match self {
            Self::Moments(columns) | Self::Apply(columns) | Self::Sums(columns) | Self::Backward(columns) => columns.context(),
            Self::Statistics(_) | Self::Totals(_) | Self::Running => context! { wg => self.workgroup(), cols => Self::TOGETHER },
        };
        render(text, values)
    }

    fn workgroup(self) -> u32 {
        match self {
            Self::Moments(columns) | Self::Apply(columns) | Self::Sums(columns) | Self::Backward(columns) => columns.workgroup,
            Self::Statistics(Class::Gpu) | Self::Totals(Class::Gpu) => 256,
            Self::Statistics(Class::Software) | Self::Totals(Class::Software) => 32,
            Self::Running => 64,
        }
    }
}

kernel_source!(Shader);

/// Pixels of an invocation where they are added up, and at most so many blocks, which one workgroup brings together.
fn sum_blocks(columns: Columns, class: Class, pixels: usize, channels: usize) -> Blocks {
    let each = match class {
        Class::Gpu => 16,
        Class::Software => 64,
    };
    Blocks::new(columns, pixels, channels, each, 1024)
}

/// Pixels of an invocation where each is worked on alone: enough to pay for its channel's parameters.
fn each_blocks(columns: Columns, class: Class, pixels: usize, channels: usize) -> Blocks {
    let each = match class {
        Class::Gpu => 8,
        Class::Software => 32,
    };
    Blocks::new(columns, pixels, channels, each, u32::MAX / columns.workgroup)
}

/// A feature map in NHWC memory, its pixels and channels.
fn image(name: &str, x: CubeTensor) -> (CubeTensor, usize, usize) {
    assert!(x.dtype == DType::F32, "batch_norm: {name} is {:?}, the WGSL kernel takes f32", x.dtype);
    let [b, c, h, w] = layout::dims(&x);
    (layout::into_nhwc(x), b * h * w, c)
}

fn flags(options: Options, residual: bool) -> u32 {
    u32::from(options.relu) | u32::from(residual) << 1
}

/// Mean, then biased variance of each channel of `x` (in NHWC memory), `[2C]`.
fn statistics(x: &CubeTensor, pixels: usize, channels: usize) -> CubeTensor {
    let class = class(x);
    let columns = Columns::new(class, &[channels]);
    let blocks = sum_blocks(columns, class, pixels, channels);
    let partials = layout::empty_acc(x, Shape::new([blocks.count as usize, 2, channels]));
    let shader = Shader::Moments(columns);
    launch_words("batch_norm moments", shader, shader.workgroup(), blocks.grid(), &[x, &partials], &blocks.info());
    let statistics = layout::empty_acc(x, Shape::new([2 * channels]));
    let shader = Shader::Statistics(class);
    launch_words(
        "batch_norm statistics",
        shader,
        shader.workgroup(),
        grid(channels.div_ceil(Shader::TOGETHER as usize)),
        &[&partials, &statistics],
        &[channels as u32, blocks.pixels, blocks.size, blocks.count],
    );
    statistics
}

fn train(
    x: CubeTensor,
    residual: Option<CubeTensor>,
    gamma: CubeTensor,
    beta: CubeTensor,
    options: Options,
) -> (CubeTensor, CubeTensor) {
    let (x, pixels, channels) = image("x", x);
    let statistics = statistics(&x, pixels, channels);
    (normalise(x, residual, statistics.clone(), gamma, beta, options), statistics)
}

fn normalise(
    x: CubeTensor,
    residual: Option<CubeTensor>,
    statistics: CubeTensor,
    gamma: CubeTensor,
    beta: CubeTensor,
    options: Options,
) -> CubeTensor {
    let (x, pixels, channels) = image("x", x);
    let residual = residual.map(|r| image("the residual", r).0);
    let [statistics, gamma, beta] = [statistics, gamma, beta].map(into_contiguous);
    let class = class(&x);
    let columns = Columns::new(class, &[channels]);
    let blocks = each_blocks(columns, class, pixels, channels);
    let y = layout::empty_nhwc_like(&x);
    let [width, pixels, size, count] = blocks.info();
    let shader = Shader::Apply(columns);
    launch_words(
        "batch_norm apply",
        shader,
        shader.workgroup(),
        blocks.grid(),
        // What isn't read has to be bound nonetheless.
        &[&x, residual.as_ref().unwrap_or(&x), &statistics, &gamma, &beta, &y],
        &[width, pixels, size, count, flags(options, residual.is_some()), options.eps.to_bits()],
    );
    y
}

impl BatchNormOp for CubeBackend {
    fn train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        train(x, None, gamma, beta, options)
    }

    fn train_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        train(x, Some(residual), gamma, beta, options)
    }

    fn normalise(
        x: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        normalise(x, None, statistics, gamma, beta, options)
    }

    fn normalise_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        normalise(x, Some(residual), statistics, gamma, beta, options)
    }
}

impl BatchNormGradients for CubeBackend {
    fn gradients(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: Option<FloatTensor<Self>>,
        small: [FloatTensor<Self>; 3],
        options: Options,
    ) -> Gradients<FloatTensor<Self>> {
        let (dy, pixels, channels) = image("the gradient", dy);
        let x = image("x", x).0;
        let y = y.map(|y| image("the result", y).0);
        let [statistics, gamma, beta] = small.map(into_contiguous);
        let class = class(&x);
        let columns = Columns::new(class, &[channels]);
        let flags = flags(options, y.is_some());
        let eps = options.eps.to_bits();

        let blocks = sum_blocks(columns, class, pixels, channels);
        let partials = layout::empty_acc(&x, Shape::new([blocks.count as usize, 2, channels]));
        // dy where the ReLU let it through: the residual's gradient, and read again below. Without a residual it is cheaper to mask
        // dy once more than to write and read it; without a ReLU it is dy.
        let g = match y.is_some() && options.relu {
            true => layout::empty_nhwc_like(&x),
            false => dy.clone(),
        };
        let (given, other) = y.as_ref().map_or((&gamma, &beta), |y| (y, &g));
        let [width, pixel_count, size, count] = blocks.info();
        let shader = Shader::Sums(columns);
        launch_words(
            "batch_norm sums",
            shader,
            shader.workgroup(),
            blocks.grid(),
            &[&dy, &x, &statistics, given, other, &partials],
            &[width, pixel_count, size, count, flags, eps],
        );

        let second = layout::part_len(channels);
        let totals = layout::empty_acc(&x, Shape::new([2, second]));
        let shader = Shader::Totals(class);
        launch_words(
            "batch_norm totals",
            shader,
            shader.workgroup(),
            grid(channels.div_ceil(Shader::TOGETHER as usize)),
            &[&partials, &totals],
            &[channels as u32, count, second as u32],
        );

        let blocks = each_blocks(columns, class, pixels, channels);
        let dx = layout::empty_nhwc_like(&x);
        let [width, pixel_count, size, count] = blocks.info();
        let mask = u32::from(options.relu && y.is_none());
        let shader = Shader::Backward(columns);
        launch_words(
            "batch_norm backward",
            shader,
            shader.workgroup(),
            blocks.grid(),
            &[&g, &x, &statistics, &gamma, &beta, &totals, &dx],
            &[width, pixel_count, size, count, mask, eps, columns.values(second)],
        );
        Gradients {
            x: dx,
            residual: g,
            gamma: layout::part(&totals, 1, Shape::new([channels])),
            beta: layout::part(&totals, 0, Shape::new([channels])),
        }
    }
}

impl RunningOp for CubeBackend {
    fn running(
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        momentum: f32,
        unbiased: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [mean, variance, statistics] = [mean, variance, statistics].map(into_contiguous);
        let channels = mean.meta.shape().num_elements();
        let second = layout::part_len(channels);
        let updated = layout::empty_acc(&mean, Shape::new([2, second]));
        let shader = Shader::Running;
        launch_words(
            "batch_norm running",
            shader,
            shader.workgroup(),
            grid(channels.div_ceil(shader.workgroup() as usize)),
            &[&mean, &variance, &statistics, &updated],
            &[channels as u32, second as u32, momentum.to_bits(), unbiased.to_bits()],
        );
        let part = |i| layout::part(&updated, i, Shape::new([channels]));
        (part(0), part(1))
    }
}
