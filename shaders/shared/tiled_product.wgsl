{#
A matrix product whose operands a and b pass through workgroup memory in tiles, while the next tiles
are fetched into registers; the sums stay in registers.

registers(a_loads, b_loads, rows, cols): the variables of an invocation: next_a<i> and next_b<i>,
its parts of the next tiles, and sum<m>_<n>.
step(wg, b_loads, follows, multiply, set_a): the rest of a step, after its fetch: multiplies the
previous tiles, if the step `follows` another, and writes the fetched tiles to workgroup memory. So
a loop takes one step more than there are tiles. `multiply` is the text that adds the products of
a_tile and b_tile to the sums; `set_a` is the text that writes next_a<i>. In scope: lid, the
invocation. The bounds must be the same in the whole workgroup.
#}
{% macro registers(a_loads, b_loads, rows, cols) %}
{% for i in range(a_loads) %}
    var next_a{{ i }} = Elem4(0.0);
{% endfor %}
{% for i in range(b_loads) %}
    var next_b{{ i }} = Elem4(0.0);
{% endfor %}
{% for m in range(rows) %}
{% for n in range(cols) %}
    var sum{{ m }}_{{ n }} = Acc4(0.0);
{% endfor %}
{% endfor %}
{% endmacro %}
{% macro step(wg, b_loads, follows, multiply, set_a) %}
        if {{ follows }} {
{{ multiply }}
        }
        workgroupBarrier();
{{ set_a }}
{% for i in range(b_loads) %}
        b_tile[lid + {{ i * wg }}u] = next_b{{ i }};
{% endfor %}
        workgroupBarrier();
{% endmacro %}
