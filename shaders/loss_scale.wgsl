// One step of dynamic loss scaling: decides whether the gradients are used, what they are
// multiplied by, and the scale of the next step.
//
//   finite   norm' = norm / scale, clip = min(1, limit / norm') / scale; the scale is doubled after
//            every `interval` consecutive finite steps
//   else     clip = -1, which leaves the weights as they are; the scale is halved
//
// Layouts    norm [1]: the norm of the scaled gradients;  state, new_state [4]: the scale, finite
//            steps since it last changed, skipped steps in total, consecutive skipped steps;
//            clip, unscaled [1]: norm'.
// Invocation a single one.
// Template   elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}

struct Info {
    limit: f32,    // of the norm; 0: no limit
    interval: f32, // in steps
    most: f32,     // largest scale
    least: f32,    // smallest scale
}

@group(0) @binding(0) var<storage, read_write> norm: array<Acc>;
@group(0) @binding(1) var<storage, read_write> state: array<Acc>;
@group(0) @binding(2) var<storage, read_write> clip: array<Acc>;
@group(0) @binding(3) var<storage, read_write> unscaled: array<Acc>;
@group(0) @binding(4) var<storage, read_write> new_state: array<Acc>;
@group(0) @binding(5) var<uniform> info: Info;

/// Checks by its bits whether `x` is neither infinite nor NaN: compilers may assume that every
/// value is finite.
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
