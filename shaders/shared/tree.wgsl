{#
Sums over invocations in a tree, always in the same order.

tree(arrays, lanes, cols): adds up each of `arrays` (workgroup memory, one element per invocation)
over the `lanes` invocations that are `cols` apart; the sums end up in the elements of lane 0. In
scope: lid, the invocation, and lane = lid / cols. All invocations of the workgroup must reach it,
each after it has written its own elements.
#}
{% macro tree(arrays, lanes, cols) %}
    workgroupBarrier();
    for (var reach = {{ reach(lanes) }}u; reach > 0u; reach >>= 1u) {
        if lane < reach && lane + reach < {{ lanes }}u {
{% for array in arrays %}
            {{ array }}[lid] += {{ array }}[lid + reach * {{ cols }}u];
{% endfor %}
        }
        workgroupBarrier();
    }
{% endmacro %}
