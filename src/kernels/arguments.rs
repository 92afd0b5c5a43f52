//! The workgroups and the info block of a launch, as WebGPU and cubecl take them.

/// Returns `n` workgroups as x, y and z: two dimensions where one would exceed WebGPU's limit.
pub(super) fn folded(n: usize) -> [u32; 3] {
    const LIMIT: usize = 65_535;
    let rows = n.div_ceil(LIMIT).max(1);
    [n.div_ceil(rows) as u32, rows as u32, 1]
}

/// Returns `info` as cubecl takes it, zero-padded to a multiple of 16 bytes: uniforms are bound in
/// whole constant registers.
pub(super) fn words<I: bytemuck::Pod>(info: &I) -> Vec<u64> {
    let mut words = vec![0u64; size_of::<I>().div_ceil(16) * 2];
    bytemuck::cast_slice_mut(&mut words)[..size_of::<I>()]
        .copy_from_slice(bytemuck::bytes_of(info));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_fold_into_two_dimensions() {
        assert_eq!(folded(5), [5, 1, 1]);
        assert_eq!(folded(65_536), [32_768, 2, 1]);
        assert!(folded(200_000).iter().all(|n| *n <= 65_535));
    }

    #[test]
    fn info_blocks_are_padded_to_16_bytes() {
        assert_eq!(words(&[1u32, 2, 3, 4, 5]).len(), 4);
        assert_eq!(words(&[1u32, 2])[..], [1 | 2 << 32, 0]);
    }
}
