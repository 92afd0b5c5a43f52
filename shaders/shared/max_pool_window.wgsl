{#
The windows of max-pooling, 3x3 pixels, two apart, with padding 1: types, the info block and how one is searched. Included behind
shared/types.wgsl. The includer binds x: array<S> and info: Info.

From outside: four, whether S and T are four channels, not one.
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

/// The maximum of the window (i, j) of an image, and where it is: the first one in the order of taps, or the last NaN. `base` is the
/// image's first value of this unit.
fn search(base: u32, i: u32, j: u32) -> Best {
    // From the first pixel that there is.
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
            // Exponent and fraction beyond those of infinity: NaN, which v != v might not see.
            let more = (v > best) | ((bitcast<U>(v) & U(0x7fffffffu)) > U(0x7f800000u));
            best = select(best, v, more);
            tap = select(tap, U(3u * k + l), more);
        }
    }
    return Best(best, tap);
}
