//! Preference tuning: Direct Preference Optimization (Direct Preference Optimization: Your Language Model is Secretly a
//! Reward Model, 2023).
//!
//! In: pairs of an answer that was chosen and one that was rejected. With m the log-probability of the first less that of
//! the second, the loss of a pair is `−ln σ(β (m − m of the reference))`. The reference is the model that the training
//! begins with; its log-probabilities are computed once and kept in a file.
//!
//! Dimensions: P pairs, B rows, T tokens.

mod pairs;
mod reference;

use burn::optim::GradientsParams;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Int, Tensor, TensorData};
use model::{Batch, Dropout, Transformer, lora};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::gradients::{Loss, Workers};

pub use pairs::{PairBatch, Pairs};
pub use reference::Reference;

/// The `[train.dpo]` table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DpoConfig {
    /// β: how much a step away from the model that the training began with counts. Smaller values let it go further.
    /// Default 0.1.
    pub beta: f64,
    /// The share of pairs that are taken to be labelled the wrong way round, below a half (A note on DPO with noisy
    /// preferences and relationship to IPO, 2023). Default 0.
    pub label_smoothing: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0 }
    }
}

impl DpoConfig {
    /// Checks that the values make sense by themselves.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |key: &str, reason| Err(Error::Config { key: format!("train.dpo.{key}"), reason });
        if !(self.beta > 0.0 && self.beta <= 100.0) {
            return wrong("beta", format!("{} is not between 0 and 100", self.beta));
        }
        if !(0.0..0.5).contains(&self.label_smoothing) {
            return wrong("label_smoothing", format!("{} is not between 0 and 0.5", self.label_smoothing));
        }
        Ok(())
    }
}

/// How a model judges pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Judgement {
    /// The mean loss, in nats.
    pub loss: f64,
    /// The share of pairs whose chosen answer has become likelier, compared with the rejected one.
    pub accuracy: f64,
    /// The mean of β (m − m of the reference).
    pub margin: f64,
}

/// Returns how the model judges the pairs of a step, and the gradients of the mean loss.
///
/// # Errors
/// When the device fails.
pub fn gradients(
    workers: &Workers,
    model: &Transformer,
    batches: &[PairBatch],
    reference: &Reference,
    config: &DpoConfig,
    options: &Loss,
) -> Result<(Judgement, GradientsParams), Error> {
    let pairs: usize = batches.iter().map(PairBatch::len).sum();
    let share = 1.0 / pairs.max(1) as f64;
    let (parts, gradients) = workers.each(model, batches.len(), |model, i| {
        let seed = options.dropout_seed(i, batches.len());
        let model = lora::with_dropout(model.clone(), seed);
        let dropout = (options.dropout > 0.0).then_some(Dropout { rate: options.dropout, seed });
        let (pairs, rows) = (&batches[i], tensors(&batches[i], &model));
        let ((losses, margins), gradients) = model.gradients(&rows, dropout, options.activations, |hidden| {
            let log_probabilities = model.log_probabilities_from_hidden(hidden, rows.targets.clone());
            let (losses, margins) = losses(log_probabilities, pairs, reference, config);
            (losses.clone().sum().mul_scalar(share), (losses.inner(), margins.inner()))
        });
        Ok((judgement(losses, margins, share)?, gradients))
    })?;
    Ok((total(&parts), gradients))
}

/// Returns how the model judges all pairs.
///
/// # Errors
/// When the device fails.
pub fn judge(
    model: &Transformer,
    pairs: &Pairs<'_>,
    reference: &Reference,
    config: &DpoConfig,
) -> Result<Judgement, Error> {
    let share = 1.0 / pairs.len().max(1) as f64;
    let parts = pairs.all().map(|batch| {
        let log_probabilities = model.log_probabilities(tensors(&batch, model), None);
        let (losses, margins) = losses(log_probabilities, &batch, reference, config);
        judgement(losses, margins, share)
    });
    Ok(total(&parts.collect::<Result<Vec<_>, Error>>()?))
}

/// Returns the loss of each pair and β (m − m of the reference), `[P]` both, of the log-probabilities `[B, T]` of its rows.
fn losses(
    log_probabilities: Tensor<2>,
    batch: &PairBatch,
    reference: &Reference,
    config: &DpoConfig,
) -> (Tensor<1>, Tensor<1>) {
    let device = log_probabilities.device();
    let p = batch.len();
    let tokens = batch.rows.tokens.len(); // B T
    let log_probabilities = log_probabilities.reshape([tokens, 1]); // [B T, 1]
    // 1 at the tokens of a chosen answer, −1 at those of a rejected one.
    let mut signs = vec![0.0f32; p * tokens];
    for (place, signs) in batch.places.iter().zip(signs.chunks_exact_mut(tokens)) {
        signs[place.chosen.clone()].fill(1.0);
        signs[place.rejected.clone()].fill(-1.0);
    }
    let signs = Tensor::<2>::from_data(TensorData::new(signs, vec![p, tokens]), &device);
    let before: Vec<f32> = batch.places.iter().map(|place| reference.margin(place.pair)).collect();
    let before = Tensor::<1>::from_data(TensorData::new(before, vec![p]), &device);
    let margins = (signs.matmul(log_probabilities).reshape([p]) - before).mul_scalar(config.beta); // [P]
    let right = log_sigmoid(margins.clone()).mul_scalar(config.label_smoothing - 1.0);
    let losses = match config.label_smoothing {
        0.0 => right,
        wrong => right - log_sigmoid(margins.clone().neg()).mul_scalar(wrong),
    };
    (losses, margins)
}

fn tensors(batch: &PairBatch, model: &Transformer) -> Batch {
    let rows = &batch.rows;
    let shape = vec![rows.tokens.len() / rows.width, rows.width];
    let device = model.device();
    let ids = |ids: &Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(ids.clone(), shape.clone()), &device);
    Batch { tokens: ids(&rows.tokens), targets: ids(&rows.targets), segment_starts: rows.starts.as_ref().map(ids) }
}

/// Returns what a batch adds to the means.
fn judgement(losses: Tensor<1>, margins: Tensor<1>, share: f64) -> Result<Judgement, Error> {
    let losses: Vec<f32> = losses.try_into_vec_as().map_err(Error::compute)?;
    let margins: Vec<f32> = margins.try_into_vec_as().map_err(Error::compute)?;
    let sum = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() * share;
    let right = margins.iter().filter(|margin| **margin > 0.0).count();
    Ok(Judgement { loss: sum(&losses), accuracy: right as f64 * share, margin: sum(&margins) })
}

fn total(parts: &[Judgement]) -> Judgement {
    parts.iter().fold(Judgement::default(), |sum, part| Judgement {
        loss: sum.loss + part.loss,
        accuracy: sum.accuracy + part.accuracy,
        margin: sum.margin + part.margin,
    })
}

#[cfg(test)]
#[path = "preference/tests.rs"]
mod tests;
