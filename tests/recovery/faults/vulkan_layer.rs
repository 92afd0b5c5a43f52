//! A Vulkan layer that simulates a failing driver. It lies between the Vulkan loader and the real
//! driver. While the file $FAULT_WHEN exists (always if none is named), it does what $FAULT says:
//!
//! - `lost`: submissions fail with VK_ERROR_DEVICE_LOST, as after a driver's reset;
//! - `lost_wait`: submissions succeed, and calls that wait for them or query their progress get
//!   that error;
//! - `silent:BYTES`: work that is submitted while more than BYTES of device memory are allocated
//!   isn't done, but counts as finished, as on Metal after an error;
//! - `memory:BYTES`: the device has that much memory; further allocations fail with
//!   VK_ERROR_OUT_OF_DEVICE_MEMORY;
//! - `wrong:N`: every Nth dispatch is silently skipped;
//! - `idle:VENDOR`: a GPU of that vendor (its PCI vendor ID) that takes no time: submitted work
//!   isn't done, but counts as finished, so that only the host's time is measured;
//! - `count`: nothing fails; the numbers of submissions, dispatches and copies are written to the
//!   file $FAULT_COUNTS.
//!
//! Built with plain rustc by tests/recovery/faults/inject.rs; declares only what it needs of the
//! Vulkan API (Vulkan-Loader, docs/LoaderLayerInterface.md).

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::mem::transmute;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

type Handle = *mut c_void;
type Function = *const c_void;
type GetProcAddr = unsafe extern "system" fn(Handle, *const c_char) -> Function;
type Create3 = unsafe extern "system" fn(*const Header, Handle, *mut Handle) -> i32;
type Create4 = unsafe extern "system" fn(Handle, *const Header, Handle, *mut Handle) -> i32;
type Submit = unsafe extern "system" fn(Handle, u32, Handle, u64) -> i32;
type WaitSemaphores = unsafe extern "system" fn(Handle, Handle, u64) -> i32;
type WaitFences = unsafe extern "system" fn(Handle, u32, *const u64, u32, u64) -> i32;
type CounterValue = unsafe extern "system" fn(Handle, u64, *mut u64) -> i32;
type Allocate =
    unsafe extern "system" fn(Handle, *const MemoryAllocateInfo, Handle, *mut u64) -> i32;
type Free = unsafe extern "system" fn(Handle, u64, Handle);
type Dispatch = unsafe extern "system" fn(Handle, u32, u32, u32);
type CopyBuffer = unsafe extern "system" fn(Handle, u64, u64, u32, Handle);
type Properties = unsafe extern "system" fn(Handle, *mut PhysicalDeviceProperties);
type Properties2 = unsafe extern "system" fn(Handle, *mut PhysicalDeviceProperties2);
type DispatchIndirect = unsafe extern "system" fn(Handle, u64, u64);

const ERROR_OUT_OF_DEVICE_MEMORY: i32 = -2;
const ERROR_DEVICE_LOST: i32 = -4;
const LOADER_INSTANCE_CREATE_INFO: u32 = 47;
const LOADER_DEVICE_CREATE_INFO: u32 = 48;
const LAYER_LINK_INFO: u32 = 0;

/// The first fields of every structure.
#[repr(C)]
struct Header {
    kind: u32,
    next: *const Header,
}

/// The loader's chain of layers, of an instance or of a device.
#[repr(C)]
struct LayerCreateInfo {
    header: Header,
    function: u32,
    link: *mut Link,
}

#[repr(C)]
struct Link {
    next: *mut Link,
    get_instance_proc_addr: GetProcAddr,
    /// For physical devices in an instance's chain, for devices in a device's.
    get_other_proc_addr: GetProcAddr,
}

#[repr(C)]
struct MemoryAllocateInfo {
    header: Header,
    size: u64,
}

/// VkSubmitInfo.
#[repr(C)]
#[derive(Clone, Copy)]
struct SubmitInfo {
    kind: u32,
    next: Handle,
    waits: u32,
    wait_semaphores: Handle,
    stages: Handle,
    command_buffers: u32,
    commands: Handle,
    signals: u32,
    signal_semaphores: Handle,
}

