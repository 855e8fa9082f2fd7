//! The choices that single keys of `[train]` offer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the tokens of the training split are packed into the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Shuffled windows over the concatenated documents, as for pretraining.
    Windows,
    /// Whole documents side by side, each attending only to itself, as for fine-tuning.
    Documents,
}

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// `AdamW` for every parameter (Decoupled Weight Decay Regularization, 2019).
    Adamw,
    /// Muon for the matrices of the layers, with the update scaled to the size of `AdamW`'s (Muon is Scalable for LLM
    /// Training, 2025); `AdamW` for embeddings, norms and biases.
    Muon,
}

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine down to the final ratio (SGDR: Stochastic Gradient Descent with Warm Restarts, 2017).
    Cosine,
    /// Linear decay to the final ratio.
    Linear,
    /// No decay.
    Constant,
    /// Warm-up, stable, decay: constant until the last `decay_ratio` of the steps, then linear decay to the final ratio
    /// (`MiniCPM`: Unveiling the Potential of Small Language Models with Scalable Training Strategies, 2024).
    Wsd,
}

/// Which weights the checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// The weights with the lowest validation loss.
    Best,
    /// The weights after the last step.
    Last,
}
