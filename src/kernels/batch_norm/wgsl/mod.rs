//! Launches of the shaders of batch normalisation on cubecl's wgpu runtime.

mod shaders;

pub(super) use shaders::{launched, shaders};

use super::{
    BatchNorm, BatchNormGradients, BatchNormInputs, BatchNormParameters, Options, Statistics,
};
use super::{Running, RunningInputs, backward_work, reference};
use crate::device::Class;
use crate::kernels::adapter::{class, on_wgpu};
use crate::kernels::columns::{Blocks, Columns};
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::operand::Optional;
use crate::kernels::shader::{Elem, Shader, Types};
use crate::kernels::work::Work;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::Shape;
use shaders::{
    ApplyInfo, BackwardInfo, MomentsInfo, RunningInfo, StatisticsInfo, SumsInfo, TOGETHER,
    TotalsInfo,
};

/// How the shaders of one call cover its feature maps, which are in NHWC memory.
#[derive(Clone, Copy)]
struct Call {
    shape: [usize; 4],
    pixels: usize,
    channels: usize,
    class: Class,
    columns: Columns,
    elem: Elem,
}

impl Call {
    fn new(x: &CubeTensor) -> Self {
        let shape = layout::dims(x);
        let [b, channels, h, w] = shape;
        let class = class(x);
        let columns = Columns::new(class, &[channels]);
        Self {
            shape,
            pixels: b * h * w,
            channels,
            class,
            columns,
            elem: layout::elem("batch_norm", "x", x),
        }
    }

    fn types(&self) -> Types {
        Types::of(self.elem)
    }

    /// Returns the blocks of pixels for the shaders that sum over them: so many pixels per
    /// invocation, and no more blocks than one workgroup combines.
    fn sum_blocks(&self) -> Blocks {
        let each = match self.class {
            Class::Gpu => 16,
            Class::Software => 64,
        };
        Blocks::new(self.columns, self.pixels, self.channels, each, 1024)
    }

    /// Returns the blocks of pixels for the element-wise shaders: enough pixels per invocation to
    /// pay for loading its channel's parameters.
    fn each_blocks(&self) -> Blocks {
        let each = match self.class {
            Class::Gpu => 8,
            Class::Software => 32,
        };
        Blocks::new(self.columns, self.pixels, self.channels, each, u32::MAX / self.columns.wg)
    }

    /// Returns the number of workgroups that combine the blocks.
    fn together(&self) -> usize {
        self.channels.div_ceil(TOGETHER)
    }

    /// Returns the work of reading or writing `maps` feature maps.
    fn work(&self, maps: usize) -> Work {
        Work::floats(&[maps * self.pixels * self.channels])
    }

    /// Returns the work of reading the sums of `blocks`.
    fn sums_work(&self, blocks: Blocks) -> Work {
        Work::floats(&[2 * blocks.count as usize * self.channels])
    }

    /// Checks the element type of the feature map `name` and returns it in NHWC memory.
    fn image(&self, name: &str, tensor: CubeTensor) -> CubeTensor {
        layout::check("batch_norm", name, &tensor, self.elem);
        layout::into_nhwc(tensor)
    }

    /// Computes the mean, then the biased variance of each channel of `x`, `[2C]`.
    fn statistics(&self, x: &CubeTensor) -> CubeTensor {
        let blocks = self.sum_blocks();
        let partials = layout::empty_acc(x, Shape::new([blocks.count as usize, 2, self.channels]));
        let shader = shaders::Moments(self.columns, self.types());
        let Blocks { width, pixels, size, count, .. } = blocks;
        let info = MomentsInfo { width, pixels, size, count };
        launch(
            "batch_norm moments",
            shader,
            blocks.workgroups(),
            &[x, &partials],
            &info,
            self.work(1),
        );
        let statistics = layout::empty_acc(x, Shape::new([2 * self.channels]));
        let info = StatisticsInfo { channels: self.channels as u32, pixels, size, count };
        let shader = shaders::Statistics::new(self.class);
        launch(
            "batch_norm statistics",
            shader,
            self.together(),
            &[&partials, &statistics],
            &info,
            self.sums_work(blocks),
        );
        statistics
    }
}

/// Checks that the small operand `name` is f32 and makes it contiguous.
fn small(name: &str, tensor: CubeTensor) -> CubeTensor {
    layout::check("batch_norm", name, &tensor, Elem::F32);
    into_contiguous(tensor)
}

