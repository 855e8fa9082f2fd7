//! The loss and accuracy of a model over a split of the tokens. If the split marks the tokens to learn, as those of
//! chats do, only these count; of pairs, only the chosen answers.
//!
//! Dimensions: B windows, T tokens, V vocabulary.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use tokenizer::shard::Split;

use crate::{Backend, Error, ModelConfig, Transformer};

/// The results of [`score`].
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    /// Mean cross-entropy of the next token, in nats.
    pub loss_nats: f64,
    /// The number of predicted tokens.
    pub tokens: u64,
    /// The fraction of tokens that the model ranked first.
    pub top1: f64,
    /// The fraction of tokens that the model ranked among the first five.
    pub top5: f64,
}

/// The windows in which a split is read.
#[derive(Debug, Clone, Copy)]
pub struct SlidingWindow {
    /// The maximum number of tokens to read, from the start of the split; None for all.
    pub max_tokens: Option<u64>,
    /// T, the tokens in a window, at most the model's context length.
    pub window: usize,
    /// The tokens from the start of one window to the start of the next. Below `window`, windows overlap: the first
    /// `window − stride` tokens of all windows but the first are context only, so that every token is predicted once,
    /// from at least that much context.
    pub stride: usize,
    /// B, the number of windows computed at a time.
    pub batch: usize,
}

/// The maximum number of logits computed at a time on a CPU: 8 MiB, about the size of its caches. Sixteen windows of
/// 256 tokens at a time (64 MiB) took twice as long as two, on two cores with a vocabulary of 4096.
const MAX_CPU_LOGITS: usize = 1 << 21;

/// The longest window by default. Heuristic, not measured: attention over the whole context of a model that reads
/// 32,768 tokens needs as much memory as the model.
const MAX_WINDOW: usize = 2048;

impl SlidingWindow {
    /// Returns windows of the whole context, up to 2,048 tokens, that do not overlap, in a batch that suits the device.
    pub fn disjoint(config: &ModelConfig, device: &Device, max_tokens: Option<u64>) -> Self {
        let window = config.context_length.min(MAX_WINDOW);
        let batch = (4096 / window).max(1);
        let on_cpu = Backend::is_cpu_device(device);
        let cpu_batch = MAX_CPU_LOGITS / (window * config.vocab_size);
        Self { max_tokens, window, stride: window, batch: if on_cpu { cpu_batch.clamp(1, batch) } else { batch } }
    }

    /// Returns windows in which every token except the first ones has at least half a window of context.
    pub fn overlapping(config: &ModelConfig, device: &Device, max_tokens: Option<u64>) -> Self {
        let disjoint = Self::disjoint(config, device, max_tokens);
        Self { stride: disjoint.window.div_ceil(2), ..disjoint }
    }
}

/// Returns the scores of a model over a split. `on_progress` receives the number of predicted tokens, and returns false
/// to stop.
///
/// # Errors
/// Returns an error if the split's vocabulary is larger than the model's, the split has fewer than two tokens or none
/// to predict, or the window exceeds the model's context; [`Error::Interrupted`] if `on_progress` returns false.
pub fn score(
    model: &Transformer,
    split: &Split,
    windows: &SlidingWindow,
    on_progress: impl FnMut(u64) -> bool,
) -> Result<Scores, Error> {
    let device = model.device();
    score_with(model.config(), split, windows, |windows| predict(model, windows, &device), on_progress)
}

