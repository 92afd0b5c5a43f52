//! Hooks for tests and comparisons. The program itself uses them only for two hidden environment
//! variables, SODA_SIMD and SODA_CLASS, and for [`record`](super::record), which chooses kernels
//! for another GPU.

use super::simd::Path;
use crate::device::{self, Class, Environment, Kind, Profile};
use burn::backend::wgpu::CubeTensor;
use burn::cubecl::bytes::Bytes;
use burn::cubecl::server::Handle;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

pub use super::buffers::fill_with_junk;
pub use super::choice::with_references;

/// Makes the CPU kernels run on the SIMD path called `name` for the rest of the process, so that
/// the paths of a machine can be compared. (The matrix products of the `gemm` crate choose their
/// own path.)
///
/// # Errors
/// If this machine has no such path (the message names those that it has), or if a path was already
/// forced.
pub fn force_simd(name: &str) -> Result<(), String> {
    Path::force(name)
}

thread_local! {
    static PROFILE: RefCell<Option<Arc<Profile>>> = const { RefCell::new(None) };
    static GUARDS: Cell<bool> = const { Cell::new(false) };
    static MATRIX_SHIM: Cell<bool> = const { Cell::new(false) };
    static LAUNCHED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Runs `work`, whose launches on this thread choose their kernels by `profile` instead of their
/// adapter's own profile: the kernels of real GPUs can then run on a software adapter.
pub fn with_profile<T>(profile: Profile, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<Profile>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PROFILE.set(self.0.take());
        }
    }
    let _restore = Restore(PROFILE.replace(Some(profile.into())));
    work()
}

/// Does what [`with_profile`] does, with the minimal profile of an adapter of `class`.
pub fn with_class<T>(class: Class, work: impl FnOnce() -> T) -> T {
    with_profile(Profile::least(class), work)
}

/// Returns the profile set by [`with_profile`] on this thread, if any.
pub(super) fn profile() -> Option<Arc<Profile>> {
    PROFILE.with_borrow(Option::clone)
}

/// Runs `work` with convolutions of f16 maps on this thread using the shaders for cooperative
/// matrices, with plain arithmetic in place of the matrices, if launches choose by the profile of a
/// GPU. The shaders' text is otherwise the same.
pub fn with_matrix_shim<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MATRIX_SHIM.set(self.0);
        }
    }
    let _restore = Restore(MATRIX_SHIM.replace(true));
    work()
}

/// Returns whether [`with_matrix_shim`] is active on this thread.
pub(super) fn matrix_shim() -> bool {
    MATRIX_SHIM.get()
}

/// Makes every launch of this process choose kernels and pace submissions as if each adapter were a
/// discrete GPU.
pub fn treat_adapters_as_gpus(environment: Environment) {
    for adapter in device::adapters_in(environment) {
        let profile =
            Profile { class: Class::Gpu, kind: Kind::DiscreteGpu, ..adapter.profile.clone() };
        device::replace(&adapter.device(), profile);
    }
}

/// Runs `work` and makes each of its launches on this thread twice: first on copies of its buffers
/// between guard bytes, which are checked afterwards, then as usual. The results of both are
/// compared bit for bit. Fresh tensors hold NaN. This detects kernels that read or write outside
/// their buffers or leave an output unwritten.
///
/// # Panics
/// At a launch that wrote into the guards, or whose results depend on memory outside its buffers.
pub fn with_guards<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            GUARDS.set(self.0);
        }
    }
    let _restore = Restore(GUARDS.replace(true));
    work()
}

/// Returns the texts of the shaders that this thread has launched with guards so far.
pub fn launched() -> BTreeSet<String> {
    LAUNCHED.with_borrow(Clone::clone)
}

/// Fills a fresh tensor with NaN if guards are active.
pub(super) fn junk(tensor: &CubeTensor) {
    if GUARDS.get() {
        let words = tensor.handle.size_in_used() as usize / 4;
        // NaN as f32, and as two f16.
        tensor.client.write(&tensor.handle, Bytes::from_elems(vec![0x7fff_7fffu32; words]));
    }
}

/// The guard bytes on either side: WebGPU's largest offset alignment.
const GUARD: usize = 256;

/// Returns the guard pattern of buffer number `i`: NaN as f32 and as f16, a different NaN for each
/// buffer, so that a copy from one buffer's guard to another's is detected as well.
fn pattern(i: usize) -> [u8; 4] {
    (0xffff_ff00 + i as u32).to_le_bytes()
}

/// What a launch with guards left in its buffers.
pub(super) struct Guarded {
    name: &'static str,
    contents: Vec<Vec<u8>>,
}

