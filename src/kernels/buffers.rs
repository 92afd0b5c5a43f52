//! Memory of the CPU kernels' results, used again instead of given back: a training step needs the
//! same sizes as the one before it, and fresh memory costs a page fault every 4 KiB and a pass that
//! zeroes it.

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

/// As many values as a cache line has, but not aligned as one: older versions of glibc (2.36, for
/// example) hardly ever use the memory of a large block again that was asked for with more than
/// malloc's alignment, and the process grows without end.
type Line = [f32; 16];

/// Bytes of a cache line: values begin with one, so that no vector straddles two.
const ALIGNMENT: usize = 64;

/// f32 values whose memory returns to the pool when they are dropped, as a tensor's too.
pub(crate) struct Buffer {
    /// The values, and what lies before the first whole cache line.
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` values of whatever was there: the caller overwrites them all.
    pub fn new(len: usize) -> Self {
        let count = len.div_ceil(16) + 1;
        let (idle, freed) = pool().take(count);
        // Outside the pool's lock, which other threads wait for.
        drop(freed);
        let mut lines = idle.unwrap_or_else(|| vec![[0.0; 16]; count]);
        if JUNK.load(Ordering::Relaxed) {
            lines.fill([f32::NAN; 16]);
        }
        Self { lines, len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    /// A copy of `values`.
    pub fn copy(values: &[f32]) -> Self {
        let mut buffer = Self::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Values before the first whole cache line.
    fn offset(&self) -> usize {
        self.lines.as_ptr().cast::<f32>().align_offset(ALIGNMENT)
    }

    /// A CPU tensor of these values.
    pub fn tensor(self, shape: Shape) -> FlexTensor {
        self.laid_out(Layout::contiguous(shape))
    }

    /// A CPU tensor of these values as `layout` finds them, which are all that it has.
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

/// Fills every buffer with NaN before it is handed out: tests set it, so that a value a kernel
/// forgets to write shows.
pub fn fill_with_junk(on: bool) {
    JUNK.store(on, Ordering::Relaxed);
}

static JUNK: AtomicBool = AtomicBool::new(false);

fn pool() -> MutexGuard<'static, Pool> {
    static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Idle buffers by their size. Sizes are in lines.
#[derive(Default)]
struct Pool {
    idle: HashMap<usize, Bin>,
    idle_lines: usize,
    live_lines: usize,
    /// Most lines that were ever in use at a time.
    peak_lines: usize,
    clock: u64,
}

#[derive(Default)]
struct Bin {
    buffers: Vec<Vec<Line>>,
    /// When one was last taken or missed.
    used: u64,
}

impl Pool {
    /// An idle buffer of `lines`, if there is one; the caller is given what to free.
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
        // Never much more than was once in use at a time: another size makes room for this one.
        let mut freed = Vec::new();
        while self.live_lines + self.idle_lines > self.peak_lines + self.peak_lines / 8
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

    /// Takes out one buffer of the size that wasn't asked for the longest.
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
    fn values_begin_with_a_cache_line_in_memory_that_is_not_asked_for_so() {
        assert!(align_of::<Line>() <= 16, "malloc's alignment");
        for len in [1, 15, 16, 17, 1000, 1 << 20] {
            let mut buffer = Buffer::zeros(len);
            assert_eq!((buffer.as_ptr().addr() % ALIGNMENT, buffer.len()), (0, len));
            buffer.fill(1.5);
            assert!(buffer.tensor(Shape::new([len])).storage::<f32>().iter().all(|v| *v == 1.5));
        }
    }

    #[test]
    fn a_size_that_comes_again_is_not_allocated_again() {
        let mut pool = Pool::default();
        assert!(pool.take(10).0.is_none());
        pool.give(vec![[0.0; 16]; 10]);
        assert!(pool.take(10).0.is_some());
    }

    #[test]
    fn idle_memory_stays_within_what_was_once_in_use() {
        let mut pool = Pool::default();
        for size in 1..200 {
            let buffers = [take(&mut pool, size * 3), take(&mut pool, size)];
            assert!(pool.live_lines + pool.idle_lines <= pool.peak_lines + pool.peak_lines / 8);
            buffers.into_iter().for_each(|b| pool.give(b));
        }
        assert_eq!((pool.live_lines, pool.peak_lines), (0, 199 * 4));
        let counted: usize = pool.idle.iter().map(|(lines, bin)| lines * bin.buffers.len()).sum();
        assert_eq!(counted, pool.idle_lines);
    }

    #[test]
    fn the_size_that_was_asked_for_last_is_freed_last() {
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
    fn a_tensor_gives_its_memory_back_and_copies_on_write() {
        let tensor = Buffer::copy(&[1.0, 2.0, 3.0]).tensor(Shape::new([3]));
        let mut other = tensor.clone();
        other.storage_mut::<f32>()[0] = 7.0;
        assert_eq!(tensor.storage::<f32>(), [1.0, 2.0, 3.0]);
        assert_eq!(other.storage::<f32>(), [7.0, 2.0, 3.0]);
    }
}
