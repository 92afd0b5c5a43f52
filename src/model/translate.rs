//! Translation of other programs' tensors to this program's names.

use super::pytorch::{Checkpoint, Tensor};
use super::weights::Tensors;
use crate::error::{Error, Hint, Result};
use std::collections::BTreeMap;

/// Which of a checkpoint's weights to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Their EMA, which the original code uses for evaluation.
    Ema,
    /// The weights in training.
    Model,
}

impl Which {
    /// Returns the name of its dictionary within the checkpoint.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ema => "EMA",
            Self::Model => "MODEL",
        }
    }

    /// Returns the names that a dictionary of such weights may have; the first one present is used.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Ema => &["EMA", "ema", "ema_model", "model_ema", "ema_state_dict"],
            Self::Model => &["MODEL", "model", "model_state_dict"],
        }
    }

    /// Returns its name as a value of `--which`.
    pub fn option(self) -> &'static str {
        match self {
            Self::Ema => "ema",
            Self::Model => "model",
        }
    }
}

/// Prefixes that network wrappers put before every name: DistributedDataParallel, torch.compile,
/// ema-pytorch.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", AVERAGED];
/// The prefix of an EMA.
const AVERAGED: &str = "ema_model.";

/// Strips all prefixes of wrappers from `name`, in any order and however often they occur. Also
/// returns whether one of them was the prefix of an EMA.
fn unwrapped(mut name: &str) -> (&str, bool) {
    let mut averaged = false;
    while let Some((wrapper, rest)) =
        WRAPPERS.iter().find_map(|wrapper| Some((*wrapper, name.strip_prefix(wrapper)?)))
    {
        averaged |= wrapper == AVERAGED;
        name = rest;
    }
    (name, averaged)
}

/// Returns the tensors of the weights `which` by their names within the networks; `of` names the
/// program whose checkpoint is expected.
///
/// # Errors
/// If there are none, or two of the same name.
pub fn networks(
    checkpoint: &Checkpoint,
    which: Which,
    of: &str,
) -> Result<BTreeMap<String, Tensor>> {
    let found = find(checkpoint, which)?;
    let Some(found) = found else {
        let mut keys = checkpoint.keys().join(", ");
        if keys.chars().count() > 60 {
            keys = keys.chars().take(60).chain("..".chars()).collect();
        }
        let (path, key) = (checkpoint.path.display(), which.key());
        let other = if which == Which::Ema { Which::Model } else { Which::Ema };
        let remedy = match find(checkpoint, other)? {
            Some(_) => {
                format!("but it holds {}; {}", other.key(), Hint::Which(other.option()))
            }
            None => format!("so it isn't a checkpoint of {of}"),
        };
        return Err(Error::failed(format!(
            "{path} holds no {key}, {remedy}; its keys are: {keys}"
        )));
    };
    // Counters of batches, which only norms without momentum use, and of what an average was taken
    // over.
    let counts = |name: &str| name.ends_with(".num_batches_tracked") || name == "n_averaged";
    Ok(found.into_iter().filter(|(name, _)| !counts(name)).collect())
}

/// Returns the weights `which` if the checkpoint holds them.
fn find(checkpoint: &Checkpoint, which: Which) -> Result<Option<BTreeMap<String, Tensor>>> {
    let own = checkpoint.tensors(which.keys());
    // An EMA under a key of its own needs no prefix on its names.
    let marked = own.is_none();
    let tensors = own
        .or_else(|| checkpoint.tensors(&["state_dict"]))
        .unwrap_or_else(|| checkpoint.outermost());
    let any_averaged = tensors.keys().any(|name| unwrapped(name).1);
    let mut networks = BTreeMap::new();
    for (name, tensor) in tensors {
        let (inner, averaged) = unwrapped(&name);
        // A dictionary may hold both; counters next to an EMA have no prefix.
        let wanted = which == Which::Ema && (any_averaged || marked);
        if averaged != wanted {
            continue;
        }
        if networks.insert(inner.to_owned(), tensor).is_some() {
            return Err(Error::failed(format!(
                "{} holds {inner} twice, once as {name}",
                checkpoint.path.display()
            )));
        }
    }
    Ok(Some(networks).filter(|networks| !networks.is_empty()))
}

