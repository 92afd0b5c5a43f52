// Dynamic loss scaling, one step of it: whether the gradients are used, what they are multiplied by, and the scale of the next step.
//
//   finite   norm' = norm / scale, clip = min(1, limit / norm') / scale; every `interval` finite steps in a row the scale is doubled
//   else     clip = -1, which leaves the weights as they are; the scale is halved
//
// Layouts    norm [1], that of the scaled gradients;  state, new_state [4]: scale, finite steps since it changed, steps left out in all, of them
//            in a row;  clip, unscaled [1]: norm'.
// Invocation the only one.
// Template   elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}

struct Info {
    limit: f32,    // of the norm; 0: none
    interval: f32, // steps
    most: f32,     // scale
    least: f32,
}

@group(0) @binding(0) var<storage, read_write> norm: array<Acc>;
@group(0) @binding(1) var<storage, read_write> state: array<Acc>;
@group(0) @binding(2) var<storage, read_write> clip: array<Acc>;
@group(0) @binding(3) var<storage, read_write> unscaled: array<Acc>;
@group(0) @binding(4) var<storage, read_write> new_state: array<Acc>;
@group(0) @binding(5) var<uniform> info: Info;

/// Whether `x` is neither infinite nor no number, by its bits: compilers may take every number for finite.
fn finite(x: Acc) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32) {
    if lid != 0u { return; }
    let scale = state[0];
    if finite(norm[0]) {
        let length = norm[0] / scale;
        var factor = Acc(1.0);
        if info.limit > 0.0 { factor = min(1.0, info.limit / (length + 1e-6)); }
        let grows = state[1] + 1.0 >= info.interval;
        clip[0] = factor / scale;
        unscaled[0] = length;
        new_state[0] = select(scale, min(scale * 2.0, info.most), grows);
        new_state[1] = select(state[1] + 1.0, 0.0, grows);
        new_state[2] = state[2];
        new_state[3] = 0.0;
    } else {
        clip[0] = -1.0;
        unscaled[0] = norm[0];
        new_state[0] = max(scale * 0.5, info.least);
        new_state[1] = 0.0;
        new_state[2] = state[2] + 1.0;
        new_state[3] = state[3] + 1.0;
    }
}
