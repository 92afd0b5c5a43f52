{#
The variables of a subgroup: the matrices sum<m>_<n> of its block, and where its rows of both tiles
begin. In scope: subgroup. See matrix_tiles.wgsl.
#}
    let a_first = subgroup / 2u * {{ bm // 2 * stride }}u;
    let b_first = subgroup % 2u * {{ bn // 2 * stride }}u;
{% for m in range(rows) %}
{% for n in range(cols) %}
    var sum{{ m }}_{{ n }} = {{ "Sums" if shim else "coop_mat" ~ s ~ "x" ~ s ~ "<Acc, C>" }}();
{% endfor %}
{% endfor %}
