{#
Attention, backward: the operands of both passes, stored as Elem, as shared/attention_tiles.wgsl wants them.
In scope: qkv, d_out, d_qkv, info.
#}
const D_OUT: u32 = 3u;

fn fetch(part: u32, pixel: u32, c: u32) -> Acc4 {
    if part == D_OUT { return Acc4(d_out[pixel * info.vectors + c]); }
    return Acc4(qkv[(3u * pixel + part) * info.vectors + c]);
}

fn store(part: u32, pixel: u32, c: u32, value: Acc4) {
    d_qkv[(3u * pixel + part) * info.vectors + c] = Elem4(value);
}
