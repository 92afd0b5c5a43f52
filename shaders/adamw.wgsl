// AdamW and the exponential moving average of the weights, in place.
//
//   g = clip * grad,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//   w = shrink * w - rate * m / (sqrt(correction * v) + epsilon),  average = ema * average + (1 - ema) w
//
// Layouts    weight w, first m, second v, average, grad: as many values each;  clip: one number.
// Invocation one value of each.
// Template   wg: invocations;  vec4: whether a value is four numbers.

alias Values = {{ "vec4<f32>" if vec4 else "f32" }};

struct Info {
    count: u32,        // in values
    beta1: f32,
    rest1: f32,        // 1 - beta1
    beta2: f32,
    rest2: f32,
    rate: f32,         // learning rate / (1 - beta1^n)
    correction: f32,   // 1 / (1 - beta2^n)
    epsilon: f32,
    shrink: f32,       // 1 - learning rate * weight decay
    ema: f32,
    ema_rest: f32,
}

@group(0) @binding(0) var<storage, read_write> weight: array<Values>;
@group(0) @binding(1) var<storage, read_write> first: array<Values>;
@group(0) @binding(2) var<storage, read_write> second: array<Values>;
@group(0) @binding(3) var<storage, read_write> average: array<Values>;
@group(0) @binding(4) var<storage, read_write> grad: array<Values>;
@group(0) @binding(5) var<storage, read_write> clip: array<f32>;
@group(0) @binding(6) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = (wid.x + wid.y * grid.x) * {{ wg }}u + lid;
    if i >= info.count { return; }
    let g = grad[i] * clip[0];
    let m = first[i] * info.beta1 + g * info.rest1;
    let v = second[i] * info.beta2 + g * g * info.rest2;
    let w = weight[i] * info.shrink - m / (sqrt(v * info.correction) + info.epsilon) * info.rate;
    first[i] = m;
    second[i] = v;
    weight[i] = w;
    average[i] = average[i] * info.ema + w * info.ema_rest;
}
