//! A model whose logits are a hash of the tokens that it reads back from its blocks, and what a request becomes alone.

use inference::sampler::{self, Uniforms};
use inference::{
    Adapter, Constraint, Error, FinishReason, ForwardPass, Request, Row, RowResult, SequenceRef, TokenMask,
};

/// What a block holds of a token: its id, and a hash of it and of all tokens before it, as the keys and values of a
/// Transformer depend on all tokens before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    token: u32,
    hash: u64,
}

#[derive(Debug)]
pub struct Mock {
    pub vocab_size: usize,
    pub context_length: usize,
    pub block_tokens: usize,
    /// Added to the logits of every other token, as a model that is a little different.
    pub noise: f32,
    /// The calls of `forward` that fail.
    pub failing_calls: Vec<usize>,
    pub calls: usize,
    pub copies: usize,
    /// The rows of the latest call.
    pub rows: Vec<Row>,
    slots: Vec<Option<Slot>>,
}

impl Mock {
    pub fn new(block_count: usize, block_tokens: usize) -> Self {
        Self {
            vocab_size: 8,
            context_length: 64,
            block_tokens,
            noise: 0.0,
            failing_calls: Vec::new(),
            calls: 0,
            copies: 0,
            rows: Vec::new(),
            slots: vec![None; block_count * block_tokens],
        }
    }

    fn slot(&mut self, blocks: &[u32], position: usize) -> &mut Option<Slot> {
        let block = blocks[position / self.block_tokens] as usize;
        &mut self.slots[block * self.block_tokens + position % self.block_tokens]
    }
}

impl ForwardPass for Mock {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    fn block_count(&self) -> usize {
        self.slots.len() / self.block_tokens
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        let start = from as usize * self.block_tokens;
        self.slots.copy_within(start..start + self.block_tokens, to as usize * self.block_tokens);
        self.copies += 1;
    }

    fn forward_sequences(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), Error> {
        self.calls += 1;
        self.rows = rows.to_vec();
        let fails = self.failing_calls.contains(&self.calls);
        let mut written = Vec::new();
        for row in rows {
            assert!(row.position < self.context_length, "{row:?} is beyond the context");
            let blocks = sequences[row.sequence].blocks;
            let before = match row.position.checked_sub(1) {
                Some(position) => self.slot(blocks, position).expect("the row before is written"),
                None => start(sequences[row.sequence].adapter),
            };
            let slot = before.then(row.token);
            // A failing pass leaves nonsense behind.
            *self.slot(blocks, row.position) = Some(if fails { START } else { slot });
            written.push(blocks[row.position / self.block_tokens]);
        }
        if fails {
            return Err(Error::Device { reason: "out of memory".to_owned() });
        }
        for block in written {
            let holders = sequences.iter().filter(|sequence| sequence.blocks.contains(&block)).count();
            assert_eq!(holders, 1, "block {block} is written while it is shared");
        }
        for row in rows.iter().filter(|row| row.wants_logits) {
            let SequenceRef { blocks, result, .. } = sequences[row.sequence];
            let seen: Vec<Slot> = (0..=row.position).map(|position| self.slot(blocks, position).unwrap()).collect();
            if result == RowResult::HiddenState {
                results.extend(state_after(&seen));
                continue;
            }
            let row = logits_after(&seen, self.vocab_size).into_iter().enumerate();
            results.extend(row.map(|(token, logit)| if token % 2 == 0 { logit } else { logit + self.noise }));
        }
        Ok(())
    }
}

/// Returns what comes before the first token: everything depends on the adapter.
fn start(adapter: Option<&Adapter>) -> Slot {
    let Some(adapter) = adapter else { return START };
    let digest = adapter.digest().iter().fold(0, |all, byte| mix(all, u64::from(*byte)));
    Slot { hash: mix(START.hash, digest), ..START }
}

const START: Slot = Slot { token: 0, hash: 0x9e37_79b9_7f4a_7c15 };
/// The number of elements of a hidden state.
const WIDTH: usize = 3;
/// The logits after this token are NaN, if it is in the vocabulary, and its hidden state.
pub const BROKEN: u32 = 1000;

impl Slot {
    fn then(self, token: u32) -> Self {
        Self { token, hash: mix(self.hash, u64::from(token) + 1) }
    }
}

/// `SplitMix64`.
fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns logits in [-2, 2), and 2 more for the token after the last one, so that texts repeat themselves.
fn logits_after(slots: &[Slot], vocab_size: usize) -> Vec<f32> {
    let all = slots.iter().fold(0, |all, slot| mix(all, slot.hash ^ u64::from(slot.token)));
    let last = slots.last().unwrap().token;
    if last == BROKEN {
        return vec![f32::NAN; vocab_size];
    }
    let likely = (last + 1) % vocab_size as u32;
    let logit = |token: u32| {
        let random = (mix(all, u64::from(token)) >> 40) as f32 / (1 << 22) as f32 - 2.0;
        random + if token == likely { 2.0 } else { 0.0 }
    };
    (0..vocab_size as u32).map(logit).collect()
}

