// Operands of the general shaders of the weights' gradient. Appended to conv2d_weights_tiled.wgsl and conv2d_weights_taps.wgsl,
// whose headers say more.
//
// Template   x4, y4: whether C, O are multiples of four.

struct Info {
    height: u32,
    width: u32,
    channels: u32,     // C
    stride: u32,
    rows: u32,         // the grid of positions
    cols: u32,
    out_channels: u32, // O
    taps: u32,
    positions: u32,    // N * rows * cols
    share: u32,        // positions of a share
    shares: u32,
    unused: u32,
    tap: array<vec4<i32>, 16>, // (row offset, column offset)
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ "vec4<f32>" if x4 else "f32" }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ "vec4<f32>" if y4 else "f32" }}>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> info: Info;
