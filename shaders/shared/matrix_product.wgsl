{#
Adds the product of both tiles to the sums. In scope: the variables of matrix_sums.wgsl; lane, for
the shim.
#}
{% set matrix = "coop_mat" ~ s ~ "x" ~ s ~ "<Elem" %}
{% for k in range(bk // s) %}
        {
{% for m in range(rows) %}
{% set at = "a_first + " ~ (m * s * stride + k * s) ~ "u" %}
            let a{{ m }} = {% if shim %}{{ at }}{% else %}coopLoadT<{{ matrix }}, A>>(&a_tile[{{ at }}], {{ stride }}u){% endif %};
{% endfor %}
{% for n in range(cols) %}
{% set at = "b_first + " ~ (n * s * stride + k * s) ~ "u" %}
            let b{{ n }} = {% if shim %}{{ at }}{% else %}coopLoad<{{ matrix }}, B>>(&b_tile[{{ at }}], {{ stride }}u){% endif %};
{% for m in range(rows) %}
            sum{{ m }}_{{ n }} = {% if shim %}multiply_add(a{{ m }}, b{{ n }}, sum{{ m }}_{{ n }}, lane){% else %}coopMultiplyAdd(a{{ m }}, b{{ n }}, sum{{ m }}_{{ n }}){% endif %};
{% endfor %}
{% endfor %}
        }
{% endfor %}
