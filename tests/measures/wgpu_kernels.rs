//! How many launches operations take on wgpu devices, with the tiles of real GPUs and of software adapters.

use crate::common;
use burn::tensor::{Device, Tensor};
use soda::device::Class;
use soda::kernels::adamw::{self, Options, Parameter};
use soda::kernels::batch_norm::batch_norm;
use soda::kernels::catalog::random;
use soda::kernels::profile::observe;
use soda::kernels::testing::with_class;

/// Runs `check` with either class's tiles, alone: launches are counted.
fn with_every_tile(check: impl Fn(&Device)) {
    let _alone = crate::alone();
    for class in [Class::Gpu, Class::Software] {
        with_class(class, || check(&common::wgpu()));
    }
}

/// What it is for: an update in place, no copy beside it.
#[test]
fn operations_take_few_launches() {
    with_every_tile(|device| {
        let make = |i| random([40], i, device);
        let parameter = Parameter { weight: make(0), first: make(1), second: make(2), average: make(3) };
        let (grad, clip) = (make(4), Tensor::ones([1], device));
        let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 1, ema_decay: 0.5 };
        let factors = Tensor::from_floats(options.factors(), device);
        let (_, update) = observe(false, || adamw::adamw(parameter, grad, clip, factors));
        assert_eq!(update.launches(), 1, "{update:?}");

        let tensors = vec![make(5), make(6), make(7)];
        let (_, norm) = observe(false, || adamw::norm(tensors));
        assert_eq!(norm.launches(), 4, "{norm:?}");

        let learning = device.clone().autodiff();
        let layer = burn::nn::BatchNormConfig::new(8).init(&learning);
        let x = random([2, 4, 4, 8], 8, &learning).permute([0, 3, 1, 2]).detach().require_grad();
        // The first call also makes the layer's parameters.
        batch_norm(&layer, x.clone(), None, true);
        let (_, forward) = observe(false, || batch_norm(&layer, x.clone(), None, true));
        assert_eq!(forward.launches(), 4, "{forward:?}");
    });
}