/// The first fields of VkPhysicalDeviceProperties.
#[repr(C)]
struct PhysicalDeviceProperties {
    api_version: u32,
    driver_version: u32,
    vendor: u32,
    device: u32,
    device_type: u32,
    /// The name, the cache's UUID, and padding before the limits, which follow.
    between: [u32; 69],
    limits: [u32; 8],
}

/// The first fields of VkPhysicalDeviceProperties2.
#[repr(C)]
struct PhysicalDeviceProperties2 {
    header: Header,
    properties: PhysicalDeviceProperties,
}

/// The function lookups of the next layer (the driver), the same for all instances and devices of a
/// process.
static INSTANCE: AtomicUsize = AtomicUsize::new(0);
static PROPERTIES: AtomicUsize = AtomicUsize::new(0);
static PROPERTIES_2: AtomicUsize = AtomicUsize::new(0);
static DEVICE: AtomicUsize = AtomicUsize::new(0);
/// Any device, for function lookups.
static ANY_DEVICE: AtomicUsize = AtomicUsize::new(0);
static DISPATCHES: AtomicU64 = AtomicU64::new(0);
static SUBMISSIONS: AtomicU64 = AtomicU64::new(0);
static COPIES: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: Mutex<Option<HashMap<u64, u64>>> = Mutex::new(None);

/// Returns the value of `fault` in $FAULT, if the fault is active.
fn fault(fault: &str) -> Option<u64> {
    let asked = std::env::var("FAULT").ok()?;
    let (name, value) = asked.split_once(':').unwrap_or((&asked, "0"));
    let now =
        std::env::var_os("FAULT_WHEN").is_none_or(|path| std::path::Path::new(&path).exists());
    (name == fault && now).then(|| value.parse().expect("a number in $FAULT"))
}

unsafe fn link(mut info: *const Header, kind: u32) -> *mut LayerCreateInfo {
    unsafe {
        while !info.is_null() {
            let found = info as *mut LayerCreateInfo;
            if (*info).kind == kind && (*found).function == LAYER_LINK_INFO {
                return found;
            }
            info = (*info).next;
        }
    }
    panic!("the loader names no next layer");
}

/// Returns the driver's own function of this name.
fn next(name: &CStr) -> Function {
    let find: GetProcAddr = unsafe { transmute(DEVICE.load(SeqCst)) };
    unsafe { find(ANY_DEVICE.load(SeqCst) as Handle, name.as_ptr()) }
}

unsafe extern "system" fn create_instance(
    info: *const Header,
    allocator: Handle,
    instance: *mut Handle,
) -> i32 {
    unsafe {
        let chain = link(info, LOADER_INSTANCE_CREATE_INFO);
        let find = (*(*chain).link).get_instance_proc_addr;
        (*chain).link = (*(*chain).link).next;
        INSTANCE.store(find as usize, SeqCst);
        let create: Create3 = transmute(find(std::ptr::null_mut(), c"vkCreateInstance".as_ptr()));
        let result = create(info, allocator, instance);
        // Later the loader would return the functions of its first layer.
        if result == 0 {
            PROPERTIES
                .store(find(*instance, c"vkGetPhysicalDeviceProperties".as_ptr()) as usize, SeqCst);
            PROPERTIES_2.store(
                find(*instance, c"vkGetPhysicalDeviceProperties2".as_ptr()) as usize,
                SeqCst,
            );
        }
        result
    }
}

/// An idle GPU pretends to be a discrete card of its vendor, whatever the driver below it is.
fn disguise(properties: &mut PhysicalDeviceProperties) {
    const DISCRETE_GPU: u32 = 2;
    if let Some(vendor) = fault("idle") {
        properties.vendor = vendor as u32;
        properties.device_type = DISCRETE_GPU;
        // maxStorageBufferRange: lavapipe's is smaller than some feature maps.
        properties.limits[7] = i32::MAX as u32;
    }
}

unsafe extern "system" fn properties(physical: Handle, properties: *mut PhysicalDeviceProperties) {
    unsafe {
        let get: Properties = transmute(PROPERTIES.load(SeqCst));
        get(physical, properties);
        disguise(&mut *properties);
    }
}

