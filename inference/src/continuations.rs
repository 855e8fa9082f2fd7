//! How likely continuations of contexts are, as benchmarks of language models ask.
//!
//! Contexts are read in lexicographic order, so each shares the blocks of the cache that it has in common with the one
//! before: a prefix of examples is read once for all questions, and a question once for all its answers.

use std::collections::{BTreeMap, BTreeSet};

use kernels::slices;
use rayon::prelude::*;

use crate::{Error, ForwardPass, Row};

/// The maximum number of rows of a forward pass: enough that the weights are read rarely.
const MAX_ROWS: usize = 512;

/// The maximum number of logits of a forward pass: 8 MiB, about the size of a processor's caches.
const MAX_LOGITS: usize = 1 << 21;

/// The fewest rows with logits of a forward pass, whatever the vocabulary.
const MIN_LOGIT_ROWS: usize = 32;

/// A context and what may follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The tokens of the context, at least one. Of a context that is too long, the end counts.
    pub context: Vec<u32>,
    /// The tokens that follow, at least one and at most as many as the model's context has.
    pub tokens: Vec<u32>,
}

/// How likely a continuation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// The sum of the log probabilities of its tokens, in nats.
    pub log_likelihood: f64,
    /// Whether greedy decoding writes it: each token is the most likely in its place, the lowest id among equals.
    pub is_greedy: bool,
}

/// Returns the number of tokens of a cache that [`score`] makes good use of, for a model with this context length. It
/// needs at least the double of the context.
pub fn cache_tokens(context_length: usize) -> usize {
    (2 * context_length).max(16 * 1024)
}

/// Scores continuations, and reports each with its index, in any order; `on_scored` cancels by returning false.
///
/// # Errors
/// Returns an error if a context or a continuation is empty, too long or has tokens that the model does not know, the
/// cache holds less than twice the model's context, logits are not finite, or the device fails; or if cancelled.
pub fn score(
    model: &mut dyn ForwardPass,
    continuations: &[Continuation],
    mut on_scored: impl FnMut(usize, Likelihood) -> bool,
) -> Result<(), Error> {
    check(model, continuations)?;
    let contexts = by_context(model.context_length(), continuations);
    let mut scores = vec![Likelihood { log_likelihood: 0.0, is_greedy: true }; continuations.len()];
    let mut previous = Table::default();
    let mut rest = &contexts[..];
    while !rest.is_empty() {
        let mut batch = Batch::of(model, rest, &previous);
        batch.read_contexts(model, &mut scores)?;
        batch.read_continuations(model, &mut scores)?;
        for (index, _) in batch.contexts.iter().flat_map(|context| &context.continuations) {
            if !on_scored(*index, scores[*index]) {
                return Err(Error::Model(model::Error::Interrupted));
            }
        }
        rest = &rest[batch.contexts.len()..];
        previous = batch.tables.pop().unwrap_or_default();
    }
    Ok(())
}

fn check(model: &dyn ForwardPass, continuations: &[Continuation]) -> Result<(), Error> {
    let (vocab_size, context_length) = (model.vocab_size(), model.context_length());
    for Continuation { context, tokens } in continuations {
        if context.is_empty() || tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > context_length {
            return Err(Error::PromptTooLong { tokens: tokens.len(), context_length });
        }
        if let Some(&token) = context.iter().chain(tokens).find(|token| **token as usize >= vocab_size) {
            return Err(Error::UnknownToken { token, vocab_size });
        }
    }
    let (tokens, blocks) = (2 * context_length, 2 * context_length.div_ceil(model.block_tokens()));
    if model.block_count() < blocks {
        let cache_tokens = model.block_count() * model.block_tokens();
        return Err(Error::CacheTooSmall { tokens, cache_tokens, is_guided: false });
    }
    Ok(())
}

/// A context with the indices and tokens of its continuations.
struct Context<'a> {
    tokens: &'a [u32],
    continuations: Vec<(usize, &'a [u32])>,
}

