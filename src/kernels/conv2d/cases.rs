//! The catalogue cases of the convolution.

use super::{Conv2dOptions, Tile, conv2d, out_dims, pass_work, wgsl};
use crate::kernels::catalog::{Case, Input, Layer, Operation, Pass, Suite, Tolerance, Tolerances};
use crate::kernels::shader::Filled;
use burn::tensor::Shape;

/// The convolution in the catalogue; see [`super`].
pub struct Conv2dOperation;

/// The parameters of one call.
#[derive(Clone, Copy)]
struct Call {
    /// `[B, C, H, W]`.
    shape: [usize; 4],
    /// Output channels.
    to: usize,
    kernel: usize,
    options: Conv2dOptions,
    bias: bool,
    residual: bool,
    /// Standard deviation of the weights.
    deviation: f32,
    /// Whether x and the residual are in NCHW memory.
    nchw: bool,
    /// Whether the weights are laid out as in Burn's linear layers, input channels first.
    linear: bool,
    /// Whether the gradient of x is ever wanted.
    inner: bool,
}

impl Call {
    fn new(shape: [usize; 4], to: usize, kernel: usize, options: Conv2dOptions) -> Self {
        Self {
            shape,
            to,
            kernel,
            options,
            bias: false,
            residual: false,
            deviation: 1.0,
            nchw: false,
            linear: false,
            inner: true,
        }
    }

    /// Returns the name of the variant, such as "3x3 to 64, stride 2", followed by its other
    /// options.
    fn variant(&self) -> String {
        let Self { to, kernel, options, .. } = *self;
        let mut variant = format!("{kernel}x{kernel} to {to}");
        let stride = (options.stride > 1).then(|| format!(", stride {}", options.stride));
        let tile = options.tile.map(|tile| format!(", tiles {}x{}", tile.bm, tile.bn));
        let flags = [
            (options.upsample, ", upsampled"),
            (self.bias, ", bias"),
            (self.residual, ", residual"),
            (self.nchw, ", NCHW memory"),
            (self.linear, ", weights of a linear layer"),
        ];
        variant.extend(stride);
        variant.extend(flags.iter().filter(|(has, _)| *has).map(|(_, name)| *name));
        variant.extend(tile);
        variant
    }

    fn case(self, tolerances: Tolerances) -> Case {
        let Self { shape, to, kernel, options, .. } = self;
        let weight = [to, shape[1], kernel, kernel];
        let linear = self.linear;
        let stored = if linear { [shape[1], to, kernel, kernel] } else { weight };
        let map = if self.nchw { Input::weight } else { Input::image };
        let mut inputs =
            vec![map("x", shape), Input::weight("weight", stored).about(0.0, self.deviation)];
        if self.bias {
            inputs.push(Input::vector("bias", to));
        }
        if self.residual {
            inputs.push(map("residual", out_dims(shape, &Shape::new(weight), options)));
        }
        let work = pass_work(shape, weight, options);
        let passes =
            [("forward", vec![]), ("grad_input", vec!["x"]), ("grad_weight", vec!["weight"])];
        let wanted = passes.into_iter().filter(|(name, _)| self.inner || *name != "grad_input");
        Case::new("conv2d", &shape, inputs, tolerances, move |inputs| {
            let (x, mut weight) = (inputs.map("x"), inputs.map("weight"));
            if linear {
                weight = weight.permute([1, 0, 2, 3]);
            }
            let (bias, residual) =
                (inputs.optional_vector("bias"), inputs.optional_map("residual"));
            vec![("the value", conv2d(x, weight, bias, residual, options).into())]
        })
        .variant(self.variant())
        .passes(wanted.map(|(name, learns)| Pass { name, learns, work }).collect())
    }
}

impl Operation for Conv2dOperation {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        let (calls, tolerances) = match suite {
            Suite::SelfTest => (self_test(), Tolerances::SELF_TEST),
            // Sums of up to 10,240 products in a different order.
            Suite::Test => (
                test(),
                Tolerances { cpu: Tolerance::new(1e-5, 1e-6), wgsl: Tolerance::new(1e-5, 1e-5) },
            ),
            Suite::Bench { batch } => (bench(batch), Tolerances::SELF_TEST),
        };
        calls.into_iter().map(|call| call.case(tolerances)).collect()
    }

    fn shaders(&self) -> Vec<Filled> {
        wgsl::shaders()
    }

    fn launched(&self, layers: &[Layer], batch: usize) -> Vec<Filled> {
        let of = |layer: &Layer| match *layer {
            Layer::Conv2d { from, to, kernel, stride, side, upsample, bias } => {
                let options = if upsample {
                    Conv2dOptions::UPSAMPLE
                } else {
                    Conv2dOptions::same(kernel, stride)
                };
                Some(wgsl::launched(
                    [batch, from, side, side],
                    [to, from, kernel, kernel],
                    options,
                    bias,
                ))
            }
            _ => None,
        };
        layers.iter().filter_map(of).flatten().collect()
    }
}

