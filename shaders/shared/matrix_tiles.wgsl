{#
Matrix products by subgroups: the tiles of both factors in workgroup memory, and the array through
which sums leave the registers. See conv2d_matrix.wgsl for details.

From the includer: s, rows and columns of a matrix; rows, cols, matrices of a subgroup's block; bm,
bn, bk, stride; subgroups; batch; lanes; shim.
#}
// In both tiles the terms of a sum are adjacent, [row][k] and [column][k], with a row stride of
// {{ stride }}. Each subgroup writes out {{ batch }} of its matrices of sums at a time. The size of
// every array and every row is a multiple of 16 bytes, which matrix loads rely on.
var<workgroup> a_tile: array<Elem, {{ bm * stride }}>;
var<workgroup> b_tile: array<Elem, {{ bn * stride }}>;
var<workgroup> results: array<Acc, {{ subgroups * batch * s * s }}>;

/// Returns quad number `i` of `results`: four adjacent sums.
fn result(i: u32) -> Acc4 {
    return Acc4(results[4u * i], results[4u * i + 1u], results[4u * i + 2u], results[4u * i + 3u]);
}
{% if shim %}

/// A matrix of sums in place of a cooperative matrix: element e of the matrix is element
/// e / {{ lanes }} of the array of the subgroup's invocation e % {{ lanes }}.
alias Sums = array<Acc, {{ s * s // lanes }}>;

/// Returns `sums` plus the product of the matrices that begin at `a` and `b` in the tiles.
fn multiply_add(a: u32, b: u32, sums: Sums, lane: u32) -> Sums {
    var all = sums;
    for (var i = 0u; i < {{ s * s // lanes }}u; i++) {
        let row = a + (i * {{ lanes }}u + lane) / {{ s }}u * {{ stride }}u;
        let col = b + (i * {{ lanes }}u + lane) % {{ s }}u * {{ stride }}u;
        for (var k = 0u; k < {{ s }}u; k++) { all[i] = fma(Acc(a_tile[row + k]), Acc(b_tile[col + k]), all[i]); }
    }
    return all;
}

/// Writes the sums to `results`, from `first` on.
fn leave(sums: Sums, first: u32, lane: u32) {
    var all = sums;
    for (var i = 0u; i < {{ s * s // lanes }}u; i++) { results[first + i * {{ lanes }}u + lane] = all[i]; }
}
{% endif %}
