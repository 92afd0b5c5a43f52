{#
A matrix product whose operands a and b pass through workgroup memory in tiles of four numbers, the next tiles being fetched to registers
meanwhile; the sums stay in registers.

registers(a_loads, b_loads, rows, cols): what an invocation keeps: next_a<i> and next_b<i>, its parts of the next tiles, and sum<m>_<n>.
main_loop(wg, a_loads, b_loads, from, to, by, first, next, multiply): steps from `from` up to `to`, `by` apart. Texts: `first` fetches the tiles of
the first step, `next` those of step + by, `multiply` adds the products of those in a_tile and b_tile to the sums. In scope: lid, the invocation.
The bounds are the same in the whole workgroup.
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
{% macro main_loop(wg, a_loads, b_loads, from, to, by, first, next, multiply) %}
    if {{ from }} < {{ to }} {
{{ first }}
    }
    for (var step = {{ from }}; step < {{ to }}; step += {{ by }}) {
        workgroupBarrier();
{% for i in range(a_loads) %}
        a_tile[lid + {{ i * wg }}u] = next_a{{ i }};
{% endfor %}
{% for i in range(b_loads) %}
        b_tile[lid + {{ i * wg }}u] = next_b{{ i }};
{% endfor %}
        workgroupBarrier();
        if step + {{ by }} < {{ to }} {
{{ next }}
        }
{{ multiply }}
    }
{% endmacro %}
