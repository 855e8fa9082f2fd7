//! Drafts for speculative decoding from a smaller model (Fast Inference from Transformers via Speculative Decoding,
//! Leviathan et al., 2023).
//!
//! The smaller model draws each token of a draft with the random number that the sampled token will be drawn with.
//! Where the two models agree on the distribution, they then agree on the token; and since a draft is only compared
//! with what the model samples, it changes neither the tokens of a seed nor their distribution.

use std::collections::BTreeMap;

use super::sampling::is_usable;
use super::sequence::{Sequence, Turn};
use crate::blocks::{BlockPool, BlockTable};
use crate::constraint::Guide;
use crate::sampler::{self, Uniforms};
use crate::{Constraint, Error, ForwardPass, Row};

/// The most tokens read before each token of the drafts: a long prompt is read over several steps, so that it does not
/// delay the other sequences.
const MAX_ROWS: usize = 512;

/// A model that proposes tokens, with its own cache.
#[derive(Debug)]
pub(super) struct DraftModel<M> {
    model: M,
    pool: BlockPool,
    cached: BTreeMap<Turn, Cached>,
    logits: Vec<f32>,
}

/// What the cache holds of a sequence.
#[derive(Debug)]
struct Cached {
    table: BlockTable,
    tokens: Vec<u32>,
}

/// A draft that is being written.
struct Draft<'a> {
    turn: Turn,
    sequence: &'a Sequence,
    /// The sequence with the draft.
    tokens: Vec<u32>,
    uniforms: Uniforms,
    /// What the sample must obey, after the draft so far.
    constraint: Option<Box<dyn Constraint>>,
    max_tokens: usize,
}

impl<M: ForwardPass> DraftModel<M> {
    pub(super) fn new(model: M) -> Self {
        let pool = BlockPool::new(model.block_count(), model.block_tokens(), false);
        Self { model, pool, cached: BTreeMap::new(), logits: Vec::new() }
    }

    /// Returns a draft for each of some running sequences, of at most so many tokens; fewer where this model's context
    /// or cache is full.
    ///
    /// # Errors
    /// Returns the error of the model.
    pub(super) fn propose(
        &mut self,
        wanted: &[(Turn, usize)],
        running: &mut BTreeMap<Turn, Sequence>,
        vocab_size: usize,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let constraints = wanted.iter().map(|(turn, max_tokens)| {
            let sequence = running.get_mut(turn).filter(|_| *max_tokens > 0);
            sequence.and_then(|sequence| sequence.samples[0].guide.as_mut()).and_then(Guide::fork)
        });
        let constraints: Vec<Option<Box<dyn Constraint>>> = constraints.collect();
        for (_, cached) in self.cached.extract_if(.., |turn, _| !running.contains_key(turn)) {
            self.pool.release(cached.table);
        }
        let drafts = wanted.iter().zip(constraints);
        let mut drafts: Vec<Draft<'_>> = drafts
            .map(|(&(turn, max_tokens), constraint)| Draft::new(turn, &running[&turn], max_tokens, constraint))
            .collect();
        for draft in &mut drafts {
            self.make_room(draft);
        }
        while drafts.iter().any(Draft::is_growing) {
            self.read(&mut drafts)?;
            let rows = self.logits.chunks_exact_mut(self.model.vocab_size());
            for (draft, row) in drafts.iter_mut().filter(|draft| draft.is_growing()).zip(rows) {
                draft.extend(&mut row[..vocab_size]);
            }
        }
        Ok(drafts.into_iter().map(|mut draft| draft.tokens.split_off(draft.sequence.tokens.len())).collect())
    }

    /// Makes room for a draft, or shortens it to nothing.
    fn make_room(&mut self, draft: &mut Draft<'_>) {
        // The last token of a draft is never read.
        let room = (self.model.context_length() + 1).saturating_sub(draft.window().len());
        draft.max_tokens = draft.max_tokens.min(room);
        if draft.max_tokens == 0 {
            return;
        }
        let window = draft.window();
        let tokens = window.len() + draft.max_tokens - 1;
        let pool = &mut self.pool;
        let cached = self.cached.entry(draft.turn);
        let cached = cached.or_insert_with(|| Cached { table: pool.open("", &[]), tokens: Vec::new() });
        let same = cached.tokens.iter().zip(window).take_while(|(a, b)| a == b).count();
        cached.tokens.truncate(same.min(window.len() - 1));
        if pool.reserve(&mut cached.table, cached.tokens.len(), tokens).is_err() {
            draft.max_tokens = 0;
        }
    }

    /// Reads the unread tokens of growing drafts; the logits after each are in `self.logits` then. A sequence that is
    /// not read to its end, since there are too many tokens before it, gets no draft in this step.
    fn read(&mut self, drafts: &mut [Draft<'_>]) -> Result<(), Error> {
        let (mut rows, mut read) = (Vec::new(), Vec::new());
        for draft in drafts.iter_mut().filter(|draft| draft.is_growing()) {
            let window = draft.window();
            let first = self.cached[&draft.turn].tokens.len();
            let end = window.len().min(first + MAX_ROWS - rows.len());
            rows.extend((first..end).map(|position| Row {
                sequence: read.len(),
                position,
                token: window[position],
                wants_logits: position + 1 == window.len(),
            }));
            read.push((draft.turn, window[first..end].to_vec()));
            if end < window.len() {
                draft.max_tokens = 0;
            }
        }
        let tables: Vec<&[u32]> = read.iter().map(|(turn, _)| self.cached[turn].table.blocks()).collect();
        self.logits.clear();
        self.model.forward(&rows, &tables, &mut self.logits)?;
        for (turn, tokens) in read {
            if let Some(cached) = self.cached.get_mut(&turn) {
                cached.tokens.extend(tokens);
            }
        }
        Ok(())
    }
}

impl<'a> Draft<'a> {
    fn new(turn: Turn, sequence: &'a Sequence, max_tokens: usize, constraint: Option<Box<dyn Constraint>>) -> Self {
        let uniforms = sequence.samples[0].uniforms.clone();
        Self { turn, sequence, tokens: sequence.tokens.clone(), uniforms, constraint, max_tokens }
    }

    /// Returns what the model sees, with the draft so far.
    fn window(&self) -> &[u32] {
        &self.tokens[self.sequence.window..]
    }

    fn is_growing(&self) -> bool {
        self.tokens.len() - self.sequence.tokens.len() < self.max_tokens
    }

    /// Draws the next token, or ends the draft.
    fn extend(&mut self, logits: &mut [f32]) {
        if !is_usable(logits) {
            self.max_tokens = 0;
            return;
        }
        let request = &self.sequence.request;
        sampler::add_bias(logits, &request.logit_bias);
        if let Some(constraint) = &mut self.constraint
            && !constraint.allowed().is_ok_and(|allowed| allowed.apply(logits))
        {
            self.max_tokens = 0;
            return;
        }
        let (prompt_tokens, uniform) = (request.prompt.len(), self.uniforms.draw());
        let token = sampler::pick(logits, &self.tokens, prompt_tokens, &request.sampling, uniform);
        self.tokens.push(token);
        if let Some(constraint) = &mut self.constraint
            && constraint.accept(token) != Ok(false)
        {
            self.max_tokens = 0;
        }
    }
}
