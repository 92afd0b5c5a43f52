// The norm of many tensors from the sums of their squares.
//
//   norm = sqrt(sum of partials)
//
// Layouts    partials [count];  norm [1].
// Workgroup  the only one: each invocation adds up every wg-th number, a tree adds up the invocations.
// Template   wg: invocations, a power of two.

const WG: u32 = {{ wg }}u;

@group(0) @binding(0) var<storage, read_write> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>;
@group(0) @binding(2) var<storage, read_write> count: array<u32>;

var<workgroup> tree: array<f32, WG>;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32) {
    var sum = 0.0;
    for (var i = lid; i < count[0]; i += WG) { sum += partials[i]; }
    tree[lid] = sum;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s >>= 1u) {
        if lid < s { tree[lid] += tree[lid + s]; }
        workgroupBarrier();
    }
    if lid == 0u { norm[0] = sqrt(tree[0]); }
}
