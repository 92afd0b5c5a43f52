//! How workgroups lie on NHWC memory, for shaders that do the same to every pixel: invocations
//! along the channels first, as memory does, then along pixels. Each keeps its channel, and what
//! belongs to that, for all of its pixels.

use super::launch::Class;
use minijinja::{Value, context};

/// Template values of such a shader, see shaders/shared/columns.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Columns {
    /// Invocations of a workgroup.
    pub wg: u32,
    /// Invocations along the channels; those that don't fill another pixel have nothing to do.
    pub cols: u32,
    /// Whether a unit is four channels of a pixel, not one.
    pub four: bool,
}

impl Columns {
    /// For `channels` channels, of which every part has to be a multiple of four for units of four.
    pub fn new(class: Class, channels: &[usize]) -> Self {
        let four = channels.iter().all(|c| c.is_multiple_of(4));
        let wg = match class {
            Class::Gpu => 256,
            Class::Software => 32,
        };
        let width = channels.iter().sum::<usize>() / if four { 4 } else { 1 };
        Self { wg, cols: (width as u32).clamp(1, wg), four }
    }

    /// Pixels of a workgroup at a time.
    fn lanes(self) -> u32 {
        self.wg / self.cols
    }

    /// Units in `channels` channels.
    pub fn units(self, channels: usize) -> u32 {
        (channels / if self.four { 4 } else { 1 }) as u32
    }

    /// Template values cols and four.
    pub fn context(self) -> Value {
        context! { cols => self.cols, four => self.four }
    }
}

/// Pixels, cut into blocks of one workgroup each (where it is as wide as all channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    /// Units in a pixel.
    pub width: u32,
    /// Number of pixels.
    pub pixels: u32,
    /// Pixels of a block; the last may have fewer.
    pub size: u32,
    /// Number of blocks.
    pub count: u32,
    /// Workgroups side by side in a block.
    tiles: u32,
}

impl Blocks {
    /// Each invocation gets `each` pixels, or more if there were more than `most` blocks.
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

    /// Workgroups of all blocks.
    pub fn workgroups(&self) -> usize {
        self.count as usize * self.tiles as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_pixel_and_stay_within_their_number() {
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
