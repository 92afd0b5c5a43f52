{#
Reads four consecutive values, from an array of vectors or of scalars.

four(map, first, at, last, whole): the four channels from `at` on of the pixel that begins at
`first`. `whole` says that `map` is an array of four-vectors; if it isn't, channels beyond `last`
repeat channel `last`.
#}
{% macro four(map, first, at, last, whole) -%}
{% if whole -%}
{{ map }}[({{ first }} + {{ at }}) / 4u]
{%- else -%}
Elem4({{ map }}[{{ first }} + {{ at }}], {{ map }}[{{ first }} + min({{ at }} + 1u, {{ last }})], {{ map }}[{{ first }} + min({{ at }} + 2u, {{ last }})], {{ map }}[{{ first }} + min({{ at }} + 3u, {{ last }})])
{%- endif %}
{%- endmacro %}
