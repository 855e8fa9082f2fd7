//! Visiting and replacing a module's parameters by name.
//!
//! A parameter's name is its path, the fields that lead to it: `layers.0.mlp.up_proj.weight`.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Reads the parameters of a module.
pub trait Visitor {
    /// Reads one parameter.
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>);
}

/// Replaces the parameters of a module.
pub trait Mapper {
    /// Returns the replacement of one parameter.
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Visits every float parameter of a module, in the order of its fields.
pub fn visit(module: &impl Module, visitor: &mut impl Visitor) {
    module.visit(&mut Named { path: Vec::new(), inner: visitor });
}

/// Returns a module with every float parameter replaced, in the order of its fields.
pub fn map<M: Module>(module: M, mapper: &mut impl Mapper) -> M {
    module.map(&mut Named { path: Vec::new(), inner: mapper })
}

/// Keeps the path of the current field.
struct Named<'a, T> {
    path: Vec<String>,
    inner: &'a mut T,
}

impl<V: Visitor> ModuleVisitor for Named<'_, V> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.inner.parameter(&self.path.join("."), param);
    }
}

impl<M: Mapper> ModuleMapper for Named<'_, M> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.inner.parameter(&self.path.join("."), param)
    }
}
