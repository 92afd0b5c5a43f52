{# The info block of the forward and the backward shader of AdaGN. #}
struct Info {
    workgroups: u32,   // that have work
    batch: u32,        // B
    units: u32,        // C in units
    group_size: u32,   // channels per group
    pixels: u32,       // H * W
    flags: u32,        // 1: modulated, 2: SiLU, 4: dropout
    eps: f32,
    threshold: u32,    // elements with a hash below it are dropped
    keep_scale: f32,   // 1 / (1 - p)
    key_0: u32,
    key_1: u32,
}
