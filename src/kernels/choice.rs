//! Whether an operation runs our kernel or its reference.

use burn::tensor::Device;
use std::cell::Cell;

thread_local! {
    static REFERENCES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose operations on this thread (and their backward passes) are the references in
/// plain tensor operations: the same network without any of our kernels, to compare with.
pub fn with_references<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            REFERENCES.set(self.0);
        }
    }
    let _restore = Restore(REFERENCES.replace(true));
    work()
}

/// Whether references were asked for.
pub(crate) fn references() -> bool {
    REFERENCES.get()
}

/// Whether an operation on `device` (with autodiff or without) runs our CPU kernel.
pub(crate) fn cpu_kernels(device: &Device) -> bool {
    !references() && device.clone().inner() == Device::flex()
}
