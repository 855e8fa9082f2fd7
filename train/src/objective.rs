//! What a training makes small: the cross-entropy of text, or the loss of preferences; with the data that it comes from.

use std::path::Path;

use artifact::Context;
use burn::module::Module;
use burn::optim::GradientsParams;
use model::Transformer;
use model::scoring::{self, SlidingWindow};
use tokenizer::shard::Split;

use crate::batches::Batches;
use crate::gradients::{Loss, Workers};
use crate::preference::{self, DpoConfig, Judgement, PairBatch, Pairs, Reference};
use crate::{Config, Error};

/// The data of a training, and how it is learned from.
pub enum Objective<'a> {
    /// Tokens, each of which is to be predicted.
    Text {
        /// The training split in the order of the steps.
        batches: Batches<'a>,
        /// What measurements read.
        validation: &'a Split,
    },
    /// Pairs of answers, the first of which is to become likelier than the second.
    Preferences {
        /// What they count.
        dpo: DpoConfig,
        /// The training split.
        train: Judged<'a>,
        /// What measurements read.
        validation: Judged<'a>,
    },
}

/// Pairs, and what the reference thinks of them; nothing before [`Objective::prepare`].
pub struct Judged<'a> {
    pairs: Pairs<'a>,
    reference: Reference,
}

/// What a step gave.
pub struct Step {
    /// The mean loss, in nats.
    pub loss: f64,
    /// Its gradients.
    pub gradients: GradientsParams,
    /// How many tokens were read.
    pub n_tokens: u64,
}

/// What a measurement on the validation split gave.
pub struct Measurement {
    /// The mean loss, in nats.
    pub loss: f64,
    /// Of text that is learned as a whole: the loss in bits, by byte of the text.
    pub bits_per_byte: Option<f64>,
    /// Of preferences: the share of pairs whose chosen answer has become likelier, compared with the rejected one.
    pub accuracy: Option<f64>,
    /// Of preferences: by how much, the mean of β times the difference of the log-probabilities.
    pub margin: Option<f64>,
}

impl<'a> Objective<'a> {
    /// Returns what `[train]` asks for.
    ///
    /// # Errors
    /// When a split is too short for it, or holds pairs where text is wanted or the other way round.
    pub fn new(config: &Config, seed: u64, train: &'a Split, validation: &'a Split) -> Result<Self, Error> {
        let context_length = config.model.context_length;
        let Some(dpo) = config.dpo else {
            if train.n_pairs().is_some() {
                let reason = "is missing: the tokens are pairs of a chosen and a rejected answer".to_owned();
                return Err(Error::Config { key: "train.dpo".to_owned(), reason });
            }
            let batches = Batches::new(config, context_length, seed, train)?;
            return Ok(Self::Text { batches, validation });
        };
        let judged = |split, name| {
            let pairs = Pairs::new(split, context_length, seed);
            let pairs = pairs.ok_or(Error::NoPairs { split: name, context_length })?;
            Ok::<_, Error>(Judged { pairs, reference: Reference::default() })
        };
        Ok(Self::Preferences { dpo, train: judged(train, "train")?, validation: judged(validation, "validation")? })
    }

    /// Asks the model that the training begins with what it thinks of the pairs, where there are some; what it says is
    /// kept in `folder`.
    ///
    /// # Errors
    /// When the device fails, the disk refuses, or somebody asked to stop.
    pub fn prepare(&mut self, model: &Transformer, folder: &Path, context: &Context) -> Result<(), Error> {
        let Self::Preferences { train, validation, .. } = self else { return Ok(()) };
        for (name, Judged { pairs, reference }) in [("train", train), ("validation", validation)] {
            if pairs.len() < pairs.total() {
                let (left, total) = (pairs.total() - pairs.len(), pairs.total());
                context
                    .progress
                    .line(&format!("{name}: {left} of {total} pairs are longer than the context, and left out"));
            }
            *reference = Reference::of(model, pairs, &folder.join(format!(".reference-{name}.safetensors")), context)?;
        }
        Ok(())
    }

    /// Returns the loss of a step and its gradients.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(
        &mut self,
        config: &Config,
        workers: &Workers,
        model: &Transformer,
        options: &Loss,
    ) -> Result<Step, Error> {
        match self {
            Self::Text { batches, .. } => {
                let batches = batches.step(options.step);
                let (loss, gradients) = workers.gradients(model, &batches, options)?;
                Ok(Step { loss, gradients, n_tokens: batches.iter().map(|batch| batch.n_tokens as u64).sum() })
            }
            Self::Preferences { dpo, train: Judged { pairs, reference }, .. } => {
                let batches = pairs.step(options.step, config.batch_size, config.micro_batches);
                let (judgement, gradients) = preference::gradients(workers, model, &batches, reference, dpo, options)?;
                let n_tokens = batches.iter().map(PairBatch::n_tokens).sum();
                Ok(Step { loss: judgement.loss, gradients, n_tokens })
            }
        }
    }

    /// Measures a model on the validation split.
    ///
    /// # Errors
    /// When the device fails.
    pub fn measure(&self, config: &Config, model: &Transformer) -> Result<Measurement, Error> {
        let plain = model.valid();
        match self {
            Self::Text { validation, .. } => {
                let walk = SlidingWindow::disjoint(&plain, Some(config.validation_tokens));
                let loss = scoring::score(&plain, validation, &walk, |_| true)?.loss_nats;
                // What a token of chats stands for that the assistant says, is not known here.
                let bytes_per_token = validation.text_bytes() as f64 / validation.len() as f64;
                let bits_per_byte =
                    (!validation.has_loss_mask()).then_some(loss / std::f64::consts::LN_2 / bytes_per_token);
                Ok(Measurement { loss, bits_per_byte, accuracy: None, margin: None })
            }
            Self::Preferences { dpo, validation: Judged { pairs, reference }, .. } => {
                let Judgement { loss, accuracy, margin } = preference::judge(&plain, pairs, reference, dpo)?;
                Ok(Measurement { loss, bits_per_byte: None, accuracy: Some(accuracy), margin: Some(margin) })
            }
        }
    }
}
