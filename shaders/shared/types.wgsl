{#
Included first by every shader: the extension that its types need, and their names. From outside: elem, acc, factors.

Elem: what feature maps and packed weights are stored as, f32 or f16;  Acc: what is computed and added up in, f32. Small tensors (statistics,
parameters, sums of blocks) are stored as Acc. Elem4 and Acc4 are four of them. Values are read as Acc(x[i]) and written as Elem(v), so that
nothing else changes with the types. Where the factors of products are rounded to f16 and stored as f32, a shader writes four of them, of
type Elem4, as factor("..").
#}
{% if "f16" in [elem, acc] %}
enable f16;
{% endif %}
alias Elem = {{ elem }};
alias Elem4 = vec4<{{ elem }}>;
alias Acc = {{ acc }};
alias Acc4 = vec4<{{ acc }}>;
{% if factors != elem %}

/// Four numbers as f16 would hold them: the nearest ones, of two equally near the even one. (By their bits: what pack2x16float rounds to is
/// the driver's choice.)
fn rounded(v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(v);
    let exponent = (bits >> vec4<u32>(23u)) & vec4<u32>(255u);
    // Bits that f16 doesn't have: 13, below 2^-14 one more with each power of two. Below 2^-24 it is 0.
    let lost = vec4<u32>(126u) - clamp(exponent, vec4<u32>(103u), vec4<u32>(113u));
    let odd = (bits >> lost) & vec4<u32>(1u);
    let up = (vec4<u32>(1u) << (lost - 1u)) - 1u + odd;
    let kept = (bits + up) & ~((vec4<u32>(1u) << lost) - 1u);
    let sign = bits & vec4<u32>(0x80000000u);
    let small = select(kept, sign, exponent < vec4<u32>(103u));
    // From 65,520 on it is infinite.
    let all = select(small, sign | vec4<u32>(0x7f800000u), (kept & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x47800000u));
    return select(bitcast<vec4<f32>>(all), v, exponent == vec4<u32>(255u));
}
{% endif %}
