//! Convolutions of f16 maps by cooperative matrices, for which GPUs have dedicated units (tensor
//! cores): the shaders, and which adapters can run them.

use super::fours::Fours;
use super::info::{PassInfo, WeightsInfo};
use crate::device::{Class, Extensions, Profile};
use crate::kernels::conv2d::tile::Tile;
use crate::kernels::shader::{Shader, Types};
use minijinja::{Value, context};

/// Subgroups per workgroup, two along either side of its block.
const SUBGROUPS: usize = 4;

/// The matrices that a subgroup multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::kernels::conv2d) struct Unit {
    /// Rows and columns of each factor and of the product.
    pub size: usize,
    /// Invocations of a subgroup.
    pub lanes: usize,
    /// Whether plain WGSL does the same with the same indices, for tests.
    pub shim: bool,
}

impl Unit {
    /// The unit of NVIDIA's cards.
    const CARD: Self = Self { size: 16, lanes: 32, shim: false };
    /// The same for adapters without matrices.
    pub const SHIM: Self = Self { shim: true, ..Self::CARD };
    /// All units that shaders are filled with: that of cards, Apple's, lavapipe's, and the shim.
    pub const ALL: [Self; 4] = [
        Self::CARD,
        Self { size: 8, ..Self::CARD },
        Self { size: 8, lanes: 8, shim: false },
        Self::SHIM,
    ];

    /// Returns the unit of an adapter for factors of f16 and sums of f32.
    ///
    /// # Errors
    /// If the shaders support none: the reason.
    pub fn of(profile: &Profile) -> Result<Self, String> {
        let Profile { extensions, limits, .. } = profile;
        if profile.class == Class::Software {
            return Err("a software adapter".into());
        }
        if !extensions.cooperative_matrix {
            return Err("no cooperative matrices".into());
        }
        if !extensions.cover(Self::CARD.extensions()) {
            return Err("cooperative matrices, but no f16 or no subgroups".into());
        }
        let lists = |size| {
            profile.matrices.iter().any(|m| m.size == [size; 3] && m.factors_f16 && !m.sums_f16)
        };
        let Some(size) = [16, 8].into_iter().find(|size| lists(*size)) else {
            return Err(
                "no cooperative matrices of 16x16x16 or 8x8x8 with f16 factors and f32 sums".into(),
            );
        };
        let [least, most] = limits.subgroup_size;
        if least != most {
            return Err(format!(
                "its subgroups have {least} to {most} invocations, but the shaders need one size"
            ));
        }
        let unit = Self { size: size as usize, lanes: most as usize, shim: false };
        if !Self::ALL.contains(&unit) {
            return Err(format!(
                "no shader for {size}x{size}x{size} matrices and subgroups of {most}"
            ));
        }
        Ok(unit)
    }

    /// Returns the tile for a product that plain shaders would compute with `tile`.
    pub fn tile(self, tile: Tile) -> MatrixTile {
        match tile {
            Tile::LARGE if self.size == 16 => MatrixTile { bm: 128, bn: 128, bk: 16 },
            Tile::TALL if self.size == 16 => MatrixTile { bm: 128, bn: 64, bk: 16 },
            // Each of only eight lanes has four times as much to fetch.
            _ => MatrixTile { bm: 64, bn: 64, bk: if self.lanes < 32 { 16 } else { 32 } },
        }
    }

    /// Does the same as [`Unit::tile`] for the weights' gradient.
    pub fn weights_tile(self, tile: Tile) -> MatrixTile {
        self.tile(if tile == Tile::TALL { Tile::MEDIUM } else { tile })
    }

    /// Returns the extensions that an adapter needs for it.
    pub fn extensions(self) -> Extensions {
        Extensions { f16: true, subgroups: !self.shim, cooperative_matrix: !self.shim }
    }

    /// Returns how many matrices of a subgroup are stored at a time, through 4 KiB of workgroup
    /// memory for all subgroups.
    fn batch(self) -> usize {
        256 / (self.size * self.size)
    }

    fn workgroup(self) -> u32 {
        (SUBGROUPS * self.lanes) as u32
    }

    fn values(
        self,
        MatrixTile { bm, bn, bk }: MatrixTile,
        Fours { x4, y4 }: Fours,
        taps: usize,
    ) -> Value {
        let Self { size: s, lanes, shim } = self;
        // Rows are padded by 16 bytes.
        let stride = bk + 8;
        let (rows, cols) = (bm / 2 / s, bn / 2 / s);
        context! { bm, bn, bk, stride, s, rows, cols, batch => self.batch(), subgroups => SUBGROUPS, lanes, shim, x4, y4, taps }
    }
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.size;
        write!(
            f,
            "{} {size}x{size}x{size}",
            if self.shim { "the shim of cooperative matrices" } else { "cooperative matrices" }
        )
    }
}

