//! Recording: launches are noted with the places in memory that they bind.
//!
//! Every tensor of a recording keeps its memory until the end, so that a place stands for one
//! value.

use super::access::declared;
use super::values::{Unknown, Values};
use super::{Dispatch, Extra, Kernel, Operand, Pass, Plan, Port, VERSION};
use crate::device::{Class, Profile};
use crate::error::{Error, Result};
use crate::kernels::launch;
use crate::kernels::record::record;
use crate::kernels::shader::{Filled, Shader};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::server::Handle;
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The allocation.
    pub memory: usize,
    /// Bytes before it.
    pub first: u64,
}

impl Place {
    fn of(handle: &Handle) -> Self {
        Self {
            memory: handle.clone().binding().memory.id().value,
            first: handle.offset_start.unwrap_or(0),
        }
    }
}

/// Where a value comes from that no launch wrote.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The caller.
    Input {
        /// What it is called.
        name: String,
        /// In memory.
        shape: Vec<usize>,
    },
    /// A tensor of this name.
    Tensor(String),
}

/// A launch as it was made.
struct Launched {
    label: &'static str,
    filled: Filled,
    /// Places and bytes.
    operands: Vec<(Place, u64)>,
    info: Vec<u32>,
    workgroups: [u32; 3],
}

/// What is known while a pass is recorded.
#[derive(Default)]
struct Trace {
    launched: Vec<Launched>,
    sources: HashMap<Place, Source>,
    extra: BTreeMap<String, Extra>,
    held: Vec<Handle>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Notes a launch, where a pass is recorded.
pub(crate) fn launched<S: Shader>(
    label: &'static str,
    shader: &S,
    workgroups: usize,
    buffers: &[&CubeTensor],
    info: &S::Info,
) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        trace.held.extend(buffers.iter().map(|buffer| buffer.handle.clone()));
        trace.launched.push(Launched {
            label,
            filled: Filled::new(*shader),
            operands: buffers
                .iter()
                .map(|buffer| (Place::of(&buffer.handle), buffer.handle.size_in_used()))
                .collect(),
            info: bytemuck::cast_slice(&launch::words(info)).to_vec(),
            workgroups: launch::folded(workgroups),
        });
    });
}

/// Says that `tensor` holds these numbers, whatever made it.
pub(crate) fn constant<const D: usize>(tensor: &Tensor<D>, numbers: impl FnOnce() -> Vec<f32>) {
    note(tensor, |trace| {
        let numbers = Extra::Numbers(numbers());
        let same =
            trace.extra.iter().find(|(_, extra)| **extra == numbers).map(|(name, _)| name.clone());
        let name = same.unwrap_or_else(|| format!("constant.{}", trace.extra.len()));
        trace.extra.insert(name.clone(), numbers);
        Some(name)
    });
}

/// Says that `tensor` holds `parts`, one behind the other, whatever made it. Nothing is said where
/// a part isn't known.
pub(crate) fn joined<const D: usize>(tensor: &Tensor<D>, parts: &[Tensor<D>]) {
    note(tensor, |trace| {
        let name = |part: &Tensor<D>| match trace.sources.get(&Place::of(&handle(part)?))? {
            Source::Tensor(name) => Some(name.clone()),
            Source::Input { .. } => None,
        };
        let parts: Vec<String> = parts.iter().map(name).collect::<Option<_>>()?;
        let name = parts.join(" + ");
        trace.extra.insert(name.clone(), Extra::Joined(parts));
        Some(name)
    });
}

/// Where a pass is recorded, takes down `tensor` under the name that `name` gives.
fn note<const D: usize>(tensor: &Tensor<D>, name: impl FnOnce(&mut Trace) -> Option<String>) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        let Some(handle) = handle(tensor) else { return };
        if let Some(name) = name(trace) {
            trace.sources.insert(Place::of(&handle), Source::Tensor(name));
            trace.held.push(handle);
        }
    });
}

