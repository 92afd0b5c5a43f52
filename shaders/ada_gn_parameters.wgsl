// AdaGN, gradients of all small operands from the sums of the backward pass.
//
//   v = gamma * xhat + beta,  w = t_s * v + t_b,  u = z_s * w + z_b
//   S0 = sum g, S1 = sum g * xhat over pixels
//   V = gamma S1 + beta S0 (= sum g v)
//   dz_s = t_s V + t_b S0,  dz_b = S0,  dt_s = z_s V,  dt_b = z_s S0
//   dgamma = sum over b of z_s t_s S1,  dbeta = sum over b of z_s t_s S0
//
// Layouts    sums [2, B, C]: S0, S1;  t_mod, z_mod [B, 2C] scale | shift;  d_mod: t's [B, 2C], then
//            z's from mod_len on;  d_affine: gamma's [C], then beta's from affine_len on. Without
//            modulation the scales are 1 and d_mod isn't written. All in units of T, four channels
//            or one.
// Workgroup  {{ cols }} units of channels. The invocations of one unit split the images, and a tree
//            adds up their sums in a fixed order.
// Template   wg: invocations;  cols, a divisor of wg;  four: whether T is four channels rather than
//            one;  elem, acc (shared/types.wgsl).

{% include "shared/types.wgsl" %}
{% from "shared/tree.wgsl" import tree %}
{% set lanes = wg // cols %}
alias T = {{ "Acc4" if four else "Acc" }};

struct Info {
    batch: u32,
    units: u32,      // C in units of T
    modulated: u32,
    mod_len: u32,    // in units of T
    affine_len: u32, // in units of T
}

@group(0) @binding(0) var<storage, read_write> sums: array<T>;
@group(0) @binding(1) var<storage, read_write> t_mod: array<T>;
@group(0) @binding(2) var<storage, read_write> z_mod: array<T>;
@group(0) @binding(3) var<storage, read_write> gamma: array<T>;
@group(0) @binding(4) var<storage, read_write> beta: array<T>;
@group(0) @binding(5) var<storage, read_write> d_mod: array<T>;
@group(0) @binding(6) var<storage, read_write> d_affine: array<T>;
@group(0) @binding(7) var<uniform> info: Info;

var<workgroup> partial_gamma: array<T, {{ wg }}>;
var<workgroup> partial_beta: array<T, {{ wg }}>;

@compute @workgroup_size({{ wg }})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let units = info.units;
    let lane = lid / {{ cols }}u;
    let wanted = wid.x * {{ cols }}u + lid % {{ cols }}u;
    let c = min(wanted, units - 1u);
    var d_gamma = T(0.0);
    var d_beta = T(0.0);
    let begin = select(info.batch, lane, wanted < units);
    for (var b = begin; b < info.batch; b += {{ lanes }}u) {
        let s0 = sums[b * units + c];
        let s1 = sums[(info.batch + b) * units + c];
        var scale = T(1.0);
        if info.modulated == 1u {
            let m = b * 2u * units + c;
            let V = gamma[c] * s1 + beta[c] * s0;
            let z = info.mod_len + m;
            d_mod[m] = z_mod[m] * V;
            d_mod[m + units] = z_mod[m] * s0;
            d_mod[z] = t_mod[m] * V + t_mod[m + units] * s0;
            d_mod[z + units] = s0;
            scale = z_mod[m] * t_mod[m];
        }
        d_gamma += scale * s1;
        d_beta += scale * s0;
    }
{% if lanes > 1 %}
    partial_gamma[lid] = d_gamma;
    partial_beta[lid] = d_beta;
{{ tree(["partial_gamma", "partial_beta"], lanes, cols) }}
    d_gamma = partial_gamma[lid];
    d_beta = partial_beta[lid];
{% endif %}
    if lane == 0u && wanted < units {
        d_affine[c] = d_gamma;
        d_affine[info.affine_len + c] = d_beta;
    }
}
