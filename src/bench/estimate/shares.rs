//! The fraction of multiply-adds among a GPU's instructions, by shader and compiler, from
//! results/2026-11-28-compilers-of-gpus.

use crate::error::{Error, Result};
use crate::kernels::record::Launch;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The table written by scripts/gpu_table.sh.
const TABLE: &str = include_str!("../../../results/2026-11-28-compilers-of-gpus/after.json");

/// The loops of the shaders that use matrix units, see docs/precision.md.
const MATRICES: &str = include_str!("../../../results/2026-11-28-compilers-of-gpus/matrices.json");

#[derive(Deserialize)]
struct Table {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Matrices {
    /// Cycles of a matrix unit per instruction.
    cycles: f64,
    rows: Vec<Loop>,
}

#[derive(Deserialize)]
struct Loop {
    kernel: String,
    bm: usize,
    bn: usize,
    products: f64,
    instructions: f64,
}

#[derive(Deserialize)]
struct Row {
    kernel: String,
    variant: String,
    gpus: BTreeMap<String, Compiled>,
}

#[derive(Deserialize)]
struct Compiled {
    /// The share in per cent.
    share: Option<f64>,
}

/// The shares of multiply-adds.
pub struct Shares(Vec<Row>, Matrices);

impl Shares {
    /// Returns the built-in shares.
    ///
    /// # Errors
    /// Only if the program was built with a broken table.
    pub fn known() -> Result<Self> {
        let table: Table = serde_json::from_str(TABLE)
            .map_err(|e| Error::failed(format!("the table of shares: {e}")))?;
        let matrices = serde_json::from_str(MATRICES)
            .map_err(|e| Error::failed(format!("the table of matrices: {e}")))?;
        Ok(Self(table.rows, matrices))
    }

    /// Returns the largest possible utilisation of the matrix units, from 0 to 1, in the shader of
    /// `launch`; `None` where it uses none. Such a unit is busy for several cycles per instruction,
    /// while the processor issues other instructions, one per cycle.
    pub fn of_matrices(&self, launch: &Launch) -> Option<f64> {
        let (kernel, variant) = launch.shader.as_ref()?;
        let values = numbers(variant);
        let Matrices { cycles, rows } = &self.1;
        let same = |row: &&Loop| {
            row.kernel == *kernel
                && values.starts_with(&[&*row.bm.to_string(), &*row.bn.to_string()])
        };
        rows.iter().find(same).map(|row| (cycles * row.products / row.instructions).min(1.0))
    }

