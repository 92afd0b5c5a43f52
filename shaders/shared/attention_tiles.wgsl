{#
Attention: the two matrix products that its passes consist of. Each pass includes this file after
the types.

  product      a tile of a [ROWS, BLOCK] product: own rows times other rows, over all channels
  accumulate   [ROWS, channels of the chunk] += weights [ROWS, BLOCK] * other rows

A workgroup owns ROWS pixels (queries or keys) and walks over all pixels of the image (the other
side) in blocks of BLOCK. Everything is made of 4 x 4 tiles, the operands of one multiply_add. In a
product, an invocation has row_quads x column_quads tiles, whose columns are COLUMNS apart; in an
accumulation it has row_quads x channel_quads tiles, which are 4 * LANES channels apart. Pixels and
channels beyond the last are read as the last: their weights are 0, or their results aren't written.

The template unrolls loops over row_quads (r), column_quads (c) and channel_quads (n), so that all
of an invocation's tiles are in registers; a compiler might leave those of a loop in memory. The
offsets where rows of operands begin are computed outside the loops over channels.

Uses       first(part, pixel): where the channels of a pixel begin in one operand, in units of four;
           fetch(part, i): the four channels at i; store. Each pass defines them.
From outside:
  row_quads, column_quads, channel_quads: as above;
  groups, columns, lanes: ROWS = 4 row_quads groups; BLOCK = 4 column_quads columns; a chunk has
    4 channel_quads lanes channels; groups * lanes invocations; columns <= lanes;
  depth: units of 4 channels of a row of the other side that are staged in workgroup memory (so that
    neighbouring invocations read neighbouring memory), or 0: rows are read as they are needed,
    without a barrier.
#}
struct Info {
    workgroups: u32,   // that have work
    pixels: u32,       // H * W
    vectors: u32,      // C / 4
    chunks: u32,       // of channels
    scale: f32,        // 1 / sqrt(C)
}

/// The parts of a pixel of qkv.
const Q: u32 = 0u;
const K: u32 = 1u;
const V: u32 = 2u;

/// 4 x 4 values.
alias Mat = mat4x4<Acc>;

const ROW_QUADS: u32 = {{ row_quads }}u;
const CHANNEL_QUADS: u32 = {{ channel_quads }}u;
const GROUPS: u32 = {{ groups }}u;
const COLUMNS: u32 = {{ columns }}u;
const LANES: u32 = {{ lanes }}u;
const DEPTH: u32 = {{ depth }}u;
const ROWS: u32 = 4u * ROW_QUADS * GROUPS;
const BLOCK: u32 = 4u * {{ column_quads }}u * COLUMNS;
const WG: u32 = GROUPS * LANES;
/// Number of invocations that have a tile of a product.
const SCORERS: u32 = GROUPS * COLUMNS;
/// Row quads of the workgroup.
const QUADS: u32 = ROW_QUADS * GROUPS;

/// [BLOCK, QUADS] of 4 rows each.
var<workgroup> weights: array<Acc4, BLOCK * QUADS>;
/// [DEPTH, BLOCK] of 4 channels each.
var<workgroup> staged: array<Acc4, max(DEPTH * BLOCK, 1u)>;

/// Where an invocation works.
struct Place {
    image: u32,
    chunk: u32,
    row: u32,         // first row of its product tiles
    column: u32,      // first column of those, within a block
    quad: u32,        // quad of `row`
    sum_row: u32,     // first row of its sums
    sum_quad: u32,    // quad of `sum_row`
    channel: u32,     // first vec4 of channels of its sums
}

fn place(lid: u32, workgroup: u32) -> Place {
    let row_blocks = (info.pixels + ROWS - 1u) / ROWS;
    let first = workgroup / info.chunks % row_blocks * ROWS;
    var at: Place;
    at.image = workgroup / info.chunks / row_blocks;
    at.chunk = workgroup % info.chunks;
    at.quad = min(lid / COLUMNS, GROUPS - 1u) * ROW_QUADS;
    at.row = first + 4u * at.quad;
    at.column = lid % COLUMNS;
    at.sum_quad = lid / LANES * ROW_QUADS;
    at.sum_row = first + 4u * at.sum_quad;
    at.channel = at.chunk * CHANNEL_QUADS * LANES + lid % LANES;
    return at;
}

/// Row quads times column quads of a product. A matrix column holds 4 rows of one column.
struct Tile {
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
    s{{ r }}{{ c }}: Mat,
{% endfor %}{% endfor %}
}

/// Row quads times channel quads of sums. A matrix column holds 4 channels of one row.
struct Sums {
{% for r in range(row_quads) %}{% for n in range(channel_quads) %}
    s{{ r }}{{ n }}: Mat,
{% endfor %}{% endfor %}
}

/// 4 rows of each row quad.
struct Quads {
{% for r in range(row_quads) %}
    q{{ r }}: Acc4,
{% endfor %}
}

/// Returns a * b + c.
fn multiply_add(a: Mat, b: Mat, c: Mat) -> Mat {
    return Mat(column(a, b[0], c[0]), column(a, b[1], c[1]), column(a, b[2], c[2]), column(a, b[3], c[3]));
}

fn column(a: Mat, b: Acc4, c: Acc4) -> Acc4 {
    return fma(a[3], Acc4(b.w), fma(a[2], Acc4(b.z), fma(a[1], Acc4(b.y), fma(a[0], Acc4(b.x), c))));
}

/// Returns sum + x times each component of w, one column each.
fn outer(x: Acc4, w: Acc4, sum: Mat) -> Mat {
    return Mat(fma(x, Acc4(w.x), sum[0]), fma(x, Acc4(w.y), sum[1]), fma(x, Acc4(w.z), sum[2]), fma(x, Acc4(w.w), sum[3]));
}

/// Returns the products of the invocation's rows of `own` and its columns of `other`, summed over
/// all channels. Every invocation of the workgroup calls it.
fn product(own: u32, other: u32, block: u32, at: Place, lid: u32) -> Tile {
    let base = at.image * info.pixels;
    let last = info.pixels - 1u;
    // Where the invocation's rows begin.
{% for r in range(row_quads) %}{% for i in range(4) %}
    let own{{ r }}{{ i }} = first(own, base + min(at.row + {{ 4 * r + i }}u, last));
{% endfor %}{% endfor %}
    var sum = Tile();
{% if depth == 0 %}
{% for c in range(column_quads) %}{% for i in range(4) %}
    let other{{ c }}{{ i }} = first(other, base + min(block + at.column + {{ 4 * c + i }}u * COLUMNS, last));
{% endfor %}{% endfor %}
    for (var c = 0u; c < info.vectors && lid < SCORERS; c++) {
{% for r in range(row_quads) %}
        let a{{ r }} = transpose(Mat({% for i in range(4) %}fetch(own, own{{ r }}{{ i }} + c){{ ", " if not loop.last }}{% endfor %}));
{% endfor %}
{% for c in range(column_quads) %}
        let b{{ c }} = Mat({% for i in range(4) %}fetch(other, other{{ c }}{{ i }} + c){{ ", " if not loop.last }}{% endfor %});
{% endfor %}
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        sum.s{{ r }}{{ c }} = multiply_add(a{{ r }}, b{{ c }}, sum.s{{ r }}{{ c }});
{% endfor %}{% endfor %}
    }
{% else %}
{% set fours = depth * 4 * column_quads * columns %}
{% set loads = (fours + wg - 1) // wg %}
{% for i in range(loads) %}
    let other{{ i }} = first(other, base + min(block + (lid + {{ i * wg }}u) / DEPTH, last));
{% endfor %}
    for (var start = 0u; start < info.vectors; start += DEPTH) {
        workgroupBarrier();
{% for i in range(loads) %}
        {% if fours < (i + 1) * wg %}if lid < {{ fours - i * wg }}u {% endif %}{
            let c = (lid + {{ i * wg }}u) % DEPTH;
            staged[c * BLOCK + (lid + {{ i * wg }}u) / DEPTH] = fetch(other, other{{ i }} + min(start + c, info.vectors - 1u));
        }
{% endfor %}
        workgroupBarrier();
        for (var c = 0u; c < min(DEPTH, info.vectors - start) && lid < SCORERS; c++) {
            let t = c * BLOCK + at.column;
{% for r in range(row_quads) %}
            let a{{ r }} = transpose(Mat({% for i in range(4) %}fetch(own, own{{ r }}{{ i }} + start + c){{ ", " if not loop.last }}{% endfor %}));
{% endfor %}
{% for c in range(column_quads) %}
            let b{{ c }} = staged_rows(t + 4u * {{ c }}u * COLUMNS);
{% endfor %}
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
            sum.s{{ r }}{{ c }} = multiply_add(a{{ r }}, b{{ c }}, sum.s{{ r }}{{ c }});
{% endfor %}{% endfor %}
        }
    }
{% endif %}
    return sum;
}

fn staged_rows(first: u32) -> Mat {
    return Mat(staged[first], staged[first + COLUMNS], staged[first + 2u * COLUMNS], staged[first + 3u * COLUMNS]);
}

/// Writes a tile of a product to the weights.
fn set_weights(tile: Tile, at: Place, lid: u32) {
    if lid < SCORERS {
        let to = at.column * QUADS + at.quad;
{% for r in range(row_quads) %}{% for c in range(column_quads) %}
        set_columns(to + 4u * {{ c }}u * COLUMNS * QUADS + {{ r }}u, tile.s{{ r }}{{ c }});
{% endfor %}{% endfor %}
    }
}

fn set_columns(to: u32, tile: Mat) {
    weights[to] = tile[0];
    weights[to + COLUMNS * QUADS] = tile[1];
    weights[to + 2u * COLUMNS * QUADS] = tile[2];
    weights[to + 3u * COLUMNS * QUADS] = tile[3];
}

fn accumulate(sums: Sums, other: u32, block: u32, at: Place) -> Sums {
    var out = sums;
    let base = at.image * info.pixels;
    let step = first(other, base + 1u) - first(other, base);
    let last = first(other, base + info.pixels - 1u);
    var row = first(other, base + block);
{% for n in range(channel_quads) %}
    let c{{ n }} = min(at.channel + {{ n }}u * LANES, info.vectors - 1u);
{% endfor %}
    for (var t = 0u; t < min(BLOCK, info.pixels - block); t += 4u) {
        let w = t * QUADS + at.sum_quad;
{% for i in range(4) %}
        {
            let pixel = min(row + {{ i }}u * step, last);
{% for r in range(row_quads) %}
            let w{{ r }} = weights[w + {{ i }}u * QUADS + {{ r }}u];
{% endfor %}
{% for n in range(channel_quads) %}
            let x{{ n }} = fetch(other, pixel + c{{ n }});
{% endfor %}
{% for r in range(row_quads) %}{% for n in range(channel_quads) %}
            out.s{{ r }}{{ n }} = outer(x{{ n }}, w{{ r }}, out.s{{ r }}{{ n }});
{% endfor %}{% endfor %}
        }
{% endfor %}
        row += 4u * step;
    }
    return out;
}

/// Writes the sums of an invocation, times `factor` of their row.
fn store_sums(part: u32, sums: Sums, factor: Quads, at: Place) {
{% for r in range(row_quads) %}{% for n in range(channel_quads) %}
    store_rows(part, sums.s{{ r }}{{ n }}, factor.q{{ r }}, at.image, at.sum_row + 4u * {{ r }}u, at.channel + {{ n }}u * LANES);
{% endfor %}{% endfor %}
}

fn store_rows(part: u32, rows: Mat, factor: Acc4, image: u32, row: u32, c: u32) {
    if c < info.vectors {
        let pixel = image * info.pixels + row;
        let here = info.pixels - min(row, info.pixels);
        if here > 0u { store(part, pixel, c, rows[0] * factor.x); }
        if here > 1u { store(part, pixel + 1u, c, rows[1] * factor.y); }
        if here > 2u { store(part, pixel + 2u, c, rows[2] * factor.z); }
        if here > 3u { store(part, pixel + 3u, c, rows[3] * factor.w); }
    }
}
