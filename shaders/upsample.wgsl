// Nearest-neighbour upsampling: every pixel four times.
//
//   y[2i + k, 2j + l] = x[i, j],  k and l in {0, 1}
//
// Layouts    x [B, H, W, C], y [B, 2H, 2W, C].
// Workgroup  one block of pixels, as many channels as it is wide; each invocation some pixels of one channel.
// Template   wg: invocations;  cols: those along the channels;  lanes: pixels at a time;  values: f32, or vec4<f32> for four
//            channels at a time.

const COLS: u32 = {{ cols }}u;
const LANES: u32 = {{ lanes }}u;
alias Values = {{ values }};

struct Info {
    width: u32,    // C in values
    pixels: u32,   // of the smaller map
    size: u32,     // pixels of a block
    count: u32,    // blocks
    row: u32,      // W, pixels of a row of the smaller map
}

@group(0) @binding(0) var<storage, read_write> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> y: array<Values>;
@group(0) @binding(2) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let id = wid.x + wid.y * grid.x;
    let tiles = (info.width + COLS - 1u) / COLS;
    let block = id / tiles;
    let c = (id % tiles) * COLS + lid % COLS;
    let lane = lid / COLS;
    if block >= info.count || c >= info.width || lane >= LANES { return; }
    let first = block * info.size + lane;
    let end = min((block + 1u) * info.size, info.pixels);

    let width = info.width;
    let below = 2u * info.row * width;
    for (var p = first; p < end; p += LANES) {
        // Every row that is finished left two rows of twice its pixels.
        let at = 2u * (p + info.row * (p / info.row)) * width + c;
        let v = x[p * width + c];
        y[at] = v;
        y[at + width] = v;
        y[at + below] = v;
        y[at + below + width] = v;
    }
}
