// The sum of the squares of a tensor, in parts.
//
//   partials[at + k] = sum of x^2 over the share of workgroup k
//
// Layouts    x: any number of values;  partials: floats, those from `at` on are this tensor's.
// Workgroup  every `workgroups`-th stretch of wg values. Each invocation adds up its own values, then a tree adds up the
//            invocations: short sums, and always in the same order.
// Template   wg: invocations, a power of two;  vec4: whether a value is four numbers.

const WG: u32 = {{ wg }}u;
alias Values = {{ "vec4<f32>" if vec4 else "f32" }};

struct Info {
    count: u32,        // in values
    workgroups: u32,
    at: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> info: Info;

var<workgroup> tree: array<f32, WG>;

fn across(v: Values) -> f32 {
    return {{ "dot(v, vec4<f32>(1.0))" if vec4 else "v" }};
}

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    var sum = Values(0.0);
    for (var i = wid.x * WG + lid; i < info.count; i += info.workgroups * WG) {
        let v = x[i];
        sum += v * v;
    }
    tree[lid] = across(sum);
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s >>= 1u) {
        if lid < s { tree[lid] += tree[lid + s]; }
        workgroupBarrier();
    }
    if lid == 0u { partials[info.at + wid.x] = tree[0]; }
}
