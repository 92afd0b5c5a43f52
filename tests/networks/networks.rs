//! The networks against an independent PyTorch implementation (tests/reference/networks.py).

use crate::common;
use crate::common::{assert_close, error};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use soda::config::{
    AdaGnScale, BUILT_IN, Config, EncoderConfig, ModelConfig, Sides, Stem, UNetConfig,
};
use soda::model::{Soda, parameters, weights};
use soda::train::optim::collect_gradients;
use std::collections::HashMap;
use std::path::Path;

type Golden = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/networks.safetensors");
    let (tensors, _) = weights::read(&path).expect("the golden file");
    tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect()
}

fn config(ada_gn: AdaGnScale) -> ModelConfig {
    ModelConfig {
        z_dim: 6,
        encoder: EncoderConfig { base: 4, stem: Stem::Conv3x3, normalise_z: false },
        unet: UNetConfig {
            base: 4,
            time_scale: 1.0,
            multipliers: vec![1, 2, 2, 2],
            blocks: 2,
            attention: vec![16],
            groups: 2,
            final_groups: 2,
            dropout: 0.1,
            ada_gn,
            layer_modulation: false,
            view_conditioning: false,
        },
        sides: Sides::default(),
    }
}

fn model(golden: &Golden, ada_gn: AdaGnScale, device: &Device) -> Soda {
    let weights: Golden = golden
        .iter()
        .filter(|(k, _)| !k.starts_with("golden."))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    weights::load(Soda::new(&config(ada_gn), 1, device), &weights, "golden")
        .expect("the golden weights fit")
}

