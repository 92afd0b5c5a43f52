//! Native playback of a plan on plain wgpu: does what the page does in a browser, on any adapter.

use super::{Kernel, Operand, Pass, Plan, VERSION};
use crate::device::Adapter;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{BindingType, BufferBindingType, BufferUsages};

/// The alignment of info blocks: the largest that WebGPU may require.
const ALIGNMENT: usize = 256;

/// The checks made while a shader runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// No checks, as when this program runs the shader.
    None,
    /// A browser's checks: that indices are within bounds and that loops end.
    Browser,
}

/// A plan loaded on an adapter.
pub struct Player {
    device: wgpu::Device,
    queue: wgpu::Queue,
    plan: Plan,
    pipelines: Vec<(wgpu::ComputePipeline, wgpu::BindGroupLayout)>,
    /// All info blocks, and the offset of each.
    infos: (wgpu::Buffer, Vec<u64>),
    tensors: HashMap<String, wgpu::Buffer>,
}

impl Player {
    /// Compiles the kernels of `plan` on `adapter` and uploads its `tensors`.
    ///
    /// # Errors
    /// If the plan has another version, a tensor is missing, or the adapter can't be opened.
    pub fn new(
        adapter: &Adapter,
        plan: &Plan,
        tensors: &BTreeMap<String, Vec<f32>>,
        checks: Checks,
    ) -> Result<Self> {
        if plan.version != VERSION {
            let version = plan.version;
            return Err(Error::failed(format!(
                "the plan has version {version}, but this program plays version {VERSION}"
            )));
        }
        let named = plan
            .passes
            .values()
            .flat_map(|pass| &pass.dispatches)
            .flat_map(|dispatch| &dispatch.operands);
        if let Some(missing) =
            named.filter_map(Operand::tensor).find(|name| !tensors.contains_key(*name))
        {
            return Err(Error::failed(format!(
                "the plan reads the tensor {missing}, which is missing"
            )));
        }
        let (device, queue) = adapter.open()?;
        let pipelines =
            plan.kernels.iter().map(|kernel| pipeline(&device, kernel, checks)).collect();
        let (mut blocks, mut offsets) = (Vec::new(), Vec::new());
        for info in &plan.infos {
            offsets.push(blocks.len() as u64);
            blocks.extend_from_slice(bytemuck::cast_slice::<u32, u8>(info));
            blocks.resize(blocks.len().next_multiple_of(ALIGNMENT), 0);
        }
        let upload = |bytes: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: None, contents: bytes, usage })
        };
        let infos = (upload(&blocks, BufferUsages::UNIFORM), offsets);
        let tensors = tensors.iter().map(|(name, values)| {
            (name.clone(), upload(bytemuck::cast_slice(values), BufferUsages::STORAGE))
        });
        Ok(Self { tensors: tensors.collect(), device, queue, plan: plan.clone(), pipelines, infos })
    }

    /// Runs the pass `name` on `inputs` and returns its outputs.
    ///
    /// # Errors
    /// If there is no such pass, an input is missing or has another length, or the device fails.
    pub fn run(&self, name: &str, inputs: &[(&str, &[f32])]) -> Result<BTreeMap<String, Vec<f32>>> {
        let pass = self
            .plan
            .passes
            .get(name)
            .ok_or_else(|| Error::usage(format!("the plan has no pass {name}")))?;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = |size, usage| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let buffers: Vec<_> = pass.buffers.iter().map(|&bytes| buffer(bytes, usage)).collect();
        for (input, port) in &pass.inputs {
            let given = inputs
                .iter()
                .find(|(name, _)| name == input)
                .map(|(_, values)| *values)
                .unwrap_or_default();
            let wanted: usize = port.shape.iter().product();
            if given.len() != wanted {
                return Err(Error::usage(format!(
                    "{name}: the input {input} takes {wanted} values, but {} were given",
                    given.len()
                )));
            }
            self.queue.write_buffer(&buffers[port.buffer], 0, bytemuck::cast_slice(given));
        }
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encode(&mut encoder, pass, &buffers, &buffer(16, usage));
        let staged: Vec<_> = pass
            .outputs
            .iter()
            .map(|(output, port)| {
                let bytes = 4 * port.shape.iter().product::<usize>() as u64;
                let to = buffer(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
                encoder.copy_buffer_to_buffer(&buffers[port.buffer], 0, &to, 0, bytes);
                (output.clone(), to)
            })
            .collect();
        self.queue.submit([encoder.finish()]);
        staged.into_iter().map(|(output, buffer)| Ok((output, self.read(&buffer)?))).collect()
    }

    /// Encodes the launches of `pass`.
    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        pass: &Pass,
        buffers: &[wgpu::Buffer],
        spare: &wgpu::Buffer,
    ) {
        let mut computing = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &pass.dispatches {
            let (pipeline, layout) = &self.pipelines[dispatch.kernel];
            let operands = dispatch.operands.iter().map(|operand| match operand {
                Operand::Buffer(i) => buffers[*i].as_entire_binding(),
                Operand::Tensor(name) => self.tensors[name].as_entire_binding(),
                Operand::Spare(()) => spare.as_entire_binding(),
            });
            let info = wgpu::BufferBinding {
                buffer: &self.infos.0,
                offset: self.infos.1[dispatch.info],
                size: std::num::NonZero::new(4 * self.plan.infos[dispatch.info].len() as u64),
            };
            let all = operands.chain([wgpu::BindingResource::Buffer(info)]).zip(0..);
            let entries: Vec<_> =
                all.map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource }).collect();
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout,
                entries: &entries,
            });
            computing.set_pipeline(pipeline);
            computing.set_bind_group(0, &group, &[]);
            let [x, y, z] = dispatch.workgroups;
            computing.dispatch_workgroups(x, y, z);
        }
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<f32>> {
        let failed = |e: &dyn std::fmt::Display| Error::device("playing a plan", e);
        let (send, mapped) = std::sync::mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(send.send(result)));
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| failed(&e))?;
        mapped.recv().map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let bytes = buffer.get_mapped_range(..).map_err(|e| failed(&e))?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

/// Creates the pipeline of `kernel` and its bind group layout.
fn pipeline(
    device: &wgpu::Device,
    kernel: &Kernel,
    checks: Checks,
) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(&kernel.name),
        source: wgpu::ShaderSource::Wgsl(kernel.wgsl.as_str().into()),
    };
    let module = match checks {
        // SAFETY: the shader's text checks all bounds itself, as for our own launches.
        Checks::None => unsafe {
            device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        },
        Checks::Browser => device.create_shader_module(descriptor),
    };
    let storage =
        kernel.writes.iter().map(|write| BufferBindingType::Storage { read_only: !write });
    let entries: Vec<_> = storage
        .chain([BufferBindingType::Uniform])
        .zip(0..)
        .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    });
    let whole = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&kernel.name),
        layout: Some(&whole),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    (pipeline, layout)
}
