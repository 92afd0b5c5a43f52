{#
Four numbers of memory at once, whether it is declared in fours or one by one.

four(map, first, at, last, whole): those of the pixel that begins at `first` from its channel `at` on. Where `map` isn't in fours (`whole`),
channels beyond `last` repeat it.
#}
{% macro four(map, first, at, last, whole) -%}
{% if whole -%}
{{ map }}[({{ first }} + {{ at }}) / 4u]
{%- else -%}
Elem4({{ map }}[{{ first }} + {{ at }}], {{ map }}[{{ first }} + min({{ at }} + 1u, {{ last }})], {{ map }}[{{ first }} + min({{ at }} + 2u, {{ last }})], {{ map }}[{{ first }} + min({{ at }} + 3u, {{ last }})])
{%- endif %}
{%- endmacro %}
