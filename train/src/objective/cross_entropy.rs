//! Cross-entropy of the next token, alone or with the divergence from a teacher.

#[cfg(test)]
mod oracle;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::scoring::{self, SlidingWindow};
use model::{Batch, Dropout, LossOptions, Transformer, lora};
use tokenizer::shard::Split;

use super::teacher::{LossParts, Teacher};
use super::{Objective, Step, StepOptions, ValidationLoss};
use crate::data::batches::{Batches, MicroBatch};
use crate::optim::gradients::Workers;
use crate::{Config, Error};

/// The objective of pretraining, supervised fine-tuning and distillation.
pub struct CrossEntropy<'a> {
    config: &'a Config,
    seed: u64,
    workers: Workers,
    teacher: Option<Teacher>,
    batches: Batches<'a>,
    validation: &'a Split,
}

impl<'a> CrossEntropy<'a> {
    /// Returns the objective over the two splits.
    ///
    /// # Errors
    /// Returns an error if the training split holds pairs, is shorter than one step, or has no target to learn.
    pub fn new(
        config: &'a Config,
        seed: u64,
        workers: Workers,
        teacher: Option<Teacher>,
        train: &'a Split,
        validation: &'a Split,
    ) -> Result<Self, Error> {
        if train.n_pairs().is_some() {
            let reason = "is missing, but the tokens are pairs of a chosen and a rejected answer".to_owned();
            return Err(Error::Config { key: "train.dpo".to_owned(), reason });
        }
        let batches = Batches::new(config, seed, train)?;
        check_targets(validation, config.validation_tokens)?;
        Ok(Self { config, seed, workers, teacher, batches, validation })
    }
}

/// Checks that the validation tokens have a target that counts, before any step is trained.
fn check_targets(validation: &Split, max_tokens: u64) -> Result<(), Error> {
    const CHUNK: usize = 1 << 16;
    let length = validation.len();
    let mut mask = vec![false; CHUNK];
    for start in (1..length).step_by(CHUNK) {
        let part = &mut mask[..CHUNK.min(length - start)];
        validation.copy_scored(start, part);
        if let Some(first) = part.iter().position(|counts| *counts) {
            if (start + first) as u64 <= max_tokens {
                return Ok(());
            }
            return Err(Error::ValidationTargetsBeyond { read: max_tokens, first: start + first });
        }
    }
    // A split that is too short has its own error.
    if length < 2 {
        return Ok(());
    }
    Err(Error::NoValidationTargets { tokens: length })
}

impl Objective<Transformer> for CrossEntropy<'_> {
    fn step(&mut self, model: &Transformer, step: u64) -> Result<Step, Error> {
        let batches = self.batches.step(step);
        let options = StepOptions::new(self.config, self.seed, step);
        let n_tokens = batches.iter().map(|batch| batch.n_tokens as u64).sum();
        if let Some(teacher) = &self.teacher {
            let (parts, gradients) = distillation_gradients(&self.workers, model, teacher, &batches, &options)?;
            return Ok(Step { loss: teacher.weighted(parts), parts: Some(parts), gradients, n_tokens });
        }
        let (loss, gradients) = gradients(&self.workers, model, &batches, &options)?;
        Ok(Step { loss, parts: None, gradients, n_tokens })
    }

    fn validate(&self, model: &Transformer) -> Result<ValidationLoss, Error> {
        let model = model.valid();
        let windows = SlidingWindow::disjoint(model.config(), &model.device(), Some(self.config.validation_tokens));
        let loss = scoring::score(&model, self.validation, &windows, |_| true)?.loss_nats;
        // With a loss mask, the number of bytes that belong to the learned tokens is not known here.
        let bytes_per_token = self.validation.text_bytes() as f64 / self.validation.len() as f64;
        let bits_per_byte =
            (!self.validation.has_loss_mask()).then_some(loss / std::f64::consts::LN_2 / bytes_per_token);
        Ok(ValidationLoss { loss, bits_per_byte, ..ValidationLoss::default() })
    }
}

/// Returns the mean loss in nats over all targets of the micro-batches, and its gradients: those of one large batch,
/// however the targets are distributed over the micro-batches.
///
/// # Errors
/// Returns an error if the device fails.
pub fn gradients(
    workers: &Workers,
    model: &Transformer,
    batches: &[MicroBatch],
    options: &StepOptions,
) -> Result<(f64, GradientsParams), Error> {
    let (losses, gradients) = each(workers, model, batches, options, |model, batch, loss| {
        model.gradients(batch, loss.dropout, options.activations, |hidden| {
            let loss = model.loss_from_hidden(hidden, batch.targets.clone(), loss);
            (loss.clone(), loss.inner())
        })
    })?;
    Ok((losses.iter().map(|[loss]| loss).sum(), gradients))
}

/// As [`gradients`], with the divergence from a teacher; returns the parts of the loss.
///
/// # Errors
/// Returns an error if the device fails.
pub fn distillation_gradients(
    workers: &Workers,
    model: &Transformer,
    teacher: &Teacher,
    batches: &[MicroBatch],
    options: &StepOptions,
) -> Result<(LossParts, GradientsParams), Error> {
    let (losses, gradients) = each(workers, model, batches, options, |model, batch, loss| {
        let logits = teacher.logits(batch);
        model.gradients(batch, loss.dropout, options.activations, |hidden| {
            teacher.loss(model, hidden, batch, logits, loss)
        })
    })?;
    let parts = losses.iter().fold(LossParts::default(), |sum, [cross_entropy, divergence]| LossParts {
        cross_entropy: sum.cross_entropy + cross_entropy,
        divergence: sum.divergence + divergence,
    });
    Ok((parts, gradients))
}

/// Returns the losses of each micro-batch, as `backward` returns them, and the sum of the gradients.
fn each<const N: usize>(
    workers: &Workers,
    model: &Transformer,
    batches: &[MicroBatch],
    options: &StepOptions,
    backward: impl Fn(&Transformer, &Batch, &LossOptions) -> (Tensor<1>, GradientsParams) + Sync,
) -> Result<(Vec<[f64; N]>, GradientsParams), Error> {
    let n_targets: usize = batches.iter().map(MicroBatch::n_targets).sum();
    workers.each(model, batches.len(), |model, i| {
        let seed = options.dropout_seed(i, batches.len());
        let model = lora::with_dropout(model.clone(), seed);
        let loss = LossOptions {
            loss_scale: 1.0 / n_targets.max(1) as f64,
            z_loss: options.z_loss,
            dropout: (options.dropout > 0.0).then_some(Dropout { rate: options.dropout, seed }),
        };
        let batch = to_tensors(&batches[i], &model.device());
        let (losses, gradients) = backward(&model, &batch, &loss);
        let losses: Vec<f32> = losses.try_into_vec_as().map_err(Error::compute)?;
        Ok((std::array::from_fn(|i| losses.get(i).map_or(f64::NAN, |loss| f64::from(*loss))), gradients))
    })
}

/// Returns a micro-batch as tensors `[B, T]`.
pub fn to_tensors(batch: &MicroBatch, device: &Device) -> Batch {
    let shape = [batch.tokens.len() / batch.width, batch.width];
    let ids = |ids: &Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(ids.clone(), shape), device);
    Batch {
        tokens: ids(&batch.tokens),
        targets: ids(&batch.targets),
        segment_starts: batch.segment_starts.as_ref().map(ids),
    }
}
