//! The differences between two recipes.

use super::Config;
use toml::{Table, Value};

/// Returns a line such as `train.lr: 0.001 -> 0.002` for every value of `new` that differs from
/// `old`, ordered by key.
pub fn differences(old: &Config, new: &Config) -> Vec<String> {
    let flat = |config: &Config| {
        let mut values = Vec::new();
        flatten(
            "",
            Table::try_from(config).expect("a Config is always representable as TOML"),
            &mut values,
        );
        values.sort_by(|(a, _), (b, _)| a.cmp(b));
        values
    };
    // Both have the same keys: they are of the same type, which has no optional fields.
    let pairs = flat(old).into_iter().zip(flat(new));
    pairs
        .filter(|(old, new)| old.1 != new.1)
        .map(|((key, old), (_, new))| format!("{key}: {old} -> {new}"))
        .collect()
}

fn flatten(path: &str, table: Table, out: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = if path.is_empty() { key } else { format!("{path}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, out),
            value => out.push((key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_value_is_listed_with_the_old_and_the_new_one() {
        let text = include_str!("../../configs/quick.toml");
        let config = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            Config::parse(text, "quick.toml", &set).expect("a recipe")
        };
        let old = config(&[]);
        assert!(differences(&old, &config(&[])).is_empty());
        let new = config(&["train.lr=2e-3", "data.source.flip=0.25", "seed=7"]);
        assert_eq!(
            differences(&old, &new),
            ["data.source.flip: 0.5 -> 0.25", "seed: 1 -> 7", "train.lr: 0.001 -> 0.002"]
        );
    }
}
