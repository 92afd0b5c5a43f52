//! The number of launches of operations on wgpu devices, with the tiles of real GPUs and of
//! software adapters.

use crate::common;
use burn::tensor::{Device, Tensor};
use soda::device::{Class, lasting};
use soda::kernels::adamw::{self, Options, Parameter};
use soda::kernels::batch_norm::batch_norm;
use soda::kernels::catalog::random;
use soda::kernels::linear::dense;
use soda::kernels::profile::observe;
use soda::kernels::testing::with_class;
use soda::kernels::vjp::vjp;

/// Runs `check` with the tiles of each class, without other tests, since launches are counted.
fn with_every_tile(check: impl Fn(&Device)) {
    let _alone = crate::alone();
    for class in [Class::Gpu, Class::Software] {
        with_class(class, || check(&common::wgpu()));
    }
}

/// AdamW updates in place: one launch, and no copies.
#[test]
fn operations_take_few_launches() {
    with_every_tile(|device| {
        let make = |i| random([40], i, device);
        let parameter =
            Parameter { weight: make(0), first: make(1), second: make(2), average: make(3) };
        let (grad, clip) = (make(4), Tensor::ones([1], device));
        let options =
            Options { lr: 1e-2, weight_decay: 0.05, betas: [0.9, 0.95], update: 1, ema_decay: 0.5 };
        let factors = Tensor::from_floats(options.factors(), device);
        let (_, update) = observe(false, || adamw::adamw(parameter, grad, clip, factors));
        assert_eq!(update.launches(), 1, "{update:?}");

        // Six tensors per launch, and one launch for the square root.
        for (count, launches) in [(1, 2), (6, 2), (7, 3), (13, 4)] {
            let tensors = (0..count).map(make).collect();
            let (_, norm) = observe(false, || adamw::norm(tensors));
            assert_eq!(norm.launches(), launches, "{count}: {norm:?}");
        }

        let learning = device.clone().autodiff();
        // The weights are packed from their own layout, and their gradient is written in it: no
        // copy. Two launches forward; backward two for each of x and the weight, one for the bias.
        let layer = burn::nn::LinearConfig::new(8, 12).init(&learning);
        let (x, offset) =
            (random([3, 8], 9, &learning).require_grad(), random([3, 12], 10, &learning));
        let run = || dense(&layer, x.clone(), Some(offset.clone()));
        let y = run();
        let (_, forward) = observe(false, run);
        assert_eq!(forward.launches(), 2, "{forward:?}");
        let dy = random([3, 12], 11, device);
        let grads = || {
            layer
                .weight
                .val()
                .grad(&vjp(y.clone(), Tensor::from_inner(dy.clone())))
                .map(|grad| grad.reshape([96]))
        };
        let (_, backward) = observe(false, grads);
        // One more is the graph's root.
        assert!(backward.kernels.keys().all(|name| !name.contains("Copy")), "{backward:?}");
        assert_eq!(backward.launches(), 6, "{backward:?}");

        let layer = burn::nn::BatchNormConfig::new(8).init(&learning);
        let x = random([2, 4, 4, 8], 8, &learning).permute([0, 3, 1, 2]).detach().require_grad();
        // The first call also creates the layer's parameters.
        batch_norm(&layer, x.clone(), None, true);
        let (_, forward) = observe(false, || batch_norm(&layer, x.clone(), None, true));
        assert_eq!(forward.launches(), 4, "{forward:?}");
    });
}

#[test]
fn lasting_tensors_are_allocated_outside_the_pools() {
    let _alone = crate::alone();
    let device = common::wgpu();
    let held = || {
        device
            .memory_pool_report()
            .expect("pools")
            .iter()
            .map(|p| p.page_size * p.pages_peak)
            .sum::<u64>()
    };
    // Memory that is never written is never backed by pages. A software adapter's largest pool page
    // has 128 MiB.
    let make = || Tensor::<1>::empty([25 << 20], &device);
    let before = held();
    let lasts = lasting(&device, make);
    assert_eq!(held(), before);
    let other = make();
    assert!(held() > before, "{before}");
    drop((lasts, other));
    device.memory_cleanup();
}