fn tensor<const D: usize>(golden: &Golden, name: &str, device: &Device) -> Tensor<D> {
    let (shape, values) = &golden[name];
    Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

fn predict(golden: &Golden, ada_gn: AdaGnScale, device: &Device) -> Vec<f32> {
    let (x_t, t, z) = (
        tensor(golden, "golden.x_t", device),
        tensor(golden, "golden.t", device),
        tensor(golden, "golden.z", device),
    );
    values(model(golden, ada_gn, device).predict(
        x_t,
        t,
        z,
        Tensor::ones([2, 1], device),
        None,
        None,
    ))
}

/// Compares z, eps (both conventions), z with batch statistics, and six gradients through both
/// networks.
fn agrees_with_pytorch(device: &Device) {
    let golden = golden();
    let want = |name: &str| golden[&format!("golden.{name}")].1.clone();
    // PyTorch itself has an absolute error of 1e-5 in f32 against the stored f64 results; a norm
    // with eps 1e-6 would give 8e-5.
    let (relative, absolute) = (1e-5, 3e-5);

    let plain = model(&golden, AdaGnScale::Plain, device);
    let x_source: Tensor<4> = tensor(&golden, "golden.x_source", device);
    assert_close("z", &values(plain.encode(x_source)), &want("z"), relative, absolute);
    assert_close(
        "eps, plain",
        &predict(&golden, AdaGnScale::Plain, device),
        &want("eps_plain"),
        relative,
        absolute,
    );
    let one_plus = predict(&golden, AdaGnScale::OnePlus, device);
    assert_close("eps, 1 + scale", &one_plus, &want("eps_one_plus"), relative, absolute);
    assert!(
        error(&one_plus, &want("eps_plain"), relative, absolute) > 100.0,
        "the comparison doesn't distinguish the conventions"
    );

    let autodiff = device.clone().autodiff();
    let training = model(&golden, AdaGnScale::OnePlus, &autodiff);
    let x_source: Tensor<4> = tensor(&golden, "golden.x_source", &autodiff);
    assert_close(
        "z, batch statistics",
        &values(training.encode(x_source.clone())),
        &want("z_train"),
        relative,
        absolute,
    );

    // Gradients in evaluation mode: BatchNorm frozen, everything else tracked.
    let frozen = model(&golden, AdaGnScale::OnePlus, &autodiff).freeze().set_require_grad(true);
    let z = frozen.encode(x_source);
    let (x_t, t) =
        (tensor(&golden, "golden.x_t", &autodiff), tensor(&golden, "golden.t", &autodiff));
    let eps = frozen.predict(x_t, t, z, Tensor::ones([2, 1], &autodiff), None, None);
    let loss = (eps * tensor::<4>(&golden, "golden.g", &autodiff)).sum();
    let grads = collect_gradients(&frozen, &loss.backward());
    let wanted = golden.keys().filter_map(|k| k.strip_prefix("golden.grad."));
    assert_eq!(wanted.clone().count(), 6);
    for name in wanted {
        // PyTorch in f32 has an error of 1.1e-5 of the largest element.
        assert_close(name, &values(grads[name].clone()), &want(&format!("grad.{name}")), 5e-5, 0.0);
    }
}

#[test]
fn networks_agree_with_pytorch_on_the_cpu() {
    agrees_with_pytorch(&Device::flex());
}

#[test]
fn networks_agree_with_pytorch_on_wgpu() {
    agrees_with_pytorch(&common::wgpu());
}

/// Returns the number of layout copies in a forward and backward pass through both networks.
fn layout_copies(device: &Device) -> usize {
    let device = device.clone().autodiff();
    let golden = golden();
    let model = model(&golden, AdaGnScale::OnePlus, &device);
    let before = soda::kernels::layout::copies();
    let z = model.encode(tensor(&golden, "golden.x_source", &device));
    let (x_t, t) = (tensor(&golden, "golden.x_t", &device), tensor(&golden, "golden.t", &device));
    let eps = model.predict(x_t, t, z, Tensor::ones([2, 1], &device), None, Some(1));
    let grads = eps.square().mean().backward();
    assert!(!collect_gradients(&model, &grads).is_empty());
    soda::kernels::layout::copies() - before
}

#[test]
fn on_wgpu_only_inputs_and_the_gradient_of_the_output_are_copied() {
    let copies = layout_copies(&common::wgpu());
    // The two inputs are in NCHW and are needed again for the gradients of their stems; the
    // gradient of eps is needed three times.
    assert!(copies <= 2 * 2 + 3, "{copies} copies");
}

#[test]
fn on_the_cpu_only_inputs_and_gradients_of_concatenations_are_copied() {
    let copies = layout_copies(&Device::flex());
    // The two inputs are in NCHW and are needed again for the gradients of their stems; the
    // gradient of eps is in NCHW and is needed three times; the gradient of each of the 12
    // concatenations is two slices, which up to three kernels read.
    let (inputs, output, concatenations) = (2 * 2, 3, 12 * 2 * 3);
    assert!(copies <= inputs + output + concatenations, "{copies} copies");
}

#[test]
fn paper_size_networks_have_exactly_the_published_parameter_counts() {
    let mut checked = 0;
    for (name, text) in BUILT_IN {
        let config = Config::parse(text, name, &[]).expect("a valid recipe");
        // With sections of z the modulation layers are smaller.
        if config.model.unet.base != 128 || config.model.unet.layer_modulation {
            continue;
        }
        let soda = Soda::new(&config.model, 1, &Device::flex());
        assert_eq!(parameters::count(&soda.encoder), 11_234_496, "{name}");
        assert_eq!(parameters::count(&soda.unet), 39_595_139, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 3, "report.toml, cifar10.toml and futurexiang.toml");
}

#[test]
fn weights_of_another_width_are_refused_by_tensor_name() {
    let golden = golden();
    let weights: Golden = golden
        .iter()
        .filter(|(k, _)| !k.starts_with("golden."))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut wider = config(AdaGnScale::Plain);
    wider.unet.base = 8;
    let message = weights::load(Soda::new(&wider, 1, &Device::flex()), &weights, "w.safetensors")
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("w.safetensors: unet.") && message.contains("has shape"),
        "{message}"
    );

    let mut missing = weights.clone();
    missing.remove("encoder.head.bias");
    let narrow = Soda::new(&config(AdaGnScale::Plain), 1, &Device::flex());
    let message = weights::load(narrow.clone(), &missing, "w").unwrap_err().to_string();
    assert!(message.contains("no tensor encoder.head.bias"), "{message}");

    let mut extra = weights;
    extra.insert("unet.extra".into(), (vec![1], vec![0.0]));
    let message = weights::load(narrow, &extra, "w").unwrap_err().to_string();
    assert!(message.contains("unet.extra"), "{message}");
}

#[test]
fn initial_weights_are_the_same_on_every_device_and_differ_by_seed() {
    let weights = |seed, device: &Device| -> Vec<Vec<f32>> {
        parameters::collect(&Soda::new(&config(AdaGnScale::Plain), seed, device))
            .into_iter()
            .map(|t| values(t.values))
            .collect()
    };
    let cpu = weights(7, &Device::flex());
    assert_eq!(cpu, weights(7, &common::wgpu()));
    assert_ne!(cpu, weights(8, &Device::flex()));
}

#[test]
fn dropout_is_the_same_on_every_device_and_changes_with_its_key() {
    let golden = golden();
    let run = |device: &Device, key| {
        let (x_t, t, z) = (
            tensor(&golden, "golden.x_t", device),
            tensor(&golden, "golden.t", device),
            tensor(&golden, "golden.z", device),
        );
        values(model(&golden, AdaGnScale::OnePlus, device).predict(
            x_t,
            t,
            z,
            Tensor::ones([2, 1], device),
            None,
            key,
        ))
    };
    let cpu = run(&Device::flex(), Some(5));
    // The tolerance is for f32 rounding through the whole network, as above.
    assert_close("dropout", &run(&common::wgpu(), Some(5)), &cpu, 1e-5, 3e-5);
    for other in [Some(6), None] {
        assert!(error(&run(&Device::flex(), other), &cpu, 1e-5, 3e-5) > 100.0);
    }
}
