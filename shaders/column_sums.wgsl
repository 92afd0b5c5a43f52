// Sums over the rows of each block. It is launched again on its own results until one row is left.
//
//   sums[b, c] = sum over the rows r of block b of x[r, c]
//
// Layouts    x [rows, C];  sums [blocks, C].
// Workgroup  {{ cols }} columns of one block. Invocations run along the columns first; the
//            {{ wg // cols }} invocations of a column are reduced in a tree.
// Template   wg: invocations;  cols: columns, divides wg;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% set lanes = wg // cols %}
struct Info {
    rows: u32,
    channels: u32, // C
    block: u32,    // rows per block
    blocks: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> sums: array<Acc>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> partial: array<Acc, {{ wg }}>;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let tiles = (info.channels + {{ cols - 1 }}u) / {{ cols }}u;
    let tile = wid.x + wid.y * grid.x;
    let block = tile / tiles;
    if block >= info.blocks { return; }
    let lane = lid / {{ cols }}u;
    let c = tile % tiles * {{ cols }}u + lid % {{ cols }}u;
    let end = min((block + 1u) * info.block, info.rows);
    var sum = Acc(0.0);
    if c < info.channels {
        for (var r = block * info.block + lane; r < end; r += {{ lanes }}u) { sum += Acc(x[r * info.channels + c]); }
    }
    partial[lid] = sum;
{{ tree(["partial"], lanes, cols) }}
    if lane == 0u && c < info.channels { sums[block * info.channels + c] = partial[lid]; }
}
