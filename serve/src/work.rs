//! What a request asks of the worker.

use generate::CompletionOptions;

/// The texts, embeddings or weights of attention that a request asks for.
#[derive(Debug)]
pub(crate) struct Work {
    /// The tokens of the prompts, at least one.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// What is done, by the name of OpenTelemetry's semantic conventions where they have one, such as `chat`.
    pub(crate) operation: &'static str,
    /// Texts per prompt.
    pub(crate) n: usize,
    /// How to generate them; text `i` has the seed plus `i`.
    pub(crate) options: CompletionOptions,
    /// Which log probabilities to compute.
    pub(crate) scoring: Scoring,
    /// Names of special tokens that are part of the texts.
    pub(crate) shown_tokens: Vec<&'static str>,
    /// Whether the prompts are embedded instead of continued.
    pub(crate) embeds: bool,
    /// The layer whose weights of attention are wanted at the end of the prompts, instead of what follows.
    pub(crate) attention_layer: Option<usize>,
}

/// Which log probabilities to compute, and which tokens to hand out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scoring {
    /// Those of the tokens of a text, with this many of the most likely alternatives.
    pub(crate) alternatives: Option<usize>,
    /// Those of the tokens of the prompts too.
    pub(crate) prompts: bool,
    /// The mean of each text, to choose the best.
    pub(crate) ranks: bool,
    /// None, but the tokens themselves.
    pub(crate) ids: bool,
}
