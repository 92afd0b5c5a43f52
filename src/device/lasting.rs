//! Memory for what stays.

use burn::tensor::Device;

/// Makes what stays for many steps, weights and moments for example: all that `make` allocates on
/// `device` lies in buffers of its own. In cubecl's pools each allocation walks over everything
/// that lies on a page, and a step makes thousands.
pub fn lasting<T: Send>(device: &Device, make: impl Fn() -> T + Send) -> T {
    device.memory_persistent_allocations((), move |()| make())
}
