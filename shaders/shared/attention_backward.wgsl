{#
Attention, backward: the operands of both passes, stored as Elem, in the form that
shared/attention_tiles.wgsl expects. In scope: qkv, d_out, d_qkv, info.
#}
const D_OUT: u32 = 3u;

fn first(part: u32, pixel: u32) -> u32 {
    return select(3u * pixel + part, pixel, part == D_OUT) * info.vectors;
}

fn fetch(part: u32, i: u32) -> Acc4 {
    if part == D_OUT { return Acc4({{ factor("d_out[i]") }}); }
    return Acc4({{ factor("qkv[i]") }});
}

fn store(part: u32, pixel: u32, c: u32, value: Acc4) {
    d_qkv[(3u * pixel + part) * info.vectors + c] = Elem4(value);
}
