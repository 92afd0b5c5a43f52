//! A pool of memory for the results of CPU kernels. Buffers are reused instead of freed: a training
//! step needs the same sizes as the previous one, and fresh memory costs a page fault every 4 KiB
//! and a pass that zeroes it.

use burn::cubecl::bytes::{
    AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes,
};
use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};
use std::collections::HashMap;
use std::mem::{MaybeUninit, size_of, take};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The values of one cache line, but without its alignment: older versions of glibc (such as 2.36)
/// hardly ever reuse the memory of a large block that was requested with more than malloc's
/// alignment, and the process grows without bound.
type Line = [f32; 16];

/// The bytes of a cache line. Values begin at a line's start, so that no vector straddles two
/// lines.
const ALIGNMENT: usize = 64;

/// f32 values whose memory returns to the pool when they are dropped, also as part of a tensor.
pub(crate) struct Buffer {
    /// The values, preceded by whatever lies before the first whole cache line.
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// Returns `len` values with arbitrary contents: the caller must overwrite them all.
    pub fn new(len: usize) -> Self {
        let count = len.div_ceil(16) + 1;
        let (idle, freed) = pool().take(count);
        // Outside the pool's lock, so that other threads don't wait for it.
        drop(freed);
        let mut lines = idle.unwrap_or_else(|| vec![[0.0; 16]; count]);
        if JUNK.load(Ordering::Relaxed) {
            lines.fill([f32::NAN; 16]);
        }
        Self { lines, len }
    }

    /// Returns `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    /// Returns a copy of `values`.
    pub fn copy(values: &[f32]) -> Self {
        let mut buffer = Self::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Returns the number of values before the first whole cache line.
    fn offset(&self) -> usize {
        self.lines.as_ptr().cast::<f32>().align_offset(ALIGNMENT)
    }

    /// Returns a CPU tensor of these values.
    pub fn tensor(self, shape: Shape) -> FlexTensor {
        self.laid_out(Layout::contiguous(shape))
    }

    /// Returns a CPU tensor of these values in `layout`, which must cover exactly these values.
    pub fn laid_out(self, layout: Layout) -> FlexTensor {
        let bytes = self.len * size_of::<f32>();
        // SAFETY: `memory` returns exactly that many bytes, all initialised.
        let bytes = unsafe { Bytes::from_controller(Box::new(self), bytes) };
        FlexTensor::new(bytes, layout, DType::F32)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool().give(take(&mut self.lines));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.lines.as_flattened()[self.offset()..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let offset = self.offset();
        &mut self.lines.as_flattened_mut()[offset..][..self.len]
    }
}

impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        ALIGNMENT
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let values: &mut [f32] = self;
        // SAFETY: the memory of `deref_mut`, seen as bytes; callers write initialised data only, as
        // the trait demands.
        Ok(unsafe {
            std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values))
        })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let values: &[f32] = self;
        // SAFETY: the memory of `deref`, seen as bytes.
        Ok(unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) })
    }
}

/// Makes every buffer be filled with NaN before it is handed out. Tests use it to detect values
/// that a kernel forgets to write.
pub fn fill_with_junk(on: bool) {
    JUNK.store(on, Ordering::Relaxed);
}

static JUNK: AtomicBool = AtomicBool::new(false);

fn pool() -> MutexGuard<'static, Pool> {
    static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The idle buffers by size. Sizes are in lines.
#[derive(Default)]
struct Pool {
    idle: HashMap<usize, Bin>,
    idle_lines: usize,
    live_lines: usize,
    /// The most lines that were ever in use at once.
    peak_lines: usize,
    clock: u64,
}

#[derive(Default)]
struct Bin {
    buffers: Vec<Vec<Line>>,
    /// When a buffer of this size was last requested, whether one was there or not.
    used: u64,
}

