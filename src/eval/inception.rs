//! The Inception-v3 of FID (Heusel et al. 2017, arXiv 1706.08500): the network of TensorFlow's
//! release of 2015-12-05, whose weights the PyTorch package pytorch-fid publishes as
//! pt_inception-2015-12-05-6726825d.pth. It differs from torchvision's in its pools (averages don't
//! count padding, the last block uses a maximum) and has 1,008 classes.
//!
//! The weights are read from a file of the user; nothing is downloaded.

mod shapes;

pub use shapes::shapes;

use crate::data::{Images, bytes_of};
use crate::error::{Error, Result};
use crate::files;
use crate::model::pytorch::{Checkpoint, Tensor as Stored};
use crate::progress::Progress;
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;
use std::path::Path;

/// Length of a feature vector, the input of the last layer.
pub const FEATURES: usize = 2048;
/// Number of classes of the last layer.
const CLASSES: usize = 1008;
/// Side in pixels that images are resized to.
const SIDE: usize = 299;
/// Images per forward pass.
const BATCH: usize = 16;
/// The epsilon of the network's BatchNorm.
const EPSILON: f32 = 1e-3;
/// The first digits of the published file's SHA-256, which are part of its name.
const PUBLISHED: &str = "6726825d";

/// The network.
pub struct Inception {
    /// SHA-256 of the weights file.
    pub sha256: String,
    /// Convolutions with their BatchNorm folded in, by name: weights `[out, in, height, width]` and
    /// biases `[out]`.
    layers: HashMap<String, (Tensor<4>, Tensor<1>)>,
    /// Weights of the last layer, `[FEATURES, CLASSES]`.
    last: Tensor<2>,
    device: Device,
}

/// The network's outputs for a set of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looked {
    /// `[N, FEATURES]`.
    pub features: Vec<f32>,
    /// Class logits without the last layer's bias, as the Inception score uses them: `[N,
    /// CLASSES]`.
    pub logits: Vec<f32>,
}

impl Looked {
    /// Appends the outputs for more images.
    pub fn extend(&mut self, more: Looked) {
        self.features.extend(more.features);
        self.logits.extend(more.logits);
    }

    /// Returns the rows of logits.
    pub(super) fn classes(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.logits.chunks_exact(CLASSES)
    }
}

