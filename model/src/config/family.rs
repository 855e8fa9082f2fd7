//! The families, and what each decides for all of its checkpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Activation, LayerAttention};

/// The families of decoder-only Transformers that this crate builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// LayerNorm, learned positions, GELU, biases (Language Models are Unsupervised Multitask Learners, 2019).
    Gpt2,
    /// RMSNorm, rotary positions, SwiGLU, grouped-query attention (The Llama 3 Herd of Models, 2024).
    Llama,
    /// As `Llama`, with biases on queries, keys and values (Qwen2 Technical Report, 2024).
    Qwen2,
    /// As `Llama`, with norms on each head's queries and keys (Qwen3 Technical Report, 2025).
    Qwen3,
    /// As `Llama`, with a sliding window (Mistral 7B, 2023).
    Mistral,
    /// Norms before and after each part of a layer, `GeGLU`, soft-capped scores and logits, every second layer with
    /// a sliding window (Gemma 2: Improving Open Language Models at a Practical Size, 2024).
    Gemma2,
    /// As `Gemma2`, with norms on each head's queries and keys instead of caps, and five layers with a sliding window
    /// and a rotary base of their own to one without (Gemma 3 Technical Report, 2025).
    #[serde(rename = "gemma3_text")]
    Gemma3Text,
    /// As `Llama`, with concatenated projections in its files (Phi-3 Technical Report, 2024).
    Phi3,
    /// As `Llama`, every fourth layer without rotary positions (`SmolLM3`, 2025).
    SmolLm3,
    /// Norms after each part of a layer instead of before, and on whole queries and keys (2 `OLMo` 2 Furious, 2024).
    Olmo2,
}

/// What a family decides for all of its checkpoints.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent properties")]
pub struct Architecture {
    /// Positions are learned; otherwise they are rotary.
    pub learned_positions: bool,
    /// The norms, except those of queries and keys, which are always RMSNorm.
    pub norm: NormKind,
    /// Where a layer has norms.
    pub norm_placement: NormPlacement,
    /// The norms of queries and keys, if any.
    pub qk_norm: Option<QkNorm>,
    /// The token embeddings are multiplied by √D.
    pub scaled_embeddings: bool,
    /// The functions inside the feed-forward layer: the family's own first.
    pub activations: &'static [Activation],
    /// The projections of attention have biases: always, never, or by configuration.
    pub attention_bias: Bias,
    /// `o_proj` has no bias even if the other projections of attention have one.
    pub no_output_bias: bool,
    /// The projections of the feed-forward layer have biases.
    pub mlp_bias: Bias,
    /// Scores and logits may be soft-capped.
    pub softcaps: Softcaps,
    /// Layers may have sliding windows.
    pub windows: bool,
}

/// A kind of norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm, with a bias.
    Layer,
    /// RMSNorm.
    Rms,
    /// RMSNorm whose factor is 1 + weight.
    RmsFromOne,
}

/// Where a layer has norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward layer.
    Before,
    /// On the outputs of attention and of the feed-forward layer, before they are added to the residual stream.
    After,
    /// Both.
    Both,
}

impl NormPlacement {
    /// Returns true if there are norms before attention and before the feed-forward layer.
    pub fn is_before(self) -> bool {
        self != Self::After
    }

    /// Returns true if there are norms on the outputs of attention and of the feed-forward layer.
    pub fn is_after(self) -> bool {
        self != Self::Before
    }
}

/// What one norm of queries or keys normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head.
    Head,
    /// All heads together.
    Projection,
}

/// Whether projections have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// In every checkpoint.
    Always,
    /// In none.
    Never,
    /// By configuration.
    Optional,
}

/// What may be soft-capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Softcaps {
    /// Nothing.
    None,
    /// The logits.
    Logits,
    /// The logits and the scores of attention.
    LogitsAndScores,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 10] = [
        Self::Gpt2,
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::Mistral,
        Self::Gemma2,
        Self::Gemma3Text,
        Self::Phi3,
        Self::SmolLm3,
        Self::Olmo2,
    ];

    /// Returns the family's `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Mistral => "mistral",
            Self::Gemma2 => "gemma2",
            Self::Gemma3Text => "gemma3_text",
            Self::Phi3 => "phi3",
            Self::SmolLm3 => "smollm3",
            Self::Olmo2 => "olmo2",
        }
    }

    /// Returns true if positions are rotary; otherwise they are learned.
    pub fn is_rotary(self) -> bool {
        !self.architecture().learned_positions
    }

    /// Returns what the family decides.
    pub fn architecture(self) -> Architecture {
        let llama = Architecture {
            learned_positions: false,
            norm: NormKind::Rms,
            norm_placement: NormPlacement::Before,
            qk_norm: None,
            scaled_embeddings: false,
            activations: &[Activation::Swiglu],
            attention_bias: Bias::Optional,
            no_output_bias: false,
            mlp_bias: Bias::Never,
            softcaps: Softcaps::None,
            windows: false,
        };
        match self {
            Self::Gpt2 => Architecture {
                learned_positions: true,
                norm: NormKind::Layer,
                activations: &[Activation::GeluTanh, Activation::Gelu],
                attention_bias: Bias::Always,
                mlp_bias: Bias::Always,
                ..llama
            },
            Self::Llama => Architecture { mlp_bias: Bias::Optional, ..llama },
            Self::Qwen2 => Architecture { attention_bias: Bias::Always, no_output_bias: true, windows: true, ..llama },
            Self::Qwen3 => Architecture { qk_norm: Some(QkNorm::Head), windows: true, ..llama },
            Self::Mistral | Self::Phi3 => Architecture { attention_bias: Bias::Never, windows: true, ..llama },
            Self::Gemma2 => Architecture {
                norm: NormKind::RmsFromOne,
                norm_placement: NormPlacement::Both,
                scaled_embeddings: true,
                activations: &[Activation::Geglu],
                softcaps: Softcaps::LogitsAndScores,
                windows: true,
                ..llama
            },
            Self::Gemma3Text => {
                Architecture { qk_norm: Some(QkNorm::Head), softcaps: Softcaps::Logits, ..Self::Gemma2.architecture() }
            }
            Self::SmolLm3 => Architecture { mlp_bias: Bias::Optional, windows: true, ..llama },
            Self::Olmo2 => {
                Architecture { norm_placement: NormPlacement::After, qk_norm: Some(QkNorm::Projection), ..llama }
            }
        }
    }

    /// Returns the attention of each layer as published: which layers have a sliding window, if the model has one, and
    /// which have no rotary positions.
    pub fn layers(self, n_layer: usize) -> Vec<LayerAttention> {
        let every = |n: usize, i: usize| (i + 1).is_multiple_of(n);
        let layer = |i: usize| match self {
            Self::Mistral | Self::Phi3 => LayerAttention { sliding: true, ..LayerAttention::default() },
            Self::Gemma2 => LayerAttention { sliding: !every(2, i), ..LayerAttention::default() },
            Self::Gemma3Text => LayerAttention { sliding: !every(6, i), ..LayerAttention::default() },
            Self::SmolLm3 => LayerAttention { rotary: !every(4, i), ..LayerAttention::default() },
            _ => LayerAttention::default(),
        };
        (0..n_layer).map(layer).collect()
    }
}
