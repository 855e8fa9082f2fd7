//! Frozen parameters, which require no gradient.

use burn::module::Param;
use burn::tensor::Tensor;

use crate::{Error, Transformer, named_parameters};

/// Returns the model with the parameters frozen whose names begin with one of the prefixes: `layers.0`, `embed_tokens`,
/// or a whole name such as `layers.0.mlp.up_proj.weight`. Freezing an embedding freezes the output projection tied to
/// it.
///
/// # Errors
/// Returns an error if a prefix matches no parameter, or no parameter is left to train.
pub fn freeze(model: Transformer, prefixes: &[String]) -> Result<Transformer, Error> {
    let known = parameter_names(&model);
    let wrong = |reason| Err(Error::Config { key: "freeze", reason });
    if let Some(unknown) = prefixes.iter().find(|prefix| !known.iter().any(|name| is_within(name, prefix))) {
        let mut parts: Vec<&str> = known.iter().filter_map(|name| name.split('.').next()).collect();
        parts.dedup();
        return wrong(format!("`{unknown}` is not a part of this model; its parts are {}", parts.join(", ")));
    }
    if known.iter().all(|name| prefixes.iter().any(|prefix| is_within(name, prefix))) {
        return wrong("leaves no parameter to train".to_owned());
    }
    Ok(named_parameters::map(model, &mut Freeze { prefixes: Some(prefixes) }))
}

/// Returns the model with every parameter frozen.
pub(crate) fn freeze_all(model: Transformer) -> Transformer {
    named_parameters::map(model, &mut Freeze { prefixes: None })
}

/// Returns the largest id of a model's parameters.
pub(crate) fn largest_id(model: &Transformer) -> u64 {
    let mut parameters = Parameters::default();
    named_parameters::visit(model, &mut parameters);
    parameters.largest_id
}

/// Returns the names of a model's parameters.
fn parameter_names(model: &Transformer) -> Vec<String> {
    let mut parameters = Parameters::default();
    named_parameters::visit(model, &mut parameters);
    parameters.names
}

fn is_within(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[derive(Default)]
struct Parameters {
    names: Vec<String>,
    largest_id: u64,
}

impl named_parameters::Visitor for Parameters {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        self.names.push(name.to_owned());
        self.largest_id = self.largest_id.max(param.id.val());
    }
}

struct Freeze<'a> {
    /// None freezes everything.
    prefixes: Option<&'a [String]>,
}

impl named_parameters::Mapper for Freeze<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let frozen = self.prefixes.is_none_or(|prefixes| prefixes.iter().any(|prefix| is_within(name, prefix)));
        if frozen { param.set_require_grad(false) } else { param }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, Tensor, TensorData};

    use super::*;
    use crate::config::{Family, tests::tiny};

    /// Returns the names of the parameters that have a gradient after freezing.
    fn trained(prefixes: &[&str]) -> Result<Vec<String>, Error> {
        struct Trained<'a> {
            gradients: &'a burn::tensor::Gradients,
            found: Vec<String>,
        }
        impl named_parameters::Visitor for Trained<'_> {
            fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                if param.val().grad(self.gradients).is_some() {
                    self.found.push(name.to_owned());
                }
            }
        }
        let device = Device::flex().autodiff();
        let model = Transformer::init(&tiny(Family::Gpt2), 1, &device);
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        let model = freeze(model, &prefixes)?;
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(vec![1i64, 2, 3, 4], vec![1, 4]), &device);
        let gradients = model.forward(tokens).square().sum().backward();
        let mut trained = Trained { gradients: &gradients, found: Vec::new() };
        named_parameters::visit(&model, &mut trained);
        Ok(trained.found)
    }

    #[test]
    fn frozen_parts_have_no_gradient() {
        let all = trained(&[]).unwrap();
        assert!(all.iter().any(|name| name == "embed_tokens"));
        let check = |prefixes: &[&str]| {
            let expected: Vec<_> =
                all.iter().filter(|name| !prefixes.iter().any(|p| is_within(name, p))).cloned().collect();
            assert!(expected.len() < all.len());
            assert_eq!(trained(prefixes).unwrap(), expected, "{prefixes:?}");
        };
        check(&["embed_tokens"]);
        check(&["layers.1", "norm"]);
        check(&["layers.0.self_attn.q_proj.weight", "embed_positions"]);
    }

    #[test]
    fn unknown_prefixes_are_named() {
        let check = |prefixes: &[&str], expected: &str| {
            assert_eq!(trained(prefixes).unwrap_err().to_string(), expected);
        };
        let parts = "its parts are embed_tokens, embed_positions, layers, norm";
        check(&["layers.7"], &format!("freeze: `layers.7` is not a part of this model; {parts}"));
        check(&["layer"], &format!("freeze: `layer` is not a part of this model; {parts}"));
        check(&["embed_tokens", "embed_positions", "layers", "norm"], "freeze: leaves no parameter to train");
    }
}