fn self_test() -> Vec<Call> {
    let call = |[batch, from, to, side, kernel, stride]: [usize; 6]| Call {
        bias: true,
        residual: true,
        deviation: 0.1,
        ..Call::new([batch, from, side, side], to, kernel, Conv2dOptions::same(kernel, stride))
    };
    // [batch, channels in, channels out, side, kernel, stride]: the stems, the output, both
    // strides, shortcuts, vectors.
    let mut all: Vec<Call> = [
        [2, 3, 128, 16, 3, 1],
        [2, 3, 64, 32, 7, 2],
        [2, 128, 3, 16, 3, 1],
        [2, 128, 128, 16, 3, 1],
        [4, 256, 256, 4, 3, 1],
        [2, 64, 128, 16, 3, 2],
        [2, 384, 128, 8, 1, 1],
        [2, 64, 128, 16, 1, 2],
        [16, 512, 256, 1, 1, 1],
    ]
    .map(call)
    .into();
    all.push(Call { linear: true, ..call([16, 130, 34, 1, 1, 1]) });
    // [channels, side of the input before upsampling].
    all.extend([[256, 4], [128, 16]].map(|[channels, side]| Call {
        bias: true,
        deviation: 0.1,
        ..Call::new([2, channels, side, side], channels, 3, Conv2dOptions::UPSAMPLE)
    }));
    // With few images, GPUs choose the small tiles: the large ones have to be requested.
    all.extend(Tile::ALL.map(|tile| {
        let call = call([2, 132, 132, 15, 3, 1]);
        Call { options: Conv2dOptions { tile: Some(tile), ..call.options }, ..call }
    }));
    all
}

/// (batch, from, to, height, width, kernel, stride, bias, residual)
type Sizes = (usize, usize, usize, usize, usize, usize, usize, bool, bool);

/// The networks' shapes and odd ones, with every tile.
#[rustfmt::skip]
const TEST: [Sizes; 28] = [
    (2, 3, 16, 32, 32, 3, 1, true, false),
    (2, 16, 3, 32, 32, 3, 1, true, false),
    (3, 32, 32, 16, 16, 3, 1, false, true),
    (2, 64, 32, 8, 8, 3, 1, true, true),
    (2, 96, 64, 4, 4, 3, 1, true, false),
    (5, 32, 64, 2, 2, 3, 1, true, true),
    (2, 32, 64, 32, 32, 3, 2, false, false),
    (2, 64, 64, 16, 16, 3, 2, true, true),
    (2, 32, 64, 16, 16, 1, 2, false, false),
    (2, 48, 32, 16, 16, 1, 1, true, true),
    (7, 130, 260, 1, 1, 1, 1, true, false),
    (1, 5, 7, 9, 6, 3, 1, true, true),
    (3, 17, 33, 7, 5, 3, 2, true, false),
    (3, 6, 5, 7, 5, 1, 2, true, true),
    (1, 4, 4, 1, 1, 3, 1, true, false),
    (1, 4, 4, 1, 1, 3, 2, true, false),
    (40, 64, 128, 16, 16, 3, 1, true, false),
    (1, 36, 132, 3, 11, 3, 1, true, true),
    (2, 3, 64, 32, 32, 7, 2, false, false),
    (2, 3, 64, 40, 24, 7, 2, true, true),
    (3, 8, 20, 9, 11, 7, 2, true, false),
    (2, 5, 7, 6, 9, 7, 2, true, true),
    (1, 4, 4, 1, 1, 7, 2, true, false),
    (2, 66, 12, 8, 8, 7, 2, false, true),
    (2, 12, 68, 7, 7, 7, 1, true, false),
    (2, 8, 12, 10, 9, 5, 2, true, true),
    (2, 3, 8, 5, 8, 5, 1, false, false),
    (9, 36, 5, 8, 8, 7, 2, true, false),
];

