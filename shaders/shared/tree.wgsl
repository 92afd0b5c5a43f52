{#
Sums over invocations in a tree, always in the same order.

tree(arrays, lanes, cols): each of `arrays` (workgroup memory, an element for each invocation) is added up over the `lanes` invocations that lie
`cols` apart; the sums are in the elements of lane 0. In scope: lid, the invocation, and lane = lid / cols. All invocations come here;
each has written its own elements.
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
