//! Initial weights, sampled on the host: the same seed gives the same weights on every device.

use crate::rng::{self, Purpose};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;

/// Initialises every convolution and linear layer of `module`: weights and biases are sampled from
/// U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. Norms keep scale 1 and shift 0.
pub(super) fn initialise<M: Module>(module: M, seed: u64) -> M {
    module.map(&mut Initialise { seed, path: Vec::new(), fan_in: 1 })
}

struct Initialise {
    seed: u64,
    path: Vec<String>,
    /// Fan-in of the layer whose weight was visited last; its bias uses it too.
    fan_in: usize,
}

impl ModuleMapper for Initialise {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.last().map(String::as_str);
        if !matches!(name, Some("weight" | "bias")) {
            return param;
        }
        let shape = param.lazy_shape();
        if name == Some("weight") {
            // Convolutions are [out, in, k, k]; Burn's linear layers are [in, out].
            self.fan_in = if D == 4 { shape[1] * shape[2] * shape[3] } else { shape[0] };
        }
        let bound = 1.0 / (self.fan_in as f32).sqrt();
        let path = self.path.join(".");
        let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut stream = rng::stream(self.seed, Purpose::Weights, hash);
        let values: Vec<f32> =
            (0..shape.num_elements()).map(|_| stream.random_range(-bound..bound)).collect();
        param.map(|old| {
            let tracked = old.is_require_grad();
            Tensor::from_data(TensorData::new(values, shape), &old.device())
                .set_require_grad(tracked)
        })
    }
}
