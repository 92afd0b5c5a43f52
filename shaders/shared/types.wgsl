{#
Included first by every shader: the extension that its types need, and the names of the types. From
the includer: elem, acc, factors.

Elem: the storage type of feature maps and packed weights, f32 or f16;  Acc: the type of computation
and accumulation, f32. Small tensors (statistics, parameters, sums of blocks) are stored as Acc.
Elem4 and Acc4 are vectors of four. Values are read as Acc(x[i]) and written as Elem(v), so that
nothing else depends on the types. Where the factors of products are rounded to f16 but stored as
f32, a shader writes four of them, of type Elem4, as factor("..").
#}
{% if "f16" in [elem, acc] %}
enable f16;
{% endif %}
alias Elem = {{ elem }};
alias Elem4 = vec4<{{ elem }}>;
alias Acc = {{ acc }};
alias Acc4 = vec4<{{ acc }}>;
{% if factors != elem %}

/// Rounds four values to the nearest f16, ties to even; values below 2^-24 become 0. Works on the
/// bits, because the rounding of pack2x16float is the driver's choice.
fn rounded(v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(v);
    let exponent = (bits >> vec4<u32>(23u)) & vec4<u32>(255u);
    // Fraction bits that f16 lacks: 13, and one more for each power of two below 2^-14. Below 2^-24
    // the result is 0.
    let lost = vec4<u32>(126u) - clamp(exponent, vec4<u32>(103u), vec4<u32>(113u));
    let odd = (bits >> lost) & vec4<u32>(1u);
    let up = (vec4<u32>(1u) << (lost - 1u)) - 1u + odd;
    let kept = (bits + up) & ~((vec4<u32>(1u) << lost) - 1u);
    let sign = bits & vec4<u32>(0x80000000u);
    let small = select(kept, sign, exponent < vec4<u32>(103u));
    // Values from 65,520 on become infinite.
    let all = select(small, sign | vec4<u32>(0x7f800000u), (kept & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x47800000u));
    return select(bitcast<vec4<f32>>(all), v, exponent == vec4<u32>(255u));
}
{% endif %}