unsafe extern "system" fn properties2(
    physical: Handle,
    properties: *mut PhysicalDeviceProperties2,
) {
    unsafe {
        let get: Properties2 = transmute(PROPERTIES_2.load(SeqCst));
        get(physical, properties);
        disguise(&mut (*properties).properties);
    }
}

unsafe extern "system" fn create_device(
    physical: Handle,
    info: *const Header,
    allocator: Handle,
    device: *mut Handle,
) -> i32 {
    unsafe {
        let chain = link(info, LOADER_DEVICE_CREATE_INFO);
        let (find, find_device) =
            ((*(*chain).link).get_instance_proc_addr, (*(*chain).link).get_other_proc_addr);
        (*chain).link = (*(*chain).link).next;
        let create: Create4 = transmute(find(std::ptr::null_mut(), c"vkCreateDevice".as_ptr()));
        let result = create(physical, info, allocator, device);
        if result == 0 {
            DEVICE.store(find_device as usize, SeqCst);
            ANY_DEVICE.store(*device as usize, SeqCst);
            if std::env::var_os("FAULT_COUNTS").is_some() {
                atexit(write_counts);
            }
        }
        result
    }
}

unsafe extern "C" {
    fn atexit(run: extern "C" fn()) -> i32;
}

extern "C" fn write_counts() {
    if let Some(path) = std::env::var_os("FAULT_COUNTS") {
        let counts =
            [&SUBMISSIONS, &DISPATCHES, &COPIES].map(|count| count.load(SeqCst).to_string());
        std::fs::write(path, counts.join(" ")).expect("writable");
    }
}

unsafe extern "system" fn queue_submit(
    queue: Handle,
    count: u32,
    submits: Handle,
    fence: u64,
) -> i32 {
    SUBMISSIONS.fetch_add(1, SeqCst);
    if fault("lost").is_some() {
        return ERROR_DEVICE_LOST;
    }
    let submit: Submit = unsafe { transmute(next(c"vkQueueSubmit")) };
    if fault("idle").is_some() || fault("silent").is_some_and(|limit| allocated() > limit) {
        // Semaphores and fences are signalled, but nothing is done.
        let mut submits =
            unsafe { std::slice::from_raw_parts(submits as *const SubmitInfo, count as usize) }
                .to_vec();
        submits.iter_mut().for_each(|submit| submit.command_buffers = 0);
        return unsafe { submit(queue, count, submits.as_mut_ptr().cast(), fence) };
    }
    unsafe { submit(queue, count, submits, fence) }
}

unsafe extern "system" fn wait_semaphores(device: Handle, info: Handle, timeout: u64) -> i32 {
    if fault("lost_wait").is_some() {
        return ERROR_DEVICE_LOST;
    }
    let wait: WaitSemaphores = unsafe { transmute(next(c"vkWaitSemaphores")) };
    unsafe { wait(device, info, timeout) }
}

unsafe extern "system" fn wait_for_fences(
    device: Handle,
    count: u32,
    fences: *const u64,
    all: u32,
    timeout: u64,
) -> i32 {
    if fault("lost_wait").is_some() {
        return ERROR_DEVICE_LOST;
    }
    let wait: WaitFences = unsafe { transmute(next(c"vkWaitForFences")) };
    unsafe { wait(device, count, fences, all, timeout) }
}

unsafe extern "system" fn semaphore_value(device: Handle, semaphore: u64, value: *mut u64) -> i32 {
    if fault("lost_wait").is_some() {
        return ERROR_DEVICE_LOST;
    }
    let get: CounterValue = unsafe { transmute(next(c"vkGetSemaphoreCounterValue")) };
    unsafe { get(device, semaphore, value) }
}

/// Returns the allocated bytes of device memory.
fn allocated() -> u64 {
    ALLOCATED.lock().expect("no panic").get_or_insert_default().values().sum()
}

