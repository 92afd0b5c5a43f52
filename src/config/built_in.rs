//! The built-in recipes.

use super::Config;
use super::message::most_alike;
use crate::error::{Error, Hint, Result};
use std::path::Path;

/// Their names, as paths in the source tree, and texts.
pub const BUILT_IN: [(&str, &str); 12] = [
    ("configs/finetune.toml", include_str!("../../configs/finetune.toml")),
    ("configs/quick.toml", include_str!("../../configs/quick.toml")),
    ("configs/tiny.toml", include_str!("../../configs/tiny.toml")),
    ("configs/small.toml", include_str!("../../configs/small.toml")),
    ("configs/gpu_hour.toml", include_str!("../../configs/gpu_hour.toml")),
    ("configs/report.toml", include_str!("../../configs/report.toml")),
    ("configs/cifar10.toml", include_str!("../../configs/cifar10.toml")),
    ("configs/cifar10-generate.toml", include_str!("../../configs/cifar10-generate.toml")),
    ("configs/paper.toml", include_str!("../../configs/paper.toml")),
    ("configs/futurexiang.toml", include_str!("../../configs/futurexiang.toml")),
    ("configs/tiny64.toml", include_str!("../../configs/tiny64.toml")),
    ("configs/folder64.toml", include_str!("../../configs/folder64.toml")),
];

/// Shortens "configs/quick.toml" to "quick".
fn short(path: &str) -> &str {
    path.trim_start_matches("configs/").trim_end_matches(".toml")
}

impl Config {
    /// Like [`Config::load`], but `path` may also name a built-in recipe, from any folder: `quick`,
    /// `quick.toml` or `configs/quick.toml`. A file of that name takes precedence.
    ///
    /// # Errors
    /// As [`Config::load`]. For a path that is neither a file nor a built-in recipe it is
    /// [`Error::Failed`], whose message lists the built-in names.
    pub fn named(path: &Path, overrides: &[String]) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Self::load(path, overrides);
        }
        let is_called = |name: &str| {
            [name, name.trim_start_matches("configs/"), short(name)]
                .iter()
                .any(|n| path == Path::new(n))
        };
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| is_called(name)) {
            return Self::parse(text, name, overrides);
        }
        Self::load(path, overrides).map_err(|e| match e {
            Error::Failed(_) | Error::Io { .. } => {
                Error::failed(format!("{e}. The built-in recipes are {}{}", all(), meant(path)))
            }
            other => other,
        })
    }

    /// Returns the built-in recipe `name`, such as `quick` or `configs/quick.toml`, with overrides.
    ///
    /// # Errors
    /// As [`Config::parse`], because of an override.
    ///
    /// # Panics
    /// If there is no such recipe.
    pub fn built_in(name: &str, overrides: &[String]) -> Result<Self> {
        let (file, text) = built_in(name);
        Self::parse(text, file, overrides)
    }

    /// Resolves the built-in recipe `name` with the `overrides` that the foreign checkpoint `path`
    /// and the user give.
    ///
    /// # Errors
    /// As [`Config::load`]; the message names the checkpoint.
    ///
    /// # Panics
    /// If there is no such recipe.
    pub(crate) fn of_checkpoint(name: &str, path: &Path, overrides: &[String]) -> Result<Self> {
        let (_, text) = built_in(name);
        let origin = format!("{} with {name} ({} changes it)", path.display(), Hint::Override);
        Self::parse(text, &origin, overrides)
    }
}

/// Returns the path and the text of the recipe `name`.
fn built_in(name: &str) -> (&'static str, &'static str) {
    let found = BUILT_IN.into_iter().find(|(file, _)| [*file, short(file)].contains(&name));
    found.expect("a recipe of the program")
}

fn all() -> String {
    let mut names = BUILT_IN.map(|(name, _)| short(name));
    names.sort_unstable();
    names.join(", ")
}

/// Suggests the recipe that `path` was probably meant to be.
fn meant(path: &Path) -> String {
    let Some(stem) = path.file_stem().map(|stem| stem.to_string_lossy()) else {
        return String::new();
    };
    most_alike(&stem, BUILT_IN.iter().map(|(name, _)| short(name)))
        .map_or(String::new(), |name| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_in_recipe_has_three_names_and_is_suggested_for_a_mistyped_one() {
        for (name, text) in BUILT_IN {
            let want = Config::parse(text, name, &[]).expect("a valid recipe");
            let file = name.trim_start_matches("configs/");
            for called in [file, short(name)] {
                assert_eq!(
                    Config::named(Path::new(called), &[]).expect("a recipe"),
                    want,
                    "{called}"
                );
            }
        }
        let message = |name: &str| {
            Config::named(Path::new(name), &[]).expect_err("no such recipe").to_string()
        };
        for wrong in ["configs/tinny.toml", "tinny", "tiyn"] {
            let said = message(wrong);
            assert!(
                said.contains(wrong)
                    && said.contains("cifar10-generate, ")
                    && said.contains("did you mean tiny?"),
                "{said}"
            );
        }
        let said = message("nowhere.toml");
        assert!(said.contains("finetune, ") && !said.contains("did you mean"), "{said}");
    }

    #[test]
    fn a_file_takes_precedence_over_a_built_in_recipe() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("quick.toml");
        std::fs::write(&own, BUILT_IN[1].1.replace("seed = 1 ", "seed = 77 ")).expect("writable");
        assert_eq!(Config::named(&own, &[]).expect("a recipe").seed, 77);
    }
}
