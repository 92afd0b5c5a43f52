//! A module's tensors by name: what weights files, the optimizer and the EMA walk over.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// One tensor of a module, flattened.
#[derive(Clone, Debug)]
pub struct Named {
    /// Path within the module, such as `unet.down.0.block.conv1.weight`.
    pub name: String,
    /// Its real shape.
    pub shape: Vec<usize>,
    /// Its values, without autodiff.
    pub values: Tensor<1>,
}

/// Whether `name` is a running statistic of a BatchNorm: data, not a trainable parameter.
pub fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// Every tensor of `module` in a fixed order, BatchNorm statistics included (give the `valid()` form of a module in
/// training: its statistics are synchronised).
pub fn collect<M: Module>(module: &M) -> Vec<Named> {
    let mut visitor = Collect { path: Vec::new(), out: Vec::new() };
    module.visit(&mut visitor);
    visitor.out
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

/// `module` with each tensor replaced by what `update(name, old)` returns, both flattened and without autodiff; `None`
/// keeps the tensor. Parameters stay trainable where they were.
pub fn replace<M: Module>(module: M, update: impl FnMut(&str, Tensor<1>) -> Option<Tensor<1>>) -> M {
    module.map(&mut Replace { path: Vec::new(), update })
}

struct Replace<F> {
    path: Vec<String>,
    update: F,
}

impl<F: FnMut(&str, Tensor<1>) -> Option<Tensor<1>>> ModuleMapper for Replace<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let old = param.val();
        let (shape, tracked, autodiff) = (old.shape(), old.is_require_grad(), old.device().is_autodiff());
        let count = shape.num_elements();
        let Some(new) = (self.update)(&self.path.join("."), old.without_autodiff().reshape([count])) else {
            return param;
        };
        let new: Tensor<D> = new.reshape(shape);
        let new = if autodiff { Tensor::from_inner(new) } else { new };
        param.map(|_| if tracked { new.require_grad() } else { new })
    }
}

/// Trainable parameters of `module`, BatchNorm statistics not counted.
pub fn count<M: Module>(module: &M) -> usize {
    collect(module).iter().filter(|t| !is_statistic(&t.name)).map(|t| t.shape.iter().product::<usize>()).sum()
}
