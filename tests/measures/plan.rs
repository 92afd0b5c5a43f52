//! Networks recorded as a plan and replayed on plain wgpu, as the page of `soda export --web` does
//! in a browser.

use burn::tensor::{Device, Tensor, TensorData};
use soda::config::{BUILT_IN, Config};
use soda::device::{self, Class, Selected};
use soda::kernels::conv2d::{Conv2dOptions, conv2d};
use soda::kernels::plan::{Checks, End, Operand, Player, Recorder, profile};
use soda::kernels::testing::{with_class, with_profile};
use soda::model::weights::to_host;
use soda::model::{Soda, parameters};
use soda::rng::{self, Purpose};
use soda::web::{LARGEST_BINDING, operands, record};
use std::collections::BTreeMap;

fn adapter() -> Selected {
    device::select("wgpu").expect("an adapter; scripts/test.sh installs a software one")
}

fn random(stream: u64, shape: &[usize]) -> Vec<f32> {
    rng::normal(&mut rng::stream(9, Purpose::Test, stream), shape.iter().product())
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Returns the largest difference, and the largest value of `b`.
fn difference(a: &[f32], b: &[f32]) -> (f32, f32) {
    assert!(a.len() == b.len() && a.iter().chain(b).all(|v| v.is_finite()));
    let largest = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    (a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())), largest)
}

