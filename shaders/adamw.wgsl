// AdamW and the exponential moving average (EMA) of the weights, in place.
//
//   g = clip * grad,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//   w = shrink * w - rate * m / (sqrt(correction * v) + epsilon)
//   average = ema * average + (1 - ema) w
//   If clip is below 0, nothing changes.
//
// Layouts    weight w, first m, second v, average, grad: the same number of units each, of four
//            values or of one;  clip [1];
//            factors [10]: beta1, 1 - beta1, beta2, 1 - beta2,
//            rate = learning rate / (1 - beta1^n), correction = 1 / (1 - beta2^n), epsilon,
//            shrink = 1 - learning rate * weight decay, ema, 1 - ema. They change with every
//            update, so they are not part of the info block: cubecl would write each new block
//            separately.
// Invocation one unit of each tensor.
// Template   wg: invocations;  four: whether T is four values, not one;  elem, acc
//            (shared/types.wgsl).

{% include "shared/types.wgsl" %}
alias T = {{ "Acc4" if four else "Acc" }};

struct Info {
    count: u32,   // in units
}

@group(0) @binding(0) var<storage, read_write> weight: array<T>;
@group(0) @binding(1) var<storage, read_write> first: array<T>;
@group(0) @binding(2) var<storage, read_write> second: array<T>;
@group(0) @binding(3) var<storage, read_write> average: array<T>;
@group(0) @binding(4) var<storage, read_write> grad: array<T>;
@group(0) @binding(5) var<storage, read_write> clip: array<Acc>;
@group(0) @binding(6) var<storage, read_write> factors: array<Acc>;
@group(0) @binding(7) var<uniform> info: Info;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.count || clip[0] < 0.0 { return; }
    let g = grad[i] * clip[0];
    let m = first[i] * factors[0] + g * factors[1];
    let v = second[i] * factors[2] + g * g * factors[3];
    let w = weight[i] * factors[7] - m / (sqrt(v * factors[5]) + factors[6]) * factors[4];
    first[i] = m;
    second[i] = v;
    weight[i] = w;
    average[i] = average[i] * factors[8] + w * factors[9];
}