/// The memory of a tensor on a wgpu device.
fn handle<const D: usize>(tensor: &Tensor<D>) -> Option<Handle> {
    let tensor = tensor.clone().without_autodiff().try_into_primitive::<CubeBackend>().ok()?;
    launch::on_wgpu(&tensor).then_some(tensor.handle)
}

/// What a pass begins with: its inputs, and the tensors that it reads.
#[derive(Default)]
pub struct Beginning {
    sources: HashMap<Place, Source>,
    held: Vec<Handle>,
}

impl Beginning {
    /// Makes `tensor` the input `name`, of `shape` in memory.
    ///
    /// # Errors
    /// If it isn't on a wgpu device.
    pub fn input<const D: usize>(
        &mut self,
        name: &str,
        tensor: &Tensor<D>,
        shape: &[usize],
    ) -> Result<()> {
        self.add(tensor, Source::Input { name: name.to_owned(), shape: shape.to_vec() })
    }

    /// Calls `tensor` `name`.
    ///
    /// # Errors
    /// If it isn't on a wgpu device.
    pub fn tensor<const D: usize>(&mut self, name: &str, tensor: &Tensor<D>) -> Result<()> {
        self.add(tensor, Source::Tensor(name.to_owned()))
    }

    fn add<const D: usize>(&mut self, tensor: &Tensor<D>, source: Source) -> Result<()> {
        let handle = handle(tensor).ok_or_else(|| {
            Error::usage(
                "a plan is recorded on an adapter; name one: --device vulkan, metal or dx12",
            )
        })?;
        self.sources.insert(Place::of(&handle), source);
        self.held.push(handle);
        Ok(())
    }
}

/// What a pass ends with: outputs by their names, with their shapes in memory.
#[derive(Default)]
pub struct End(Vec<(String, Option<Handle>, Vec<usize>)>);

impl End {
    /// With `tensor` as the output `name`, of `shape` in memory.
    #[must_use]
    pub fn output<const D: usize>(
        mut self,
        name: &str,
        tensor: &Tensor<D>,
        shape: &[usize],
    ) -> Self {
        self.0.push((name.to_owned(), handle(tensor), shape.to_vec()));
        self
    }
}

/// Makes a plan, pass by pass, of kernels that run wherever WebGPU does: those of GPUs, within its
/// default limits, without extensions.
pub struct Recorder {
    /// What was recorded so far.
    pub plan: Plan,
    /// Its tensors that the caller didn't name.
    pub extra: BTreeMap<String, Extra>,
    /// The number of each text that a shader gave, before what it writes was declared.
    texts: HashMap<String, usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        let plan = Plan { version: VERSION, ..Plan::default() };
        Self { plan, extra: BTreeMap::new(), texts: HashMap::new() }
    }
}

/// What plans are recorded for.
pub fn profile() -> Profile {
    Profile::least(Class::Gpu)
}

impl Recorder {
    /// Records `work` as the pass `name`. `begin` says what it begins with; it runs as `work` does,
    /// without computing anything, and every launch of this process is left out meanwhile.
    ///
    /// # Errors
    /// If a launch reads what no recorded launch wrote.
    pub fn pass<T>(
        &mut self,
        name: &str,
        begin: impl FnOnce(&mut Beginning) -> Result<T>,
        work: impl FnOnce(T) -> End,
    ) -> Result<()> {
        self.record(name, Unknown::Refused, begin, work)
    }

    /// Records `work` as the pass `name`, to be timed: whatever it reads of what was there before
    /// is an input.
    ///
    /// # Errors
    /// If a launch is one that WebGPU refuses.
    pub fn timed<T>(
        &mut self,
        name: &str,
        begin: impl FnOnce() -> T,
        work: impl FnOnce(T),
    ) -> Result<()> {
        self.record(
            name,
            Unknown::Inputs,
            |_| Ok(begin()),
            |begun| {
                work(begun);
                End::default()
            },
        )
    }

