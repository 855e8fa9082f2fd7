//! The loss and accuracy of a model over a split of the tokens; where the split says what is to be learned, as that of
//! chats does, over those tokens alone, and of pairs over the chosen answers.
//!
//! Dimensions: B windows, T tokens, V vocabulary.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use tokenizer::shard::Split;

use crate::{Backend, Error, Transformer};

/// What [`score`] measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    /// Mean cross-entropy of the next token, in nats.
    pub loss_nats: f64,
    /// How many tokens were predicted.
    pub tokens: u64,
    /// The share of tokens that were the likeliest.
    pub top1: f64,
    /// The share of tokens among the five likeliest.
    pub top5: f64,
}

/// How to walk over a split.
#[derive(Debug, Clone, Copy)]
pub struct SlidingWindow {
    /// How many tokens of the split to read, from its start; all of them where none.
    pub max_tokens: Option<u64>,
    /// T, the window: what the model sees at a time, at most its context length.
    pub window: usize,
    /// How many tokens the windows move on each time. Below `window` they overlap: the first `window − stride` tokens
    /// of all windows but the first are only context, so every token is predicted once, from at least that much
    /// context.
    pub stride: usize,
    /// B, how many windows are computed at a time.
    pub batch: usize,
}

/// Logits that a CPU computes at a time: 8 MiB of them, near enough to its caches. Sixteen windows of 256 tokens at
/// once (64 MiB) took twice as long as two, on two cores and a vocabulary of 4096.
const CPU_LOGITS: usize = 1 << 21;

/// The longest window of a walk that nobody chose: attention over the whole context of a model that reads 32,768 tokens
/// would need as much memory as the model. A guess.
const MOST_WINDOW: usize = 2048;

impl SlidingWindow {
    /// Returns a walk in windows of the whole context, up to 2,048 tokens, that do not overlap, as many at a time as
    /// suit the device.
    pub fn disjoint(model: &Transformer, max_tokens: Option<u64>) -> Self {
        let window = model.config().context_length.min(MOST_WINDOW);
        let batch = (4096 / window).max(1);
        let on_cpu = Backend::is_cpu_device(&model.device());
        let of_cpu = CPU_LOGITS / (window * model.config().vocab_size);
        Self { max_tokens, window, stride: window, batch: if on_cpu { of_cpu.clamp(1, batch) } else { batch } }
    }

    /// Returns a walk in which every token but the first few has at least half the context before it.
    pub fn overlapping(model: &Transformer, max_tokens: Option<u64>) -> Self {
        let plain = Self::disjoint(model, max_tokens);
        Self { stride: plain.window.div_ceil(2), ..plain }
    }
}

/// Returns the scores of a model over a split. `on_progress` is told how many tokens are done and says whether to go
/// on.
///
/// # Errors
/// When the split's vocabulary is not the model's, it has fewer than two tokens, nothing in it is to be learned, the
/// window is longer than the model's context, or `on_progress` says stop.
pub fn score(
    model: &Transformer,
    split: &Split,
    walk: &SlidingWindow,
    mut on_progress: impl FnMut(u64) -> bool,
) -> Result<Scores, Error> {
    let config = model.config();
    if split.vocab_size() > config.vocab_size {
        return Err(Error::Vocabulary { tokens: split.vocab_size(), model: config.vocab_size });
    }
    let total = walk.max_tokens.map_or(split.len(), |max| split.len().min(usize::try_from(max).unwrap_or(usize::MAX)));
    if total < 2 {
        return Err(Error::TooFewTokens { tokens: total });
    }
    config.check_context(walk.window)?;
    let window = walk.window;
    let stride = walk.stride.clamp(1, window);
    let device = model.device();
    let mut sums = Sums::default();
    let mut pending: Vec<Window> = Vec::new();
    let mut start = 0;
    while start + 1 < total {
        let len = window.min(total - 1 - start);
        let seen = if start == 0 { 0 } else { window - stride };
        if seen < len {
            let mut tokens = vec![0; len + 1];
            split.copy(start, &mut tokens);
            let mut scored = vec![true; len];
            split.copy_scored(start + 1, &mut scored);
            scored[..seen].fill(false);
            if pending.first().is_some_and(|first| first.tokens.len() != len + 1) {
                sums.add(&predict(model, &pending, &device)?);
                pending.clear();
            }
            pending.push(Window { tokens, scored });
        }
        start += stride;
        if pending.len() == walk.batch.max(1) || start + 1 >= total {
            sums.add(&predict(model, &pending, &device)?);
            pending.clear();
            if !on_progress(sums.tokens) {
                return Err(Error::Interrupted);
            }
        }
    }
    if sums.tokens == 0 {
        return Err(Error::TooFewTokens { tokens: 0 });
    }
    let share = |count: u64| count as f64 / sums.tokens as f64;
    Ok(Scores {
        loss_nats: sums.loss_nats / sums.tokens as f64,
        tokens: sums.tokens,
        top1: share(sums.top1),
        top5: share(sums.top5),
    })
}

struct Window {
    tokens: Vec<u32>,  // T + 1
    scored: Vec<bool>, // T, whether each target counts
}

#[derive(Default)]
struct Sums {
    loss_nats: f64,
    tokens: u64,
    top1: u64,
    top5: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.loss_nats += other.loss_nats;
        self.tokens += other.tokens;
        self.top1 += other.top1;
        self.top5 += other.top5;
    }
}

/// Predicts windows of one length; a token's rank is the number of tokens that are likelier.
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
    let log_probabilities = log_softmax(logits, 2); // [B, T, V]
    let own = log_probabilities.clone().gather(2, targets); // [B, T, 1]
    let ranks = log_probabilities.greater(own.clone()).int().sum_dim(2); // [B, T, 1]
    let own: Vec<f32> = read(own)?;
    let ranks: Vec<i64> = read(ranks)?;
    for (i, window) in windows.iter().enumerate() {
        for at in (0..t).filter(|at| window.scored[*at]).map(|at| i * t + at) {
            sums.loss_nats -= f64::from(own[at]);
            sums.top1 += u64::from(ranks[at] < 1);
            sums.top5 += u64::from(ranks[at] < 5);
            sums.tokens += 1;
        }
    }
    Ok(sums)
}

fn read<const D: usize, K: burn::tensor::kind::Basic, E: burn::tensor::Element>(
    tensor: Tensor<D, K>,
) -> Result<Vec<E>, Error> {
    tensor.try_into_vec_as().map_err(|e| Error::Compute { what: "scores", source: Box::new(e) })
}