unsafe extern "system" fn allocate_memory(
    device: Handle,
    info: *const MemoryAllocateInfo,
    allocator: Handle,
    memory: *mut u64,
) -> i32 {
    let size = unsafe { (*info).size };
    let mut allocated = ALLOCATED.lock().expect("no panic");
    let allocated = allocated.get_or_insert_default();
    if fault("memory").is_some_and(|limit| allocated.values().sum::<u64>() + size > limit) {
        return ERROR_OUT_OF_DEVICE_MEMORY;
    }
    let allocate: Allocate = unsafe { transmute(next(c"vkAllocateMemory")) };
    let result = unsafe { allocate(device, info, allocator, memory) };
    if result == 0 {
        allocated.insert(unsafe { *memory }, size);
    }
    result
}

unsafe extern "system" fn free_memory(device: Handle, memory: u64, allocator: Handle) {
    ALLOCATED.lock().expect("no panic").get_or_insert_default().remove(&memory);
    let free: Free = unsafe { transmute(next(c"vkFreeMemory")) };
    unsafe { free(device, memory, allocator) }
}

/// Checks whether this dispatch is to be skipped.
fn forgotten() -> bool {
    let number = DISPATCHES.fetch_add(1, SeqCst);
    fault("wrong").is_some_and(|every| number % every == every - 1)
}

unsafe extern "system" fn cmd_dispatch(commands: Handle, x: u32, y: u32, z: u32) {
    if !forgotten() {
        let dispatch: Dispatch = unsafe { transmute(next(c"vkCmdDispatch")) };
        unsafe { dispatch(commands, x, y, z) }
    }
}

unsafe extern "system" fn cmd_dispatch_indirect(commands: Handle, buffer: u64, offset: u64) {
    if !forgotten() {
        let dispatch: DispatchIndirect = unsafe { transmute(next(c"vkCmdDispatchIndirect")) };
        unsafe { dispatch(commands, buffer, offset) }
    }
}

unsafe extern "system" fn cmd_copy_buffer(
    commands: Handle,
    from: u64,
    to: u64,
    count: u32,
    regions: Handle,
) {
    COPIES.fetch_add(u64::from(count), SeqCst);
    let copy: CopyBuffer = unsafe { transmute(next(c"vkCmdCopyBuffer")) };
    unsafe { copy(commands, from, to, count, regions) }
}

fn ours(name: *const c_char) -> Option<Function> {
    Some(match unsafe { CStr::from_ptr(name) }.to_str().ok()? {
        "vkGetInstanceProcAddr" => vkGetInstanceProcAddr as Function,
        "vkGetDeviceProcAddr" => vkGetDeviceProcAddr as Function,
        "vkCreateInstance" => create_instance as Function,
        "vkCreateDevice" => create_device as Function,
        "vkGetPhysicalDeviceProperties" => properties as Function,
        "vkGetPhysicalDeviceProperties2" | "vkGetPhysicalDeviceProperties2KHR" => {
            properties2 as Function
        }
        "vkQueueSubmit" => queue_submit as Function,
        "vkWaitSemaphores" => wait_semaphores as Function,
        "vkWaitForFences" => wait_for_fences as Function,
        "vkGetSemaphoreCounterValue" => semaphore_value as Function,
        "vkAllocateMemory" => allocate_memory as Function,
        "vkFreeMemory" => free_memory as Function,
        "vkCmdDispatch" => cmd_dispatch as Function,
        "vkCmdCopyBuffer" => cmd_copy_buffer as Function,
        "vkCmdDispatchIndirect" => cmd_dispatch_indirect as Function,
        _ => return None,
    })
}

/// Entry point through which the loader looks up an instance's functions.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkGetInstanceProcAddr(
    instance: Handle,
    name: *const c_char,
) -> Function {
    ours(name).unwrap_or_else(|| match INSTANCE.load(SeqCst) {
        0 => std::ptr::null(),
        find => unsafe { transmute::<usize, GetProcAddr>(find)(instance, name) },
    })
}

/// Entry point through which the loader looks up a device's functions.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkGetDeviceProcAddr(device: Handle, name: *const c_char) -> Function {
    ours(name).unwrap_or_else(|| unsafe {
        transmute::<usize, GetProcAddr>(DEVICE.load(SeqCst))(device, name)
    })
}
