//! The size of an adapter's memory, as its driver reports it.

/// Returns the size in bytes of the adapter's largest device-local memory heap. For integrated GPUs
/// and software adapters this is the part of the system's memory that they may use. Returns `None`
/// for graphics APIs other than Vulkan, which don't report it to wgpu.
#[cfg(any(target_os = "linux", target_os = "windows"))]
#[allow(unsafe_code)]
pub(super) fn bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    /// The flag VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the adapter outlives the guard, and the call only queries properties of the driver.
    let memory = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Returns `None`: the size is read on Linux and Windows only.
#[cfg(not(any(target_os = "linux", target_os = "windows")))]
pub(super) fn bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}
