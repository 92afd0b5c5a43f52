//! How a gather is split into classes of outputs, which use the same taps, and into tasks.

use super::axis::Axis;

/// A gather over a batch of images.
pub(in crate::kernels::conv2d::cpu) struct Gather {
    pub batch: usize,
    pub source_channels: usize,
    pub out_channels: usize,
    pub rows: Axis,
    pub cols: Axis,
}

/// The outputs of one pair of phases in a full band, and the index at which their packed weights
/// begin.
pub(super) struct Class {
    pub(super) phase_row: usize,
    pub(super) cols: usize,
    pub(super) source: Vec<usize>,
    pub(super) out: Vec<usize>,
    pub(super) tap_rows: usize,
    pub(super) row_len: usize,
    pub(super) weights: usize,
}

/// How images are split into tasks: `images` whole ones, or `rows` outputs of each row phase.
pub(super) struct Cut {
    pub(super) images: usize,
    pub(super) rows: usize,
    /// Whether the source is used in place, without a padded copy.
    pub(super) direct: bool,
    /// Source rows, as the tiles see them.
    pub(super) source_rows: usize,
    /// Elements of a source row, as the tiles see it.
    pub(super) source_row: usize,
    /// Elements of a source image, as the tiles see it.
    pub(super) source_image: usize,
}

/// Source elements per task: they and a block of weights stay in the second-level cache.
const BAND: usize = 1 << 16;

/// The most outputs of a task that takes several images: their positions are listed once per call.
const BAND_PIXELS: usize = 1 << 10;

impl Gather {
    /// Checks whether blocks of output channels would leave most lanes empty.
    pub(super) fn narrow(&self, lanes: usize) -> bool {
        self.out_channels <= 4 && 2 * self.out_channels <= lanes
    }

    pub(super) fn cut(&self) -> Cut {
        let all_rows = self.rows.count(0);
        let (rows_in, cols_in) = (self.rows.span(all_rows), self.cols.span(self.cols.count(0)));
        let direct = self.rows.before() + self.cols.before() == 0
            && rows_in <= self.rows.source_len
            && cols_in <= self.cols.source_len;
        let source_row = if direct { self.cols.source_len } else { cols_in } * self.source_channels;
        let image = rows_in * source_row;
        // Several tasks per thread, so that an interrupted one doesn't hold up the others.
        let wanted = 4 * rayon::current_num_threads();
        let pixels = self.rows.out_len * self.cols.out_len;
        let images =
            (BAND / image.max(1)).min(self.batch / wanted).min(BAND_PIXELS / pixels).max(1);
        let rows = if images > 1 {
            all_rows
        } else {
            let fits =
                (BAND / (self.rows.source_step * source_row).max(1)).saturating_sub(2).max(4);
            let bands = all_rows.div_ceil(fits).max(wanted.div_ceil(self.batch));
            all_rows.div_ceil(bands).max(4).min(all_rows)
        };
        let source_rows = self.rows.span(rows);
        let source_image = if direct { self.rows.source_len } else { source_rows } * source_row;
        Cut { images, rows, direct, source_rows, source_row, source_image }
    }

    pub(super) fn classes(&self, cut: &Cut, padded: usize) -> Vec<Class> {
        let (before_row, before_col) = (self.rows.before() as isize, self.cols.before() as isize);
        let mut weights = 0;
        let mut classes = vec![];
        for (phase_row, row_phase) in self.rows.phases.iter().enumerate() {
            for (phase_col, col_phase) in self.cols.phases.iter().enumerate() {
                let (rows, cols) =
                    (self.rows.count(phase_row).min(cut.rows), self.cols.count(phase_col));
                let (mut source, mut out) = (vec![], vec![]);
                for image in 0..cut.images {
                    for a in 0..rows {
                        let in_row =
                            (a * self.rows.source_step) + (row_phase.first + before_row) as usize;
                        let out_row =
                            image * self.rows.out_len + a * self.rows.out_step + phase_row;
                        for b in 0..cols {
                            let in_col =
                                b * self.cols.source_step + (col_phase.first + before_col) as usize;
                            let out_col = b * self.cols.out_step + phase_col;
                            source.push(
                                image * cut.source_image
                                    + in_row * cut.source_row
                                    + in_col * self.source_channels,
                            );
                            out.push((out_row * self.cols.out_len + out_col) * self.out_channels);
                        }
                    }
                }
                let row_len = col_phase.taps.len() * self.source_channels;
                let tap_rows = if row_len == 0 { 0 } else { row_phase.taps.len() };
                classes.push(Class { phase_row, cols, source, out, tap_rows, row_len, weights });
                weights += tap_rows * row_len * padded;
            }
        }
        classes
    }
}
