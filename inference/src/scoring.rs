//! The loss and accuracy of a model over a split of the tokens, through its forward pass.
//!
//! Dimensions: V vocabulary.

use kernels::slices;
use model::ModelConfig;
use model::scoring::{self, Scores, SlidingWindow, Sums, Window};
use rayon::prelude::*;
use tokenizer::shard::Split;

use crate::{Error, ForwardPass, Row};

/// The maximum number of logits computed at a time: 8 MiB, about the size of a processor's caches.
const MAX_LOGITS: usize = 1 << 21;

/// The fewest rows computed at a time, whatever the vocabulary: enough that the weights are not read for each row.
const MIN_ROWS: usize = 32;

/// How a model predicted one token of a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The index of the token in the split.
    pub index: usize,
    /// The number of tokens before it that the model saw, at least one.
    pub context_tokens: usize,
    /// The natural logarithm of the probability that the model gave it.
    pub log_probability: f32,
    /// The number of tokens that the model gave a higher probability.
    pub rank: usize,
    /// The natural logarithm of the probability of the most likely token: the model's confidence.
    pub top_log_probability: f32,
}

/// As [`model::scoring::score`]. Windows are computed one after the other, and logits only where a target counts.
///
/// # Errors
/// As [`model::scoring::score`].
pub fn score(
    model: &mut dyn ForwardPass,
    config: &ModelConfig,
    split: &Split,
    windows: &SlidingWindow,
    on_progress: impl FnMut(u64) -> bool,
) -> Result<Scores, Error> {
    score_tokens(model, config, split, windows, |_| (), on_progress)
}

/// As [`score`], and passes every scored token to `on_token`, in the order of the split.
///
/// # Errors
/// As [`score`].
pub fn score_tokens(
    model: &mut dyn ForwardPass,
    config: &ModelConfig,
    split: &Split,
    windows: &SlidingWindow,
    mut on_token: impl FnMut(&TokenScore),
    on_progress: impl FnMut(u64) -> bool,
) -> Result<Scores, Error> {
    let blocks: Vec<u32> = (0..windows.window.div_ceil(model.block_tokens()) as u32).collect();
    let mut logits = Vec::new();
    let predict = |windows: &[Window]| {
        let mut sums = Sums::default();
        for window in windows {
            for token in predict(model, window, &blocks, &mut logits)? {
                sums.add(&Sums::of_token(token.log_probability, token.rank));
                on_token(&token);
            }
        }
        Ok(sums)
    };
    scoring::score_with(config, split, windows, predict, on_progress)
}

/// Returns the scored tokens of a window in order, so that sums over them do not depend on the number of threads.
fn predict(
    model: &mut dyn ForwardPass,
    window: &Window,
    blocks: &[u32],
    logits: &mut Vec<f32>,
) -> Result<Vec<TokenScore>, Error> {
    let vocab_size = model.vocab_size();
    let step = (MAX_LOGITS / vocab_size).max(MIN_ROWS);
    let mut scores = Vec::new();
    let rows: Vec<Row> = (0..window.scored.len())
        .map(|position| Row {
            sequence: 0,
            position,
            token: window.tokens[position],
            wants_logits: window.scored[position],
        })
        .collect();
    for rows in rows.chunks(step) {
        logits.clear();
        model.forward(rows, &[blocks], logits)?;
        let scored: Vec<&Row> = rows.iter().filter(|row| row.wants_logits).collect();
        let score = |(logits, row): (&[f32], &&Row)| {
            let own = logits[window.tokens[row.position + 1] as usize];
            let log_sum_exp = slices::log_sum_exp(logits);
            TokenScore {
                index: window.start + row.position + 1,
                context_tokens: row.position + 1,
                log_probability: own - log_sum_exp,
                rank: logits.iter().filter(|logit| **logit > own).count(),
                top_log_probability: slices::largest(logits) - log_sum_exp,
            }
        };
        scores.par_extend(logits.par_chunks_exact(vocab_size).zip(&scored).map(score));
    }
    Ok(scores)
}
