//! Checkpoints of FutureXiang/soda, the public PyTorch implementation for CIFAR-10, as its train.py
//! saves them: {"MODEL": weights in training (names prefixed with "module."), "EMA": their EMA
//! ("ema_model."), "opt": ..}. State dictionaries of the same networks saved by other programs are
//! read too, either bare or under one of the usual keys.
//!
//! Widths, blocks, attention and the length of z are read from the tensors. Everything else comes
//! from configs/futurexiang.toml, which follows that code: plain AdaGN scales, one attention head,
//! 32 groups (8 in the last norm), times in (0, 1], linear betas, the normalisation of its
//! datasets.py.

use super::parameters;
use super::pytorch::{Checkpoint, Tensor};
use super::soda::Soda;
use super::torchvision;
use super::translate::{networks, translate};
use super::weights::Tensors;
use crate::config::{Config, DEFAULT_SIDE, UNetConfig};
use crate::error::{Error, Result};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::path::Path;

pub use super::translate::Which;

/// Imports the weights of the checkpoint `path` under this program's names. Returns them with their
/// recipe, to which `overrides` are applied (`key=value`, as for [`Config::load`]).
///
/// # Errors
/// If the file can't be read (see [`Checkpoint`]) or holds other networks; the message names the
/// missing, unknown or misshapen tensor.
pub fn import(path: &Path, which: Which, overrides: &[String]) -> Result<(Tensors, Config)> {
    let mut checkpoint = Checkpoint::open(path)?;
    let tensors = networks(&checkpoint, which, "FutureXiang/soda")?;
    let failed =
        |what: String| Error::failed(format!("{}, {}: {what}", path.display(), which.key()));
    let mut sets = sizes(&tensors).map_err(failed)?;
    sets.extend_from_slice(overrides);
    let config = Config::of_checkpoint(RECIPE, path, &sets)?;
    let shapes = parameters::shapes(&Soda::blank(&config.model, &Device::flex()));
    let named = shapes
        .into_iter()
        .map(|(ours, shape)| (their_name(&ours, &config.model.unet), ours, shape))
        .collect();
    Ok((translate(&mut checkpoint, &tensors, named, failed)?, config))
}

/// The name of the recipe in [`BUILT_IN`](crate::config::BUILT_IN).
const RECIPE: &str = "configs/futurexiang.toml";

/// Reads from the tensors what they determine of the recipe, as overrides of it.
fn sizes(tensors: &BTreeMap<String, Tensor>) -> std::result::Result<Vec<String>, String> {
    let first = |name: &str| {
        let side = tensors
            .get(name)
            .and_then(|tensor| tensor.shape.first())
            .copied()
            .filter(|side| *side > 0);
        side.ok_or_else(|| {
            format!("there is no {name}, so it isn't the network of FutureXiang/soda")
        })
    };
    let stem = "encoder.encoder.0.weight";
    let encoder = first(stem)?;
    if tensors[stem].shape.get(2) == Some(&7) {
        return Err(format!(
            "{stem} is 7x7, from an encoder for images larger than 32x32 (cifar_small_image: \
             False), which can't be imported"
        ));
    }
    let (z, base) = (first("encoder.encoder.9.bias")?, first("decoder.image_proj.weight")?);

    // Stages of (width, whether attention follows); a strided convolution follows each but the
    // last.
    let mut stages = vec![Vec::new()];
    for i in 0.. {
        let within = |rest: &str| format!("decoder.down.{i}.{rest}");
        if tensors.contains_key(&within("op.norm1.weight")) {
            return Err(format!(
                "decoder.down.{i} resamples in a residual block (use_res_for_updown: True), which \
                 this program doesn't support"
            ));
        } else if tensors.contains_key(&within("conv.weight")) {
            stages.push(Vec::new());
        } else if tensors.contains_key(&within("res.conv1.weight")) {
            let attention = tensors.contains_key(&within("attn.norm.weight"));
            stages
                .last_mut()
                .expect("at least one")
                .push((first(&within("res.conv1.weight"))?, attention));
        } else {
            break;
        }
    }
    let blocks = stages[0].len();
    let even = |stage: &Vec<(usize, bool)>| {
        stage.len() == blocks
            && stage.iter().all(|block| *block == stage[0] && block.0.is_multiple_of(base))
    };
    if blocks == 0 || !stages.iter().all(even) {
        return Err(
            "the stages of decoder.down differ in their number of blocks, the blocks of a stage \
             differ, or a block's width is not a multiple of the first layer's"
                .into(),
        );
    }
    let multipliers: Vec<usize> = stages.iter().map(|stage| stage[0].0 / base).collect();
    let attention: Vec<usize> = stages
        .iter()
        .enumerate()
        .filter(|(_, stage)| stage[0].1)
        .map(|(i, _)| DEFAULT_SIDE.checked_shr(i as u32).unwrap_or(0))
        .collect();
    Ok(vec![
        format!("model.z_dim={z}"),
        format!("model.encoder.base={encoder}"),
        format!("model.unet.base={base}"),
        format!("model.unet.multipliers={multipliers:?}"),
        format!("model.unet.blocks={blocks}"),
        format!("model.unet.attention={attention:?}"),
    ])
}

