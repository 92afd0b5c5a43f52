//! How much of a GPU's instructions are multiply-adds, by shader and compiler: results/2026-11-28-compilers-of-gpus.

use crate::error::{Error, Result};
use crate::kernels::record::Launch;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The table, as scripts/gpu_table.sh writes it.
const TABLE: &str = include_str!("../../../results/2026-11-28-compilers-of-gpus/after.json");

#[derive(Deserialize)]
struct Table {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    kernel: String,
    variant: String,
    gpus: BTreeMap<String, Compiled>,
}

#[derive(Deserialize)]
struct Compiled {
    /// Per cent.
    share: Option<f64>,
}

/// Shares of multiply-adds.
pub struct Shares(Vec<Row>);

impl Shares {
    /// Returns those of the table.
    ///
    /// # Errors
    /// Never, unless the program was built with a broken table.
    pub fn known() -> Result<Self> {
        let table: Table = serde_json::from_str(TABLE).map_err(|e| Error::failed(format!("the table of shares: {e}")))?;
        Ok(Self(table.rows))
    }

    /// Returns the names of the compilers.
    pub fn compilers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().flat_map(|row| row.gpus.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the largest and the smallest share, from 0 to 1, of the shader of `launch`, by `compiler`, or by all of them without. Of a shader
    /// that isn't in the table, those of the same file are taken; `None` where memory decides.
    pub fn of(&self, compiler: Option<&str>, launch: &Launch) -> Option<[f64; 2]> {
        let (kernel, variant) = launch.shader.as_ref()?;
        let values = numbers(variant);
        let of_file = || self.0.iter().filter(|row| row.kernel == *kernel);
        let same = || of_file().filter(|row| numbers(&row.variant) == values);
        range(same(), compiler).or_else(|| range(of_file(), compiler))
    }

    /// Whether the table has the very shader of `launch`.
    #[cfg(test)]
    fn has(&self, launch: &Launch) -> bool {
        launch.shader.as_ref().is_some_and(|(kernel, variant)| {
            self.0.iter().any(|row| row.kernel == *kernel && numbers(&row.variant) == numbers(variant))
        })
    }
}

fn range<'a>(rows: impl Iterator<Item = &'a Row>, compiler: Option<&str>) -> Option<[f64; 2]> {
    let compiled = rows.flat_map(|row| row.gpus.iter().filter(|(name, _)| compiler.is_none_or(|wanted| wanted == *name)));
    let shares = compiled.filter_map(|(_, compiled)| compiled.share).map(|share| share / 100.0);
    shares.fold(None, |ends: Option<[f64; 2]>, share| {
        let [high, low] = ends.unwrap_or([share, share]);
        Some([high.max(share), low.min(share)])
    })
}

/// The template values of a variant: its numbers and truths, in order. (The table leaves out names that every row has, and the types; of
/// shaders that differ in nothing else it numbers the second.)
fn numbers(variant: &str) -> Vec<&str> {
    let types = variant.find("types: Types").or_else(|| variant.find("Types {")).unwrap_or(variant.len());
    let numbered = variant.find(" (2)").unwrap_or(variant.len());
    let words = variant[..types.min(numbered)].split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) || matches!(*word, "true" | "false")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalog::{launched, operations};
    use crate::kernels::launch::Work;

    fn launch(kernel: &'static str, variant: &str) -> Launch {
        Launch { name: "a kernel", shader: Some((kernel, variant.to_owned())), work: Work::default(), launches: 1 }
    }

    #[test]
    fn a_shader_is_found_by_its_values() {
        let shares = Shares::known().expect("the table");
        let large = "Tiled { tile: Tile { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 }, fours: Fours { x4: true, y4: true }, types: Types { elem: F32, acc: F32 } }";
        let row = shares
            .0
            .iter()
            .find(|row| row.kernel == "conv2d_tiled" && row.variant.contains("tm: 8, tn: 8 , x4: true"))
            .expect("a row");
        for compiler in shares.compilers() {
            let share = row.gpus[compiler].share.expect("a share") / 100.0;
            assert_eq!(shares.of(Some(compiler), &launch("conv2d_tiled", large)), Some([share, share]), "{compiler}");
        }
        let [high, low] = shares.of(None, &launch("conv2d_tiled", large)).expect("a range");
        assert!(high > low, "{high} {low}");
        // Neither another tile nor other channels have the same.
        assert_ne!(numbers(large), numbers(&large.replace("x4: true", "x4: false")));
        assert_eq!(shares.of(None, &launch("adamw", "Update")), None);
        assert!(shares.of(None, &launch("conv2d_tiled", "another")).is_some());
    }

    #[test]
    fn the_table_has_the_shaders_that_paper_size_launches() {
        let paper = crate::config::BUILT_IN.iter().find(|(name, _)| name.ends_with("paper.toml"));
        let (name, text) = paper.expect("a recipe");
        let config = crate::config::Config::parse(text, name, &[]).expect("a recipe");
        let layers = crate::model::layers::layers(&config.model);
        let shares = Shares::known().expect("the table");
        let all = launched(operations(), &layers, 256);
        let with_products: Vec<_> = all.iter().filter(|(_, filled)| !filled.multiply_adds.is_empty()).collect();
        assert!(with_products.len() > 8);
        for (_, filled) in with_products {
            assert!(
                shares.has(&launch(filled.kernel, &filled.variant)),
                "{} {}: no row; scripts/gpu_table.sh makes them",
                filled.kernel,
                filled.variant
            );
        }
    }
}
