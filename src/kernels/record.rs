//! What a piece of work launches, in order, with what each launch costs and what lives on the
//! device: without computing it.
//!
//! The code that is recorded is the code that computes. Our own launches are noted and left out;
//! Burn's are compiled and left out (cubecl's dry run), and memory that nothing is done to is never
//! backed. So a step can be recorded that no memory here would hold, with the kernels of a card
//! that isn't here.

use super::launch::Work;
use super::shader::Shader;
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

/// What launches of Burn's own kernels are called.
pub const BURN: &str = "Burn's operations";

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// As profiles call it; [`BURN`] for Burn's.
    pub name: &'static str,
    /// File and template values of the shader; none of Burn's, and on the CPU.
    pub shader: Option<(&'static str, String)>,
    /// What it costs; nothing where that isn't known.
    pub work: Work,
    /// How many launches it stands for: 0 where it is what another one moves.
    pub launches: u64,
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// In their order.
    pub launches: Vec<Launch>,
    /// Most bytes of tensors on an adapter that lived at a time: of those that launches of our own
    /// were given, looked at when one is made. (Not what the allocator keeps beside them.)
    pub live_bytes: u64,
    /// The same as cubecl's allocator counts them, at Burn's launches too; 0 where nothing ran.
    pub used_bytes: u64,
}

impl Recording {
    /// Launches of all kernels.
    pub fn count(&self) -> u64 {
        self.launches.iter().map(|launch| launch.launches).sum()
    }
}

/// Whether a tensor's memory is still held, looked at without holding it.
struct Held {
    bytes: u64,
    held: Box<dyn Fn() -> bool>,
}

impl Held {
    /// `largest` is the most that the allocator takes: what is larger has no place in its pools,
    /// which hold on to all others.
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
    /// Whether nothing is computed.
    dry: bool,
    recording: Recording,
    /// Tensors that launches were given, by the number of their memory.
    held: HashMap<usize, Held>,
    /// Of the adapter that our launches are on.
    client: Option<Client>,
}

/// Notes what the allocator has in use, where it runs. (Asking lets go of what was queued for
/// earlier launches.)
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

/// Returns whether this thread's launches are recorded and left out.
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

/// Notes work of the kernel `name` that runs on the CPU.
pub(crate) fn called(name: &'static str, work: impl FnOnce() -> Work) {
    if RECORDER.with_borrow(Option::is_some) {
        add(Launch { name, shader: None, work: work(), launches: 1 });
    }
}

/// Notes what a launch of Burn's, yet to come, moves: the backward pass of what is called here.
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

/// Notes a launch of `shader` and what is alive at it. Returns whether it is to be left out.
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

/// Burn's launches.
struct Burns;

impl LaunchObserver for Burns {
    fn launched(&self, _: &'static str) {
        // Our own are noted before they are launched, and have names.
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

/// Records the launches of `work` on this thread, after `prepare`, and leaves them out: whatever is
/// read of the device afterwards is without meaning. Kernels are those for `profile`. Every launch
/// of this process is left out meanwhile, on all threads.
///
/// `prepare` runs in the same way; what it leaves counts as alive.
pub fn record<T, U>(
    profile: Profile,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(T) -> U,
) -> (U, Recording) {
    let _dry = DryRun::new();
    testing::with_profile(profile, || recorded(true, prepare, work))
}

/// As [`record`], but computes: for backends that can't leave anything out, and for comparison.
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
    let watching = LaunchObservation::new(Arc::new(Burns));
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
