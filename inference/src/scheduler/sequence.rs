//! The state of a sequence.

use std::cmp::Reverse;
use std::sync::Arc;

use super::request::{Request, RequestId};
use crate::blocks::{BlockTable, Owner};
use crate::constraint::Guide;
use crate::decoder::kept_tokens;
use crate::sampler::Uniforms;
use crate::{Adapter, RowResult};

/// The place of a sequence in the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) priority: Reverse<i32>,
    pub(super) request: RequestId,
    pub(super) sample: usize,
}

/// A sample of a request, its random numbers and its constraint.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) index: usize,
    pub(super) uniforms: Uniforms,
    pub(super) guide: Option<Guide>,
}

/// A prompt with what has been sampled after it.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) request: Arc<Request>,
    /// The samples that have these tokens: all of the request until the first token is sampled, then one.
    pub(super) samples: Vec<Sample>,
    pub(super) tokens: Vec<u32>,
    /// Where the window begins that the model sees: 0 until the sequence is longer than the model's context.
    pub(super) window: usize,
    /// The number of tokens whose keys and values are in the blocks, counted from the first, while it is running; at
    /// least `window`.
    pub(super) computed: usize,
    /// The number of tokens of the prompt after which logits have been handed out, or that are in `pooled`.
    pub(super) scored: usize,
    /// The sum of the hidden states of a prompt that is embedded, once there is one. In f64 and in the order of the
    /// tokens, so that it does not depend on the chunks that they are read in.
    pub(super) pooled: Vec<f64>,
    /// The blocks, while the sequence is running.
    pub(super) table: Option<BlockTable>,
    /// The second sequence of guided samples, without samples of its own.
    pub(super) negative: Option<Box<Sequence>>,
}

impl Sequence {
    pub(super) fn new(id: RequestId, request: Arc<Request>) -> Self {
        let sampled = |index| {
            let seed = request.sampling.seed.wrapping_add(index as u64);
            Sample { index, uniforms: Uniforms::new(seed), guide: request.constraint.clone().map(Guide::new) }
        };
        Self {
            id,
            negative: request.negative().map(|request| Box::new(Self::new(id, Arc::new(request)))),
            samples: (0..request.n).map(sampled).collect(),
            tokens: request.prompt.clone(),
            request,
            window: 0,
            computed: 0,
            scored: 0,
            pooled: Vec::new(),
            table: None,
        }
    }

    pub(super) fn turn(&self) -> Turn {
        let priority = Reverse(self.request.priority);
        Turn { priority, request: self.id, sample: self.samples.first().map_or(0, |sample| sample.index) }
    }

    /// Returns whose blocks it may share.
    pub(super) fn owner(&self) -> Owner<'_> {
        let adapter = self.request.adapter.as_deref().map(Adapter::digest);
        Owner { tenant: &self.request.tenant, adapter }
    }

    /// Returns the number of tokens that the model has to read before the next one can be sampled.
    pub(super) fn unread(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Returns the number of tokens still to be sampled.
    pub(super) fn remaining_tokens(&self) -> usize {
        self.request.max_tokens - (self.tokens.len() - self.request.prompt.len())
    }

    /// Returns true if the next token is sampled from the logits after the token at `position`, or would be if the
    /// tokens of a draft up to there were right.
    pub(super) fn is_sampled(&self, position: usize) -> bool {
        position + 1 >= self.tokens.len() && self.remaining_tokens() > 0
    }

    /// Returns true if the logits after the token of the prompt at `position` are to be handed out, its hidden state is
    /// to be pooled, or its weights of attention are wanted.
    pub(super) fn is_scored(&self, position: usize) -> bool {
        let (request, tokens) = (&self.request, self.request.prompt.len());
        match request.result() {
            RowResult::Attention { .. } => position + 1 == tokens,
            _ => (request.scores_prompt || request.embeds) && (self.scored..tokens).contains(&position),
        }
    }

    /// Adds the hidden state of the next token. Returns false if it is not finite.
    pub(super) fn pool(&mut self, state: &[f32]) -> bool {
        self.pooled.resize(state.len(), 0.0);
        for (sum, &x) in self.pooled.iter_mut().zip(state) {
            *sum += f64::from(x);
        }
        state.iter().all(|x| x.is_finite())
    }

    /// Returns the mean of the pooled states, divided by its Euclidean length; zeros if that is zero.
    pub(super) fn embedding(&self) -> Vec<f32> {
        // The length of the sum cancels the number of tokens.
        let length = self.pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        self.pooled.iter().map(|x| (x * scale) as f32).collect()
    }

    /// Returns the length of the window, in tokens.
    pub(super) fn window_tokens(&self) -> usize {
        self.tokens.len() - self.window
    }

    /// Returns the tokens that the model sees and whose keys and values are in the blocks.
    pub(super) fn computed_tokens(&self) -> &[u32] {
        &self.tokens[self.window..self.computed]
    }

    /// Moves the window of a sequence that is longer than the context, as [`crate::Decoder`] does. Returns true if it
    /// has moved, so that everything must be read again.
    pub(super) fn slide(&mut self, context_length: usize) -> bool {
        let is_too_long = self.window_tokens() > context_length;
        if is_too_long {
            self.window = self.tokens.len() - kept_tokens(context_length, self.remaining_tokens());
        }
        is_too_long
    }

    /// Returns the tokens that may come from reused blocks: not those after which logits are wanted.
    pub(super) fn reusable_tokens(&self) -> &[u32] {
        let is_scoring = self.is_scored(self.scored);
        let end = if is_scoring { self.scored } else { self.tokens.len() - 1 };
        &self.tokens[self.window..end.max(self.window)]
    }
}
