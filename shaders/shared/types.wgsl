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

/// Four numbers as f16 would hold them.
fn rounded(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(pack2x16float(v.xy)), unpack2x16float(pack2x16float(v.zw)));
}
{% endif %}
