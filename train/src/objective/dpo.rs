//! Direct Preference Optimization (Direct Preference Optimization: Your Language Model is Secretly a Reward Model,
//! 2023).
//!
//! Input: pairs of a chosen and a rejected answer. With m the difference of their log-probabilities, the loss of a pair
//! is `−ln σ(β (m − m_reference))`. The reference is the model that training starts from; its log-probabilities are
//! computed once and kept in a file.
//!
//! Dimensions: P pairs, B rows, T tokens.

mod pairs;
mod reference;
#[cfg(test)]
mod tests;

use std::path::Path;

use artifact::Context;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorData};
use model::{Dropout, Transformer, lora};
use tokenizer::shard::Split;

use super::cross_entropy::to_tensors;
use super::{Objective, Step, StepOptions, ValidationLoss};
use crate::config::DpoConfig;
use crate::optim::gradients::Workers;
use crate::{Config, Error};
use pairs::{PairBatch, Pairs};
use reference::Reference;

/// The objective of preference tuning.
pub struct Dpo<'a> {
    config: &'a Config,
    settings: DpoConfig,
    workers: Workers,
    train: PairSplit<'a>,
    validation: PairSplit<'a>,
    folder: &'a Path,
    context: &'a Context,
}

/// The pairs of a split, and the reference's log-probabilities, which are empty before [`Objective::prepare`].
struct PairSplit<'a> {
    name: &'static str,
    pairs: Pairs<'a>,
    reference: Reference,
}

impl<'a> PairSplit<'a> {
    fn new(name: &'static str, split: &'a Split, context_length: usize, seed: u64) -> Result<Self, Error> {
        let pairs = Pairs::new(split, context_length, seed).ok_or(Error::NoPairs { split: name, context_length })?;
        Ok(Self { name, pairs, reference: Reference::default() })
    }

    fn prepare(&mut self, initial: &Transformer, folder: &Path, context: &Context) -> Result<(), Error> {
        let Self { name, pairs, reference } = self;
        if pairs.len() < pairs.total() {
            let (skipped, total) = (pairs.total() - pairs.len(), pairs.total());
            context
                .progress
                .line(&format!("{name}: skipped {skipped} of {total} pairs, which are longer than the context"));
        }
        *reference = Reference::of(initial, pairs, &folder.join(format!(".reference-{name}.safetensors")), context)?;
        Ok(())
    }
}

impl<'a> Dpo<'a> {
    /// Returns the objective over the two splits; the log-probabilities of the reference are kept in `folder`.
    ///
    /// # Errors
    /// Returns an error if a split has no pair that fits in the context.
    pub fn new(
        config: &'a Config,
        settings: DpoConfig,
        workers: Workers,
        [train, validation]: [&'a Split; 2],
        folder: &'a Path,
        context: &'a Context,
    ) -> Result<Self, Error> {
        let pairs = |name, split| PairSplit::new(name, split, config.model.context_length, context.seed);
        let (train, validation) = (pairs("train", train)?, pairs("validation", validation)?);
        Ok(Self { config, settings, workers, train, validation, folder, context })
    }
}

impl Objective<Transformer> for Dpo<'_> {
    fn prepare(&mut self, initial: &Transformer) -> Result<(), Error> {
        self.train.prepare(initial, self.folder, self.context)?;
        self.validation.prepare(initial, self.folder, self.context)
    }

    fn step(&mut self, model: &Transformer, step: u64) -> Result<Step, Error> {
        let batches = self.train.pairs.step(step, self.config.batch_size, self.config.micro_batches);
        let options = StepOptions::new(self.config, self.context.seed, step);
        let (metrics, gradients) =
            gradients(&self.workers, model, &batches, &self.train.reference, &self.settings, &options)?;
        let n_tokens = batches.iter().map(PairBatch::n_tokens).sum();
        Ok(Step { loss: metrics.loss, parts: None, gradients, n_tokens })
    }

    fn validate(&self, model: &Transformer) -> Result<ValidationLoss, Error> {
        let PairSplit { pairs, reference, .. } = &self.validation;
        let PairMetrics { loss, accuracy, margin } = validate(&model.valid(), pairs, reference, &self.settings)?;
        Ok(ValidationLoss { loss, bits_per_byte: None, accuracy: Some(accuracy), margin: Some(margin) })
    }
}

