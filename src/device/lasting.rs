//! Persistent device memory.

use burn::tensor::Device;

/// Runs `make` so that everything it allocates on `device` gets buffers of its own, outside
/// cubecl's pools. Use it for tensors that live for many steps, such as weights and moments: in a
/// pool, each allocation walks over everything on its page, and a step makes thousands of
/// allocations.
pub fn lasting<T: Send>(device: &Device, make: impl Fn() -> T + Send) -> T {
    device.memory_persistent_allocations((), move |()| make())
}