/// Returns the different contexts in lexicographic order, cut to what the model reads before the last token.
fn by_context(context_length: usize, continuations: &[Continuation]) -> Vec<Context<'_>> {
    let mut contexts: BTreeMap<&[u32], Vec<(usize, &[u32])>> = BTreeMap::new();
    for (index, Continuation { context, tokens }) in continuations.iter().enumerate() {
        let kept = context.len().min(context_length + 1 - tokens.len());
        contexts.entry(&context[context.len() - kept..]).or_default().push((index, tokens));
    }
    contexts.into_iter().map(|(tokens, continuations)| Context { tokens, continuations }).collect()
}

/// The tokens in some blocks of the cache.
#[derive(Default)]
struct Table<'a> {
    tokens: &'a [u32],
    blocks: Vec<u32>,
}

/// The contexts that are read together.
struct Batch<'a> {
    contexts: &'a [Context<'a>],
    /// The blocks of each context.
    tables: Vec<Table<'a>>,
    /// The tokens of each that an earlier one has read.
    shared: Vec<usize>,
    /// The blocks that no context uses.
    free: Vec<u32>,
}

/// A row whose logits are wanted, with the continuations and tokens to score.
struct Target {
    row: Row,
    tokens: Vec<(usize, u32)>,
}

impl<'a> Batch<'a> {
    /// Returns the first of the contexts, as many as there is room for; `previous` is in the cache already.
    fn of(model: &dyn ForwardPass, contexts: &'a [Context<'a>], previous: &Table<'a>) -> Self {
        let block_tokens = model.block_tokens();
        // Enough for the longest continuation beside the contexts.
        let reserve = model.context_length().div_ceil(block_tokens);
        let used: BTreeSet<u32> = previous.blocks.iter().copied().collect();
        // Popped from the end: the first blocks of the cache are used again and again.
        let all = || (0..model.block_count() as u32).rev();
        let mut free: Vec<u32> = all().filter(|block| !used.contains(block)).collect();
        let (mut tables, mut shared) = (Vec::<Table<'a>>::new(), Vec::new());
        let mut rows = 0;
        for context in contexts {
            let before = tables.last().unwrap_or(previous);
            let mut common = common_blocks(before, context.tokens, block_tokens);
            let blocks = context.tokens.len().div_ceil(block_tokens);
            if free.len() < blocks - common + reserve || rows >= MAX_ROWS {
                if !tables.is_empty() {
                    break;
                }
                // The cache holds twice the context, but not the previous context beside it.
                free = all().collect();
                common = 0;
            }
            let before = tables.last().unwrap_or(previous);
            let mut table = before.blocks[..common].to_vec();
            table.extend(free.drain(free.len() - (blocks - common)..).rev());
            rows += context.tokens.len() - common * block_tokens;
            shared.push(common * block_tokens);
            tables.push(Table { tokens: context.tokens, blocks: table });
        }
        Self { contexts: &contexts[..tables.len()], tables, shared, free }
    }

    /// Reads the contexts, and scores the first token of each continuation.
    fn read_contexts(&self, model: &mut dyn ForwardPass, scores: &mut [Likelihood]) -> Result<(), Error> {
        let mut rows = Vec::new();
        for (sequence, (context, shared)) in self.contexts.iter().zip(&self.shared).enumerate() {
            let last = context.tokens.len() - 1;
            for position in *shared..=last {
                let firsts = |(index, tokens): &(usize, &[u32])| (*index, tokens[0]);
                let tokens: Vec<(usize, u32)> =
                    if position == last { context.continuations.iter().map(firsts).collect() } else { Vec::new() };
                let token = context.tokens[position];
                rows.push(Target { row: Row { sequence, position, token, wants_logits: position == last }, tokens });
            }
        }
        let blocks: Vec<&[u32]> = self.tables.iter().map(|table| &*table.blocks).collect();
        read(model, &rows, &blocks, scores)
    }

