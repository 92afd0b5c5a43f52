{#
The windows of max-pooling, 3x3 pixels with stride 2 and padding 1: types, the info block, and the
search of one window. Included after shared/types.wgsl. The includer binds x: array<S> and
info: Info.

From the includer: four, whether S and T are four channels, not one.
#}
alias S = {{ "Elem4" if four else "Elem" }};
alias T = {{ "Acc4" if four else "Acc" }};
alias U = {{ "vec4<u32>" if four else "u32" }};

struct Info {
    total: u32,      // windows * units
    units: u32,      // C in units of T
    height: u32,     // of x
    width: u32,
    out_height: u32, // of y
    out_width: u32,
}

struct Best {
    value: T,
    tap: U, // 3 k + l
}

/// Returns the maximum of the window (i, j) of an image and its tap: the first maximum in the order
/// of taps, or the last NaN. `base` is the index of the image's first value of this unit.
fn search(base: u32, i: u32, j: u32) -> Best {
    // Starts at the first pixel inside the image.
    let top = select(0u, 1u, i == 0u);
    let left = select(0u, 1u, j == 0u);
    var best = T(x[base + ((2u * i + top - 1u) * info.width + 2u * j + left - 1u) * info.units]);
    var tap = U(3u * top + left);
    for (var k = top; k < 3u; k++) {
        let row = 2u * i + k - 1u;
        if row >= info.height { break; }
        for (var l = left; l < 3u; l++) {
            let col = 2u * j + l - 1u;
            if col >= info.width { break; }
            let v = T(x[base + (row * info.width + col) * info.units]);
            // Bits beyond those of infinity are NaN, which v != v might miss.
            let more = (v > best) | ((bitcast<U>(v) & U(0x7fffffffu)) > U(0x7f800000u));
            best = select(best, v, more);
            tap = select(tap, U(3u * k + l), more);
        }
    }
    return Best(best, tap);
}
