//! Structured pruning: models with fewer layers, or narrower feed-forward layers.
//!
//! Dimensions: B sequences, T tokens, F and F' the width of the feed-forward layer before and after.

use burn::tensor::{Int, Tensor};

use crate::checkpoint::{self, Weight, Weights};
use crate::transformer::Batch;
use crate::{Error, ModelConfig, Transformer};

/// Returns the model without `count` of its layers, and their indices in the order in which they were removed: each
/// time the one without which `loss` is lowest (`ShortGPT`: Layers in Large Language Models are More Redundant Than
/// You Expect, 2024, ranks layers by how much they change the hidden states instead; the loss is what counts).
///
/// # Errors
/// Returns an error of `loss`, or if the device fails.
///
/// # Panics
/// Panics if no layer would be left.
pub fn without_layers<E: From<Error>>(
    model: &Transformer,
    count: usize,
    mut loss: impl FnMut(&Transformer) -> Result<f64, E>,
) -> Result<(Transformer, Vec<usize>), E> {
    assert!(count < model.config().n_layer, "a model of {} layers without {count}", model.config().n_layer);
    let mut kept: Vec<usize> = (0..model.config().n_layer).collect();
    let (mut model, mut removed) = (model.clone(), Vec::new());
    for _ in 0..count {
        let mut best: Option<(f64, usize)> = None;
        for index in 0..kept.len() {
            let found = loss(&model.clone().without_layer(index))?;
            // Not a number counts as worst.
            if best.is_none_or(|(lowest, _)| found < lowest) {
                best = Some((found, index));
            }
        }
        let Some((_, index)) = best else { break };
        model = model.without_layer(index);
        removed.push(kept.remove(index));
    }
    // A model of one configuration has the same parameter ids, however it was made.
    let weights = checkpoint::weights(&model)?;
    Ok((checkpoint::with_weights(model.config(), weights, &model.device()), removed))
}

/// Returns the model with feed-forward layers of width `d_ff`. Of each layer, the neurons stay with the largest product
/// of the root mean square of their activation over `batches` and the norm of their column in the projection back (as
/// A Simple and Effective Pruning Approach for Large Language Models, 2023, ranks single weights); they keep their
/// order.
///
/// # Errors
/// Returns an error if the device fails.
///
/// # Panics
/// Panics if the width would grow or be zero.
pub fn with_d_ff(
    model: &Transformer,
    d_ff: usize,
    batches: impl IntoIterator<Item = Tensor<2, Int>>,
) -> Result<Transformer, Error> {
    let old = model.config().d_ff;
    assert!(d_ff > 0 && d_ff <= old, "a width of {old} cannot become {d_ff}");
    let mut energies = vec![vec![0.0_f64; old]; model.config().n_layer];
    for tokens in batches {
        let sums = model.feed_forward_energies(Batch { targets: tokens.clone(), tokens, segment_starts: None });
        for (energies, sums) in energies.iter_mut().zip(sums) {
            let sums: Vec<f32> =
                sums.try_into_vec_as().map_err(|e| Error::Compute { what: "activations", source: Box::new(e) })?;
            energies.iter_mut().zip(sums).for_each(|(energy, sum)| *energy += f64::from(sum));
        }
    }
    let mut weights = checkpoint::weights(model)?;
    for (layer, energies) in energies.iter().enumerate() {
        narrow(&mut weights, &format!("layers.{layer}.mlp."), energies, d_ff);
    }
    let config = ModelConfig { d_ff, ..model.config().clone() };
    Ok(checkpoint::with_weights(&config, weights, &model.device()))
}