/// Means over pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct PairMetrics {
    /// The loss, in nats.
    loss: f64,
    /// The fraction of pairs whose chosen answer became more likely relative to the rejected one.
    accuracy: f64,
    /// The reward margin, β (m − m of the reference).
    margin: f64,
}

/// Returns the metrics of the pairs of a step, and the gradients of the mean loss.
///
/// # Errors
/// Returns an error if the device fails.
fn gradients(
    workers: &Workers,
    model: &Transformer,
    batches: &[PairBatch],
    reference: &Reference,
    config: &DpoConfig,
    options: &StepOptions,
) -> Result<(PairMetrics, GradientsParams), Error> {
    let pairs: usize = batches.iter().map(PairBatch::len).sum();
    let weight = 1.0 / pairs.max(1) as f64;
    let (parts, gradients) = workers.each(model, batches.len(), |model, i| {
        let seed = options.dropout_seed(i, batches.len());
        let model = lora::with_dropout(model.clone(), seed);
        let dropout = (options.dropout > 0.0).then_some(Dropout { rate: options.dropout, seed });
        let (pairs, rows) = (&batches[i], to_tensors(&batches[i].rows, &model.device()));
        let ((losses, margins), gradients) = model.gradients(&rows, dropout, options.activations, |hidden| {
            let log_probabilities = model.log_probabilities_from_hidden(hidden, rows.targets.clone());
            let (losses, margins) = losses(log_probabilities, pairs, reference, config);
            (losses.clone().sum().mul_scalar(weight), (losses.inner(), margins.inner()))
        });
        Ok((weighted_metrics(losses, margins, weight)?, gradients))
    })?;
    Ok((total(&parts), gradients))
}

/// Returns the metrics of all pairs.
///
/// # Errors
/// Returns an error if the device fails.
fn validate(
    model: &Transformer,
    pairs: &Pairs<'_>,
    reference: &Reference,
    config: &DpoConfig,
) -> Result<PairMetrics, Error> {
    let weight = 1.0 / pairs.len().max(1) as f64;
    let parts = pairs.all().map(|batch| {
        let log_probabilities = model.log_probabilities(to_tensors(&batch.rows, &model.device()), None);
        let (losses, margins) = losses(log_probabilities, &batch, reference, config);
        weighted_metrics(losses, margins, weight)
    });
    Ok(total(&parts.collect::<Result<Vec<_>, Error>>()?))
}

/// Returns the loss and the reward margin of each pair.
///
/// # Shapes
/// - `log_probabilities`: `[B, T]`
/// - output: `[P]` both
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
    let signs = Tensor::<2>::from_data(TensorData::new(signs, vec![p, tokens]), &device); // [P, B T]
    let of_reference: Vec<f32> = batch.places.iter().map(|place| reference.margin(place.pair)).collect();
    let of_reference = Tensor::<1>::from_data(TensorData::new(of_reference, vec![p]), &device); // [P]
    let margins = (signs.matmul(log_probabilities).reshape([p]) - of_reference).mul_scalar(config.beta); // [P]
    let as_labelled = log_sigmoid(margins.clone()).mul_scalar(config.label_smoothing - 1.0);
    let losses = match config.label_smoothing {
        0.0 => as_labelled,
        smoothing => as_labelled - log_sigmoid(margins.clone().neg()).mul_scalar(smoothing),
    };
    (losses, margins)
}

/// Returns the contribution of a batch to the means.
///
/// # Shapes
/// - losses, margins: `[P]`
fn weighted_metrics(losses: Tensor<1>, margins: Tensor<1>, weight: f64) -> Result<PairMetrics, Error> {
    let losses: Vec<f32> = losses.try_into_vec_as().map_err(Error::compute)?;
    let margins: Vec<f32> = margins.try_into_vec_as().map_err(Error::compute)?;
    let sum = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() * weight;
    let correct = margins.iter().filter(|margin| **margin > 0.0).count();
    Ok(PairMetrics { loss: sum(&losses), accuracy: correct as f64 * weight, margin: sum(&margins) })
}

fn total(parts: &[PairMetrics]) -> PairMetrics {
    parts.iter().fold(PairMetrics::default(), |sum, part| PairMetrics {
        loss: sum.loss + part.loss,
        accuracy: sum.accuracy + part.accuracy,
        margin: sum.margin + part.margin,
    })
}