    /// Returns the names of the compilers.
    pub fn compilers(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.0.iter().flat_map(|row| row.gpus.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the largest and the smallest share, from 0 to 1, of the shader of `launch`, for
    /// `compiler` or, if `None`, over all compilers. A shader that isn't in the table gets the
    /// range of all shaders from the same file; the result is `None` where memory decides.
    pub fn of(&self, compiler: Option<&str>, launch: &Launch) -> Option<[f64; 2]> {
        let (kernel, variant) = launch.shader.as_ref()?;
        let values = numbers(variant);
        let of_file = || self.0.iter().filter(|row| row.kernel == *kernel);
        let same = || of_file().filter(|row| numbers(&row.variant) == values);
        range(same(), compiler).or_else(|| range(of_file(), compiler))
    }

    /// Returns whether the table has exactly the shader of `launch`.
    #[cfg(test)]
    fn has(&self, launch: &Launch) -> bool {
        launch.shader.as_ref().is_some_and(|(kernel, variant)| {
            self.0
                .iter()
                .any(|row| row.kernel == *kernel && numbers(&row.variant) == numbers(variant))
        })
    }
}

fn range<'a>(rows: impl Iterator<Item = &'a Row>, compiler: Option<&str>) -> Option<[f64; 2]> {
    let compiled = rows.flat_map(|row| {
        row.gpus.iter().filter(|(name, _)| compiler.is_none_or(|wanted| wanted == *name))
    });
    let shares = compiled.filter_map(|(_, compiled)| compiled.share).map(|share| share / 100.0);
    shares.fold(None, |ends: Option<[f64; 2]>, share| {
        let [high, low] = ends.unwrap_or([share, share]);
        Some([high.max(share), low.min(share)])
    })
}

/// Returns the template values of a variant, its numbers and booleans, in order. (The table omits
/// names that every row has, and the types; where shaders differ only in those, it numbers the
/// second.)
fn numbers(variant: &str) -> Vec<&str> {
    let types =
        variant.find("types: Types").or_else(|| variant.find("Types {")).unwrap_or(variant.len());
    let numbered = variant.find(" (2)").unwrap_or(variant.len());
    let words = variant[..types.min(numbered)].split(|c: char| !c.is_alphanumeric() && c != '_');
    words
        .filter(|word| {
            word.starts_with(|c: char| c.is_ascii_digit()) || matches!(*word, "true" | "false")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalog::{launched, operations};
    use crate::kernels::work::Work;

    fn launch(kernel: &'static str, variant: &str) -> Launch {
        Launch {
            name: "a kernel",
            shader: Some((kernel, variant.to_owned())),
            work: Work::default(),
            launches: 1,
        }
    }

    #[test]
    fn a_shader_is_found_by_its_template_values() {
        let shares = Shares::known().expect("the table");
        let large = "Tiled { tile: Tile { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 }, fours: Fours { x4: true, y4: true }, types: Types { elem: F32, acc: F32, factors: F32 } }";
        let row = shares
            .0
            .iter()
            .find(|row| {
                row.kernel == "conv2d_tiled" && row.variant.contains("tm: 8, tn: 8 , x4: true")
            })
            .expect("a row");
        for compiler in shares.compilers() {
            let share = row.gpus[compiler].share.expect("a share") / 100.0;
            assert_eq!(
                shares.of(Some(compiler), &launch("conv2d_tiled", large)),
                Some([share, share]),
                "{compiler}"
            );
        }
        let [high, low] = shares.of(None, &launch("conv2d_tiled", large)).expect("a range");
        assert!(high > low, "{high} {low}");
        // A different vectorisation has different values; a shader without products has no share;
        // an unknown variant gets the range of its file.
        assert_ne!(numbers(large), numbers(&large.replace("x4: true", "x4: false")));
        assert_eq!(shares.of(None, &launch("adamw", "Update")), None);
        assert!(shares.of(None, &launch("conv2d_tiled", "another")).is_some());
    }

    #[test]
    fn the_utilisation_of_matrix_units_follows_from_their_loops() {
        let shares = Shares::known().expect("the table");
        let of = |kernel, bm, bn| {
            let variant = format!(
                "Matrices {{ tile: MatrixTile {{ bm: {bm}, bn: {bn}, bk: 16 }}, unit: Unit {{ size: 16, lanes: 32, shim: false }} }}"
            );
            shares.of_matrices(&launch(kernel, &variant))
        };
        assert_eq!(of("conv2d_matrix", 128, 128), Some(16.0 * 32.0 / 722.0));
        assert!(of("conv2d_matrix", 64, 64) < of("conv2d_matrix", 128, 128));
        assert_eq!((of("conv2d_tiled", 128, 128), of("conv2d_matrix", 32, 32)), (None, None));
    }

    #[test]
    fn the_table_has_the_shaders_launched_at_paper_size() {
        let paper = crate::config::BUILT_IN.iter().find(|(name, _)| name.ends_with("paper.toml"));
        let (name, text) = paper.expect("a recipe");
        let config = crate::config::Config::parse(text, name, &[]).expect("a recipe");
        let layers = crate::model::layers::layers(&config.model);
        let shares = Shares::known().expect("the table");
        let all = launched(operations(), &layers, 256);
        let with_products: Vec<_> =
            all.iter().filter(|(_, filled)| !filled.multiply_adds.is_empty()).collect();
        assert!(with_products.len() > 8);
        for (_, filled) in with_products {
            assert!(
                shares.has(&launch(filled.kernel, &filled.variant)),
                "{} {}: no row; run scripts/gpu_table.sh",
                filled.kernel,
                filled.variant
            );
        }
    }
}
