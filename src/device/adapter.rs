//! The adapters that wgpu finds on the graphics APIs of this machine.

use super::hardware::{Kind, Limits};
use super::memory;
use super::profile::{Extensions, MatrixSize, Profile};
use crate::error::{Error, Result};
use burn::cubecl::wgpu::{WgpuBackend, WgpuDevice, WgpuDeviceKind};
use serde::Serialize;

/// One wgpu adapter on one graphics API.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// The name that the driver reports.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: &'static str,
    /// The kind of hardware.
    pub kind: Kind,
    /// The driver and its version.
    pub driver: String,
    /// The index among the adapters of this backend: the N of `vulkan:N`.
    pub index: usize,
    /// The size of its memory in bytes, if the driver tells: its own, or for integrated GPUs and
    /// software the system's memory that it may use.
    pub memory: Option<u64>,
    /// The limits that matter for training.
    pub limits: Limits,
    /// The features that matter for training, by name.
    pub features: Vec<&'static str>,
    /// The PCI bus ID; empty where the API doesn't report it.
    pub pci: String,
    /// The selector of a better adapter for the same GPU, from another driver or another API.
    pub same_as: Option<String>,
    /// The profile by which kernels are chosen.
    #[serde(skip)]
    pub profile: Profile,
    #[serde(skip)]
    pub(super) handle: (WgpuDeviceKind, WgpuBackend),
}

impl Adapter {
    /// Returns the selector of this adapter, for example "vulkan:0".
    pub fn selector(&self) -> String {
        format!("{}:{}", self.backend, self.index)
    }

    pub(crate) fn device(&self) -> WgpuDevice {
        let (kind, api) = self.handle.clone();
        WgpuDevice::new(kind).on(api)
    }

    /// Opens another device on this adapter, with WebGPU's default limits and no features,
    /// separate from the devices that the program computes on.
    ///
    /// # Errors
    /// If the adapter is gone, or refuses.
    pub fn open(&self) -> Result<(wgpu::Device, wgpu::Queue)> {
        let failed =
            |e: &dyn std::fmt::Display| Error::device(&format!("opening {}", self.name), e);
        let adapter = self.found().ok_or_else(|| failed(&"it is gone"))?;
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))
            .map_err(|e| failed(&e))
    }

    /// Returns the adapter's wgpu handle.
    fn found(&self) -> Option<wgpu::Adapter> {
        let (_, backend, _) = BACKENDS.iter().find(|(name, ..)| *name == self.backend)?;
        enumerate(*backend).into_iter().nth(self.index)
    }

    /// Returns whether `device` is on this adapter.
    pub(super) fn is(&self, device: &WgpuDevice) -> bool {
        self.device() == *device
    }
}

const BACKENDS: [(&str, wgpu::Backend, WgpuBackend); 4] = [
    ("vulkan", wgpu::Backend::Vulkan, WgpuBackend::Vulkan),
    ("metal", wgpu::Backend::Metal, WgpuBackend::Metal),
    ("dx12", wgpu::Backend::Dx12, WgpuBackend::Dx12),
    (GL, wgpu::Backend::Gl, WgpuBackend::Gl),
];

/// OpenGL 4.3 or OpenGL ES 3.1, for GPUs without Vulkan; used only on request.
pub(super) const GL: &str = "gl";

