use super::*;

/// Networks with two residual blocks a stage and attention, and 7 images.
fn setup() -> (Config, Soda, Images) {
    let set = [
        "model.z_dim=6",
        "model.encoder.base=4",
        "model.unet.base=8",
        "model.unet.multipliers=[1,2]",
        "model.unet.blocks=2",
        "model.unet.attention=[16]",
        "model.unet.groups=2",
        "model.unet.final_groups=2",
    ];
    let config = Config::parse(
        include_str!("../../../../configs/quick.toml"),
        "quick",
        &set.map(String::from),
    )
    .unwrap();
    let model = Soda::new(&config.model, 3, &Device::flex());
    let pixels = (0..7 * 3072).map(|i| (rng::mix(i as u64 / 5) % 256) as u8).collect();
    (config, model, Images::new(32, pixels, (0..7).collect()))
}

fn kinds(names: &[&str]) -> Vec<FeatureKind> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn taken(
    setup: &(Config, Soda, Images),
    names: &[&str],
    indices: &[usize],
    flips: bool,
) -> Vec<Features> {
    extract(&setup.1, &setup.2, indices, &setup.0, &kinds(names), flips, &Device::flex()).unwrap()
}

/// The largest difference, relative to the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|v| v.is_finite()));
    let largest = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.0);
    a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn several_kinds_at_once_equal_the_same_kinds_one_at_a_time() {
    let setup = setup();
    let names = [
        "denoiser:up1.0@50",
        "z",
        "denoiser:middle@900",
        "backbone",
        "denoiser:up1.0@900",
        "denoiser:down0.1@50",
    ];
    let all = taken(&setup, &names, &[4, 0, 6], false);
    for ((name, features), kind) in names.iter().zip(&all).zip(kinds(&names)) {
        let alone = taken(&setup, &[name], &[4, 0, 6], false);
        assert_eq!(features, &alone[0], "{name}");
        assert_eq!(
            (features.dim, features.rows(), features.labels.as_slice()),
            (kind.dim(&setup.0).unwrap(), 3, &[4, 0, 6][..])
        );
        assert!(features.values.iter().all(|v| v.is_finite()), "{name}");
    }
    // Negative control: at another noise level the same block gives other features.
    assert!(difference(&all[0].values, &all[4].values) > 0.01);
    // z equals the output of the encoder alone.
    let encoded =
        super::super::encode(&setup.1, &setup.2, &[4, 0, 6], &setup.0.data, false, &Device::flex())
            .unwrap();
    assert_eq!(encoded, all[1]);
}

#[test]
fn features_do_not_depend_on_the_batch_or_the_position_in_it() {
    let (config, model, images) = setup();
    let kinds = kinds(&["z", "backbone", "denoiser:up0.2@11"]);
    let device = Device::flex();
    let extractor = Extractor::new(&model, &config, &kinds, &device).unwrap();
    let pixels: Vec<Vec<u8>> = (0..7).map(|i| images.image(i).unwrap().to_vec()).collect();
    let whole = extractor.features(&pixels).unwrap();
    for (kind, whole) in whole.iter().enumerate() {
        let dim = whole.len() / 7;
        for i in 0..7 {
            let alone = &extractor.features(&pixels[i..=i]).unwrap()[kind];
            // Matrix products sum in another order.
            assert!(
                difference(alone, &whole[i * dim..][..dim]) < 1e-5,
                "{} image {i}",
                kinds[kind]
            );
            let other = (i + 1) % 7;
            assert!(
                difference(alone, &whole[other * dim..][..dim]) > 1e-3,
                "{} image {i} compared with {other}",
                kinds[kind]
            );
        }
    }
}

#[test]
fn features_of_mirrored_images_are_appended() {
    let setup = setup();
    let mut mirrored = setup.2.select(&[1, 2]);
    let pixels = (0..2).flat_map(|i| {
        let mut image = mirrored.image(i).unwrap().to_vec();
        flip(&mut image);
        image
    });
    mirrored = Images::new(32, pixels.collect(), vec![1, 2]);
    let names = ["z", "denoiser:middle@300"];
    let both = taken(&setup, &names, &[1, 2], true);
    let alone =
        extract(&setup.1, &mirrored, &[0, 1], &setup.0, &kinds(&names), false, &Device::flex())
            .unwrap();
    for (both, alone) in both.iter().zip(&alone) {
        let half = both.values.len() / 2;
        assert_eq!((both.rows(), both.labels.as_slice()), (4, &[1, 2, 1, 2][..]));
        assert_eq!(&both.values[half..], alone.values);
        assert!(difference(&both.values[..half], &both.values[half..]) > 1e-3);
    }
}

#[test]
fn every_level_has_a_name_and_its_width() {
    let (config, model, images) = setup();
    let device = Device::flex();
    let x = Tensor::<4>::zeros([2, 3, 32, 32], &device);
    let pooled = model.activations(x, Tensor::ones([2], &device), Tensor::ones([2, 6], &device));
    let levels = config.model.unet.levels();
    assert_eq!(levels.len(), pooled.len());
    for ((name, width), pooled) in levels.iter().zip(&pooled) {
        assert_eq!(pooled.dims(), [2, *width], "{name}");
    }
    let names: Vec<&str> = levels.iter().map(|(name, _)| name.as_str()).collect();
    let want = "down0.0 down0.1 down1.0 down1.1 middle up1.0 up1.1 up1.2 up0.0 up0.1 up0.2";
    assert_eq!(names.join(" "), want);
    // The features of every level depend on the image.
    let all: Vec<String> = names.iter().map(|name| format!("denoiser:{name}@200")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for (name, features) in all.iter().zip(taken(&(config, model, images), &all, &[0, 1], false)) {
        assert!(
            difference(&features.values[..features.dim], &features.values[features.dim..]) > 1e-4,
            "{name}"
        );
    }
}

#[test]
fn kinds_parse_and_print_and_errors_name_what_is_missing() {
    let (config, model, _) = setup();
    for name in ["z", "backbone", "denoiser:up1.0@11", "denoiser:middle@1000"] {
        let kind: FeatureKind = name.parse().unwrap();
        assert_eq!(kind.to_string(), name);
        kind.check(&config).unwrap();
    }
    for bad in [
        "",
        "Z",
        "denoiser",
        "denoiser:up1.0",
        "denoiser:@3",
        "denoiser:up1.0@",
        "denoiser:up1.0@-1",
        "denoiser:up1.0@1e3",
    ] {
        let error = bad.parse::<FeatureKind>().unwrap_err();
        assert!(
            error.to_string().contains("denoiser:BLOCK@T") && error.exit_code() == 2,
            "{error}"
        );
    }
    let error = "denoiser:up1.0".parse::<FeatureKind>().unwrap_err().to_string();
    assert!(error.contains("@T is missing") && error.ends_with("denoiser:up1.0@11"), "{error}");
    let refused = |name: &str| {
        let kinds = kinds(&[name]);
        let error =
            Extractor::new(&model, &config, &kinds, &Device::flex()).err().expect("refused");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let message = refused("denoiser:up9.0@11");
    assert!(message.contains("\"up9.0\"") && message.contains("middle, up1.0, up1.1"), "{message}");
    for name in ["denoiser:middle@0", "denoiser:middle@1001"] {
        assert!(refused(name).contains("1 to 1000"), "{}", refused(name));
    }
}