    fn record<T>(
        &mut self,
        name: &str,
        unknown: Unknown,
        begin: impl FnOnce(&mut Beginning) -> Result<T>,
        work: impl FnOnce(T) -> End,
    ) -> Result<()> {
        struct Stop;
        impl Drop for Stop {
            fn drop(&mut self) {
                TRACE.take();
            }
        }
        let _stop = Stop;
        let extra = self.extra.clone();
        let prepare = || {
            let mut beginning = Beginning::default();
            let begun = begin(&mut beginning)?;
            let Beginning { sources, held } = beginning;
            TRACE.set(Some(Trace { sources, held, extra, ..Trace::default() }));
            Ok::<_, Error>(begun)
        };
        let (end, _) = record(profile(), prepare, |begun| begun.map(work));
        let (end, trace) = (end?, TRACE.take().unwrap_or_default());
        let pass = self.lay_out(name, unknown, &trace, &end)?;
        self.extra = trace.extra;
        self.plan.passes.insert(name.to_owned(), pass);
        Ok(())
    }

    /// The pass of what was recorded.
    fn lay_out(&mut self, name: &str, unknown: Unknown, trace: &Trace, end: &End) -> Result<Pass> {
        let mut values = Values::new(&trace.sources, unknown);
        let mut dispatches = Vec::new();
        for (at, launched) in trace.launched.iter().enumerate() {
            let fault = |what: String| {
                Error::failed(format!("{name}: launch {at}, {}: {what}", launched.label))
            };
            let kernel = self.kernel(&launched.filled).map_err(fault)?;
            let operands = values
                .operands(at, &launched.operands, &self.plan.kernels[kernel].writes)
                .map_err(fault)?;
            let info = number_of(&mut self.plan.infos, launched.info.clone());
            let label = launched.label.to_owned();
            dispatches.push(Dispatch {
                kernel,
                label,
                operands,
                info,
                workgroups: launched.workgroups,
            });
        }
        let mut outputs = BTreeMap::new();
        for (output, handle, shape) in &end.0 {
            let value = handle.as_ref().and_then(|handle| values.output(Place::of(handle)));
            let buffer = value.ok_or_else(|| {
                Error::failed(format!("{name}: no recorded launch wrote its output {output}"))
            })?;
            outputs.insert(output.clone(), Port { buffer, shape: shape.clone() });
        }
        let mut inputs = values.inputs();
        // From numbers of values to numbers of buffers.
        let (buffers, of) = values.buffers();
        inputs
            .values_mut()
            .chain(outputs.values_mut())
            .for_each(|port| port.buffer = of[port.buffer]);
        for operand in dispatches.iter_mut().flat_map(|dispatch| &mut dispatch.operands) {
            if let Operand::Buffer(value) = operand {
                *value = of[*value];
            }
        }
        Ok(Pass { buffers, inputs, outputs, dispatches })
    }

    /// The number of the kernel of `filled`.
    fn kernel(&mut self, filled: &Filled) -> std::result::Result<usize, String> {
        if let Some(known) = self.texts.get(&filled.text) {
            return Ok(*known);
        }
        let (wgsl, writes) = declared(&filled.text, filled.buffers)?;
        let (name, variant, workgroup) =
            (filled.kernel.to_owned(), filled.variant.clone(), filled.workgroup);
        let number =
            number_of(&mut self.plan.kernels, Kernel { name, variant, workgroup, wgsl, writes });
        self.texts.insert(filled.text.clone(), number);
        Ok(number)
    }
}

/// The place of `new` in `all`, where it is put if it isn't there.
fn number_of<T: PartialEq>(all: &mut Vec<T>, new: T) -> usize {
    all.iter().position(|known| *known == new).unwrap_or_else(|| {
        all.push(new);
        all.len() - 1
    })
}
