//! The units in which the general shaders read and write feature maps.

/// How the general shaders read and write feature maps: in units of four channels where possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fours {
    /// Whether the channels of the input are a multiple of four.
    pub x4: bool,
    /// Whether the channels of the output are a multiple of four.
    pub y4: bool,
}

impl Fours {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self { x4: false, y4: false },
        Self { x4: false, y4: true },
        Self { x4: true, y4: false },
        Self { x4: true, y4: true },
    ];

    /// Chooses the units for `c` input and `o` output channels.
    pub fn new(c: usize, o: usize) -> Self {
        Self { x4: c.is_multiple_of(4), y4: o.is_multiple_of(4) }
    }
}

/// Returns the number of elements of a pixel of `c` channels, as the tiled shaders read it.
pub(super) fn pixel(c: usize) -> usize {
    if c.is_multiple_of(4) { c / 4 } else { c }
}
