{#
The dropout mask: a hash of the key and of the element's index in NHWC order, the same on every
backend (kernels/math.rs).

mask(width): functions that handle `width` channels at a time. In scope: info.key_0, info.key_1, and
info.threshold: elements whose hash is below it are dropped.
#}
{% macro mask(width) %}
{% set U = "vec4<u32>" if width == 4 else "u32" %}
fn pcg(x: {{ U }}) -> {{ U }} {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> {{ U }}(28u)) + {{ U }}(4u))) ^ state) * 277803737u;
    return (word >> {{ U }}(22u)) ^ word;
}

/// Checks for each channel of the element `at` whether it is dropped.
fn is_dropped(at: u32) -> {{ "vec4<bool>" if width == 4 else "bool" }} {
    let element = {{ U }}(at * {{ width }}u) + {{ "vec4<u32>(0u, 1u, 2u, 3u)" if width == 4 else "0u" }};
    return pcg(pcg(element ^ {{ U }}(info.key_0)) ^ {{ U }}(info.key_1)) < {{ U }}(info.threshold);
}
{% endmacro %}
