//! The peaks in the catalogue.

use super::{copy, multiply_add, wgsl};
use crate::kernels::catalog::{Case, Input, Layer, Operation, Suite, Tolerances};
use crate::kernels::shader::Filled;
use burn::tensor::Tensor;

/// The peaks in the catalogue. The benchmark measures them first and compares all cases with them.
pub struct PeakOperation;

impl Operation for PeakOperation {
    fn name(&self) -> &'static str {
        "peak"
    }

    fn cases(&self, suite: Suite) -> Vec<Case> {
        if suite != Suite::Test {
            return Vec::new();
        }
        let case = |kernel, variant: &str, run: fn(Tensor<1>) -> Tensor<1>| {
            let inputs = vec![Input::vector("x", 3 * 1024).constant()];
            let case = Case::new(
                kernel,
                &[3 * 1024],
                inputs,
                Tolerances::both(1e-6, 1e-6),
                move |inputs| vec![("the value", run(inputs.vector("x")).into())],
            );
            case.variant(variant)
        };
        // With few rounds the result depends on their number, which the throughput is computed
        // from.
        vec![
            case("copy", "all", copy),
            case("multiply_add", "40 rounds", |x| multiply_add(x, 40)),
            case("multiply_add", "5 rounds", |x| multiply_add(x, 5)),
            case("multiply_add", "11 rounds", |x| multiply_add(x, 11)),
        ]
    }

    fn shaders(&self) -> Vec<Filled> {
        wgsl::shaders()
    }

    fn launched(&self, _layers: &[Layer], _batch: usize) -> Vec<Filled> {
        wgsl::shaders()
    }
}