impl Pool {
    /// Returns an idle buffer of `lines` lines, if there is one, and the buffers that the caller
    /// must free.
    fn take(&mut self, lines: usize) -> (Option<Vec<Line>>, Vec<Vec<Line>>) {
        self.clock += 1;
        self.live_lines += lines;
        self.peak_lines = self.peak_lines.max(self.live_lines);
        let bin = self.idle.entry(lines).or_default();
        bin.used = self.clock;
        if let Some(buffer) = bin.buffers.pop() {
            self.idle_lines -= lines;
            return (Some(buffer), Vec::new());
        }
        // Keeps the total close to the peak use: buffers of other sizes make room for this one. With
        // room for an eighth more than the peak, a step of `configs/small.toml` allocated 80 MB of
        // zeros, a tenth of its time; with a half it allocates next to nothing.
        let mut freed = Vec::new();
        while self.live_lines + self.idle_lines > self.peak_lines + self.peak_lines / 2
            && let Some(buffer) = self.remove_oldest()
        {
            freed.push(buffer);
        }
        (None, freed)
    }

    fn give(&mut self, buffer: Vec<Line>) {
        let lines = buffer.len();
        self.live_lines -= lines;
        self.idle_lines += lines;
        self.idle.entry(lines).or_default().buffers.push(buffer);
    }

    /// Removes one buffer of the size that was requested least recently.
    fn remove_oldest(&mut self) -> Option<Vec<Line>> {
        let filled = self.idle.iter_mut().filter(|(_, bin)| !bin.buffers.is_empty());
        let (lines, bin) = filled.min_by_key(|(_, bin)| bin.used)?;
        self.idle_lines -= lines;
        bin.buffers.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &mut Pool, lines: usize) -> Vec<Line> {
        pool.take(lines).0.unwrap_or_else(|| vec![[0.0; 16]; lines])
    }

    #[test]
    fn values_begin_at_a_cache_line_without_an_aligned_allocation() {
        assert!(align_of::<Line>() <= 16, "malloc's alignment");
        for len in [1, 15, 16, 17, 1000, 1 << 20] {
            let mut buffer = Buffer::zeros(len);
            assert_eq!((buffer.as_ptr().addr() % ALIGNMENT, buffer.len()), (0, len));
            buffer.fill(1.5);
            assert!(buffer.tensor(Shape::new([len])).storage::<f32>().iter().all(|v| *v == 1.5));
        }
    }

    #[test]
    fn a_size_that_was_freed_is_not_allocated_again() {
        let mut pool = Pool::default();
        assert!(pool.take(10).0.is_none());
        pool.give(vec![[0.0; 16]; 10]);
        assert!(pool.take(10).0.is_some());
    }

    #[test]
    fn idle_memory_stays_close_to_the_peak_use() {
        let mut pool = Pool::default();
        for size in 1..200 {
            let buffers = [take(&mut pool, size * 3), take(&mut pool, size)];
            assert!(pool.live_lines + pool.idle_lines <= pool.peak_lines + pool.peak_lines / 2);
            buffers.into_iter().for_each(|b| pool.give(b));
        }
        assert_eq!((pool.live_lines, pool.peak_lines), (0, 199 * 4));
        let counted: usize = pool.idle.iter().map(|(lines, bin)| lines * bin.buffers.len()).sum();
        assert_eq!(counted, pool.idle_lines);
    }

    #[test]
    fn the_size_that_was_requested_last_is_freed_last() {
        let mut pool = Pool::default();
        let (old, recent) = (take(&mut pool, 100), take(&mut pool, 101));
        pool.give(old);
        pool.give(recent);
        let again = take(&mut pool, 101);
        pool.give(again);
        // Room for one of them only.
        let freed = pool.take(102).1;
        assert_eq!(freed.iter().map(Vec::len).collect::<Vec<_>>(), [100]);
    }

    #[test]
    fn a_tensor_copies_its_memory_on_write() {
        let tensor = Buffer::copy(&[1.0, 2.0, 3.0]).tensor(Shape::new([3]));
        let mut other = tensor.clone();
        other.storage_mut::<f32>()[0] = 7.0;
        assert_eq!(tensor.storage::<f32>(), [1.0, 2.0, 3.0]);
        assert_eq!(other.storage::<f32>(), [7.0, 2.0, 3.0]);
    }
}
