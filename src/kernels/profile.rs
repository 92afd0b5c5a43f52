//! Profiles of the kernels that ran, how often and for how long: on wgpu devices by cubecl's launch
//! observer, on the CPU by timers in our own kernels.

use burn::cubecl::config::{TypeNameFormatLevel, type_name_format};
use burn::cubecl::logging::{
    Duration as Span, LaunchObservation, LaunchObserver, TimingMethod, TimingRequest,
};
use burn::tensor::Device;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One kernel of a [`Profile`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kernel {
    /// How often it was launched (on the CPU: called).
    pub launches: u64,
    /// Its total time, if times were requested.
    pub time: Duration,
}

/// The kernels of a piece of work, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The kernels, in alphabetical order.
    pub kernels: BTreeMap<String, Kernel>,
    /// Whether all times come from the device's own clock (wgpu timestamp queries). Otherwise they
    /// come from the host's clock, and on wgpu include submission.
    pub device_clock: bool,
}

impl Profile {
    /// Returns the launches of all kernels.
    pub fn launches(&self) -> u64 {
        self.kernels.values().map(|k| k.launches).sum()
    }

    /// Returns the total time of all kernels.
    pub fn time(&self) -> Duration {
        self.kernels.values().map(|k| k.time).sum()
    }
}

/// Counts the kernels of `work`. With `timed` it also measures their times and waits for each
/// kernel, so that their sum doesn't measure `work`. A process makes one observation at a time.
pub fn observe<T>(timed: bool, work: impl FnOnce() -> T) -> (T, Profile) {
    let _one = alone();
    table().clear();
    CPU.store(true, Ordering::Relaxed);
    let observer = Arc::new(Observer { timed, gpu: Mutex::default() });
    let watching = LaunchObservation::new(observer.clone());
    let out = work();
    drop(watching);
    CPU.store(false, Ordering::Relaxed);
    let Gpu { mut kernels, host_clock } = std::mem::take(&mut *lock(&observer.gpu));
    for (name, kernel) in std::mem::take(&mut *table()) {
        kernels.insert(name.to_owned(), kernel);
    }
    let device_clock = timed && !host_clock && !kernels.is_empty();
    (out, Profile { kernels, device_clock })
}

/// Returns the peak of the bytes that the allocator of `device` has held so far: the sum of its
/// pools' peaks, which they needn't have reached at the same time, and never less than what it
/// holds now (in use or kept for reuse). `None` for the CPU backend, whose memory is the process's.
pub fn memory(device: &Device) -> Option<u64> {
    let device = device.clone().inner();
    let now = device.memory_pool_usage()?.bytes_reserved;
    let pools = device.memory_pool_report().unwrap_or_default();
    let held: u64 = pools.iter().map(|pool| pool.page_size * pool.pages).sum();
    let peaks: u64 = pools.iter().map(|pool| pool.page_size * pool.pages_peak).sum();
    // Long-lived memory is outside these pools, see `crate::device::lasting`.
    Some(now.max(now.saturating_sub(held) + peaks))
}

/// Waits until no other thread of this process observes launches, and locks out other observers.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    lock(&ONE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the timers of the CPU kernels are on.
pub(super) static CPU: AtomicBool = AtomicBool::new(false);

/// Returns the CPU kernels of the observation in progress.
pub(super) fn table() -> MutexGuard<'static, BTreeMap<&'static str, Kernel>> {
    static TABLE: Mutex<BTreeMap<&'static str, Kernel>> = Mutex::new(BTreeMap::new());
    lock(&TABLE)
}

thread_local! {
    /// The name of the shader that is being launched: cubecl only knows the Rust type of a
    /// hand-written one.
    static SHADER: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Returns whether the launch in progress is that of a hand-written shader.
pub(super) fn is_named() -> bool {
    SHADER.get().is_some()
}

/// Runs `launch`, whose kernel appears as `name` to observers.
pub(crate) fn named<T>(name: &'static str, launch: impl FnOnce() -> T) -> T {
    SHADER.set(Some(name));
    let out = launch();
    SHADER.set(None);
    out
}

#[derive(Default)]
struct Gpu {
    kernels: BTreeMap<String, Kernel>,
    host_clock: bool,
}

struct Observer {
    timed: bool,
    gpu: Mutex<Gpu>,
}

impl Observer {
    fn with(&self, kernel: &'static str, update: impl FnOnce(&mut Kernel)) {
        let name = SHADER
            .get()
            .map_or_else(|| type_name_format(kernel, TypeNameFormatLevel::Short), str::to_owned);
        update(lock(&self.gpu).kernels.entry(name).or_default());
    }
}

impl LaunchObserver for Observer {
    fn launched(&self, kernel: &'static str) {
        self.with(kernel, |k| k.launches += 1);
    }

    fn timing(&self) -> TimingRequest {
        if self.timed { TimingRequest::Resolved } else { TimingRequest::None }
    }

    fn timed(&self, kernel: &'static str, duration: Span, method: TimingMethod) {
        self.with(kernel, |k| k.time += duration);
        lock(&self.gpu).host_clock |= method == TimingMethod::System;
    }
}
