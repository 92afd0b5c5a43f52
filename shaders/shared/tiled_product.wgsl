{#
A matrix product whose operands a and b pass through workgroup memory in tiles, the next tiles being fetched to registers meanwhile; the sums stay
in registers.

registers(a_loads, b_loads, rows, cols): what an invocation keeps: next_a<i> and next_b<i>, its parts of the next tiles, and sum<m>_<n>.
step(wg, b_loads, follows, multiply, set_a): what comes after a step's fetch: the product of the tiles before, if it `follows` a step, and the fetched
ones to workgroup memory. So a loop of steps takes one more than there are tiles. Texts: `multiply` adds the products of those in a_tile and b_tile
to the sums, `set_a` writes next_a<i>. In scope: lid, the invocation. The bounds are the same in the whole workgroup.
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