/// Keeps the `d_ff` most important neurons of a feed-forward layer.
fn narrow(weights: &mut Weights, prefix: &str, energies: &[f64], d_ff: usize) {
    let Some(Weight { shape, values }) = weights.get_mut(&format!("{prefix}down_proj.weight")) else { return };
    let old = shape[1]; // [D, F]
    let mut importance: Vec<(f64, usize)> = energies.iter().copied().zip(0..).collect();
    for (energy, neuron) in &mut importance {
        let column = values.iter().skip(*neuron).step_by(old);
        *energy *= column.map(|weight| f64::from(*weight).powi(2)).sum::<f64>();
    }
    importance.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut kept: Vec<usize> = importance[..d_ff].iter().map(|(_, neuron)| *neuron).collect();
    kept.sort_unstable();
    *values = values.chunks_exact(old).flat_map(|row| kept.iter().map(|neuron| row[*neuron])).collect(); // [D, F']
    shape[1] = d_ff;
    for name in ["gate_proj.weight", "gate_proj.bias", "up_proj.weight", "up_proj.bias"] {
        let Some(Weight { shape, values }) = weights.get_mut(&format!("{prefix}{name}")) else { continue };
        let width = values.len() / old;
        let row = |neuron: &usize| &values[neuron * width..(neuron + 1) * width];
        *values = kept.iter().flat_map(row).copied().collect(); // [F', D] or [F']
        shape[0] = d_ff;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::Family;
    use crate::config::tests::tiny;

    fn tokens(device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new((0..16i64).map(|i| i * 7 % 50).collect::<Vec<_>>(), vec![1, 16]), device)
    }

    fn logits(model: &Transformer) -> Vec<f32> {
        model.forward(tokens(&model.device())).try_into_vec_as().unwrap()
    }

    fn difference(a: &Transformer, b: &Transformer) -> f32 {
        logits(a).iter().zip(logits(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Returns a model of four layers with larger weights than a new one has; `change` sees each parameter.
    fn changed(family: Family, mut change: impl FnMut(&str, &mut Weight)) -> Transformer {
        let config = ModelConfig { n_layer: 4, ..tiny(family) };
        let model = Transformer::init(&config, 3, &Device::flex());
        let mut weights = checkpoint::weights(&model).unwrap();
        for (name, weight) in &mut weights {
            if name.ends_with("proj.weight") {
                weight.values.iter_mut().for_each(|value| *value *= 10.0);
            }
            change(name, weight);
        }
        checkpoint::with_weights(&config, weights, &Device::flex())
    }

    #[test]
    fn a_layer_that_does_nothing_goes_first_and_changes_nothing() {
        for family in [Family::Qwen3, Family::Gpt2] {
            let model = changed(family, |name, weight| {
                if name.starts_with("layers.2.") && (name.contains("o_proj") || name.contains("down_proj")) {
                    weight.values.fill(0.0);
                }
            });
            let whole = logits(&model);
            let loss = |pruned: &Transformer| -> Result<f64, Error> {
                let change = logits(pruned).iter().zip(&whole).map(|(a, b)| f64::from((a - b).abs())).sum();
                Ok(change)
            };
            let (pruned, removed) = without_layers(&model, 1, loss).unwrap();
            assert_eq!((removed, pruned.config().n_layer), (vec![2], 3));
            assert_eq!(logits(&pruned), whole, "{family:?}");
            let (smaller, removed) = without_layers(&model, 3, loss).unwrap();
            assert_eq!((removed.len(), removed[0], smaller.config().n_layer), (3, 2, 1));
        }
    }

    #[test]
    fn neurons_that_do_nothing_go_first_and_change_nothing() {
        for family in [Family::Qwen3, Family::Gpt2] {
            // Of 48 neurons, every third has no way back into the residual stream.
            let model = changed(family, |name, weight| {
                if name.ends_with("down_proj.weight") {
                    weight.values.iter_mut().enumerate().for_each(|(i, value)| *value *= f32::from(i % 48 % 3 != 1));
                }
            });
            let of = |d_ff| with_d_ff(&model, d_ff, [tokens(&Device::flex())]).unwrap();
            let pruned = of(32);
            assert_eq!(pruned.config().d_ff, 32);
            let shape = &checkpoint::weights(&pruned).unwrap()["layers.3.mlp.up_proj.weight"].shape;
            assert_eq!(*shape, [32, 32]);
            assert!(difference(&pruned, &model) < 1e-4, "{family:?}: {}", difference(&pruned, &model));
            assert!(difference(&of(31), &model) > 1e-4, "the next one counts");
            assert_eq!(logits(&of(20)), logits(&of(20)), "the same neurons each time");
        }
    }
}