/// Returns the recipe of a small network for 16 x 16 pixels.
fn config(sets: &[&str]) -> Config {
    let small = [
        "data.side=16",
        "model.z_dim=20",
        "model.encoder.base=8",
        "model.unet.base=8",
        "model.unet.multipliers=[1, 2]",
        "model.unet.attention=[16]",
        "model.unet.groups=4",
        "model.unet.final_groups=4",
    ];
    let sets: Vec<String> = small.iter().chain(sets).map(|set| (*set).to_owned()).collect();
    let (name, text) =
        BUILT_IN.iter().find(|(name, _)| name.ends_with("/tiny.toml")).expect("a recipe");
    Config::parse(text, name, &sets).expect("a recipe")
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

#[test]
fn a_plan_computes_what_the_program_computes() {
    let _alone = crate::alone();
    let adapter = adapter();
    let whole = [
        "model.unet.layer_modulation=false",
        "train.layer_mask=0",
        "model.encoder.stem=\"7x7\"",
        "sample.guidance=1",
    ];
    for sets in [&[][..], &whole] {
        let config = config(sets);
        let model = Soda::new(&config.model, 3, &adapter.device);
        let recorder =
            record(&model, &config.model, LARGEST_BINDING, &adapter.device).expect("a plan");
        let tensors = to_host(parameters::collect(&model)).expect("read");
        let tensors = operands(&recorder, &tensors).expect("all tensors");
        let tensors: BTreeMap<String, Vec<f32>> =
            tensors.into_iter().map(|(name, _, values)| (name, values)).collect();
        let place = adapter.adapter.as_ref().expect("an adapter");
        let [player, browser] = [Checks::None, Checks::Browser]
            .map(|checks| Player::new(place, &recorder.plan, &tensors, checks).expect("a player"));
        let width = config.model.mixable().last().expect("a stage").end;
        for batch in [1, 8] {
            let image = [batch, 16, 16, 3];
            let [pixels, x_t, z] = [(1, &image[..]), (2, &image[..]), (3, &[batch, width][..])]
                .map(|(stream, shape)| random(stream, shape));
            let t: Vec<f32> = (0..batch).map(|i| (i + 1) as f32 / 10.0).collect();
            let waves = host(model.waves(tensor(&t, [batch], &adapter.device)));
            let played_z = player
                .run(&format!("encode_{batch}"), &[("image", &pixels)])
                .expect("played")
                .remove("z")
                .expect("z");
            let inputs = [("x_t", &x_t[..]), ("waves", &waves), ("z", &z)];
            let played = player
                .run(&format!("denoise_{batch}"), &inputs)
                .expect("played")
                .remove("prediction")
                .expect("it");

            let map = |values: &[f32]| tensor(values, image, &adapter.device).permute([0, 3, 1, 2]);
            let program = || {
                let own_z = host(model.encode(map(&pixels)));
                let mask = Tensor::ones([batch, 1], &adapter.device);
                let eps = model.predict(
                    map(&x_t),
                    tensor(&t, [batch], &adapter.device),
                    tensor(&z, [batch, width], &adapter.device),
                    mask,
                    None,
                    None,
                );
                [own_z, host(eps.permute([0, 2, 3, 1]))]
            };
            let same = with_profile(profile(), program);
            for (what, played, same) in
                [("z", &played_z, &same[0]), ("the prediction", &played, &same[1])]
            {
                assert_eq!(difference(played, same).0, 0.0, "{what} of {batch} images");
            }
            // A browser checks indices and loops; none of our kernels relies on what it does with
            // bad ones.
            let in_browser = browser.run(&format!("denoise_{batch}"), &inputs).expect("played");
            let (worst, largest) = difference(&in_browser["prediction"], &played);
            assert!(worst <= 1e-5 * largest, "{worst} of {largest}");
            // The program's own kernels on this adapter sum in another order.
            for (played, own) in
                [&played_z, &played].into_iter().zip(with_class(Class::Software, program))
            {
                let (worst, largest) = difference(played, &own);
                assert!(worst <= 1e-5 * largest, "{worst} of {largest}");
            }
            // Negative control: another z is detected.
            let other: Vec<f32> = z.iter().map(|v| v + 0.1).collect();
            let moved = player
                .run(
                    &format!("denoise_{batch}"),
                    &[("x_t", &x_t), ("waves", &waves), ("z", &other)],
                )
                .expect("played");
            assert!(difference(&moved["prediction"], &played).0 > 1e-4, "z changes nothing");
        }
        // No launch binds a buffer that it writes twice.
        for dispatch in recorder.plan.passes.values().flat_map(|pass| &pass.dispatches) {
            let writes = &recorder.plan.kernels[dispatch.kernel].writes;
            for (i, operand) in dispatch.operands.iter().enumerate().filter(|(i, _)| writes[*i]) {
                assert!(matches!(operand, Operand::Buffer(_)), "{}", dispatch.label);
                assert_eq!(
                    dispatch.operands.iter().filter(|other| *other == operand).count(),
                    1,
                    "{}: operand {i}",
                    dispatch.label
                );
            }
        }
    }
}

#[test]
fn an_operation_without_a_kernel_of_ours_is_an_error_that_names_the_launch() {
    let _alone = crate::alone();
    let adapter = adapter();
    let device = &adapter.device;
    let convolve =
        |x: Tensor<4>, weight: Tensor<4>| conv2d(x, weight, None, None, Conv2dOptions::same(3, 1));
    let pass = |doubled: bool| {
        let mut recorder = Recorder::default();
        let done = recorder.pass(
            "twice",
            |begin| {
                let (x, weight) = (
                    Tensor::<4>::zeros([1, 8, 8, 4], device).permute([0, 3, 1, 2]),
                    Tensor::<4>::zeros([4, 4, 3, 3], device),
                );
                begin.input("x", &x, &[1, 8, 8, 4])?;
                begin.tensor("weight", &weight)?;
                Ok((x, weight))
            },
            |(x, weight)| {
                let h = convolve(x, weight.clone());
                let y = convolve(if doubled { h * 2.0 } else { h }, weight);
                End::default().output("y", &y, &[1, 8, 8, 4])
            },
        );
        done.map(|()| recorder.plan)
    };
    let plan = pass(false).expect("kernels of ours alone");
    assert_eq!(plan.passes["twice"].dispatches.len(), 4, "each packs its weight and convolves");
    let message = pass(true).expect_err("a multiplication of Burn's").to_string();
    assert!(
        message.contains("twice: launch")
            && message.contains("conv2d forward")
            && message.contains("no recorded launch wrote"),
        "{message}"
    );
}

#[test]
fn passes_have_no_larger_buffers_than_browsers_bind() {
    let _alone = crate::alone();
    let adapter = adapter();
    let config = config(&[]);
    let model = Soda::new(&config.model, 3, &adapter.device);
    let passes = |largest| {
        record(&model, &config.model, largest, &adapter.device).map(|recorder| recorder.plan.passes)
    };
    let needed = passes(LARGEST_BINDING)
        .expect("a plan")
        .iter()
        .filter(|(name, _)| name.ends_with("_1"))
        .flat_map(|(_, pass)| pass.buffers.clone())
        .max()
        .expect("buffers");
    let names = |largest| passes(largest).map(|all| all.into_keys().collect::<Vec<_>>());
    let all = ["denoise_1", "denoise_8", "encode_1", "encode_8"];
    assert_eq!(names(8 * needed).expect("all passes"), all);
    assert_eq!(names(8 * needed - 1).expect("passes of one image"), ["denoise_1", "encode_1"]);
    let message = names(needed - 1).expect_err("too large").to_string();
    assert!(message.contains("browsers may bind only"), "{message}");
}

#[test]
fn plans_of_other_versions_missing_tensors_and_wrong_inputs_are_refused() {
    let _alone = crate::alone();
    let adapter = adapter();
    let config = config(&[]);
    let model = Soda::new(&config.model, 3, &adapter.device);
    let recorder = record(&model, &config.model, LARGEST_BINDING, &adapter.device).expect("a plan");
    let place = adapter.adapter.as_ref().expect("an adapter");
    let mut plan = recorder.plan.clone();
    plan.version += 1;
    let refused = |plan| {
        Player::new(place, plan, &BTreeMap::new(), Checks::None)
            .err()
            .expect("an error")
            .to_string()
    };
    assert!(refused(&plan).contains("version 2"));
    assert!(refused(&recorder.plan).contains("which is missing"));
    // A round trip through JSON gives the same plan.
    let text = serde_json::to_string(&recorder.plan).expect("JSON");
    assert_eq!(
        serde_json::from_str::<soda::kernels::plan::Plan>(&text).expect("a plan"),
        recorder.plan
    );
}
