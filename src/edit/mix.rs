//! Mixing: some sections of z come from one image and the others from another. If z has no
//! sections, some stages of the denoiser take the z of one image and the rest that of the other.

use std::ops::Range;

/// Repeats each z of `z` `[N, Z]` once per stage, side by side: `[N, stages * Z]`.
pub fn by_stage(z: &[f32], z_dim: usize, stages: usize) -> Vec<f32> {
    z.chunks_exact(z_dim).flat_map(|z| z.repeat(stages)).collect()
}

/// Combines every row with every column, row by row: the row's z with the `chosen` sections of the
/// column's z. `rows` `[R, Z]`, `columns` `[C, Z]`; returns `[R * C, Z]`. `sections` cover z.
///
/// # Panics
/// If a chosen section doesn't exist.
pub fn mix(rows: &[f32], columns: &[f32], sections: &[Range<usize>], chosen: &[usize]) -> Vec<f32> {
    let z_dim = sections.last().expect("at least one section").end;
    let mut out = Vec::with_capacity(rows.len() * columns.len() / z_dim);
    for row in rows.chunks_exact(z_dim) {
        for column in columns.chunks_exact(z_dim) {
            let first = out.len();
            out.extend_from_slice(row);
            for section in chosen.iter().map(|&i| sections[i].clone()) {
                out[first..][section.clone()].copy_from_slice(&column[section]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_sections_come_from_the_column_and_the_others_from_the_row() {
        let (rows, columns) = ([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], [7.0, 8.0, 9.0]);
        let sections = [0..2, 2..3];
        assert_eq!(mix(&rows, &columns, &sections, &[0]), [7.0, 8.0, 1.0, 7.0, 8.0, 2.0]);
        assert_eq!(mix(&rows, &columns, &sections, &[1]), [1.0, 1.0, 9.0, 2.0, 2.0, 9.0]);
        assert_eq!(mix(&rows, &columns, &sections, &[]), rows);
        assert_eq!(mix(&rows, &columns, &sections, &[0, 1]), columns.repeat(2));
    }
}
