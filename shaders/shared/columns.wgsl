{#
How workgroups map to NHWC memory, for shaders that treat every pixel alike (kernels/columns.rs):
each workgroup has one block of pixels, and as many units as it is wide. Invocations run along the
channels first, as memory does, then along the pixels; each keeps its channels for all of its
pixels.

declare(wg, cols, four): S and T, the types of storage and of computation, four channels or one;
COLS, the invocations along the channels, and LANES, the pixels processed at a time.
place(): used in main; brings block, c (a unit of channels) and lane into scope. block depends on
the workgroup alone. In scope: lid, wid, grid, and info.width, the units of a pixel.
#}
{% macro declare(wg, cols, four) %}
alias S = {{ "Elem4" if four else "Elem" }};
alias T = {{ "Acc4" if four else "Acc" }};
const COLS: u32 = {{ cols }}u;
const LANES: u32 = {{ wg // cols }}u;
{% endmacro %}
{% macro place() %}
    let id = wid.x + wid.y * grid.x;
    let tiles = (info.width + COLS - 1u) / COLS;
    let block = id / tiles;
    let c = (id % tiles) * COLS + lid % COLS;
    let lane = lid / COLS;
{% endmacro %}