impl BatchNorm for CubeBackend {
    fn forward(inputs: BatchNormInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !on_wgpu(&inputs.x) {
            return reference::forward(inputs);
        }
        let BatchNormInputs {
            x,
            residual,
            parameters: BatchNormParameters { statistics, gamma, beta, options },
        } = inputs;
        let x = layout::into_nhwc(x);
        let call = Call::new(&x);
        let residual = residual.into_option().map(|residual| call.image("the residual", residual));
        let statistics = match statistics {
            Statistics::OfBatch => call.statistics(&x),
            Statistics::Given(statistics) => small("statistics", statistics),
        };
        let (gamma, beta) = (small("gamma", gamma), small("beta", beta));
        let y = layout::empty_nhwc_like(&x);
        let blocks = call.each_blocks();
        let Blocks { width, pixels, size, count, .. } = blocks;
        let flags = u32::from(options.relu) | u32::from(residual.is_some()) << 1;
        launch(
            "batch_norm apply",
            shaders::Apply(call.columns, call.types()),
            blocks.workgroups(),
            // x stands in for an absent residual, as every binding needs a buffer.
            &[&x, residual.as_ref().unwrap_or(&x), &statistics, &gamma, &beta, &y],
            &ApplyInfo { width, pixels, size, count, flags, eps: options.eps },
            call.work(if residual.is_some() { 3 } else { 2 }),
        );
        (y, statistics)
    }

    fn backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: Optional<Self>,
        statistics: FloatTensor<Self>,
        parameters: BatchNormParameters<Self>,
    ) -> BatchNormGradients<Self> {
        if !on_wgpu(&x) {
            return reference::backward(dy, x, y, parameters);
        }
        let BatchNormParameters { gamma, beta, options: Options { eps, relu }, .. } = parameters;
        let x = layout::into_nhwc(x);
        let call = Call::new(&x);
        let dy = call.image("the result's gradient", dy);
        let y = y.into_option().map(|y| call.image("the result", y));
        let [statistics, gamma, beta] =
            [("statistics", statistics), ("gamma", gamma), ("beta", beta)]
                .map(|(name, tensor)| small(name, tensor));
        // 1: there is no residual, so the input tells where the ReLU passes the gradient.
        let mask = u32::from(relu && y.is_none());
        // g is dy where the ReLU passes it: the gradient of the residual, and read again below.
        // Without a residual, masking dy once more is cheaper than writing and reading g; without a
        // ReLU, g is dy.
        let by_result = y.as_ref().filter(|_| relu);
        let g = if by_result.is_some() { layout::empty_nhwc_like(&x) } else { dy.clone() };

        let blocks = call.sum_blocks();
        let partials = layout::empty_acc(&x, Shape::new([blocks.count as usize, 2, call.channels]));
        let (given, other) = by_result.map_or((&gamma, &beta), |y| (y, &g));
        let Blocks { width, pixels, size, count, .. } = blocks;
        launch(
            "batch_norm sums",
            shaders::Sums {
                columns: call.columns,
                by_result: by_result.is_some(),
                types: call.types(),
            },
            blocks.workgroups(),
            &[&dy, &x, &statistics, given, other, &partials],
            &SumsInfo { width, pixels, size, count, mask, eps },
            call.work(if by_result.is_some() { 4 } else { 2 }),
        );

        let second = layout::part_len(call.channels);
        let totals = layout::empty_acc(&x, Shape::new([2, second]));
        let info = TotalsInfo { channels: call.channels as u32, count, second: second as u32 };
        let shader = shaders::Totals::new(call.class);
        launch(
            "batch_norm totals",
            shader,
            call.together(),
            &[&partials, &totals],
            &info,
            call.sums_work(blocks),
        );

        let blocks = call.each_blocks();
        let dx = layout::empty_nhwc_like(&x);
        let Blocks { width, pixels, size, count, .. } = blocks;
        launch(
            "batch_norm backward",
            shaders::Backward(call.columns, call.types()),
            blocks.workgroups(),
            &[&g, &x, &statistics, &gamma, &beta, &totals, &dx],
            &BackwardInfo {
                width,
                pixels,
                size,
                count,
                mask,
                eps,
                second: call.columns.units(second),
            },
            backward_work(call.shape),
        );
        BatchNormGradients {
            x: dx,
            residual: Optional::new(y.map(|_| g)),
            gamma: layout::part(&totals, 1, Shape::new([call.channels])),
            beta: layout::part(&totals, 0, Shape::new([call.channels])),
        }
    }
}

impl Running for CubeBackend {
    fn forward(inputs: RunningInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !on_wgpu(&inputs.mean) {
            return reference::running(inputs);
        }
        let RunningInputs { mean, variance, statistics, momentum, unbiased } = inputs;
        let [mean, variance, statistics] =
            [("mean", mean), ("variance", variance), ("statistics", statistics)]
                .map(|(name, tensor)| small(name, tensor));
        let channels = mean.meta.shape().num_elements();
        let second = layout::part_len(channels);
        let updated = layout::empty_acc(&mean, Shape::new([2, second]));
        launch(
            "batch_norm running",
            shaders::Running,
            channels.div_ceil(shaders::Running.workgroup() as usize),
            &[&mean, &variance, &statistics, &updated],
            &RunningInfo {
                channels: channels as u32,
                second: second as u32,
                momentum: momentum as f32,
                unbiased: unbiased as f32,
            },
            Work::floats(&[6 * channels]),
        );
        let part = |i| layout::part(&updated, i, Shape::new([channels]));
        (part(0), part(1))
    }
}
