//! A module's tensors by name, as used by weights files, the optimizer and the EMA.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Shape, Tensor};
use std::collections::HashMap;

/// One tensor of a module, flattened.
#[derive(Clone, Debug)]
pub struct Named {
    /// Path within the module, such as `unet.down.0.block.conv1.weight`.
    pub name: String,
    /// Its shape before flattening.
    pub shape: Vec<usize>,
    /// Its values, without autodiff.
    pub values: Tensor<1>,
}

/// Checks whether `name` is a running statistic of a BatchNorm: data, not a trainable parameter.
pub fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// Returns every tensor of `module` in a fixed order, including BatchNorm statistics. For a module
/// in training, pass its `valid()` form, whose statistics are synchronised.
pub fn collect<M: Module>(module: &M) -> Vec<Named> {
    let mut visitor = Collect { path: Vec::new(), out: Vec::new() };
    module.visit(&mut visitor);
    visitor.out
}

/// Returns the name and shape of every tensor of `module`, in the order of [`collect`]. Lazy
/// tensors stay unallocated.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut visitor = Shapes { path: Vec::new(), out: Vec::new() };
    module.visit(&mut visitor);
    visitor.out
}

struct Shapes {
    path: Vec<String>,
    out: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.out.push((self.path.join("."), param.lazy_shape().to_vec()));
    }
}

struct Collect {
    path: Vec<String>,
    out: Vec<Named>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().without_autodiff();
        let shape = value.dims().to_vec();
        let count: usize = shape.iter().product();
        self.out.push(Named { name: self.path.join("."), shape, values: value.reshape([count]) });
    }
}

/// Replaces each tensor of `module` by what `update(name, old)` returns, both flattened and without
/// autodiff. A tensor without other references is moved into `update`, so that it can be updated in
/// place. Trainable parameters stay trainable.
pub fn map<M: Module>(module: M, update: impl FnMut(&str, Tensor<1>) -> Tensor<1>) -> M {
    module.map(&mut Map { path: Vec::new(), update })
}

struct Map<F> {
    path: Vec<String>,
    update: F,
}

impl<F: FnMut(&str, Tensor<1>) -> Tensor<1>> ModuleMapper for Map<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        param.map(|old| {
            let (shape, tracked, autodiff) =
                (old.shape(), old.is_require_grad(), old.device().is_autodiff());
            let count = shape.num_elements();
            let new: Tensor<D> =
                (self.update)(&name, old.without_autodiff().reshape([count])).reshape(shape);
            let new = if autodiff { Tensor::from_inner(new) } else { new };
            if tracked { new.require_grad() } else { new }
        })
    }
}

/// Takes the tensors out of `module` (without autodiff); what remains is its structure, without
/// their memory.
pub fn take<M: Module>(module: M) -> (M, Vec<Named>) {
    let tensors = collect(&module);
    (fill(module, &HashMap::new()), tensors)
}

/// Reverses [`take`](fn@take): puts `tensors` back into `hollow` by name. Parameters without a
/// tensor stay empty.
///
/// # Panics
/// If a tensor's number of dimensions doesn't match.
pub fn fill<M: Module>(hollow: M, tensors: &HashMap<String, Named>) -> M {
    hollow.map(&mut Fill { path: Vec::new(), tensors })
}

struct Fill<'a> {
    path: Vec<String>,
    tensors: &'a HashMap<String, Named>,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.tensors.get(&self.path.join("."));
        param.map(|old| match new {
            Some(named) => named.values.clone().reshape(Shape::from(named.shape.clone())),
            None => Tensor::zeros([1; D], &old.device()),
        })
    }
}

/// Counts the trainable parameters of `module`, without BatchNorm statistics.
pub fn count<M: Module>(module: &M) -> usize {
    collect(module)
        .iter()
        .filter(|t| !is_statistic(&t.name))
        .map(|t| t.shape.iter().product::<usize>())
        .sum()
}