/// Reads the values of `tensors` under our names; `named` lists their name, our name and our shape.
/// `failed` turns a description of what is wrong into an error.
///
/// # Errors
/// If a tensor is missing, unknown or misshapen, a value isn't finite, or the file can't be read.
pub fn translate(
    checkpoint: &mut Checkpoint,
    tensors: &BTreeMap<String, Tensor>,
    named: Vec<(String, String, Vec<usize>)>,
    failed: impl Fn(String) -> Error,
) -> Result<Tensors> {
    check(tensors, &named).map_err(&failed)?;
    let mut out = Tensors::new();
    for (theirs, ours, shape) in named {
        let values = checkpoint.read(&theirs, &tensors[&theirs])?;
        if !values.iter().all(|v| v.is_finite()) {
            return Err(failed(format!(
                "{theirs} holds values that aren't finite; import an earlier checkpoint"
            )));
        }
        // PyTorch's linear layers are [out, in], Burn's are [in, out].
        let values = if let [inputs, outputs] = shape[..] {
            transpose(&values, outputs, inputs)
        } else {
            values
        };
        out.push((ours, shape, values));
    }
    Ok(out)
}

/// Checks that `tensors` are exactly those that `named` (their name, our name, our shape) requires.
fn check(
    tensors: &BTreeMap<String, Tensor>,
    named: &[(String, String, Vec<usize>)],
) -> std::result::Result<(), String> {
    let missing: Vec<&String> = named
        .iter()
        .map(|(theirs, ..)| theirs)
        .filter(|name| !tensors.contains_key(*name))
        .collect();
    if let Some(first) = missing.first() {
        return Err(format!("{first}{} missing", and_more(missing.len(), "is", "are")));
    }
    let unknown: Vec<&String> =
        tensors.keys().filter(|key| named.iter().all(|(theirs, ..)| theirs != *key)).collect();
    if let Some(first) = unknown.first() {
        return Err(format!(
            "{first}{} unknown, so this is another network",
            and_more(unknown.len(), "is", "are")
        ));
    }
    for (theirs, _, shape) in named {
        let mut expected = shape.clone();
        if expected.len() == 2 {
            expected.reverse();
        }
        let shape = &tensors[theirs].shape;
        if *shape != expected {
            return Err(format!("{theirs} has shape {shape:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

/// Returns " is", or for example " and 3 more are".
fn and_more(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!(" {one}") } else { format!(" and {} more {several}", count - 1) }
}

/// Transposes `[rows, columns]` to `[columns, rows]`.
pub fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapper_prefixes_are_stripped_in_any_order() {
        for (name, expected) in [
            ("conv1.weight", ("conv1.weight", false)),
            ("module.conv1.weight", ("conv1.weight", false)),
            ("_orig_mod.module.conv1.weight", ("conv1.weight", false)),
            ("module._orig_mod.module.conv1.weight", ("conv1.weight", false)),
            ("ema_model.module.conv1.weight", ("conv1.weight", true)),
            ("module.ema_model._orig_mod.conv1.weight", ("conv1.weight", true)),
            ("encoder.module.weight", ("encoder.module.weight", false)),
        ] {
            assert_eq!(unwrapped(name), expected);
        }
    }

    #[test]
    fn emas_and_weights_are_separated_within_one_dictionary_and_duplicates_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.safetensors");
        let open = |names: &[&str]| {
            let tensors: Tensors =
                names.iter().map(|name| ((*name).to_owned(), vec![1], vec![0.5])).collect();
            crate::model::weights::write(&path, &tensors, std::collections::HashMap::new())
                .expect("written");
            Checkpoint::open(&path).expect("readable")
        };
        let names = |checkpoint: &Checkpoint, which| {
            networks(checkpoint, which, "a test")
                .map(|found| found.into_keys().collect::<Vec<_>>())
                .map_err(|e| e.to_string())
        };
        let both = open(&["ema_model.module.a", "module.b", "step"]);
        assert_eq!(names(&both, Which::Ema), Ok(vec!["a".into()]));
        assert_eq!(names(&both, Which::Model), Ok(vec!["b".into(), "step".into()]));
        let bare = open(&["module.a"]);
        assert_eq!(names(&bare, Which::Model), Ok(vec!["a".into()]));
        assert!(names(&bare, Which::Ema).is_err_and(|e| e.contains("choose `model`")));
        let average = open(&["_orig_mod.ema_model.a"]);
        assert!(names(&average, Which::Model).is_err_and(|e| e.contains("choose `ema`")));
        let double = open(&["module.a", "_orig_mod.a"]);
        assert!(names(&double, Which::Model).is_err_and(|e| e.contains("holds a twice")));
    }
}
