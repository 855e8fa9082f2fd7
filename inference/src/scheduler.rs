//! The scheduler: many requests at once through one model.
//!
//! Every step is one forward pass over the rows of many sequences; sequences come and go between any two steps (Orca: A
//! Distributed Serving System for Transformer-Based Generative Models, 2022). A step reads at most
//! [`Settings::max_step_tokens`] tokens: first the latest token of every sequence that is being decoded, then chunks of
//! prompts (Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve, 2024), so a long prompt does not
//! delay the others' next tokens. What is left goes to speculative decoding.
//!
//! The order of service is by priority, then by arrival. When the KV cache is full, the last sequence in that order
//! gives up its blocks and is computed again later, so the first always advances, and with it everyone in finite time.
//!
//! What a sequence becomes depends on its request alone: not on the other sequences, on preemptions, on reused blocks
//! or on speculation (as far as the model's rows do not depend on one another, [`ForwardPass::forward`]).
//!
//! ```no_run
//! use inference::{Event, ForwardPass, Request, Scheduler, Settings};
//!
//! # fn example(model: impl ForwardPass) -> Result<(), inference::Error> {
//! let mut scheduler = Scheduler::new(model, Settings::default())?;
//! let question = scheduler.submit(Request { priority: 1, ..Request::new(vec![5, 9, 2], 20) })?;
//! while !scheduler.is_idle() {
//!     for event in scheduler.step()? {
//!         match event {
//!             Event::Token { request, sample, token } => println!("{request}, sample {sample}: {token}"),
//!             Event::Finished { request, .. } if request == question => println!("done"),
//!             other => println!("{other:?}"),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod counters;
mod draft;
mod draft_model;
mod guidance;
mod request;
mod sampling;
mod sequence;
mod step;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use counters::Counters;
pub use guidance::Guidance;
pub use request::{Event, FinishReason, Request, RequestId, RowLogits, Settings};

use crate::blocks::BlockPool;
use crate::{Error, ForwardPass, InvalidSetting, RowResult};
use draft_model::DraftModel;
use sequence::{Sequence, Turn};

/// Runs requests on a model.
#[derive(Debug)]
pub struct Scheduler<M> {
    model: M,
    draft_model: Option<DraftModel<M>>,
    settings: Settings,
    pool: BlockPool,
    /// Requests of which a sample is not finished, with the number of such samples and the priority.
    unfinished: BTreeMap<RequestId, Unfinished>,
    waiting: BTreeMap<Turn, Sequence>,
    running: BTreeMap<Turn, Sequence>,
    next_id: u64,
    /// Events that no step has returned yet.
    events: Vec<Event>,
    /// The counts since the scheduler was made; those of the moment are filled in by [`Scheduler::counters`].
    counters: Counters,
    /// The results of the latest forward pass.
    results: Vec<f32>,
}

#[derive(Debug)]
struct Unfinished {
    samples: usize,
    priority: i32,
}

impl<M: ForwardPass> Scheduler<M> {
    /// Returns a scheduler without requests.
    ///
    /// # Errors
    /// Returns an error that names the first setting out of range.
    pub fn new(model: M, settings: Settings) -> Result<Self, Error> {
        settings.validate(model.vocab_size())?;
        let pool = BlockPool::new(model.block_count(), model.block_tokens(), settings.reuse_prefixes);
        Ok(Self {
            model,
            draft_model: None,
            settings,
            pool,
            unfinished: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            next_id: 0,
            events: Vec::new(),
            counters: Counters::default(),
            results: Vec::new(),
        })
    }

    /// Lets a smaller model of the same vocabulary write the drafts of speculative decoding, in place of looking them
    /// up.
    ///
    /// # Errors
    /// Returns an error if that model's vocabulary is smaller.
    pub fn with_draft_model(self, model: M) -> Result<Self, Error> {
        let (expected, found) = ("a model of the same vocabulary", model.vocab_size());
        if found < self.settings.vocab_size.unwrap_or(self.model.vocab_size()) {
            let found = format!("one of {found} tokens");
            return Err(InvalidSetting { name: "draft_model", expected, found }.into());
        }
        Ok(Self { draft_model: Some(DraftModel::new(model)), ..self })
    }