/// Returns the name of our tensor `ours` in that code.
fn their_name(ours: &str, unet: &UNetConfig) -> String {
    if let Some(encoder) = ours.strip_prefix("encoder.") {
        // torchvision's ResNet as a sequence: conv, norm, ReLU, four stages of two blocks, pooling,
        // flattening, linear layer.
        let theirs = torchvision::their_name(encoder);
        let (module, rest) = theirs.split_once('.').expect("a module and what is in it");
        let place = match module {
            "conv1" => 0,
            "bn1" => 1,
            "layer1" => 3,
            "layer2" => 4,
            "layer3" => 5,
            "layer4" => 6,
            _ => 9,
        };
        return format!("encoder.encoder.{place}.{rest}");
    }
    let parts: Vec<&str> = ours.split('.').collect();
    let (path, leaf) = parts.split_at(parts.len() - 1);
    let leaf = match leaf[0] {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    let number = |text: &str| text.parse::<usize>().expect("our names count their parts");
    // Convolutions that change the resolution are numbered together with the blocks.
    let (down, up) = (unet.blocks, unet.blocks + 1);
    let module = match path {
        ["unet", "time", "linear1"] => "decoder.time_emb.lin1".to_owned(),
        ["unet", "time", "linear2"] => "decoder.time_emb.lin2".to_owned(),
        ["unet", "stem"] => "decoder.image_proj".to_owned(),
        ["unet", "down", i, rest @ ..] => {
            format!("decoder.down.{}.{}", number(i) + number(i) / down, within_level(rest))
        }
        ["unet", "downsample", i] => {
            format!("decoder.down.{}.conv", (number(i) + 1) * (down + 1) - 1)
        }
        ["unet", "middle1", rest @ ..] => format!("decoder.middle.res1.{}", within_block(rest)),
        ["unet", "middle_attention", rest @ ..] => {
            format!("decoder.middle.attn.{}", within_attention(rest))
        }
        ["unet", "middle2", rest @ ..] => format!("decoder.middle.res2.{}", within_block(rest)),
        ["unet", "up", i, rest @ ..] => {
            format!("decoder.up.{}.{}", number(i) + number(i) / up, within_level(rest))
        }
        ["unet", "upsample", i] => format!("decoder.up.{}.conv", (number(i) + 1) * (up + 1) - 1),
        ["unet", "norm_out"] => "decoder.norm".to_owned(),
        ["unet", "out"] => "decoder.final".to_owned(),
        _ => unreachable!("a tensor that is missing from this list: {ours}"),
    };
    format!("{module}.{leaf}")
}

fn within_level(path: &[&str]) -> String {
    match path {
        ["block", rest @ ..] => format!("res.{}", within_block(rest)),
        ["attention", rest @ ..] => format!("attn.{}", within_attention(rest)),
        _ => unreachable!("a level is a block and attention"),
    }
}

/// Returns the path within a residual block. SiLU and linear layer, and dropout and convolution,
/// form sequences in that code.
fn within_block(path: &[&str]) -> String {
    match path {
        ["time"] => "time_emb.1".to_owned(),
        ["z"] => "z_emb.1".to_owned(),
        ["conv2"] => "conv2.1".to_owned(),
        other => other.join("."),
    }
}

fn within_attention(path: &[&str]) -> String {
    match path {
        ["qkv"] => "projection".to_owned(),
        ["out"] => "output".to_owned(),
        other => other.join("."),
    }
}
