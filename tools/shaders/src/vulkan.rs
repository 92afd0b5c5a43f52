//! A Vulkan driver as a compiler: the statistics and machine code of a compute shader, through
//! VK_KHR_pipeline_executable_properties. The driver may have no hardware (RADV's null winsys, a
//! stub of a kernel driver): nothing is ever run.

use crate::manifest::Binding;
use crate::module::Valid;
use ash::{ext, khr, vk};
use std::ffi::{CStr, CString, c_char};

type Result<T> = std::result::Result<T, String>;

/// The first adapter of the driver that the Vulkan loader finds.
pub struct Driver {
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    /// The adapter's name, from the driver.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    // Dropped last, as both keep the library loaded.
    _instance: ash::Instance,
    _entry: ash::Entry,
}

/// The driver's output for a pipeline.
#[derive(Default)]
pub struct Compiled {
    /// Values under the driver's names, and "Subgroup size".
    pub statistics: Vec<(String, f64)>,
    /// The final machine code, as text.
    pub assembly: String,
}

fn text(chars: &[c_char]) -> String {
    // SAFETY: Vulkan terminates these arrays with a zero.
    unsafe { CStr::from_ptr(chars.as_ptr()) }.to_string_lossy().into_owned()
}

fn reason(result: vk::Result) -> String {
    result.to_string()
}

impl Driver {
    /// Opens a device with all features of its adapter.
    ///
    /// # Errors
    /// There is no Vulkan or no adapter, or the adapter can't report what it compiles.
    pub fn new() -> Result<Self> {
        unsafe {
            let entry = ash::Entry::load().map_err(|e| e.to_string())?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&create, None).map_err(reason)?;
            let physical = *instance
                .enumerate_physical_devices()
                .map_err(reason)?
                .first()
                .ok_or("no Vulkan adapter")?;
            let name = text(&instance.get_physical_device_properties(physical).device_name);
            let mut about = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut about);
            instance.get_physical_device_properties2(physical, &mut properties);
            let driver = format!("{} {}", text(&about.driver_name), text(&about.driver_info));
            let extensions =
                instance.enumerate_device_extension_properties(physical).map_err(reason)?;
            let has = |name: &CStr| {
                extensions.iter().any(|e| CStr::from_ptr(e.extension_name.as_ptr()) == name)
            };
            if !has(khr::pipeline_executable_properties::NAME) {
                return Err(format!(
                    "{name} doesn't say what it compiles (VK_KHR_pipeline_executable_properties)"
                ));
            }
            let mut names = vec![khr::pipeline_executable_properties::NAME.as_ptr()];
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut executable =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut v12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut v11 = vk::PhysicalDeviceVulkan11Features::default();
            let features = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut v13)
                .push_next(&mut v12)
                .push_next(&mut v11);
            let mut features = features.push_next(&mut executable);
            // wgpu enables it where available, and bounds checks in drivers cost instructions.
            if has(ext::robustness2::NAME) {
                names.push(ext::robustness2::NAME.as_ptr());
                features = features.push_next(&mut robust);
            }
            instance.get_physical_device_features2(physical, &mut features);
            let queues = [vk::DeviceQueueCreateInfo::default()
                .queue_family_index(0)
                .queue_priorities(&[1.0])];
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&names);
            let device = instance
                .create_device(physical, &create.push_next(&mut features), None)
                .map_err(reason)?;
            let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self { device, executables, name, driver, _instance: instance, _entry: entry })
        }
    }

    /// Compiles `shader`, whose translation is `spirv`.
    ///
    /// # Errors
    /// The driver's error.
    pub fn compile(&self, shader: &Valid, spirv: &[u8]) -> Result<Compiled> {
        let words: Vec<u32> =
            spirv.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let entry =
            CString::new(shader.module.entry_points[0].name.as_str()).map_err(|e| e.to_string())?;
        let buffers = shader.buffers();
        let bindings = buffers.iter().map(|buffer| {
            let kind = match buffer.kind {
                Some(Binding::Uniform) => vk::DescriptorType::UNIFORM_BUFFER,
                _ => vk::DescriptorType::STORAGE_BUFFER,
            };
            let binding = vk::DescriptorSetLayoutBinding::default()
                .binding(buffer.binding)
                .descriptor_type(kind);
            binding.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
        });
        let bindings: Vec<_> = bindings.collect();
        unsafe {
            let d = &self.device;
            let module = d
                .create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None)
                .map_err(reason)?;
            let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [d.create_descriptor_set_layout(&create, None).map_err(reason)?];
            let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = d.create_pipeline_layout(&create, None).map_err(reason)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let create =
                [vk::ComputePipelineCreateInfo::default().flags(flags).stage(stage).layout(layout)];
            let pipelines = d.create_compute_pipelines(vk::PipelineCache::null(), &create, None);
            let pipeline = pipelines.map_err(|(_, result)| reason(result))?[0];
            let compiled = self.about(pipeline);
            d.destroy_pipeline(pipeline, None);
            d.destroy_pipeline_layout(layout, None);
            d.destroy_descriptor_set_layout(sets[0], None);
            d.destroy_shader_module(module, None);
            compiled
        }
    }

    unsafe fn about(&self, pipeline: vk::Pipeline) -> Result<Compiled> {
        use vk::PipelineExecutableStatisticFormatKHR as Format;
        let mut compiled = Compiled::default();
        let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
        let executables =
            unsafe { self.executables.get_pipeline_executable_properties(&of) }.map_err(reason)?;
        for (index, executable) in executables.iter().enumerate() {
            compiled
                .statistics
                .push(("Subgroup size".to_owned(), f64::from(executable.subgroup_size)));
            let at = vk::PipelineExecutableInfoKHR::default()
                .pipeline(pipeline)
                .executable_index(index as u32);
            for one in unsafe { self.executables.get_pipeline_executable_statistics(&at) }
                .map_err(reason)?
            {
                let value = unsafe {
                    match one.format {
                        Format::BOOL32 => f64::from(one.value.b32),
                        Format::INT64 => one.value.i64 as f64,
                        Format::UINT64 => one.value.u64 as f64,
                        _ => one.value.f64,
                    }
                };
                compiled.statistics.push((text(&one.name), value));
            }
            compiled.assembly += &unsafe { self.assembly(&at) }?;
        }
        Ok(compiled)
    }

    /// Returns the last of the driver's representations that is machine code.
    unsafe fn assembly(&self, at: &vk::PipelineExecutableInfoKHR) -> Result<String> {
        let function = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // The first call returns the number of texts, the second one their lengths, the third one
        // the texts.
        unsafe { function(self.device.handle(), at, &mut count, std::ptr::null_mut()) }
            .result()
            .map_err(reason)?;
        let mut all =
            vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        unsafe { function(self.device.handle(), at, &mut count, all.as_mut_ptr()) }
            .result()
            .map_err(reason)?;
        let mut buffers: Vec<_> = all.iter().map(|r| vec![0u8; r.data_size + 1]).collect();
        for (representation, buffer) in all.iter_mut().zip(&mut buffers) {
            representation.p_data = buffer.as_mut_ptr().cast();
        }
        unsafe { function(self.device.handle(), at, &mut count, all.as_mut_ptr()) }
            .result()
            .map_err(reason)?;
        let mut named =
            all.iter().zip(&buffers).map(|(r, buffer)| (text(&r.name).to_lowercase(), buffer));
        let code = named
            .rfind(|(name, _)| name.contains("assembly"))
            .ok_or("the driver gives no assembly")?
            .1;
        Ok(String::from_utf8_lossy(code).trim_end_matches('\0').to_owned())
    }
}