/// The tile sizes of a product: a workgroup's rows and columns, and the terms of the sums in
/// workgroup memory at a time. All tiles and the sums being stored take 16 KiB at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::kernels::conv2d) struct MatrixTile {
    pub bm: usize,
    pub bn: usize,
    pub bk: usize,
}

impl MatrixTile {
    /// Returns the number of workgroups that cover `rows` times `cols`.
    pub fn count(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.bm) * cols.div_ceil(self.bn)
    }
}

/// The shader shaders/conv2d_matrix.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Matrices<const TAPS: usize> {
    pub tile: MatrixTile,
    pub unit: Unit,
    pub fours: Fours,
}

impl<const TAPS: usize> Shader for Matrices<TAPS> {
    type Info = PassInfo<TAPS>;
    const FILE: &'static str = "conv2d_matrix";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_matrix.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        self.unit.workgroup()
    }

    fn values(&self) -> Value {
        self.unit.values(self.tile, self.fours, TAPS)
    }

    fn types(&self) -> Types {
        Types::F16
    }

    fn extensions(&self) -> Extensions {
        self.unit.extensions()
    }
}

/// The shader shaders/conv2d_weights_matrix.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WeightsMatrices<const TAPS: usize> {
    pub tile: MatrixTile,
    pub unit: Unit,
    pub fours: Fours,
}

impl<const TAPS: usize> Shader for WeightsMatrices<TAPS> {
    type Info = WeightsInfo<TAPS>;
    const FILE: &'static str = "conv2d_weights_matrix";
    const TEXT: &'static str = include_str!("../../../../shaders/conv2d_weights_matrix.wgsl");
    const BUFFERS: usize = 3;

    fn workgroup(&self) -> u32 {
        self.unit.workgroup()
    }

    fn values(&self) -> Value {
        self.unit.values(self.tile, self.fours, TAPS)
    }

    fn types(&self) -> Types {
        Types::F16
    }

    fn extensions(&self) -> Extensions {
        self.unit.extensions()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MatrixSize;

    /// Returns the profile of a card with matrices of `size`.
    fn card(size: u32) -> Profile {
        let mut card = Profile::least(Class::Gpu);
        card.extensions = Unit::CARD.extensions();
        card.matrices = vec![MatrixSize { size: [size; 3], factors_f16: true, sums_f16: false }];
        card.limits.subgroup_size = [32, 32];
        card
    }

    fn refused(change: impl FnOnce(&mut Profile)) -> String {
        let mut profile = card(16);
        change(&mut profile);
        Unit::of(&profile).expect_err("it is refused")
    }

    #[test]
    fn the_unit_is_what_the_adapter_lists() {
        assert_eq!(Unit::of(&card(16)), Ok(Unit::CARD));
        assert_eq!(Unit::of(&card(8)).map(|unit| unit.size), Ok(8));
        let mut both = card(8);
        both.matrices.extend(card(16).matrices);
        assert_eq!(Unit::of(&both), Ok(Unit::CARD));
    }

    #[test]
    fn an_adapter_without_a_unit_says_why() {
        assert!(refused(|p| p.class = Class::Software).contains("software"));
        assert!(
            refused(|p| p.extensions.cooperative_matrix = false)
                .contains("no cooperative matrices")
        );
        assert!(refused(|p| p.extensions.subgroups = false).contains("no subgroups"));
        assert!(refused(|p| p.matrices[0].sums_f16 = true).contains("f32 sums"));
        assert!(refused(|p| p.matrices[0].size = [16, 8, 16]).contains("f32 sums"));
        assert!(refused(|p| p.limits.subgroup_size = [32, 64]).contains("32 to 64"));
        assert!(refused(|p| p.limits.subgroup_size = [16, 16]).contains("subgroups of 16"));
    }

    #[test]
    fn tiles_divide_among_subgroups_and_invocations() {
        for unit in Unit::ALL {
            for tile in Tile::ALL {
                let MatrixTile { bm, bn, bk } = unit.tile(tile);
                let wg = unit.workgroup() as usize;
                assert!(
                    [bm, bn].iter().all(|side| (side * bk / 4).is_multiple_of(wg)),
                    "{unit:?} {tile:?}"
                );
                assert!(
                    [bm / 2, bn / 2, bk].iter().all(|side| side.is_multiple_of(unit.size)),
                    "{unit:?} {tile:?}"
                );
                let MatrixTile { bm, bn, bk } = unit.weights_tile(tile);
                assert!(
                    [bm, bn].iter().all(|side| (side / 4 * bk / 4).is_multiple_of(wg)),
                    "{unit:?} {tile:?}"
                );
                let results = SUBGROUPS * unit.batch() * unit.size * unit.size;
                assert!(
                    (results / 4).is_multiple_of(wg)
                        && (bn / 2 / unit.size).is_multiple_of(unit.batch()),
                    "{unit:?} {tile:?}"
                );
                let bytes = 2 * (bm + bn) * (bk + 8) + 4 * results;
                assert!(bytes <= 16 << 10, "{unit:?} {tile:?}: {bytes}");
            }
        }
    }
}
