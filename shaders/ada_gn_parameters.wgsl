// AdaGN, gradients of everything small from the sums of the backward pass.
//
//   v = gamma * xhat + beta,  w = t_s * v + t_b,  u = z_s * w + z_b;  S0 = sum g, S1 = sum g * xhat over pixels
//   V = gamma S1 + beta S0 (= sum g v)
//   dz_s = t_s V + t_b S0,  dz_b = S0,  dt_s = z_s V,  dt_b = z_s S0
//   dgamma = sum over b of z_s t_s S1,  dbeta = sum over b of z_s t_s S0
//
// Layouts    sums [B, C] of (S0, S1);  t_mod, z_mod [B, 2C] scale | shift;  d_mod: t's [B, 2C], then z's from
//            mod_len on;  d_affine: gamma's [C], then beta's from affine_len on. Without modulation the scales are 1 and d_mod isn't written.
// Invocation one channel, over all images in order (deterministic).
// Template   wg: invocations.

struct Info {
    batch: u32,
    channels: u32,
    modulated: u32,
    mod_len: u32,
    affine_len: u32,
}

@group(0) @binding(0) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> t_mod: array<f32>;
@group(0) @binding(2) var<storage, read_write> z_mod: array<f32>;
@group(0) @binding(3) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(4) var<storage, read_write> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_mod: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_affine: array<f32>;
@group(0) @binding(7) var<storage, read_write> info: Info;

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    let C = info.channels;
    if c >= C { return; }
    var d_gamma = 0.0;
    var d_beta = 0.0;
    for (var b = 0u; b < info.batch; b++) {
        let s = sums[b * C + c];
        var scale = 1.0;
        if info.modulated == 1u {
            let m = b * 2u * C + c;
            let V = gamma[c] * s.y + beta[c] * s.x;
            let z = info.mod_len + m;
            d_mod[m] = z_mod[m] * V;
            d_mod[m + C] = z_mod[m] * s.x;
            d_mod[z] = t_mod[m] * V + t_mod[m + C] * s.x;
            d_mod[z + C] = s.x;
            scale = z_mod[m] * t_mod[m];
        }
        d_gamma += scale * s.y;
        d_beta += scale * s.x;
    }
    d_affine[c] = d_gamma;
    d_affine[info.affine_len + c] = d_beta;
}