    /// Adds a request; the next step may already run it.
    ///
    /// # Errors
    /// Returns an error if the request is invalid or could not be finished even with the whole cache for itself.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, Error> {
        self.check(&request)?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.unfinished.insert(id, Unfinished { samples: request.n, priority: request.priority });
        let sequence = Sequence::new(id, Arc::new(request));
        let is_read = sequence.request.scores_prompt || sequence.request.result() != RowResult::Logits;
        if sequence.request.max_tokens == 0 && !is_read {
            self.finish(sequence, FinishReason::Length);
        } else {
            self.waiting.insert(sequence.turn(), sequence);
        }
        Ok(id)
    }

    /// Cancels a request: its blocks are given up at once, and the next step reports its samples as cancelled. Returns
    /// false if the request is unknown or finished.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let sequences = self.remove(id);
        let was_unfinished = !sequences.is_empty();
        for sequence in sequences {
            self.finish(sequence, FinishReason::Cancelled);
        }
        was_unfinished
    }

    /// Ends one sample of a request, such as one whose text has reached a stop string, and lets the others continue.
    /// The next step reports it as finished with [`FinishReason::Stop`]. Returns false if it is unknown or finished.
    pub fn stop(&mut self, id: RequestId, sample: usize) -> bool {
        let mut was_unfinished = false;
        for mut sequence in self.remove(id) {
            if let Some(at) = sequence.samples.iter().position(|other| other.index == sample) {
                was_unfinished = true;
                sequence.samples.remove(at);
                self.report_finished(id, sample, FinishReason::Stop);
            }
            if sequence.samples.is_empty() {
                self.release(&mut sequence);
            } else if sequence.table.is_some() {
                self.running.insert(sequence.turn(), sequence);
            } else {
                self.waiting.insert(sequence.turn(), sequence);
            }
        }
        was_unfinished
    }

    /// Returns true if there is nothing to do: no request is unfinished, and every event has been returned.
    pub fn is_idle(&self) -> bool {
        self.unfinished.is_empty() && self.events.is_empty()
    }

    /// Returns the counts.
    pub fn counters(&self) -> Counters {
        Counters {
            waiting: self.waiting.values().map(Sequence::places).sum(),
            running: self.taken_places(),
            blocks: self.model.block_count(),
            used_blocks: self.pool.used(),
            cached_blocks: self.pool.cached(),
            ..self.counters
        }
    }

    /// Returns the model.
    pub fn model(&self) -> &M {
        &self.model
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        request.sampling.validate()?;
        if let Some((_, bias)) = request.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            let found = bias.to_string();
            return Err(InvalidSetting { name: "logit_bias", expected: "finite numbers", found }.into());
        }
        if let Some(guidance) = &request.guidance {
            guidance.validate()?;
        }
        if request.n == 0 {
            return Err(InvalidSetting { name: "n", expected: "at least 1", found: "0".to_owned() }.into());
        }
        if request.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let (vocab_size, context_length) = (self.model.vocab_size(), self.model.context_length());
        let negative_prompt = request.negative_prompt();
        let mut tokens = request.prompt.iter().chain(negative_prompt.unwrap_or_default());
        if let Some(&token) = tokens.find(|token| **token as usize >= vocab_size) {
            return Err(Error::UnknownToken { token, vocab_size });
        }
        let is_continued = request.result() == RowResult::Logits;
        let has_others = request.embeds && request.attention_layer.is_some();
        if !is_continued && (has_others || (request.n, request.max_tokens, request.scores_prompt) != (1, 0, false)) {
            let name = if request.embeds { "embeds" } else { "attention_layer" };
            let expected = "alone, without tokens to sample or a prompt to score";
            return Err(InvalidSetting { name, expected, found: "with them".to_owned() }.into());
        }
        self.check_guidance(request)?;
        if let Some(layer) = request.attention_layer {
            let [n_layer, _] = self.model.attention_heads().ok_or(Error::NoAttentionWeights)?;
            if layer >= n_layer {
                let (expected, found) = ("below the number of layers", layer.to_string());
                return Err(InvalidSetting { name: "attention_layer", expected, found }.into());
            }
        }
        if (request.scores_prompt || !is_continued) && request.prompt.len() > context_length {
            return Err(Error::PromptTooLong { tokens: request.prompt.len(), context_length });
        }
        // The last sampled token is never read.
        let read =
            |prompt: &[u32]| prompt.len().saturating_add(request.max_tokens.saturating_sub(1)).min(context_length);
        let (block_tokens, is_guided) = (self.pool.block_tokens(), negative_prompt.is_some());
        let of_negative = negative_prompt.map(|prompt| read(prompt).next_multiple_of(block_tokens));
        let tokens = read(&request.prompt) + of_negative.unwrap_or_default();
        let cache_tokens = block_tokens * self.model.block_count();
        if tokens > cache_tokens {
            return Err(Error::CacheTooSmall { tokens, cache_tokens, is_guided });
        }
        Ok(())
    }

    /// Takes all sequences of a request out of the queues.
    fn remove(&mut self, id: RequestId) -> Vec<Sequence> {
        let Some(unfinished) = self.unfinished.get(&id) else { return Vec::new() };
        let turn = |sample| Turn { priority: Reverse(unfinished.priority), request: id, sample };
        let range = turn(0)..=turn(usize::MAX);
        let waiting = self.waiting.extract_if(range.clone(), |_, _| true).map(|(_, sequence)| sequence);
        let mut sequences: Vec<Sequence> = waiting.collect();
        sequences.extend(self.running.extract_if(range, |_, _| true).map(|(_, sequence)| sequence));
        sequences
    }

    /// Ends all samples of a sequence.
    fn finish(&mut self, mut sequence: Sequence, reason: FinishReason) {
        self.register(&mut sequence);
        self.release(&mut sequence);
        for sample in &sequence.samples {
            self.report_finished(sequence.id, sample.index, reason);
        }
    }

    fn report_finished(&mut self, request: RequestId, sample: usize, reason: FinishReason) {
        self.events.push(Event::Finished { request, sample, reason });
        self.count_finished(request);
    }

    fn count_finished(&mut self, request: RequestId) {
        if let Some(unfinished) = self.unfinished.get_mut(&request) {
            unfinished.samples -= 1;
            if unfinished.samples == 0 {
                self.unfinished.remove(&request);
            }
        }
    }

    /// Returns how many sequences run.
    fn taken_places(&self) -> usize {
        self.running.values().map(Sequence::places).sum()
    }

    /// Gives up the blocks of a sequence, and those of the second one if its samples are guided.
    fn release(&mut self, sequence: &mut Sequence) {
        if let Some(table) = sequence.table.take() {
            self.pool.release(table);
        }
        if let Some(negative) = &mut sequence.negative {
            self.release(negative);
        }
    }
}
