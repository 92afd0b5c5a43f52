//! What a user is told about a recipe that can't be read.

use crate::error::{Error, Hint};

/// The likeness from which a known key is suggested for an unknown one.
const ALIKE: f64 = 0.7;

/// The last parts of the keys whose value is a count of at least 1; other counts may be 0.
const AT_LEAST_ONE: [&str; 12] = [
    "z_dim",
    "base",
    "blocks",
    "groups",
    "final_groups",
    "steps",
    "batch_size",
    "denoisings",
    "log_every",
    "checkpoint_every",
    "inversion_steps",
    "epochs",
];

/// Returns the sentence of a failed check, `what`, which begins with a key. If one of `overrides`
/// changed a key that it names, the sentence names that override next to the recipe, `origin`.
pub(super) fn of_check(origin: &str, overrides: &[String], what: &str) -> Error {
    let names = |item: &&String| {
        let key = item.split('=').next().unwrap_or_default().trim();
        let is_part = |c: char| c.is_alphanumeric() || "._".contains(c);
        !key.is_empty()
            && what.match_indices(key).any(|(at, _)| {
                !what[..at].ends_with(is_part) && !what[at + key.len()..].starts_with(is_part)
            })
    };
    match overrides.iter().rev().find(names) {
        Some(item) => Error::usage(format!("{origin} with {} {item}: {what}", Hint::Override)),
        None => Error::usage(format!("{origin}: {what}")),
    }
}

/// Condenses toml's message of several lines to one that gives the place and the reason. `overrides`
/// are the `key=value` that changed the recipe called `origin`.
pub(super) fn of(origin: &str, overrides: &[String], error: &toml::de::Error) -> Error {
    let full = error.to_string();
    // The line of the file that toml quotes ("3 | unknown = 1"), if any.
    let quoted = full.lines().find_map(|l| {
        l.split_once(" | ").filter(|(n, _)| n.trim().parse::<usize>().is_ok()).map(|(_, t)| t)
    });
    // A line can be as long as the file.
    let line: String = quoted.unwrap_or_default().trim().chars().take(100).collect();
    let key = line.split('=').next().unwrap_or_default().trim();
    let least = u8::from(AT_LEAST_ONE.contains(&key));
    let mut message = in_words(&error.message().trim().replace('\n', " "), least);
    let sets = |item: &&String| {
        let own = item.split('=').next().unwrap_or_default();
        own.rsplit('.').next().is_some_and(|last| last.trim() == key && !key.is_empty())
    };
    let origin = match overrides.iter().find(sets) {
        Some(item) => format!("{origin} with {} {item}", Hint::Override),
        None => origin.to_owned(),
    };
    if let Some(near) = suggestion(&message) {
        message = format!("unknown key `{key}`, did you mean `{near}`?");
    }
    match line.is_empty() {
        true => Error::usage(format!("{origin}: {message}")),
        false => Error::usage(format!("{origin}: {message} (`{line}`)")),
    }
}

/// Replaces the names of Rust's types; whole numbers are at least `least`.
fn in_words(message: &str, least: u8) -> String {
    let number = |word: &str| match word.trim_end_matches(',') {
        "usize" | "u64" | "u32" => Some(format!("a whole number of at least {least}")),
        "f64" | "f32" => Some("a number".to_owned()),
        _ => None,
    };
    let words: Vec<String> = message
        .split(' ')
        .map(|word| match number(word) {
            Some(words) => format!("{words}{}", if word.ends_with(',') { "," } else { "" }),
            None => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

/// Returns the known key that is most like the unknown one of "unknown field `stepz`, expected one
/// of `steps`, ..", if it is like it at all.
fn suggestion(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field `")?.split('`');
    let unknown = names.next()?;
    most_alike(unknown, names.skip(1).step_by(2)).map(str::to_owned)
}

/// Returns the name among `known` that is most like `unknown`, if it is like it at all.
pub(super) fn most_alike<'a>(
    unknown: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let likeness = |name: &&str| strsim::normalized_damerau_levenshtein(unknown, name);
    let best = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) >= ALIKE).then_some(best)
}

#[cfg(test)]
mod tests {
    use crate::config::{BUILT_IN, Config};

    #[test]
    fn a_wrong_value_or_key_is_told_in_plain_words() {
        let refused = |set: &str| {
            let quick = BUILT_IN.iter().find(|(name, _)| name.ends_with("quick.toml")).expect("it");
            Config::parse(quick.1, "quick.toml", &[set.to_owned()]).unwrap_err().to_string()
        };
        assert_eq!(
            refused("train.steps=abc"),
            "quick.toml with override train.steps=abc: invalid type: string \"abc\", expected a \
             whole number of at least 1 (`steps = \"abc\"`)"
        );
        assert_eq!(
            refused("train.stepz=4"),
            "quick.toml with override train.stepz=4: unknown key `stepz`, did you mean `steps`? \
             (`stepz = 4`)"
        );
        assert!(refused("train.steps=-3").contains("expected a whole number of at least 1"));
        assert!(refused("sample.guidance=abc").contains("expected a number, or a list of one"));
        assert!(refused("seed=-3").contains("expected a whole number of at least 0"));
        assert_eq!(
            refused("data.side=33"),
            "quick.toml with override data.side=33: data.side = 33: must be a multiple of 8 from \
             16 to 256"
        );
        assert!(refused("train.steps=0").starts_with("quick.toml with override train.steps=0: "));
        assert!(refused("train.frobnicate=4").contains("expected one of `batch_size`"));
        let empty = Config::parse("", "empty.toml", &[]).unwrap_err().to_string();
        assert_eq!(empty, "empty.toml: missing field `seed`");
    }
}
