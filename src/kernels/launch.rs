//! Launches of hand-written WGSL on cubecl's wgpu runtime.
//!
//! A launch binds buffers, all of them `read_write` (cubecl cuts inputs and outputs from the same
//! wgpu buffers, which can't be bound twice with different access), and an info block: a small
//! uniform, bound last. cubecl keeps the info blocks of the latest launches on the device, so that
//! an equal block costs no write.

use super::adapter::adapter_profile;
use super::arguments::{folded, words};
use super::plan;
use super::profile;
use super::record;
use super::shader::{Shader, Source};
use super::testing;
use super::traffic::{self, Counted, Moved};
use super::work::Work;
use crate::device::{Class, Profile};
use burn::backend::wgpu::{CubeTensor, SourceKernel};
use burn::cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim, Device as CubeDevice};
use std::cell::{Cell, RefCell};

/// The launches that a thread makes on a software adapter before it waits for the adapter: cubecl
/// spins while its queue of 32 tasks is full, and the spinning thread takes a CPU core away from
/// the adapter's threads.
const AHEAD: usize = 16;

/// The most work that one submission hands to a GPU, in seconds.
const SUBMISSION: f64 = 0.25;

thread_local! {
    /// The launches since this thread last waited for a software adapter.
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
    /// The device and the seconds of the work that this thread launched since its last submission.
    static WAITING: RefCell<Option<(CubeDevice, f64)>> = const { RefCell::new(None) };
}

/// Submits the pending work on `tensor`'s device if `work` would make it too much for one
/// submission: drivers abort long ones. Errors stay with the tensors; reading those reports them.
fn make_room(tensor: &CubeTensor, profile: &Profile, work: Work) {
    let seconds = profile.seconds(work.bytes, work.operations);
    WAITING.with_borrow_mut(|waiting| {
        let before = waiting
            .take()
            .filter(|(device, _)| *device == tensor.device)
            .map_or(0.0, |(_, seconds)| seconds);
        let full = fills(before, seconds);
        if full {
            let _ = tensor.client.flush();
        }
        *waiting = Some((tensor.device.clone(), if full { seconds } else { before + seconds }));
    });
}

/// Returns whether `seconds` of work are too much for a submission that already holds `before`
/// seconds. A single launch never is: it can't be split.
fn fills(before: f64, seconds: f64) -> bool {
    before > 0.0 && before + seconds > SUBMISSION
}

/// Waits for a software adapter after every [`AHEAD`] launches.
fn keep_pace(tensor: &CubeTensor) {
    LAUNCHES.set(LAUNCHES.get() + 1);
    if LAUNCHES.get().is_multiple_of(AHEAD) {
        let _ = pollster::block_on(tensor.client.sync());
    }
}

/// Returns [`folded`] as cubecl takes it.
fn grid(n: usize) -> CubeCount {
    let [x, y, z] = folded(n);
    CubeCount::Static(x, y, z)
}

/// Launches `workgroups` workgroups of `shader` on `buffers`, bound in their order, and on `info`.
/// `name` is its name in profiles; `work` is its cost, by which launches are divided among
/// submissions.
///
/// # Panics
/// If the number of buffers isn't the shader's, they are on different devices, or the adapter lacks
/// an extension that the shader needs.
pub fn launch<S: Shader>(
    name: &'static str,
    shader: S,
    workgroups: usize,
    buffers: &[&CubeTensor],
    info: &S::Info,
    work: Work,
) {
    assert_eq!(buffers.len(), S::BUFFERS, "{name}: buffers of {shader:?}");
    let first = buffers[0];
    let own = adapter_profile(first);
    assert!(
        buffers.iter().all(|buffer| buffer.device == first.device),
        "{name}: the operands are on different devices"
    );
    let work = work.stored(buffers);
    plan::launched(name, &shader, workgroups, buffers, info);
    if record::launched(name, &shader, buffers, work) {
        return;
    }
    assert!(
        own.extensions.cover(shader.extensions()),
        "{name}: the adapter lacks {:?}",
        shader.extensions().names()
    );
    let run = |handles: Vec<Handle>| {
        let bindings = handles.into_iter().map(Handle::binding).collect();
        let arguments = KernelArguments::new()
            .with_buffers(bindings)
            .with_info(MetadataBindingInfo::custom(words(info)));
        let kernel = SourceKernel::new(Source(shader), CubeDim::new_1d(shader.workgroup()));
        first.client.launch(Box::new(kernel), grid(workgroups), arguments);
    };
    if traffic::counts() {
        return counted(&shader, workgroups, buffers, info, work);
    }
    let guarded = testing::guarded(name, || shader.wgsl(), buffers, run);
    if own.class == Class::Gpu {
        make_room(first, &own, work);
    }
    profile::named(name, || run(buffers.iter().map(|t| t.handle.clone()).collect()));
    if let Some(guarded) = guarded {
        guarded.compare(buffers);
    }
    if own.class == Class::Software {
        keep_pace(first);
    }
}

/// Launches a variant of `shader` that counts its accesses, see [`traffic`].
fn counted<S: Shader>(
    shader: &S,
    workgroups: usize,
    buffers: &[&CubeTensor],
    info: &S::Info,
    work: Work,
) {
    let (source, client) = (Counted::new(shader), &buffers[0].client);
    let counters = client.create_from_slice(&vec![0; 4 * source.bytes.len()]);
    let handles = buffers.iter().map(|tensor| tensor.handle.clone()).chain([counters.clone()]);
    let bindings = handles.map(Handle::binding).collect();
    let arguments = KernelArguments::new()
        .with_buffers(bindings)
        .with_info(MetadataBindingInfo::custom(words(info)));
    let kernel = SourceKernel::new(source.clone(), CubeDim::new_1d(shader.workgroup()));
    client.launch(Box::new(kernel), grid(workgroups), arguments);
    let counters = client
        .read_one(counters)
        .unwrap_or_else(|e| panic!("{shader:?}: reading its counters: {e:?}"));
    let counters: Vec<u32> = bytemuck::pod_collect_to_vec(&counters[..]);
    let (variant, bytes) = (format!("{shader:?}"), source.total(&counters, workgroups));
    traffic::add(Moved { kernel: S::FILE, variant, bytes, fewest: work.bytes });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_submitted_before_it_is_too_much_for_one_submission() {
        assert!(!fills(0.0, 10.0 * SUBMISSION) && !fills(SUBMISSION / 2.0, SUBMISSION / 4.0));
        assert!(
            fills(SUBMISSION / 2.0, 0.6 * SUBMISSION) && fills(10.0 * SUBMISSION, 0.1 * SUBMISSION)
        );
    }
}
