// What the forward and the backward shader of AdaGN have in common: the info block, and the dropout mask, which is a hash of the
// key and the element, counted in NHWC order. Appended to both.
//
// Template   four: whether T is four channels, else one.

alias T = {{ "vec4<f32>" if four else "f32" }};
alias U = {{ "vec4<u32>" if four else "u32" }};

struct Info {
    workgroups: u32,   // those that have work
    batch: u32,        // B
    units: u32,        // C in units of T
    group_size: u32,   // channels of a group
    pixels: u32,       // H * W
    flags: u32,        // 1: modulated, 2: SiLU, 4: dropout
    eps: f32,
    threshold: u32,    // hashes below are dropped
    keep_scale: f32,   // 1 / (1 - p)
    key_0: u32,
    key_1: u32,
}

fn pcg(x: U) -> U {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> U(28u)) + U(4u))) ^ state) * 277803737u;
    return (word >> U(22u)) ^ word;
}

/// Whether each channel of the element `at` is dropped.
fn is_dropped(at: u32) -> {{ "vec4<bool>" if four else "bool" }} {
    let element = U(at * {{ width }}u) + {{ "U(0u, 1u, 2u, 3u)" if four else "0u" }};
    return pcg(pcg(element ^ U(info.key_0)) ^ U(info.key_1)) < U(info.threshold);
}