    /// Reads the continuations, as many together as there are blocks for, and scores the rest of their tokens.
    fn read_continuations(&self, model: &mut dyn ForwardPass, scores: &mut [Likelihood]) -> Result<(), Error> {
        let block_tokens = model.block_tokens();
        let mut free = self.free.clone();
        let (mut tables, mut rows) = (Vec::<Vec<u32>>::new(), Vec::new());
        for (context, table) in self.contexts.iter().zip(&self.tables) {
            let start = context.tokens.len();
            for (index, tokens) in context.continuations.iter().filter(|(_, tokens)| tokens.len() > 1) {
                let full = start / block_tokens;
                let needed = (start + tokens.len() - 1).div_ceil(block_tokens) - full;
                if free.len() < needed {
                    read_tables(model, &rows, &tables, scores)?;
                    (free, tables, rows) = (self.free.clone(), Vec::new(), Vec::new());
                }
                let own = free.split_off(free.len() - needed);
                // The block that context and continuation share is written to.
                if let (Some(&from), Some(&to)) = (table.blocks.get(full), own.first()) {
                    model.copy_block(from, to);
                }
                let sequence = tables.len();
                tables.push([&table.blocks[..full], &own].concat());
                for (i, pair) in tokens.windows(2).enumerate() {
                    let row = Row { sequence, position: start + i, token: pair[0], wants_logits: true };
                    rows.push(Target { row, tokens: vec![(*index, pair[1])] });
                }
            }
        }
        read_tables(model, &rows, &tables, scores)
    }
}

/// Returns the number of whole blocks of `before` whose tokens the context begins with; its last token is not counted,
/// since its logits are wanted.
fn common_blocks(before: &Table<'_>, context: &[u32], block_tokens: usize) -> usize {
    let pairs = before.tokens.iter().zip(&context[..context.len() - 1]);
    pairs.take_while(|(a, b)| a == b).count() / block_tokens
}

fn read_tables(
    model: &mut dyn ForwardPass,
    rows: &[Target],
    tables: &[Vec<u32>],
    scores: &mut [Likelihood],
) -> Result<(), Error> {
    let blocks: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
    read(model, rows, &blocks, scores)
}

/// Reads rows in pieces of bounded size, and adds the log probabilities of their targets.
fn read(
    model: &mut dyn ForwardPass,
    rows: &[Target],
    blocks: &[&[u32]],
    scores: &mut [Likelihood],
) -> Result<(), Error> {
    let vocab_size = model.vocab_size();
    let max_logit_rows = (MAX_LOGITS / vocab_size).max(MIN_LOGIT_ROWS);
    let (mut rest, mut logits) = (rows, Vec::new());
    while !rest.is_empty() {
        let mut wanted = 0;
        let fits = |target: &&Target| {
            wanted += usize::from(target.row.wants_logits);
            wanted <= max_logit_rows
        };
        let piece = rest.iter().take(MAX_ROWS).take_while(fits).count();
        let (piece, after) = rest.split_at(piece);
        logits.clear();
        model.forward(&piece.iter().map(|target| target.row).collect::<Vec<_>>(), blocks, &mut logits)?;
        let targets: Vec<&Target> = piece.iter().filter(|target| target.row.wants_logits).collect();
        let scored: Vec<Vec<(usize, Likelihood)>> =
            logits.par_chunks_exact(vocab_size).zip(&targets).map(|(logits, target)| target.score(logits)).collect();
        for (target, scored) in targets.iter().zip(scored) {
            for (index, token) in scored {
                if !token.log_likelihood.is_finite() && !logits.iter().all(|logit| logit.is_finite()) {
                    return Err(Error::NotFinite { position: target.row.position });
                }
                // In the order of positions, so that the sum does not depend on the number of threads.
                scores[index].log_likelihood += token.log_likelihood;
                scores[index].is_greedy &= token.is_greedy;
            }
        }
        rest = after;
    }
    Ok(())
}

impl Target {
    fn score(&self, logits: &[f32]) -> Vec<(usize, Likelihood)> {
        let normalizer = slices::log_sum_exp(logits);
        let mut best = 0;
        for (id, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = id;
            }
        }
        let likelihood = |token: u32| Likelihood {
            log_likelihood: f64::from(logits[token as usize] - normalizer),
            is_greedy: token as usize == best,
        };
        self.tokens.iter().map(|(index, token)| (*index, likelihood(*token))).collect()
    }
}
