//! The devices of this machine, and how a selection such as `vulkan:0` or `auto` picks one.

mod lasting;
mod memory;
mod missed;
mod profile;
mod rank;

pub use lasting::lasting;
pub use profile::{Class, Extensions, MatrixSize, Profile};
pub(crate) use profile::{profile, replace};

use crate::error::{Error, Hint, Result};
use burn::cubecl::wgpu::{WgpuBackend, WgpuDevice, WgpuDeviceKind};
use burn::tensor::Device;
use serde::Serialize;
use std::path::Path;

/// The kind of hardware behind an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A card with its own memory.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU passed through to a virtual machine.
    VirtualGpu,
    /// Not reported by the driver.
    Other,
    /// A software implementation that runs on the CPU (lavapipe, WARP): correct, slow, not a GPU.
    Software,
}

impl Kind {
    /// Returns whether this is real graphics hardware.
    pub fn is_gpu(self) -> bool {
        self != Self::Software
    }

    /// Returns a human-readable label: "discrete GPU", .., "software, no GPU".
    pub fn label(self) -> &'static str {
        match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Other => "GPU of unknown kind",
            Self::Software => "software, no GPU",
        }
    }
}

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
    handle: (WgpuDeviceKind, WgpuBackend),
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
    fn is(&self, device: &WgpuDevice) -> bool {
        self.device() == *device
    }
}

/// The limits of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// The largest storage buffer binding, in bytes.
    pub max_storage_binding: u64,
    /// The largest buffer, in bytes.
    pub max_buffer: u64,
    /// Storage buffers per shader stage.
    pub storage_buffers: u32,
    /// Invocations per workgroup.
    pub workgroup_invocations: u32,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// The smallest and the largest subgroup size.
    pub subgroup_size: [u32; 2],
}

/// A device to compute on, and the reason it was chosen.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Burn's handle, without autodiff.
    pub device: Device,
    /// `cpu`, `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: &'static str,
    /// The name of the adapter or of the CPU.
    pub name: String,
    /// The reason for the choice, in one sentence.
    pub why: String,
    /// Whether it is real graphics hardware.
    pub gpu: bool,
    /// The adapter; `None` for the CPU backend.
    pub adapter: Option<Adapter>,
    /// What keeps a GPU that is present from being used, and the remedy; set where `auto` falls
    /// back to the CPU.
    pub missed: Option<String>,
}

impl Selected {
    /// Returns the CPU backend, chosen because of `why`.
    pub fn cpu(why: &str) -> Self {
        let name = format!("CPU, {} threads", rayon::current_num_threads());
        Self {
            device: Device::flex(),
            backend: "cpu",
            name,
            why: why.into(),
            gpu: false,
            adapter: None,
            missed: None,
        }
    }

    fn adapter(adapter: &Adapter, why: &str) -> Self {
        Self {
            device: Device::from(adapter.device()),
            backend: adapter.backend,
            name: adapter.name.clone(),
            why: why.into(),
            gpu: adapter.kind.is_gpu(),
            adapter: Some(adapter.clone()),
            missed: None,
        }
    }

    /// Returns backend and name: "vulkan: NVIDIA A40" or "cpu: CPU, 2 threads".
    pub fn describe(&self) -> String {
        let software = if self.gpu || self.backend == "cpu" { "" } else { " (software, no GPU)" };
        format!("{}: {}{software}", self.backend, self.name)
    }
}

const BACKENDS: [(&str, wgpu::Backend, WgpuBackend); 4] = [
    ("vulkan", wgpu::Backend::Vulkan, WgpuBackend::Vulkan),
    ("metal", wgpu::Backend::Metal, WgpuBackend::Metal),
    ("dx12", wgpu::Backend::Dx12, WgpuBackend::Dx12),
    (GL, wgpu::Backend::Gl, WgpuBackend::Gl),
];

/// OpenGL 4.3 or OpenGL ES 3.1, for GPUs without Vulkan; used only on request.
const GL: &str = "gl";

/// Returns every adapter of every native graphics API except OpenGL. With several APIs the same
/// hardware appears under each.
pub fn adapters() -> Vec<Adapter> {
    adapters_in(no_environment)
}

/// Returns the adapters as [`adapters`], restricted by the environment; OpenGL would list the same
/// hardware again. Hardware that several APIs support appears once for each. WGPU_BACKEND (a
/// comma-separated list, which may name `gl`) and WGPU_ADAPTER_NAME (part of the name) narrow the
/// list.
pub fn adapters_in(environment: Environment) -> Vec<Adapter> {
    narrowed(environment("WGPU_BACKEND").as_deref(), environment)
}