/// If guards are active, calls `run` on copies of `buffers` between guard bytes and checks the
/// guards.
pub(super) fn guarded(
    name: &'static str,
    text: impl FnOnce() -> String,
    buffers: &[&CubeTensor],
    run: impl Fn(Vec<Handle>),
) -> Option<Guarded> {
    if !GUARDS.get() {
        return None;
    }
    LAUNCHED.with_borrow_mut(|launched| launched.insert(text()));
    let client = &buffers[0].client;
    let read = |handle: &Handle| {
        client
            .read_one(handle.clone())
            .unwrap_or_else(|e| panic!("{name}: reading a buffer: {e:?}"))
            .to_vec()
    };
    let mut copies: Vec<(usize, Handle)> = Vec::new();
    let mut handles = Vec::new();
    for (i, buffer) in buffers.iter().enumerate() {
        // A buffer that is bound twice gets one copy.
        if let Some((_, copy)) =
            copies.iter().find(|(first, _)| same(&buffers[*first].handle, &buffer.handle))
        {
            handles.push(copy.clone());
            continue;
        }
        let guard = pattern(i).repeat(GUARD / 4);
        let mut bytes = guard.clone();
        bytes.extend(read(&buffer.handle));
        bytes.resize(bytes.len().next_multiple_of(4), 0xff);
        bytes.extend(&guard);
        let copy = client.create_from_slice(&bytes);
        handles.push(copy.clone());
        copies.push((i, copy));
    }
    // The guard after a buffer is bound as well: an adapter may drop writes beyond a binding.
    run(handles.iter().map(|copy| copy.clone().offset_start(GUARD as u64)).collect());
    for (i, copy) in &copies {
        let (after, size) = (read(copy), buffers[*i].handle.size_in_used() as usize);
        let guard = pattern(*i).repeat(GUARD / 4);
        let behind = &after[GUARD + size..];
        let intact = after[..GUARD] == guard
            && behind.ends_with(&guard)
            && behind[..behind.len() - GUARD].iter().all(|b| *b == 0xff);
        assert!(intact, "{name}: wrote outside buffer number {i}");
    }
    let contents = handles.iter().zip(buffers).map(|(copy, buffer)| {
        let size = buffer.handle.size_in_used() as usize;
        read(copy)[GUARD..GUARD + size].to_vec()
    });
    Some(Guarded { name, contents: contents.collect() })
}

impl Guarded {
    /// Compares the copies with `buffers` after the ordinary launch.
    pub(super) fn compare(self, buffers: &[&CubeTensor]) {
        for (i, (buffer, guarded)) in buffers.iter().zip(&self.contents).enumerate() {
            let bytes = buffer
                .client
                .read_one(buffer.handle.clone())
                .unwrap_or_else(|e| panic!("{}: {e:?}", self.name));
            assert!(
                bytes[..] == guarded[..],
                "{}: buffer number {i} depends on memory outside the buffers",
                self.name
            );
        }
    }
}

/// Returns whether both are the same part of the same memory.
fn same(a: &Handle, b: &Handle) -> bool {
    a.memory.descriptor() == b.memory.descriptor()
        && a.offset_start == b.offset_start
        && a.offset_end == b.offset_end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::launch::launch;
    use crate::kernels::layout;
    use crate::kernels::shader::{Shader, info};
    use crate::kernels::work::Work;
    use burn::cubecl::Device as CubeDevice;
    use burn::tensor::{DType, Shape};
    use minijinja::{Value, context};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    info! {
        struct Info { write: u32, ahead: u32 }
    }

    /// y[i] = x[i % 40 + ahead], for i < write.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    struct Move;

    impl Shader for Move {
        type Info = Info;
        const FILE: &'static str = "move";
        const TEXT: &'static str = "
            struct Info { write: u32, ahead: u32 }
            @group(0) @binding(0) var<storage, read_write> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @group(0) @binding(2) var<uniform> info: Info;
            @compute @workgroup_size({{ wg }})
            fn main(@builtin(local_invocation_index) i: u32) {
                if i < info.write { y[i] = x[i % 40u + info.ahead]; }
            }";
        const BUFFERS: usize = 2;

        fn workgroup(&self) -> u32 {
            64
        }

        fn values(&self) -> Value {
            context! {}
        }
    }

    /// Launches [`Move`] on 40 values with guards, and returns what it wrote.
    fn moves(write: u32, ahead: u32) -> Result<Vec<f32>, String> {
        let adapter = crate::device::adapters()
            .into_iter()
            .next()
            .expect("an adapter; scripts/test.sh installs a software one");
        let device = CubeDevice::Wgpu(adapter.device());
        let client = device.client();
        let numbers: Vec<f32> = (0..40).map(|i| i as f32).collect();
        let handle = client.create_from_slice(bytemuck::cast_slice(&numbers));
        let x = CubeTensor::new_contiguous(
            client.clone(),
            device.clone(),
            Shape::new([40]),
            handle,
            DType::F32,
        );
        let launched = catch_unwind(AssertUnwindSafe(|| {
            with_guards(|| {
                let y = layout::empty(&x, Shape::new([40]), DType::F32);
                launch("move", Move, 1, &[&x, &y], &Info { write, ahead }, Work::default());
                client.read_one(y.handle).expect("a buffer").to_vec()
            })
        }));
        let bytes = launched
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    #[test]
    fn values_that_a_kernel_leaves_unwritten_are_nan() {
        let left = moves(39, 0).expect("within its buffers");
        assert!(left[38] == 38.0 && left[39].is_nan(), "{left:?}");
        assert!(launched().iter().any(|text| text.contains("info.ahead")));
    }

    #[test]
    fn guards_detect_accesses_one_element_out_of_bounds() {
        moves(40, 0).expect("within its buffers");
        let wrote = moves(41, 0).expect_err("one element too far");
        assert!(wrote.contains("move: wrote outside buffer number 1"), "{wrote}");
        let read = moves(40, 1).expect_err("reads one element too far");
        assert!(read.contains("move: buffer number 1 depends on memory outside"), "{read}");
        moves(39, 1).expect("within its buffers");
    }

    #[test]
    fn a_profile_is_replaced_during_the_work_only() {
        assert!(profile().is_none());
        with_class(Class::Software, || assert_eq!(profile().expect("one").class, Class::Software));
        assert!(profile().is_none());
    }
}
