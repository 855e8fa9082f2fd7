//! The teacher of a distillation (Distilling the Knowledge in a Neural Network, 2015).
//!
//! The loss of a student is `(1 − w) cross-entropy + w t² KL(teacher ‖ student)`, both distributions at temperature t,
//! over the targets that count.

use artifact::Sealed;
use burn::tensor::{Device, Tensor};
use model::{Batch, LossOptions, ModelConfig, Transformer, checkpoint};
use tokenizer::Tokenizer;

use crate::config::DistillConfig;
use crate::{Config, Error};

/// A model that another one learns from.
pub struct Teacher {
    model: Transformer,
    temperature: f64,
    weight: f64,
}

impl Teacher {
    /// Loads the teacher onto a device without autodiff, after comparing its files with their digests.
    ///
    /// # Errors
    /// Returns an error if a file is not what was sealed, its tokenizer is not `tokenizer`, or its context is shorter
    /// than the training sequences.
    pub fn load(
        config: &Config,
        settings: &DistillConfig,
        sealed: &Sealed,
        tokenizer: &Tokenizer,
        device: &Device,
    ) -> Result<Self, Error> {
        for name in sealed.files("") {
            sealed.verified(&name)?;
        }
        let own = Tokenizer::from_folder(sealed.folder())?;
        if own.digest() != tokenizer.digest() {
            return Err(Error::TeacherTokenizer {
                teacher: settings.teacher.clone(),
                own: own.digest(),
                tokens: tokenizer.digest(),
            });
        }
        let model_config = checkpoint::load_config(sealed.folder())?;
        tokenizer.check_vocabulary(model_config.vocab_size)?;
        config.check_context(&model_config, "train.distill.teacher")?;
        let model = checkpoint::load(sealed.folder(), device)?.with_precision(config.precision);
        Ok(Self { model, temperature: settings.temperature, weight: settings.weight })
    }

    /// Returns the shape of the teacher.
    pub fn shape(&self) -> &ModelConfig {
        self.model.config()
    }

    /// Returns the logits of the teacher for a batch, on the device of the student.
    ///
    /// # Shapes
    /// - output: `[B, T, V]` of the teacher's vocabulary
    pub fn logits(&self, batch: &Batch) -> Tensor<3> {
        let Batch { tokens, targets, segment_starts } = batch.clone();
        let (tokens, targets) = (tokens.inner(), targets.inner());
        let batch = Batch { tokens, targets, segment_starts: segment_starts.map(Tensor::inner) };
        Tensor::from_inner(self.model.forward_batch(batch))
    }

    /// Returns the loss of a student, and its parts: the cross-entropy and the divergence.
    ///
    /// # Shapes
    /// - hidden: `[B, T, D]`, of the student
    /// - teacher: `[B, T, V]`, from [`Teacher::logits`]
    /// - output: `[1]` and `[2]`
    pub fn loss(
        &self,
        student: &Transformer,
        hidden: Tensor<3>,
        batch: &Batch,
        teacher: Tensor<3>,
        options: &LossOptions,
    ) -> (Tensor<1>, Tensor<1>) {
        let targets = batch.targets.clone();
        let [cross_entropy, divergence] =
            student.distillation_losses_from_hidden(hidden, targets, teacher, self.temperature, options);
        let loss = cross_entropy.clone().mul_scalar(1.0 - self.weight) + divergence.clone().mul_scalar(self.weight);
        (loss, Tensor::cat(vec![cross_entropy.inner(), divergence.inner()], 0))
    }

    /// Returns the loss of its parts.
    pub fn weighted(&self, parts: LossParts) -> f64 {
        (1.0 - self.weight) * parts.cross_entropy + self.weight * parts.divergence
    }
}

/// The parts of the loss of a distillation, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LossParts {
    /// The cross-entropy of the text, with the z-loss.
    pub cross_entropy: f64,
    /// The divergence from the teacher × temperature².
    pub divergence: f64,
}
