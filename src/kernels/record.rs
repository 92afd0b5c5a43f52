//! Records what a piece of work launches, in order, with the cost of each launch and the live
//! memory on the device, without computing anything.
//!
//! The recorded code is the code that computes. Our own launches are noted and skipped; Burn's are
//! compiled and skipped (cubecl's dry run), and memory that is never used is never backed. So a
//! step can be recorded that wouldn't fit in this machine's memory, with the kernels of a GPU that
//! isn't present.

use super::shader::Shader;
use super::work::Work;
use super::{profile, testing};
use crate::device::Profile;
use burn::backend::wgpu::CubeTensor;
use burn::cubecl::MemoryScope;
use burn::cubecl::client::Client;
use burn::cubecl::dry_run::DryRun;
use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn::cubecl::server::BufferBinding;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// The name of launches of Burn's own kernels.
pub const BURN: &str = "Burn's operations";

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Its name in profiles; [`BURN`] for Burn's kernels.
    pub name: &'static str,
    /// The file and template values of the shader; `None` for Burn's kernels and on the CPU.
    pub shader: Option<(&'static str, String)>,
    /// Its cost; zero where unknown.
    pub work: Work,
    /// The number of launches it stands for: 0 for an entry that adds the traffic of another
    /// launch.
    pub launches: u64,
}

/// The launches and the memory of a piece of work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The launches, in order.
    pub launches: Vec<Launch>,
    /// The most bytes of tensors that were alive at once on an adapter, counting the tensors passed
    /// to our own launches, at the time of each of those. (Excludes what the allocator keeps beyond
    /// them.)
    pub live_bytes: u64,
    /// The same as counted by cubecl's allocator, at Burn's launches too; 0 if nothing ran.
    pub used_bytes: u64,
}

impl Recording {
    /// Returns the launches of all kernels.
    pub fn count(&self) -> u64 {
        self.launches.iter().map(|launch| launch.launches).sum()
    }
}

/// A check of whether a tensor's memory is still held, which doesn't hold it itself.
struct Held {
    bytes: u64,
    held: Box<dyn Fn() -> bool>,
}

impl Held {
    /// Makes the check for `binding`. `largest` is the allocator's largest page: larger memory is
    /// outside its pools, which keep a hold on all other memory.
    fn new(binding: &BufferBinding, largest: u64) -> Self {
        let (bytes, memory) = (binding.size(), binding.memory.downgrade());
        let held: Box<dyn Fn() -> bool> = match bytes > largest {
            true => Box::new(move || memory.is_alive()),
            false => Box::new(move || memory.upgrade().is_some()),
        };
        Self { bytes, held }
    }
}

#[derive(Default)]
struct Recorder {
    /// Whether launches are skipped.
    dry: bool,
    recording: Recording,
    /// The tensors passed to launches, by the id of their memory.
    held: HashMap<usize, Held>,
    /// The client of the adapter that our launches are on.
    client: Option<Client>,
}

/// Notes what the allocator has in use, unless this is a dry run. (Asking also releases what was
/// queued for earlier launches.)
fn ask_allocator(client: &Client) {
    let used = client.memory_report(MemoryScope::Device).usage().bytes_in_use;
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(Recorder { recording, dry: false, .. }) = recorder {
            recording.used_bytes = recording.used_bytes.max(used);
        }
    });
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Returns whether this thread's launches are recorded and skipped.
pub(crate) fn dry() -> bool {
    RECORDER.with_borrow(|recorder| recorder.as_ref().is_some_and(|recorder| recorder.dry))
}

fn add(launch: Launch) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            recorder.recording.launches.push(launch);
        }
    });
}

/// Notes a call of the CPU kernel `name`.
pub(crate) fn called(name: &'static str, work: impl FnOnce() -> Work) {
    if RECORDER.with_borrow(Option::is_some) {
        add(Launch { name, shader: None, work: work(), launches: 1 });
    }
}

/// Notes the memory traffic of a later launch of Burn's: the backward pass of the operation that
/// calls this.
pub(crate) fn moves(bytes: impl FnOnce() -> f64) {
    if RECORDER.with_borrow(Option::is_some) {
        add(Launch {
            name: BURN,
            shader: None,
            work: Work { bytes: bytes(), operations: 0.0 },
            launches: 0,
        });
    }
}

/// Notes a launch of `shader` and the memory alive at that time. Returns whether to skip the
/// launch.
pub(crate) fn launched<S: Shader>(
    name: &'static str,
    shader: &S,
    buffers: &[&CubeTensor],
    work: Work,
) -> bool {
    if RECORDER.with_borrow(Option::is_none) {
        return false;
    }
    ask_allocator(&buffers[0].client);
    add(Launch { name, shader: Some((S::FILE, format!("{shader:?}"))), work, launches: 1 });
    RECORDER.with_borrow_mut(|recorder| {
        let Some(Recorder { recording, held, client, .. }) = recorder else { return };
        client.get_or_insert_with(|| buffers[0].client.clone());
        for buffer in buffers {
            let binding = buffer.handle.clone().binding();
            let largest = buffer.client.properties().memory.max_page_size;
            held.entry(binding.memory.id().value).or_insert_with(|| Held::new(&binding, largest));
        }
        held.retain(|_, tensor| (tensor.held)());
        recording.live_bytes =
            recording.live_bytes.max(held.values().map(|tensor| tensor.bytes).sum());
    });
    dry()
}

/// An observer of Burn's launches.
struct BurnLaunches;

impl LaunchObserver for BurnLaunches {
    fn launched(&self, _: &'static str) {
        // Our own launches have names, and were noted before they were made.
        if profile::is_named() {
            return;
        }
        add(Launch { name: BURN, shader: None, work: Work::default(), launches: 1 });
        let client = RECORDER.with_borrow(|recorder| {
            recorder.as_ref().filter(|recorder| !recorder.dry)?.client.clone()
        });
        if let Some(client) = client {
            ask_allocator(&client);
        }
    }
}

/// Runs `prepare`, then records the launches of `work` on this thread and skips them: values read
/// from the device afterwards are meaningless. The kernels are those for `profile`. Meanwhile all
/// launches of this process are skipped, on all threads.
///
/// The launches of `prepare` are skipped too; the memory that it leaves counts as alive.
pub fn record<T, U>(
    profile: Profile,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(T) -> U,
) -> (U, Recording) {
    let _dry = DryRun::new();
    testing::with_profile(profile, || recorded(true, prepare, work))
}

/// Does what [`record`] does, but computes: for backends that can't skip launches, and for
/// comparison.
pub fn record_running<T, U>(
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(T) -> U,
) -> (U, Recording) {
    recorded(false, prepare, work)
}

fn recorded<T, U>(
    dry: bool,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(T) -> U,
) -> (U, Recording) {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            RECORDER.take();
        }
    }
    let _one = profile::alone();
    let _end = End;
    RECORDER.set(Some(Recorder { dry, ..Recorder::default() }));
    let watching = LaunchObservation::new(Arc::new(BurnLaunches));
    let prepared = prepare();
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            recorder.recording = Recording::default();
        }
    });
    let out = work(prepared);
    drop(watching);
    let recording = RECORDER.take().map(|recorder| recorder.recording).unwrap_or_default();
    (out, recording)
}
