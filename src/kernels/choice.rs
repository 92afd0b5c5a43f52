//! The choice between an operation's kernel and its reference.

use burn::tensor::Device;
use std::cell::Cell;

thread_local! {
    static REFERENCES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the references in plain tensor operations for all operations on this thread and
/// their backward passes: the same network without any of our kernels, for comparison.
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

/// Returns whether this thread runs references.
pub(crate) fn references() -> bool {
    REFERENCES.get()
}

/// Returns whether an operation on `device` (with or without autodiff) runs our CPU kernel.
pub(crate) fn cpu_kernels(device: &Device) -> bool {
    !references() && device.clone().inner() == Device::flex()
}
