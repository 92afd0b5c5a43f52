//! The WGSL kernels against plain tensor operations on the CPU backend: value and every gradient, with the tiles of real GPUs
//! and of software adapters, whichever adapter this is.

use crate::common;
use crate::common::cases::{self, random};
use burn::tensor::{Device, Tensor};
use soda::kernels::adamw::{self, Options, Parameter};
use soda::kernels::batch_norm::batch_norm;
use soda::kernels::launch::{Class, force_class};
use soda::kernels::profile::observe;

/// Runs `check` with either class's tiles, alone: some count launches.
fn with_every_tile(check: impl Fn(&Device)) {
    let _alone = crate::alone();
    for class in [Class::Gpu, Class::Software] {
        force_class(Some(class));
        check(&common::wgpu());
        force_class(None);
    }
}

#[test]
fn batch_norm_equals_burns_in_value_gradients_and_running_mean() {
    with_every_tile(cases::batch_norm);
}

#[test]
fn batch_norm_keeps_its_digits_far_from_zero() {
    with_every_tile(cases::batch_norm_far_from_zero);
}

#[test]
fn concatenation_equals_its_composition() {
    with_every_tile(cases::feature_map);
}

#[test]
fn adamw_equals_its_composition() {
    // WGSL's division and square root may be a few units in the last place off.
    with_every_tile(|device| cases::adamw(device, 1e-5, 1e-5));
}

#[test]
fn adamw_leaves_tensors_that_others_hold() {
    with_every_tile(cases::adamw_leaves_tensors_that_others_hold);
}

/// What it is for: an update in place, no copy beside it.
#[test]
fn operations_take_few_launches() {
    with_every_tile(|device| {
        let make = |i| random([40], i, device);
        let parameter = Parameter { weight: make(0), first: make(1), second: make(2), average: make(3) };
        let (grad, clip) = (make(4), Tensor::ones([1], device));
        let options = Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 1, ema_decay: 0.5 };
        let (_, update) = observe(false, || adamw::adamw(parameter, grad, clip, options));
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
