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
    let blocks: Vec<u32> = (0..windows.window.div_ceil(model.block_tokens()) as u32).collect();
    let mut logits = Vec::new();
    let predict = |windows: &[Window]| {
        let mut sums = Sums::default();
        for window in windows {
            sums.add(&predict(model, window, &blocks, &mut logits)?);
        }
        Ok(sums)
    };
    scoring::score_with(config, split, windows, predict, on_progress)
}

fn predict(model: &mut dyn ForwardPass, window: &Window, blocks: &[u32], logits: &mut Vec<f32>) -> Result<Sums, Error> {
    let vocab_size = model.vocab_size();
    let step = (MAX_LOGITS / vocab_size).max(MIN_ROWS);
    let mut sums = Sums::default();
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
        let targets: Vec<u32> =
            rows.iter().filter(|row| row.wants_logits).map(|row| window.tokens[row.position + 1]).collect();
        let token = |(logits, target): (&[f32], &u32)| {
            let own = logits[*target as usize];
            let rank = logits.iter().filter(|logit| **logit > own).count();
            Sums::of_token(own - slices::log_sum_exp(logits), rank)
        };
        let tokens: Vec<Sums> = logits.par_chunks_exact(vocab_size).zip(&targets).map(token).collect();
        // In order, so that the sum does not depend on the number of threads.
        for token in &tokens {
            sums.add(token);
        }
    }
    Ok(sums)
}
