{#
How workgroups lie on NHWC memory, for shaders that do the same to every pixel (kernels/columns.rs): each has one block of pixels, as many
channels as it is wide. Invocations lie along the channels first, as memory does, then along pixels; each keeps its channels for all of
its pixels.

declare(wg, cols, four): S and T, what is stored and what is computed with, four channels or one; COLS invocations along the channels, LANES
pixels at a time.
place(): in main, after which block, c (a unit of channels) and lane are in scope. block depends on the workgroup alone. In scope: lid,
wid, grid, and info.width, units of a pixel.
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
