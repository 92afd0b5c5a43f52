//! Import and export of torchvision's ResNet-18, and its names for the tensors of our encoder.

use super::pytorch::{Checkpoint, Tensor};
use super::translate::{Which, networks, translate, transpose};
use super::weights::Tensors;
use crate::config::{Config, Stem};
use crate::error::{Error, Hint, Result};
use crate::model::{Soda, parameters};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::path::Path;

/// The recipe from which imported weights take their data set, views and probe.
const RECIPE: &str = "configs/tiny.toml";

/// Returns torchvision's name for the tensor `ours` of our encoder (without "encoder.").
pub fn their_name(ours: &str) -> String {
    let (module, leaf) = ours.rsplit_once('.').unwrap_or(("", ours));
    let leaf = match leaf {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    let module = match module.split('.').collect::<Vec<_>>()[..] {
        ["stem"] => "conv1".to_owned(),
        ["stem_norm"] => "bn1".to_owned(),
        ["head"] => "fc".to_owned(),
        ["blocks", i, part] => {
            let i: usize = i.parse().expect("our names count their parts");
            let part = match part {
                "norm1" => "bn1",
                "norm2" => "bn2",
                "shortcut" => "downsample.0",
                "shortcut_norm" => "downsample.1",
                conv => conv,
            };
            format!("layer{}.{}.{part}", 1 + i / 2, i % 2)
        }
        _ => unreachable!("a tensor that is missing from this list: {ours}"),
    };
    format!("{module}.{leaf}")
}

/// Imports the encoder from the state dictionary in `path` under our names. Returns it with a
/// recipe, to which `overrides` are applied. The last layer, a classifier for the classes it was
/// trained on, is left out: z is the pooled vector of 8 * base dimensions.
///
/// # Errors
/// If the file can't be read (see [`Checkpoint`]) or holds another network; the message names the
/// missing, unknown or misshapen tensor.
pub fn import(path: &Path, which: Which, overrides: &[String]) -> Result<(Tensors, Config)> {
    let mut checkpoint = Checkpoint::open(path)?;
    let mut tensors = networks(&checkpoint, which, "torchvision")?;
    let failed = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let (base, stem) = sizes(&tensors).map_err(failed)?;
    tensors.retain(|name, _| !name.starts_with("fc."));
    // ImageNet's mean and standard deviation, with which torchvision normalises; a placeholder for
    // the denoiser, which the file doesn't have.
    let mut sets = vec![
        "data.mean=[0.485,0.456,0.406]".into(),
        "data.std=[0.229,0.224,0.225]".into(),
        format!("model.z_dim={}", 8 * base),
        format!("model.encoder.base={base}"),
        "model.unet.base=8".into(),
        "model.unet.multipliers=[1]".into(),
        "sample.start=1".into(),
    ];
    if stem == Stem::Conv7x7 {
        sets.extend(["model.encoder.stem=7x7".into(), "data.side=64".into()]);
    }
    sets.extend_from_slice(overrides);
    let config = Config::of_checkpoint(RECIPE, path, &sets)?;
    if config.model.z_dim != 8 * config.model.encoder.base {
        let (z, pooled) = (config.model.z_dim, 8 * config.model.encoder.base);
        return Err(Error::usage(format!(
            "model.z_dim = {z}: the z of torchvision's encoder is its pooled vector of {pooled} \
             dimensions; leave the key out"
        )));
    }
    let shapes = parameters::shapes(&Soda::blank(&config.model, &Device::flex()).encoder);
    let named = shapes.into_iter().filter(|(ours, _)| !ours.starts_with("head."));
    let named =
        named.map(|(ours, shape)| (their_name(&ours), format!("encoder.{ours}"), shape)).collect();
    let mut out = translate(&mut checkpoint, &tensors, named, failed)?;
    let z = config.model.z_dim;
    let identity = (0..z * z).map(|i| if i % (z + 1) == 0 { 1.0 } else { 0.0 }).collect();
    out.extend([
        ("encoder.head.weight".into(), vec![z, z], identity),
        ("encoder.head.bias".into(), vec![z], vec![0.0; z]),
    ]);
    Ok((out, config))
}

/// Returns the number of channels of the first stage, and the stem.
fn sizes(tensors: &BTreeMap<String, Tensor>) -> std::result::Result<(usize, Stem), String> {
    let stem = tensors.get("conv1.weight").map(|tensor| &tensor.shape[..]);
    match stem {
        Some([base, 3, 3, 3]) if *base > 0 => Ok((*base, Stem::Conv3x3)),
        Some([base, 3, 7, 7]) if *base > 0 => Ok((*base, Stem::Conv7x7)),
        Some(other) => Err(format!(
            "conv1.weight has shape {other:?}; a ResNet's has [64, 3, 7, 7] or [64, 3, 3, 3]"
        )),
        None => Err("there is no conv1.weight, so it isn't a torchvision ResNet".into()),
    }
}

/// Exports the encoder among `tensors` (under our names) as a state dictionary of torchvision's
/// `resnet18(num_classes=Z)`.
///
/// # Errors
/// If the encoder's width differs from that of torchvision's ResNet-18, which has only one.
pub fn export(tensors: &Tensors, config: &Config) -> Result<Tensors> {
    let base = config.model.encoder.base;
    if base != 64 {
        return Err(Error::usage(format!(
            "this encoder has {base} channels in its first stage, but torchvision's resnet18 has 64; \
             {} writes it with torchvision's names after \"encoder.\"",
            Hint::PyTorchFormat
        )));
    }
    Ok(pytorch(tensors)
        .into_iter()
        .filter_map(|(name, shape, values)| {
            Some((name.strip_prefix("encoder.")?.to_owned(), shape, values))
        })
        .collect())
}

/// Converts `tensors` (under our names) to PyTorch's layouts: linear layers `[out, in]`, gains and
/// shifts as `weight` and `bias`, and the encoder under torchvision's names.
pub fn pytorch(tensors: &Tensors) -> Tensors {
    let one = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
        let name = match (
            name.strip_prefix("encoder."),
            name.strip_suffix(".gamma"),
            name.strip_suffix(".beta"),
        ) {
            (Some(ours), ..) => format!("encoder.{}", their_name(ours)),
            (_, Some(norm), _) => format!("{norm}.weight"),
            (.., Some(norm)) => format!("{norm}.bias"),
            _ => name.clone(),
        };
        match shape[..] {
            [inputs, outputs] => (name, vec![outputs, inputs], transpose(values, inputs, outputs)),
            _ => (name, shape.clone(), values.clone()),
        }
    };
    tensors.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_exported_has_torchvisions_names_and_is_imported_again() {
        let config = Config::built_in("tiny", &["model.encoder.base=64".into()]).expect("a recipe");
        let model = Soda::new(&config.model, 1, &Device::flex());
        let tensors = weights::to_host(parameters::collect(&model)).expect("read");
        let exported = export(&tensors, &config).expect("the width of torchvision's");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.safetensors");
        weights::write(&path, &exported, Default::default()).expect("written");
        let (again, _) = import(&path, Which::Model, &[]).expect("torchvision's encoder");
        let own = |name: &str| tensors.iter().find(|(other, ..)| other == name).expect("ours");
        let kept: Vec<_> = again.iter().filter(|(name, ..)| !name.contains(".head.")).collect();
        assert!(kept.len() > 90 && kept.iter().all(|tensor| *tensor == own(&tensor.0)));

        // Names that torchvision itself has written.
        let golden =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/torchvision/large.safetensors");
        let golden = std::fs::read(golden).expect("a golden file");
        let theirs = safetensors::SafeTensors::deserialize(&golden).expect("whole").tensors();
        let theirs: BTreeSet<_> = theirs.into_iter().map(|(name, _)| name).collect();
        let ours: BTreeSet<_> = exported.into_iter().map(|(name, ..)| name).collect();
        assert!(theirs.is_superset(&ours));
        assert!(theirs.difference(&ours).all(|name| name.ends_with("num_batches_tracked")));
    }
}