/// Returns elements in [-1, 3).
fn state_after(slots: &[Slot]) -> [f32; WIDTH] {
    let all = slots.iter().fold(1, |all, slot| mix(all, slot.hash ^ u64::from(slot.token)));
    let is_broken = slots.last().is_some_and(|slot| slot.token == BROKEN);
    std::array::from_fn(
        |i| {
            if is_broken { f32::NAN } else { (mix(all, i as u64) >> 40) as f32 / (1 << 22) as f32 - 1.0 }
        },
    )
}

/// Returns the logits after `tokens`, without blocks.
pub fn logits(tokens: &[u32], adapter: Option<&Adapter>, vocab_size: usize) -> Vec<f32> {
    logits_after(&slots(tokens, adapter), vocab_size)
}

fn slots(tokens: &[u32], adapter: Option<&Adapter>) -> Vec<Slot> {
    let then = |slot: &mut Slot, &token: &u32| {
        *slot = slot.then(token);
        Some(*slot)
    };
    tokens.iter().scan(start(adapter), then).collect()
}

/// Reference implementation: the embedding of `tokens`, from the mean of their states.
pub fn embedding(tokens: &[u32], adapter: Option<&Adapter>) -> Vec<f32> {
    let slots = slots(tokens, adapter);
    let mut mean = [0.0_f64; WIDTH];
    for end in 1..=slots.len() {
        let state = state_after(&slots[..end]);
        mean.iter_mut().zip(state).for_each(|(mean, x)| *mean += f64::from(x) / slots.len() as f64);
    }
    let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
    mean.iter().map(|x| (x / length) as f32).collect()
}

/// What a sample becomes: its tokens, the logits from which they were chosen, and why it ended.
pub struct Alone {
    pub tokens: Vec<u32>,
    pub logits: Vec<Vec<f32>>,
    pub reason: FinishReason,
}

/// Reference implementation: computes every token from the whole window, one sample at a time.
pub fn alone(mock: &Mock, request: &Request, sample: usize) -> Alone {
    let mut uniforms = Uniforms::new(request.sampling.seed.wrapping_add(sample as u64));
    let mut alone = Alone { tokens: Vec::new(), logits: Vec::new(), reason: FinishReason::Length };
    let mut sequence = request.prompt.clone();
    let guidance = request.guidance.as_ref().filter(|guidance| guidance.is_active());
    let last = request.prompt[request.prompt.len() - 1..].to_vec();
    let mut negative = guidance.map(|guidance| guidance.negative_prompt.clone().unwrap_or(last));
    let mut constraint = request.constraint.clone();
    let mut windows = [0; 2];
    for remaining in (1..=request.max_tokens).rev() {
        let mut row_after = |sequence: &[u32], which: usize| {
            if sequence.len() - windows[which] > mock.context_length {
                windows[which] = sequence.len() - (mock.context_length - (remaining - 1).min(mock.context_length / 2));
            }
            logits(&sequence[windows[which]..], request.adapter.as_deref(), mock.vocab_size)
        };
        let row = row_after(&sequence, 0);
        let mut biased = row.clone();
        if let (Some(guidance), Some(negative)) = (guidance, &negative) {
            guidance.apply(&mut biased, &row_after(negative, 1));
        }
        sampler::add_bias(&mut biased, &request.logit_bias);
        if let Some(constraint) = &mut constraint
            && !constraint.allowed().unwrap().apply(&mut biased)
        {
            alone.reason = FinishReason::Stop;
            break;
        }
        let token = sampler::pick(&mut biased, &sequence, request.prompt.len(), &request.sampling, uniforms.draw());
        sequence.push(token);
        if let Some(negative) = &mut negative {
            negative.push(token);
        }
        alone.tokens.push(token);
        alone.logits.push(row);
        let is_complete = constraint.as_mut().is_some_and(|constraint| constraint.accept(token).unwrap());
        if is_complete || request.stop_tokens.contains(token) {
            alone.reason = FinishReason::Stop;
            break;
        }
    }
    alone
}

/// Allows two of three tokens, others at each step, and none after `steps` tokens.
#[derive(Debug, Clone)]
pub struct Rotating {
    pub step: u32,
    pub steps: u32,
    /// Whether the last token completes the text, instead of leaving nothing allowed.
    pub completes: bool,
}

impl Constraint for Rotating {
    fn allowed(&mut self) -> Result<TokenMask, String> {
        let is_allowed = |token: &u32| self.step < self.steps && !(token + self.step).is_multiple_of(3);
        Ok(TokenMask::from_words(vec![(0..32).filter(is_allowed).map(|token| 1 << token).sum()]))
    }

    fn accept(&mut self, token: u32) -> Result<bool, String> {
        if !self.allowed()?.allows(token) {
            return Err(format!("{token} is not allowed"));
        }
        self.step += 1;
        Ok(self.completes && self.step == self.steps)
    }

    fn accepts(&mut self, tokens: &[u32]) -> usize {
        let mut ahead = self.clone();
        tokens.iter().take_while(|token| ahead.accept(**token).is_ok()).count()
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}