/// As [`score`], by any implementation of the model: `predict` returns the sums over windows of one length.
///
/// # Errors
/// As [`score`] and `predict`.
pub fn score_with<E: From<Error>>(
    config: &ModelConfig,
    split: &Split,
    windows: &SlidingWindow,
    mut predict: impl FnMut(&[Window]) -> Result<Sums, E>,
    mut on_progress: impl FnMut(u64) -> bool,
) -> Result<Scores, E> {
    if split.vocab_size() > config.vocab_size {
        return Err(Error::Vocabulary { tokens: split.vocab_size(), model: config.vocab_size }.into());
    }
    let total =
        windows.max_tokens.map_or(split.len(), |max| split.len().min(usize::try_from(max).unwrap_or(usize::MAX)));
    if total < 2 {
        return Err(Error::TooFewTokens { tokens: total }.into());
    }
    config.check_context(windows.window)?;
    let window = windows.window;
    let stride = windows.stride.clamp(1, window);
    let mut sums = Sums::default();
    let mut pending: Vec<Window> = Vec::new();
    let mut start = 0;
    while start + 1 < total {
        let len = window.min(total - 1 - start);
        let context = if start == 0 { 0 } else { window - stride };
        if context < len {
            let mut tokens = vec![0; len + 1];
            split.copy(start, &mut tokens);
            let mut scored = vec![true; len];
            split.copy_scored(start + 1, &mut scored);
            scored[..context].fill(false);
            if pending.first().is_some_and(|first| first.tokens.len() != len + 1) {
                sums.add(&predict(&pending)?);
                pending.clear();
            }
            pending.push(Window { start, tokens, scored });
        }
        start += stride;
        if pending.len() == windows.batch.max(1) || start + 1 >= total {
            sums.add(&predict(&pending)?);
            pending.clear();
            if !on_progress(sums.tokens) {
                return Err(Error::Interrupted.into());
            }
        }
    }
    if sums.tokens == 0 {
        return Err(Error::TooFewTokens { tokens: 0 }.into());
    }
    let fraction = |count: u64| count as f64 / sums.tokens as f64;
    Ok(Scores {
        loss_nats: sums.loss_nats / sums.tokens as f64,
        tokens: sums.tokens,
        top1: fraction(sums.top1),
        top5: fraction(sums.top5),
    })
}

/// A part of a split.
#[derive(Debug)]
pub struct Window {
    /// The index of the first token in the split.
    pub start: usize,
    /// `[T + 1]`: the tokens to read, and the target of the last.
    pub tokens: Vec<u32>,
    /// `[T]`: whether each target counts.
    pub scored: Vec<bool>,
}

/// Sums over predicted tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    loss_nats: f64,
    tokens: u64,
    top1: u64,
    top5: u64,
}

impl Sums {
    /// Returns the sums of one predicted token.
    ///
    /// `log_probability` is that of the target, and `rank` the number of tokens with a higher probability.
    pub fn of_token(log_probability: f32, rank: usize) -> Self {
        let loss_nats = -f64::from(log_probability);
        Self { loss_nats, tokens: 1, top1: u64::from(rank < 1), top5: u64::from(rank < 5) }
    }

    /// Adds the sums over other tokens.
    pub fn add(&mut self, other: &Self) {
        self.loss_nats += other.loss_nats;
        self.tokens += other.tokens;
        self.top1 += other.top1;
        self.top5 += other.top5;
    }
}

/// Predicts windows of one length.
fn predict(model: &Transformer, windows: &[Window], device: &Device) -> Result<Sums, Error> {
    let mut sums = Sums::default();
    let Some(first) = windows.first() else { return Ok(sums) };
    let (b, t) = (windows.len(), first.tokens.len() - 1);
    let part = |offset: usize| {
        let ids: Vec<i64> =
            windows.iter().flat_map(|w| w.tokens[offset..offset + t].iter().map(|id| i64::from(*id))).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, vec![b, t]), device)
    };
    let logits = model.forward(part(0)); // [B, T, V]
    let targets = part(1).reshape([b, t, 1]); // [B, T, 1]
    let log_probs = log_softmax(logits, 2); // [B, T, V]
    let own = log_probs.clone().gather(2, targets); // [B, T, 1]
    let ranks = log_probs.greater(own.clone()).int().sum_dim(2); // [B, T, 1]
    let own: Vec<f32> = read(own)?;
    let ranks: Vec<i64> = read(ranks)?;
    for (i, window) in windows.iter().enumerate() {
        for at in (0..t).filter(|j| window.scored[*j]).map(|j| i * t + j) {
            sums.add(&Sums::of_token(own[at], ranks[at] as usize));
        }
    }
    Ok(sums)
}

fn read<const D: usize, K: burn::tensor::kind::Basic, E: burn::tensor::Element>(
    tensor: Tensor<D, K>,
) -> Result<Vec<E>, Error> {
    tensor.try_into_vec_as().map_err(|e| Error::Compute { what: "scores", source: Box::new(e) })
}