/// Returns the value of an environment variable: [`no_environment`], or what the program's own
/// environment holds.
pub type Environment = fn(&str) -> Option<String>;

/// Holds no variable, so that nothing is restricted.
pub fn no_environment(_: &str) -> Option<String> {
    None
}

/// Returns the adapters of the graphics APIs that `wanted` lists (see [`every_adapter`]), filtered
/// by WGPU_ADAPTER_NAME.
fn narrowed(wanted: Option<&str>, environment: Environment) -> Vec<Adapter> {
    let wanted_name = environment("WGPU_ADAPTER_NAME").map(|n| n.to_lowercase());
    let mut found = every_adapter(wanted);
    found.retain(|a| wanted_name.as_ref().is_none_or(|n| a.name.to_lowercase().contains(n)));
    rank::mark_duplicates(&mut found);
    found
}

/// Returns the adapters of the graphics APIs that `wanted` lists; with `None`, of all except
/// OpenGL.
fn every_adapter(wanted: Option<&str>) -> Vec<Adapter> {
    let mut found = Vec::new();
    for (name, backend, api) in BACKENDS {
        let asked_for =
            wanted.map_or(name != GL, |wanted| wanted.split(',').any(|b| backend_name(b) == name));
        if !asked_for {
            continue;
        }
        // cubecl numbers the adapters of each kind separately.
        let mut of_kind = [0usize; 4];
        for (index, adapter) in enumerate(backend).into_iter().enumerate() {
            let mut next = |slot: usize| {
                of_kind[slot] += 1;
                of_kind[slot] - 1
            };
            let info = adapter.get_info();
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

/// Returns the best GPU of `adapters`.
fn best(adapters: Vec<Adapter>) -> Option<Adapter> {
    rank::ranked(adapters).into_iter().next()
}

/// Resolves `auto`: returns the first of the `ranked` GPUs that `opens` doesn't refuse with a
/// reason, else the CPU backend.
fn automatic(
    ranked: Vec<Adapter>,
    opens: impl Fn(&Adapter) -> std::result::Result<(), String>,
    environment: Environment,
) -> Selected {
    let several = ranked.len() > 1;
    let mut refused = Vec::new();
    for adapter in ranked {
        // With a single GPU, the attempt to use it reports the reason.
        match if several { opens(&adapter) } else { Ok(()) } {
            Ok(()) if refused.is_empty() => {
                return Selected::adapter(&adapter, "the best GPU here");
            }
            Ok(()) => {
                return Selected::adapter(
                    &adapter,
                    &format!("the best GPU here that can be opened; {}", refused.join("; ")),
                );
            }
            Err(why) => {
                refused.push(format!("{} ({}) failed: {why}", adapter.selector(), adapter.name))
            }
        }
    }
    without_gpu(if refused.is_empty() {
        missed_here(environment)
    } else {
        Some(format!("no GPU can be opened; {}", refused.join("; ")))
    })
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
fn opens(adapter: &Adapter) -> std::result::Result<(), String> {
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

/// Resolves `auto` where no adapter is a usable GPU, though one may have been `missed`.
fn without_gpu(missed: Option<String>) -> Selected {
    let why =
        if missed.is_some() { "the GPU of this machine can't be used" } else { "no GPU found" };
    Selected { missed, ..Selected::cpu(why) }
}

/// Returns what keeps a GPU of this machine from being used, if there is one.
fn missed_here(environment: Environment) -> Option<String> {
    let narrowed =
        ["WGPU_BACKEND", "WGPU_ADAPTER_NAME"].iter().any(|name| environment(name).is_some());
    let elsewhere = narrowed.then(|| best(every_adapter(None))).flatten();
    missed::missed(Path::new("/"), elsewhere.as_ref().map(|a| a.name.as_str()), environment)
}

/// Returns the device that `selection` names: `auto`, `cpu`, or `wgpu`, `vulkan`, `metal`, `dx12`,
/// `gl` with `:INDEX` or `:NAME`.
///
/// `auto` takes the best GPU that can be opened, else the CPU backend, and records in
/// [`missed`](Selected::missed) why a GPU that is present isn't used. A software adapter is used
/// only when named.
///
/// # Errors
/// If there is no such device; the message lists those that exist.
pub fn select(selection: &str) -> Result<Selected> {
    select_nth(selection, 0, no_environment)
}

/// Like [`select`], for process number `nth` of several on one machine: where `selection` matches
/// several adapters of one kind, the processes take them in turn.
///
/// # Errors
/// See [`select`].
pub fn select_nth(selection: &str, nth: usize, environment: Environment) -> Result<Selected> {
    let (family, which) = match selection.split_once(':') {
        Some((family, which)) => (family, Some(which)),
        None => (selection, None),
    };
    match (family, which) {
        ("cpu", None) => return Ok(Selected::cpu("asked for")),
        ("auto", None) => {
            let mut ranked = rank::ranked(adapters_in(environment));
            if let Some(own) = rank::nth_alike(&ranked, nth) {
                ranked[..=own].rotate_right(1);
            }
            return Ok(automatic(ranked, opens, environment));
        }
        ("wgpu" | "vulkan" | "metal" | "dx12" | GL, _) => {}
        _ => {
            return Err(Error::usage(format!(
                "unknown device {selection:?}: expected auto, cpu, or one of wgpu, vulkan, \
                 metal, dx12 and gl with :INDEX or :NAME{}",
                Hint::ListDevices
            )));
        }
    }
    let all = if family == GL { narrowed(Some(GL), environment) } else { adapters_in(environment) };
    let mut matching: Vec<_> =
        all.iter().filter(|a| family == "wgpu" || a.backend == family).collect();
    matching.sort_by_key(|a| a.kind as u8);
    let chosen = match which.map(|w| (w.parse::<usize>(), w.to_lowercase())) {
        None => rank::nth_alike(&matching, nth).and_then(|own| matching.get(own)),
        Some((Ok(index), _)) if family == "wgpu" => matching.get(index),
        Some((Ok(index), _)) => matching.iter().find(|a| a.index == index),
        Some((Err(_), name)) => {
            matching.retain(|a| a.name.to_lowercase().contains(&name));
            rank::nth_alike(&matching, nth).and_then(|own| matching.get(own))
        }
    };
    match chosen {
        Some(adapter) => Ok(Selected::adapter(adapter, "asked for")),
        None => {
            let list: Vec<_> =
                all.iter().map(|a| format!("{}:{} {}", a.backend, a.index, a.name)).collect();
            let list = if list.is_empty() { "only".to_owned() } else { list.join(", ") + " and" };
            Err(Error::usage(format!(
                "there is no device {selection:?}; this machine has {list} cpu"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opengl_is_listed_only_on_request() {
        assert!(every_adapter(None).iter().all(|adapter| adapter.backend != GL));
        assert!(
            every_adapter(Some("vulkan, gles")).iter().any(|adapter| adapter.backend == "vulkan")
        );
        // Without OpenGL on the machine, selecting it fails.
        match (every_adapter(Some(GL)).first(), select("gl")) {
            (Some(first), Ok(selected)) => {
                assert_eq!((selected.backend, &selected.name), (GL, &first.name))
            }
            (None, Err(refused)) => {
                assert!(refused.to_string().contains("there is no device \"gl\""), "{refused}")
            }
            (first, selected) => panic!("{first:?}, but {selected:?}"),
        }
    }

    #[test]
    fn auto_tries_the_next_gpu_where_one_cannot_be_opened() {
        let one = adapters()
            .into_iter()
            .next()
            .expect("an adapter; scripts/test.sh installs a software one");
        let gpus: Vec<Adapter> =
            (0..2).map(|index| Adapter { kind: Kind::DiscreteGpu, index, ..one.clone() }).collect();
        let first_fails =
            |adapter: &Adapter| if adapter.index == 0 { Err("no memory".into()) } else { Ok(()) };
        let chosen = automatic(gpus.clone(), first_fails, no_environment);
        assert_eq!(chosen.adapter.expect("the second").index, 1);
        assert!(
            chosen.why.contains("vulkan:0") && chosen.why.contains("no memory"),
            "{}",
            chosen.why
        );
        let chosen = automatic(gpus, |_| Err("lost".into()), no_environment);
        assert!(
            chosen.adapter.is_none()
                && chosen
                    .missed
                    .is_some_and(|why| why.contains("vulkan:1") && why.contains("lost"))
        );
        // The real adapter opens.
        assert_eq!(opens(&one), Ok(()));
        assert!(opens(&Adapter { index: 1000, ..one }).is_err());
    }
}
