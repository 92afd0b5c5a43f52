//! How workgroups map to NHWC memory, for shaders that treat every pixel alike: invocations run
//! along the channels first, as memory does, then along the pixels. Each keeps its channel, and the
//! values that belong to it, for all of its pixels.

use crate::device::Class;
use minijinja::{Value, context};

/// The template values of such a shader, see shaders/shared/columns.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Columns {
    /// The invocations of a workgroup.
    pub wg: u32,
    /// The invocations along the channels. Those left over, too few for another pixel, are idle.
    pub cols: u32,
    /// Whether a unit is four channels of a pixel, not one.
    pub four: bool,
}

impl Columns {
    /// Returns the values for parts of `channels` channels. Units have four channels if every part
    /// is a multiple of four.
    pub fn new(class: Class, channels: &[usize]) -> Self {
        let four = channels.iter().all(|c| c.is_multiple_of(4));
        let wg = match class {
            Class::Gpu => 256,
            Class::Software => 32,
        };
        let width = channels.iter().sum::<usize>() / if four { 4 } else { 1 };
        Self { wg, cols: (width as u32).clamp(1, wg), four }
    }

    /// Returns how many pixels a workgroup processes at a time.
    fn lanes(self) -> u32 {
        self.wg / self.cols
    }

    /// Returns the number of units in `channels` channels.
    pub fn units(self, channels: usize) -> u32 {
        (channels / if self.four { 4 } else { 1 }) as u32
    }

    /// Returns the template values cols and four.
    pub fn context(self) -> Value {
        context! { cols => self.cols, four => self.four }
    }
}

/// Pixels in blocks of one workgroup each (if a workgroup is as wide as all channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    /// The units of a pixel.
    pub width: u32,
    /// The number of pixels.
    pub pixels: u32,
    /// The pixels of a block; the last block may have fewer.
    pub size: u32,
    /// The number of blocks.
    pub count: u32,
    /// The workgroups that share a block, next to each other along the channels.
    tiles: u32,
}

impl Blocks {
    /// Divides `pixels` into blocks with `each` pixels per invocation, or more where that would
    /// give more than `most` blocks.
    pub fn new(columns: Columns, pixels: usize, channels: usize, each: u32, most: u32) -> Self {
        let (width, pixels) = (columns.units(channels), pixels as u32);
        let each = each.max(pixels.div_ceil(columns.lanes() * most));
        let size = columns.lanes() * each;
        Self {
            width,
            pixels,
            size,
            count: pixels.div_ceil(size),
            tiles: width.div_ceil(columns.cols),
        }
    }

    /// Returns the number of workgroups of all blocks.
    pub fn workgroups(&self) -> usize {
        self.count as usize * self.tiles as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_pixel_and_stay_within_their_limit() {
        for class in [Class::Gpu, Class::Software] {
            for channels in [1, 3, 17, 64, 300, 1_000, 5_000] {
                for pixels in [1, 31, 1_000, 1 << 20] {
                    let columns = Columns::new(class, &[channels]);
                    let blocks = Blocks::new(columns, pixels, channels, 16, 1024);
                    assert!((1..=1024).contains(&blocks.count), "{columns:?}: {blocks:?}");
                    assert!(
                        blocks.size >= 16 * columns.lanes()
                            && blocks.size.is_multiple_of(columns.lanes())
                    );
                    let pixels = pixels as u32;
                    assert!(
                        blocks.count * blocks.size >= pixels
                            && (blocks.count - 1) * blocks.size < pixels,
                        "{blocks:?}"
                    );
                    assert!(
                        columns.cols * columns.lanes() <= columns.wg
                            && blocks.tiles * columns.cols >= blocks.width
                    );
                }
            }
        }
    }

    #[test]
    fn units_of_four_need_every_part_to_be_a_multiple_of_four() {
        assert!(Columns::new(Class::Gpu, &[8, 4]).four);
        assert!(!Columns::new(Class::Gpu, &[6, 6]).four);
    }
}
