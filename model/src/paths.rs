//! Walks over the parameters of a model with their paths: the fields that lead to each, as `layers.0.mlp.up_proj.weight`.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::Transformer;

/// What looks at parameters.
pub trait Visit {
    /// Looks at one.
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>);
}

/// What changes parameters.
pub trait Change {
    /// Returns what is to stand in the place of one.
    fn parameter<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Shows every parameter of a model, in the order of its fields.
pub fn visit(model: &Transformer, visitor: &mut impl Visit) {
    model.visit(&mut Walk { path: Vec::new(), inner: visitor });
}

/// Returns a model with every parameter changed, in the order of its fields.
pub fn change(model: Transformer, changer: &mut impl Change) -> Transformer {
    model.map(&mut Walk { path: Vec::new(), inner: changer })
}

struct Walk<'a, W> {
    path: Vec<String>,
    inner: &'a mut W,
}

impl<W: Visit> ModuleVisitor for Walk<'_, W> {
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

impl<W: Change> ModuleMapper for Walk<'_, W> {
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
