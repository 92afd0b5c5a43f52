//! The recording of plans: launches are noted with the places in memory that they bind.
//!
//! Every tensor of a recording keeps its memory until the end, so that a place identifies one
//! value.

use super::access::declared;
use super::source::{Place, Source};
use super::values::{Unknown, Values};
use super::{Dispatch, Extra, Kernel, Operand, Pass, Plan, Port, VERSION};
use crate::device::{Class, Profile};
use crate::error::{Error, Hint, Result};
use crate::kernels::adapter::on_wgpu;
use crate::kernels::arguments::{folded, words};
use crate::kernels::record::record;
use crate::kernels::shader::{Filled, Shader};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::server::Handle;
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// A recorded launch.
struct Launched {
    label: &'static str,
    filled: Filled,
    /// The places of the operands, and their bytes.
    operands: Vec<(Place, u64)>,
    info: Vec<u32>,
    workgroups: [u32; 3],
}

/// The state of a recording.
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

/// Notes a launch if a pass is being recorded.
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
            info: bytemuck::cast_slice(&words(info)).to_vec(),
            workgroups: folded(workgroups),
        });
    });
}

/// Declares that `tensor` holds the values that `numbers` returns, whatever computed it.
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

/// Declares that `tensor` holds the concatenation of `parts`, whatever computed it. Does nothing if
/// a part isn't a known tensor.
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

/// Registers `tensor` under the name that `name` returns, if a pass is being recorded.
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

/// Returns the memory of a tensor on a wgpu device.
fn handle<const D: usize>(tensor: &Tensor<D>) -> Option<Handle> {
    let tensor = tensor.clone().without_autodiff().try_into_primitive::<CubeBackend>().ok()?;
    on_wgpu(&tensor).then_some(tensor.handle)
}

/// The beginning of a pass: its inputs, and the tensors that it reads.
#[derive(Default)]
pub struct Beginning {
    sources: HashMap<Place, Source>,
    held: Vec<Handle>,
}

impl Beginning {
    /// Declares `tensor` as the input `name`, with `shape` in memory.
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

    /// Declares `tensor` as the tensor `name`.
    ///
    /// # Errors
    /// If it isn't on a wgpu device.
    pub fn tensor<const D: usize>(&mut self, name: &str, tensor: &Tensor<D>) -> Result<()> {
        self.add(tensor, Source::Tensor(name.to_owned()))
    }

    fn add<const D: usize>(&mut self, tensor: &Tensor<D>, source: Source) -> Result<()> {
        let handle = handle(tensor).ok_or_else(|| {
            Error::usage(format!(
                "recording a plan needs a graphics adapter; {}",
                Hint::NameAdapter
            ))
        })?;
        self.sources.insert(Place::of(&handle), source);
        self.held.push(handle);
        Ok(())
    }
}

/// The end of a pass: its outputs by name, with their shapes in memory.
#[derive(Default)]
pub struct End(Vec<(String, Option<Handle>, Vec<usize>)>);

impl End {
    /// Declares `tensor` as the output `name`, with `shape` in memory.
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

/// Records a plan, pass by pass, of kernels that run wherever WebGPU does: the kernels for GPUs,
/// within WebGPU's default limits and without extensions.
pub struct Recorder {
    /// The plan so far.
    pub plan: Plan,
    /// The plan's tensors that the caller didn't declare.
    pub extra: BTreeMap<String, Extra>,
    /// The number of each shader's original text, before its accesses were declared.
    texts: HashMap<String, usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        let plan = Plan { version: VERSION, ..Plan::default() };
        Self { plan, extra: BTreeMap::new(), texts: HashMap::new() }
    }
}

/// Returns the profile that plans are recorded for.
pub fn profile() -> Profile {
    Profile::least(Class::Gpu)
}

impl Recorder {
    /// Records `work` as the pass `name`. `begin` declares its inputs and tensors. Like `work`, it
    /// runs without computing anything, and meanwhile every launch of this process is skipped.
    ///
    /// # Errors
    /// If a launch reads a value that no recorded launch wrote.
    pub fn pass<T>(
        &mut self,
        name: &str,
        begin: impl FnOnce(&mut Beginning) -> Result<T>,
        work: impl FnOnce(T) -> End,
    ) -> Result<()> {
        self.record(name, Unknown::Refused, begin, work)
    }

    /// Records `work` as the pass `name`, for timing: every value that it reads and didn't write
    /// becomes an input.
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

    /// Builds the pass from the recorded launches.
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
                Error::failed(format!("{name}: no recorded launch wrote the output {output}"))
            })?;
            outputs.insert(output.clone(), Port { buffer, shape: shape.clone() });
        }
        let mut inputs = values.inputs();
        // Replaces numbers of values by numbers of buffers.
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

    /// Returns the number of the kernel of `filled`.
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

/// Returns the index of `new` in `all`, after appending it if it is missing.
fn number_of<T: PartialEq>(all: &mut Vec<T>, new: T) -> usize {
    all.iter().position(|known| *known == new).unwrap_or_else(|| {
        all.push(new);
        all.len() - 1
    })
}