/// More combinations of bias and residual.
#[rustfmt::skip]
const MORE: [Sizes; 12] = [
    (2, 3, 16, 32, 32, 3, 1, true, true),
    (2, 16, 3, 32, 32, 3, 1, true, true),
    (3, 32, 32, 16, 16, 3, 1, false, false),
    (2, 64, 32, 8, 8, 3, 1, true, false),
    (2, 96, 64, 4, 4, 3, 1, true, true),
    (2, 32, 64, 32, 32, 3, 2, false, true),
    (2, 64, 64, 16, 16, 3, 2, true, false),
    (2, 32, 64, 16, 16, 1, 2, false, true),
    (2, 48, 32, 16, 16, 1, 1, true, false),
    (1, 5, 7, 9, 6, 3, 1, true, false),
    (3, 17, 33, 7, 5, 3, 2, true, true),
    (1, 4, 4, 1, 1, 3, 1, true, true),
];

/// (batch, from, to, height, width, bias, residual)
type UpsampledSizes = (usize, usize, usize, usize, usize, bool, bool);

/// 3x3 convolutions on an upsampled input, with every tile.
#[rustfmt::skip]
const UPSAMPLED: [UpsampledSizes; 9] = [
    (2, 32, 32, 16, 16, true, false),
    (3, 64, 64, 4, 4, true, false),
    (2, 24, 40, 8, 4, false, true),
    (1, 128, 132, 4, 12, true, true),
    (2, 5, 7, 3, 5, true, true),
    (3, 8, 6, 5, 2, false, false),
    (1, 4, 4, 1, 1, true, false),
    (40, 64, 32, 8, 8, true, false),
    (2, 3, 20, 7, 9, true, false),
];

/// More 3x3 convolutions on an upsampled input.
#[rustfmt::skip]
const MORE_UPSAMPLED: [UpsampledSizes; 9] = [
    (2, 32, 32, 16, 16, false, true),
    (3, 64, 64, 4, 4, false, true),
    (2, 24, 40, 8, 4, true, false),
    (1, 130, 72, 4, 12, true, false),
    (1, 130, 72, 4, 12, false, true),
    (2, 5, 7, 3, 5, true, false),
    (2, 5, 7, 3, 5, false, true),
    (1, 4, 3, 1, 1, true, false),
    (1, 4, 3, 1, 1, false, true),
];

fn sized((b, from, to, height, width, kernel, stride, bias, residual): Sizes) -> Call {
    Call {
        bias,
        residual,
        ..Call::new([b, from, height, width], to, kernel, Conv2dOptions::same(kernel, stride))
    }
}

fn upsampled((b, from, to, height, width, bias, residual): UpsampledSizes) -> Call {
    Call { bias, residual, ..Call::new([b, from, height, width], to, 3, Conv2dOptions::UPSAMPLE) }
}

fn test() -> Vec<Call> {
    let every_tile: Vec<Call> =
        TEST.map(sized).into_iter().chain(UPSAMPLED.map(upsampled)).collect();
    // Maps in the memory layout in which Burn's own operations return them.
    let nchw = every_tile.iter().step_by(4).map(|call| Call { nchw: true, ..*call });
    let linear = every_tile
        .iter()
        .filter(|call| (call.kernel, call.options.stride) == (1, 1))
        .map(|call| Call { linear: true, ..*call });
    let odd = [(3, 5, 6, 1, 1, 1, 1, true, false), (2, 6, 5, 3, 4, 1, 1, false, true)]
        .map(sized)
        .map(|call| Call { linear: true, ..call });
    let tiled = every_tile.iter().flat_map(|call| {
        Tile::ALL.map(|tile| Call {
            options: Conv2dOptions { tile: Some(tile), ..call.options },
            ..*call
        })
    });
    let more = MORE.map(sized).into_iter().chain(MORE_UPSAMPLED.map(upsampled));
    nchw.chain(linear)
        .chain(odd)
        .chain(tiled)
        .chain(more)
        .chain(every_tile.iter().copied())
        .collect()
}

fn bench(batch: usize) -> Vec<Call> {
    // (kernel, stride, channels in, channels out, side, whether the input's gradient is ever
    // wanted)
    let mut all: Vec<Call> = [
        (3, 1, 3, 64, 32, false),
        (7, 2, 3, 64, 64, false),
        (3, 1, 64, 3, 32, true),
        (3, 1, 256, 256, 4, true),
        (1, 1, 192, 128, 16, true),
        (3, 1, 128, 128, 8, true),
        (3, 2, 64, 64, 32, true),
        (3, 1, 128, 128, 16, true),
        (3, 1, 64, 64, 32, true),
    ]
    .map(|(kernel, stride, from, to, side, inner)| {
        let options = Conv2dOptions::same(kernel, stride);
        Call { inner, ..Call::new([batch, from, side, side], to, kernel, options) }
    })
    .into();
    all.push(Call::new([batch, 64, 16, 16], 64, 3, Conv2dOptions::UPSAMPLE));
    all
}
