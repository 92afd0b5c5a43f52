//! How a device failed, classified by the messages of wgpu and CubeCL.

/// How a device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The device takes no more work: the driver reset it, or a kernel broke it.
    Lost,
    /// A buffer exceeded the memory or the limits of the device.
    OutOfMemory,
    /// The device reported success without having done the work.
    LeftOut,
    /// Any other failure.
    Other,
}

impl Fault {
    /// Classifies an error or panic of wgpu or CubeCL by its text, because their types do not reach
    /// callers of Burn. Both report every later use of a failed device as lost or poisoned, so
    /// words about memory are checked first.
    pub fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["memory", "allocat", "buffer size", "binding_size", "binding size"]) {
            Self::OutOfMemory
        } else if says(&["lost", "poisoned"]) {
            Self::Lost
        } else {
            Self::Other
        }
    }

    /// Checks whether a panic means that the device takes no more work. A thread that waits for a
    /// lost device gets "Error in Device::poll: .." from wgpu, whatever the cause.
    pub fn ends_the_device(panic: &str) -> bool {
        panic.contains("Error in Device::poll") || panic.to_lowercase().contains("device is lost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of wgpu 30.0.1, wgpu-core 30.0.1 and cubecl-runtime 0.11.3.
    #[test]
    fn the_messages_of_wgpu_and_cubecl_map_to_the_right_fault() {
        for text in [
            // wgpu: `Error::OutOfMemory`, and the cause from wgpu-core.
            "wgpu error: Out of Memory",
            "Not enough memory left.",
            "Buffer size 536870912 is greater than the maximum buffer size (268435456)",
            "Buffer binding 0 range 200000000 exceeds `max_*_buffer_binding_size` limit 134217728",
            // cubecl-runtime: `LaunchError::OutOfMemory`, and four of `IoError`.
            "An out-of-memory error happened during launch\nCaused by:\n  no room",
            "An IO error happened\nCaused by:\n  can't allocate buffer of size: 5000000000",
            "out of device memory allocating 4096 bytes",
            "No room for 64 bytes in the memory held, and no page may be added",
            "Can't allocate 64 bytes: every page size the memory tracks still holds live \
            allocations",
        ] {
            assert_eq!(Fault::of(text), Fault::OutOfMemory, "{text}");
        }
        for text in [
            "Parent device is lost",
            "Error in Device::poll: Validation Error\n\nCaused by:\n  Parent device is lost\n",
            "The device was poisoned during launch\nCaused by:\n  a trap",
            "The device is poisoned\nCaused by:\n  an illegal address",
        ] {
            assert_eq!(Fault::of(text), Fault::Lost, "{text}");
        }
        for text in [
            "A compilation error happened during launch\nCaused by:\n  unknown identifier",
            "A validation error happened during execution",
            "index out of bounds: the len is 3 but the index is 7",
        ] {
            assert_eq!(Fault::of(text), Fault::Other, "{text}");
        }
    }

    #[test]
    fn only_a_lost_device_ends_the_work() {
        let poll =
            "Error in Device::poll: Validation Error\n\nCaused by:\n  Parent device is lost\n";
        assert!(Fault::ends_the_device(poll) && Fault::ends_the_device("Device is lost"));
        assert!(!Fault::ends_the_device("index out of bounds"));
    }
}
