//! The data about cards, with sources.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The built-in file.
const OWN: &str = include_str!("../../../assets/cards.toml");

/// A card, see assets/cards.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The display name.
    pub name: String,
    /// Peak f32 rate, in 1e12 operations per second.
    pub tflops: f64,
    /// Peak rate of its matrix units with f16 factors and f32 sums, in 1e12 operations per second;
    /// `None` where it has none, or the shaders don't use them.
    pub matrix_tflops: Option<f64>,
    /// Memory bandwidth, in 1e9 bytes per second.
    pub gb_per_s: f64,
    /// Memory size, in 1e9 bytes.
    pub memory_gb: Option<f64>,
    /// PCI vendor ID.
    pub vendor: u32,
    /// Whether it shares the CPU's memory.
    pub integrated: bool,
    /// The compiler whose shares of multiply-adds the estimate uses.
    pub compiler: Option<String>,
    /// The sources of these values.
    pub sources: Vec<String>,
}

/// The assumptions at the two ends of a range, the fast one first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assumed {
    /// The fraction reached of the rate that the share of multiply-adds leaves.
    pub arithmetic: [f64; 2],
    /// The fraction reached of the memory bandwidth.
    pub bandwidth: [f64; 2],
    /// Microseconds added by each launch.
    pub launch_us: [f64; 2],
}

/// The contents of assets/cards.toml.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cards {
    /// The cards, by their names on the command line.
    pub cards: BTreeMap<String, Card>,
    /// The assumptions for all of them.
    pub assumed: Assumed,
}

/// Returns the built-in cards.
///
/// # Errors
/// Only if the program was built with a broken file.
pub fn known() -> Result<Cards> {
    toml::from_str(OWN).map_err(|e| Error::failed(format!("assets/cards.toml: {e}")))
}

/// Returns the built-in card `name`, or the one in the file `name`.
///
/// # Errors
/// If there is none, or the file isn't a valid card.
pub fn named(name: &str, cards: &Cards) -> Result<Card> {
    if let Some(card) = cards.cards.get(name) {
        return Ok(card.clone());
    }
    let path = Path::new(name);
    if path.extension().is_none_or(|ending| ending != "toml") {
        let names: Vec<&str> = cards.cards.keys().map(String::as_str).collect();
        return Err(Error::usage(format!(
            "there is no card {name:?}; expected {}, check or a FILE.toml",
            names.join(", ")
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    let card: Card = toml::from_str(&text).map_err(|e| Error::usage(format!("{name}: {e}")))?;
    let matrices = card.matrix_tflops.is_none_or(|tflops| tflops > 0.0);
    if !(card.tflops > 0.0 && card.gb_per_s > 0.0 && matrices) {
        return Err(Error::usage(format!(
            "{name}: tflops, gb_per_s and matrix_tflops must be above 0"
        )));
    }
    Ok(card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_has_sources_and_plausible_values() {
        let cards = known().expect("the file").cards;
        assert_eq!(cards.keys().collect::<Vec<_>>(), ["a40", "arc770", "m1", "rtx3060", "rx6800"]);
        for (name, card) in cards {
            assert!(card.tflops > 0.0 && card.gb_per_s > 0.0 && card.vendor > 0, "{name}");
            assert!(card.matrix_tflops.is_none_or(|tflops| tflops > card.tflops), "{name}");
            assert!(
                !card.sources.is_empty() && card.sources.iter().all(|s| s.starts_with("https://")),
                "{name}"
            );
        }
    }

    #[test]
    fn a_card_can_be_a_file() {
        let cards = known().expect("the file");
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("mine.toml");
        let write = |tflops: &str| {
            let text = format!(
                "name = 'Mine'\ntflops = {tflops}\ngb_per_s = 100.0\nvendor = 1\nintegrated = true\nsources = []\n"
            );
            std::fs::write(&path, text).expect("a file");
            named(&path.display().to_string(), &cards)
        };
        let card = write("1.5").expect("a card");
        assert!(card.tflops == 1.5 && card.compiler.is_none() && card.integrated);
        assert!(write("0.0").expect_err("no peak").to_string().contains("above 0"));
        let no_matrices = write("1.5\nmatrix_tflops = 0.0").expect_err("no peak of matrices");
        assert!(no_matrices.to_string().contains("above 0"));
        assert!(write("'fast'").expect_err("a word").to_string().contains("mine.toml"));
        assert!(named("gtx9", &cards).expect_err("unknown").to_string().contains("rx6800"));
        assert!(
            named("none.toml", &cards).expect_err("not there").to_string().contains("none.toml")
        );
    }
}