impl Inception {
    /// Reads the state dictionary from `path`.
    ///
    /// # Errors
    /// If the file can't be read (see [`Checkpoint`]) or belongs to another network; the message
    /// names a tensor that is missing or of another shape.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let sha256 = files::sha256_of(path)?;
        let mut checkpoint = Checkpoint::open(path)?;
        let stored = checkpoint.outermost();
        let mut read = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let found: Option<&Stored> = stored.get(name).filter(|tensor| tensor.shape == shape);
            let tensor = found.ok_or_else(|| {
                let (path, there) = (path.display(), stored.get(name).map(|tensor| &tensor.shape));
                let what =
                    there.map_or("isn't there".to_owned(), |other| format!("has shape {other:?}"));
                Error::failed(format!(
                    "{path} isn't FID's Inception-v3: {name} {what}, {shape:?} is expected; use \
                    pt_inception-2015-12-05-{PUBLISHED}.pth of pytorch-fid"
                ))
            })?;
            let values = checkpoint.read(name, tensor)?;
            match values.iter().all(|v| v.is_finite()) {
                true => Ok(values),
                false => Err(Error::failed(format!(
                    "{}: {name} holds values that aren't finite",
                    path.display()
                ))),
            }
        };
        let mut layers = HashMap::new();
        for (name, shape) in shapes() {
            let (out, each) = (shape[0], shape[1..].iter().product::<usize>());
            let mut weight = read(&format!("{name}.conv.weight"), &shape)?;
            let [gain, shift, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
                .map(|part| read(&format!("{name}.bn.{part}"), &[out]));
            let (gain, mut shift, mean, variance) = (gain?, shift?, mean?, variance?);
            // BatchNorm with fixed statistics is folded into the convolution.
            for (channel, weights) in weight.chunks_exact_mut(each).enumerate() {
                let scale = gain[channel] / (variance[channel] + EPSILON).sqrt();
                weights.iter_mut().for_each(|w| *w *= scale);
                shift[channel] -= mean[channel] * scale;
            }
            let weight = Tensor::from_data(TensorData::new(weight, shape), device);
            layers.insert(name, (weight, Tensor::from_data(TensorData::new(shift, [out]), device)));
        }
        let last = read("fc.weight", &[CLASSES, FEATURES])?;
        let last =
            Tensor::<2>::from_data(TensorData::new(last, [CLASSES, FEATURES]), device).transpose();
        Ok(Self { sha256, layers, last, device: device.clone() })
    }

    /// Checks whether the file is the published one: only then is the distance FID.
    pub fn is_published(&self) -> bool {
        self.sha256.starts_with(PUBLISHED)
    }

    /// Runs the network on `images`, preprocessed as in pytorch-fid: bytes to [0, 1], bilinear
    /// resize to 299 pixels, then to [-1, 1].
    ///
    /// # Errors
    /// If an image can't be read or the device fails.
    pub fn look(&self, images: &Images) -> Result<Looked> {
        let (side, mut looked) = (images.side(), Looked::default());
        let resize = bilinear(side);
        let resize: Tensor<3> =
            Tensor::from_data(TensorData::new(resize, [1, SIDE, side]), &self.device);
        let progress = Progress::new("computing Inception-v3 features", Some(images.len()));
        for first in (0..images.len()).step_by(BATCH) {
            let mut pixels = Vec::with_capacity(BATCH * bytes_of(side));
            for i in first..images.len().min(first + BATCH) {
                pixels.extend(images.image(i)?.iter().map(|byte| f32::from(*byte) / 255.0));
            }
            let n = pixels.len() / bytes_of(side);
            let x =
                Tensor::<3>::from_data(TensorData::new(pixels, [3 * n, side, side]), &self.device);
            let rows = resize.clone().expand([3 * n, SIDE, side]);
            let x = rows.clone().matmul(x).matmul(rows.swap_dims(1, 2)).reshape([n, 3, SIDE, SIDE]);
            let features = self.features(x * 2.0 - 1.0);
            let logits = features.clone().matmul(self.last.clone());
            let read = |t: Tensor<2>| {
                t.try_into_vec_as::<f32>()
                    .map_err(|e| Error::device("computing Inception-v3 features", &e))
            };
            looked.extend(Looked { features: read(features)?, logits: read(logits)? });
            progress.add(n);
        }
        Ok(looked)
    }

    /// Maps `[B, 3, 299, 299]` in [-1, 1] to `[B, 2048]`.
    fn features(&self, x: Tensor<4>) -> Tensor<2> {
        let pool = |x| max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]));
        let h = self.layer("Conv2d_1a_3x3", x, 2, [0, 0]);
        let h = self.layer("Conv2d_2a_3x3", h, 1, [0, 0]);
        let h = pool(self.layer("Conv2d_2b_3x3", h, 1, [1, 1]));
        let h = self.layer("Conv2d_3b_1x1", h, 1, [0, 0]);
        let mut h = pool(self.layer("Conv2d_4a_3x3", h, 1, [0, 0]));
        for block in ["Mixed_5b", "Mixed_5c", "Mixed_5d"] {
            h = Tensor::cat(
                vec![
                    self.chain(block, h.clone(), &[("branch1x1", [0, 0])]),
                    self.chain(
                        block,
                        h.clone(),
                        &[("branch5x5_1", [0, 0]), ("branch5x5_2", [2, 2])],
                    ),
                    self.chain(
                        block,
                        h.clone(),
                        &[
                            ("branch3x3dbl_1", [0, 0]),
                            ("branch3x3dbl_2", [1, 1]),
                            ("branch3x3dbl_3", [1, 1]),
                        ],
                    ),
                    self.chain(block, average(h), &[("branch_pool", [0, 0])]),
                ],
                1,
            );
        }
        let narrow = self.chain(
            "Mixed_6a",
            h.clone(),
            &[("branch3x3dbl_1", [0, 0]), ("branch3x3dbl_2", [1, 1])],
        );
        h = Tensor::cat(
            vec![
                self.layer("Mixed_6a.branch3x3", h.clone(), 2, [0, 0]),
                self.layer("Mixed_6a.branch3x3dbl_3", narrow, 2, [0, 0]),
                pool(h),
            ],
            1,
        );
        for block in ["Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"] {
            let (row, column) = ([0, 3], [3, 0]);
            let short = [("branch7x7_1", [0, 0]), ("branch7x7_2", row), ("branch7x7_3", column)];
            let long = [
                ("branch7x7dbl_1", [0, 0]),
                ("branch7x7dbl_2", column),
                ("branch7x7dbl_3", row),
                ("branch7x7dbl_4", column),
                ("branch7x7dbl_5", row),
            ];
            h = Tensor::cat(
                vec![
                    self.chain(block, h.clone(), &[("branch1x1", [0, 0])]),
                    self.chain(block, h.clone(), &short),
                    self.chain(block, h.clone(), &long),
                    self.chain(block, average(h), &[("branch_pool", [0, 0])]),
                ],
                1,
            );
        }
        let narrow = self.layer("Mixed_7a.branch3x3_1", h.clone(), 1, [0, 0]);
        let long =
            [("branch7x7x3_1", [0, 0]), ("branch7x7x3_2", [0, 3]), ("branch7x7x3_3", [3, 0])];
        let long = self.chain("Mixed_7a", h.clone(), &long);
        h = Tensor::cat(
            vec![
                self.layer("Mixed_7a.branch3x3_2", narrow, 2, [0, 0]),
                self.layer("Mixed_7a.branch7x7x3_4", long, 2, [0, 0]),
                pool(h),
            ],
            1,
        );
        for (block, last) in [("Mixed_7b", false), ("Mixed_7c", true)] {
            // Each branch ends in two halves, 1x3 and 3x1.
            let halves = |h: Tensor<4>, name: &str| {
                let half = |part: &str, padding| {
                    self.layer(&format!("{block}.{name}{part}"), h.clone(), 1, padding)
                };
                Tensor::cat(vec![half("a", [0, 1]), half("b", [1, 0])], 1)
            };
            let short = self.chain(block, h.clone(), &[("branch3x3_1", [0, 0])]);
            let long = self.chain(
                block,
                h.clone(),
                &[("branch3x3dbl_1", [0, 0]), ("branch3x3dbl_2", [1, 1])],
            );
            let pooled = if last { highest(h.clone()) } else { average(h.clone()) };
            h = Tensor::cat(
                vec![
                    self.chain(block, h, &[("branch1x1", [0, 0])]),
                    halves(short, "branch3x3_2"),
                    halves(long, "branch3x3dbl_3"),
                    self.chain(block, pooled, &[("branch_pool", [0, 0])]),
                ],
                1,
            );
        }
        let [b, c, height, width] = h.dims();
        h.reshape([b, c, height * width]).mean_dim(2).reshape([b, c])
    }

    /// Applies layers of `block` in sequence, each with its padding.
    fn chain(&self, block: &str, x: Tensor<4>, layers: &[(&str, [usize; 2])]) -> Tensor<4> {
        layers
            .iter()
            .fold(x, |h, (name, padding)| self.layer(&format!("{block}.{name}"), h, 1, *padding))
    }

    /// Applies a convolution with its folded BatchNorm, and ReLU.
    fn layer(&self, name: &str, x: Tensor<4>, stride: usize, padding: [usize; 2]) -> Tensor<4> {
        let (weight, bias) = &self.layers[name];
        relu(conv2d(
            x,
            weight.clone(),
            Some(bias.clone()),
            ConvOptions::new([stride; 2], padding, [1; 2], 1),
        ))
    }
}

fn average(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(
        x,
        AvgPoolOptions::new([3, 3])
            .with_stride([1, 1])
            .with_padding([1, 1])
            .with_count_include_pad(false),
    )
}

fn highest(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]))
}

/// Returns the matrix `[299, side]` that resizes `side` pixels to 299: bilinear, with pixels as
/// areas (PyTorch's `align_corners=False`).
fn bilinear(side: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; SIDE * side];
    for (i, row) in matrix.chunks_exact_mut(side).enumerate() {
        let at = ((i as f64 + 0.5) * side as f64 / SIDE as f64 - 0.5).max(0.0);
        let low = (at as usize).min(side - 1);
        let share = (at - low as f64) as f32;
        row[low] += 1.0 - share;
        row[(low + 1).min(side - 1)] += share;
    }
    matrix
}
