{#
Attention: one value for each row.

store_rows_of(array): declares store_<array>(value, image, row), which writes the 4 rows from `row`
on, as far as the image has them, to `array` [B, H*W]. In scope: info.pixels.
#}
{% macro store_rows_of(array) %}
fn store_{{ array }}(value: Acc4, image: u32, row: u32) {
    let pixel = image * info.pixels + row;
    let here = info.pixels - min(row, info.pixels);
    if here > 0u { {{ array }}[pixel] = value.x; }
    if here > 1u { {{ array }}[pixel + 1u] = value.y; }
    if here > 2u { {{ array }}[pixel + 2u] = value.z; }
    if here > 3u { {{ array }}[pixel + 3u] = value.w; }
}
{% endmacro %}