/// Returns the adapters of the graphics APIs that `wanted` lists; with `None`, of all except
/// OpenGL. Of the software adapters of an API, only the first: cubecl computes on that one, whichever
/// is asked for.
pub(super) fn every_adapter(wanted: Option<&str>) -> Vec<Adapter> {
    let mut found = Vec::new();
    for (name, backend, api) in BACKENDS {
        let asked_for =
            wanted.map_or(name != GL, |wanted| wanted.split(',').any(|b| backend_name(b) == name));
        if !asked_for {
            continue;
        }
        // cubecl numbers the adapters of each kind separately.
        let mut of_kind = [0usize; 4];
        let mut has_software = false;
        for (index, adapter) in enumerate(backend).into_iter().enumerate() {
            let mut next = |slot: usize| {
                of_kind[slot] += 1;
                of_kind[slot] - 1
            };
            let info = adapter.get_info();
            let is_software = info.device_type == wgpu::DeviceType::Cpu;
            if is_software && std::mem::replace(&mut has_software, true) {
                continue;
            }
            let (kind, handle) = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => {
                    (Kind::DiscreteGpu, WgpuDeviceKind::DiscreteGpu(next(0)))
                }
                wgpu::DeviceType::IntegratedGpu => {
                    (Kind::IntegratedGpu, WgpuDeviceKind::IntegratedGpu(next(1)))
                }
                wgpu::DeviceType::VirtualGpu => {
                    (Kind::VirtualGpu, WgpuDeviceKind::VirtualGpu(next(2)))
                }
                wgpu::DeviceType::Other => (Kind::Other, WgpuDeviceKind::Other(next(3))),
                wgpu::DeviceType::Cpu => (Kind::Software, WgpuDeviceKind::Cpu),
            };
            let limits = adapter.limits();
            let features = adapter.features();
            let limits = Limits {
                max_storage_binding: limits.max_storage_buffer_binding_size,
                max_buffer: limits.max_buffer_size,
                storage_buffers: limits.max_storage_buffers_per_shader_stage,
                workgroup_invocations: limits.max_compute_invocations_per_workgroup,
                workgroup_memory: limits.max_compute_workgroup_storage_size,
                subgroup_size: [info.subgroup_min_size, info.subgroup_max_size],
            };
            let cooperative_matrix =
                features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
            let profile = Profile {
                class: kind.into(),
                kind,
                vendor: info.vendor,
                extensions: Extensions {
                    f16: features.contains(wgpu::Features::SHADER_F16),
                    subgroups: features.contains(wgpu::Features::SUBGROUP),
                    cooperative_matrix,
                },
                matrices: if cooperative_matrix { matrices(&adapter) } else { Vec::new() },
                limits: limits.clone(),
            };
            let named = [
                ("shader-f16", wgpu::Features::SHADER_F16),
                ("subgroup", wgpu::Features::SUBGROUP),
                ("timestamp-query", wgpu::Features::TIMESTAMP_QUERY),
                ("cooperative-matrix", wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            ];
            found.push(Adapter {
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
                name: info.name,
                pci: info.device_pci_bus_id,
                same_as: None,
                backend: name,
                kind,
                index,
                memory: memory::bytes(&adapter),
                limits,
                features: named
                    .iter()
                    .filter(|(_, f)| features.contains(*f))
                    .map(|(n, _)| *n)
                    .collect(),
                profile,
                handle: (handle, api),
            });
        }
    }
    found
}

/// Returns the matrix products that the cooperative matrices of `adapter` support, f32 and f16
/// only.
fn matrices(adapter: &wgpu::Adapter) -> Vec<MatrixSize> {
    use wgpu::wgt::CooperativeScalarType::{F16, F32};
    let products = adapter.cooperative_matrix_properties().into_iter();
    let floats =
        products.filter(|p| matches!(p.ab_type, F16 | F32) && matches!(p.cr_type, F16 | F32));
    floats
        .map(|p| MatrixSize {
            size: [p.m_size, p.n_size, p.k_size],
            factors_f16: p.ab_type == F16,
            sums_f16: p.cr_type == F16,
        })
        .collect()
}

/// Maps wgpu's spellings of a backend to its name here; "" for an unknown one.
fn backend_name(name: &str) -> &str {
    match name.trim().to_lowercase().as_str() {
        "vulkan" | "vk" => "vulkan",
        "metal" | "mtl" => "metal",
        "dx12" | "d3d12" => "dx12",
        "gl" | "gles" | "opengl" => GL,
        _ => "",
    }
}

/// Returns the adapters that wgpu finds on `backend`, in its order.
fn enumerate(backend: wgpu::Backend) -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    pollster::block_on(instance.enumerate_adapters(backend.into()))
}

/// Checks whether a device can be created on `adapter` with the features and limits that computing
/// uses.
pub(super) fn opens(adapter: &Adapter) -> std::result::Result<(), String> {
    let found = adapter.found().ok_or("it is gone")?;
    let unwanted =
        wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
    let made = found.request_device(&wgpu::DeviceDescriptor {
        required_features: found.features().difference(unwanted),
        required_limits: found.limits(),
        ..Default::default()
    });
    pollster::block_on(made).map(drop).map_err(|e| e.to_string())
}
