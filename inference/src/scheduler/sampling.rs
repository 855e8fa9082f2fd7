//! After the forward pass: from its results to tokens, embeddings, weights of attention and events.

use super::sequence::{Sample, Sequence};
use super::step::Chunk;
use super::{Event, FinishReason, RowLogits, Scheduler};
use crate::{Error, ForwardPass, RowResult, sampler};

impl<M: ForwardPass> Scheduler<M> {
    /// Moves on the sequences whose chunks have been read.
    pub(super) fn advance(&mut self, chunks: Vec<Chunk>, on_logits: &mut dyn FnMut(RowLogits<'_>)) {
        let results = std::mem::take(&mut self.results);
        let mut rest = &results[..];
        let vocab_size = self.settings.vocab_size.unwrap_or(self.model.vocab_size());
        for Chunk { turn, tokens, negative_tokens, draft } in chunks {
            let Some(mut sequence) = self.running.remove(&turn) else { continue };
            let read = sequence.computed..sequence.computed + tokens + draft.len();
            let (mut is_broken, result_len, mut weights) = (false, self.result_len(&sequence), None);
            let mut sampled_rows = Vec::with_capacity(1 + draft.len());
            for position in read {
                let (is_scored, is_sampled) = (sequence.is_scored(position), sequence.is_sampled(position));
                if !(is_scored || is_sampled) {
                    continue;
                }
                let (result, others) = rest.split_at(result_len);
                rest = others;
                match sequence.request.result() {
                    RowResult::HiddenState => {
                        is_broken |= !sequence.pool(result);
                        continue;
                    }
                    RowResult::Attention { .. } => {
                        is_broken |= !result.iter().all(|weight| weight.is_finite());
                        weights = Some(result.to_vec());
                        continue;
                    }
                    RowResult::Logits => {}
                }
                let row = &result[..vocab_size];
                if is_scored {
                    is_broken |= !is_usable(row);
                    let next = sequence.request.prompt.get(position + 1).copied();
                    on_logits(RowLogits {
                        request: sequence.id,
                        sample: None,
                        position: position + 1,
                        next,
                        logits: row,
                    });
                }
                if is_sampled {
                    sampled_rows.push(row);
                }
            }
            sequence.computed += tokens;
            let mut negative_row = None;
            if let Some(negative) = sequence.negative.as_mut().filter(|_| negative_tokens > 0) {
                negative.computed += negative_tokens;
                if negative.unread() == 0 {
                    let (result, others) = rest.split_at(result_len);
                    rest = others;
                    negative_row = Some(&result[..vocab_size]);
                }
            }
            sequence.scored = sequence.scored.max(sequence.computed.min(sequence.request.prompt.len()));
            self.register(&mut sequence);
            if is_broken {
                self.fail_broken(sequence);
            } else if sequence.unread() > 0 {
                self.running.insert(turn, sequence);
            } else if sequence.request.embeds {
                self.events.push(Event::Embedding { request: sequence.id, embedding: sequence.embedding() });
                self.finish(sequence, FinishReason::Stop);
            } else if let Some(weights) = weights {
                self.events.push(Event::Attention { request: sequence.id, weights });
                self.finish(sequence, FinishReason::Stop);
            } else if sequence.remaining_tokens() == 0 {
                self.finish(sequence, FinishReason::Length);
            } else {
                self.split(sequence, &sampled_rows, negative_row, &draft, on_logits);
            }
        }
        self.results = results;
    }

    /// Makes a sequence of each of the samples, with the same blocks, and extends them all.
    fn split(
        &mut self,
        mut sequence: Sequence,
        rows: &[&[f32]],
        negative_row: Option<&[f32]>,
        draft: &[u32],
        on_logits: &mut dyn FnMut(RowLogits<'_>),
    ) {
        let others = sequence.samples.split_off(1);
        let forks: Vec<Sequence> = others.into_iter().map(|sample| self.fork(&sequence, Some(sample))).collect();
        self.extend(sequence, rows, negative_row, draft, on_logits);
        for fork in forks {
            self.extend(fork, rows, negative_row, &[], on_logits);
        }
    }

    fn fork(&mut self, sequence: &Sequence, sample: Option<Sample>) -> Sequence {
        Sequence {
            request: sequence.request.clone(),
            samples: sample.into_iter().collect(),
            tokens: sequence.tokens.clone(),
            pooled: Vec::new(),
            table: sequence.table.as_ref().map(|table| self.pool.fork(table)),
            negative: sequence.negative.as_ref().map(|negative| Box::new(self.fork(negative, None))),
            ..*sequence
        }
    }

    /// Samples the next token of a sequence with one sample, and one more for every token of the draft that was right.
    ///
    /// Speculative decoding (Fast Inference from Transformers via Speculative Decoding, Leviathan et al., 2023) accepts
    /// a token x of a draft with probability min(1, p(x) / q(x)), and otherwise samples from what p has more than q.
    /// Here a token is sampled from p with the random number that it would have without a draft, and compared with x:
    /// for a draft that was looked up, q(x) = 1, that is the same, and a draft model draws x with the same random
    /// number from q. So a seed gives the same tokens with and without drafts.
    fn extend(
        &mut self,
        mut sequence: Sequence,
        rows: &[&[f32]],
        negative_row: Option<&[f32]>,
        draft: &[u32],
        on_logits: &mut dyn FnMut(RowLogits<'_>),
    ) {
        self.counters.drafted_tokens += draft.len() as u64;
        let mut logits = Vec::new();
        for (i, &row) in rows.iter().enumerate() {
            logits.clear();
            logits.extend_from_slice(row);
            let request = &sequence.request;
            if let (Some(guidance), Some(negative_row)) = (request.active_guidance(), negative_row) {
                guidance.apply(&mut logits, negative_row);
            }
            if !is_usable(&logits) {
                return self.fail_broken(sequence);
            }
            let sample = &mut sequence.samples[0];
            let (index, uniform) = (sample.index, sample.uniforms.draw());
            sampler::add_bias(&mut logits, &request.logit_bias);
            if let Some(guide) = &mut sample.guide {
                match guide.restrict(&mut logits) {
                    Ok(true) => {}
                    Ok(false) => return self.finish(sequence, FinishReason::Stop),
                    Err(reason) => return self.fail(sequence, |_| Error::Constraint { reason: reason.clone() }),
                }
            }
            let prompt_tokens = request.prompt.len();
            let token = sampler::pick(&mut logits, &sequence.tokens, prompt_tokens, &request.sampling, uniform);
            if sequence.request.wants_logits {
                on_logits(RowLogits {
                    request: sequence.id,
                    sample: Some(index),
                    position: sequence.tokens.len(),
                    next: Some(token),
                    logits: row,
                });
            }
            sequence.push(token);
            self.counters.sampled_tokens += 1;
            self.events.push(Event::Token { request: sequence.id, sample: index, token });
            if sequence.request.stop_tokens.contains(token) {
                return self.finish(sequence, FinishReason::Stop);
            }
            if let Some(guide) = &mut sequence.samples[0].guide {
                match guide.accept(token) {
                    Ok(false) => {}
                    Ok(true) => return self.finish(sequence, FinishReason::Stop),
                    Err(reason) => return self.fail(sequence, |_| Error::Constraint { reason: reason.clone() }),
                }
            }
            if sequence.remaining_tokens() == 0 {
                return self.finish(sequence, FinishReason::Length);
            }
            if draft.get(i) != Some(&token) {
                break;
            }
            sequence.computed += 1;
            self.counters.accepted_tokens += 1;
        }
        self.register(&mut sequence);
        if self.taken_places() + sequence.places() <= self.settings.max_sequences {
            self.running.insert(sequence.turn(), sequence);
        } else {
            // A sample beyond the limit waits; it starts with the blocks of the prompt if prefixes are reused.
            self.release(&mut sequence);
            self.waiting.insert(sequence.turn(), sequence);
        }
    }

    /// Ends all samples of a sequence whose results are not finite.
    fn fail_broken(&mut self, sequence: Sequence) {
        self.fail(sequence, |sequence| Error::NotFinite { position: sequence.tokens.len() });
    }

    /// Ends all samples of a sequence with an error.
    fn fail(&mut self, mut sequence: Sequence, error: impl Fn(&Sequence) -> Error) {
        self.release(&mut sequence);
        for sample in &sequence.samples {
            let error = error(&sequence);
            self.events.push(Event::Failed { request: sequence.id, sample: sample.index, error });
            self.count_finished(sequence.id);
        }
    }

    /// Makes the full blocks of a sequence available to others.
    pub(super) fn register(&mut self, sequence: &mut Sequence) {
        if let Some(mut table) = sequence.table.take() {
            self.pool.register(&mut table, sequence.computed_tokens());
            sequence.table = Some(table);
        }
        if let Some(negative) = &mut sequence.negative {
            self.register(negative);
        }
    }
}

/// Returns true if a token can be sampled from the logits.
pub(super) fn is_usable(logits: &[f32]) -> bool {
    logits.iter().all(|logit| *logit < f32::INFINITY) && logits.iter().any(|logit| logit.is_finite())
}
