//! A step: who runs, and which rows the model reads.

use super::draft;
use super::sequence::{Sequence, Turn};
use super::{Event, RowLogits, Scheduler};
use crate::blocks::OutOfBlocks;
use crate::{Error, ForwardPass, Row, RowResult, SequenceRef};

/// What a step reads of a sequence.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) turn: Turn,
    /// How many unread tokens.
    pub(super) tokens: usize,
    /// How many of the second sequence of guided samples.
    pub(super) negative_tokens: usize,
    /// Tokens that may come next, to be verified.
    pub(super) draft: Vec<u32>,
}

impl<M: ForwardPass> Scheduler<M> {
    /// Runs the model once, if there is anything to run, and returns what has happened since the last step.
    ///
    /// # Errors
    /// Returns the error of the model. No event is lost, and every sequence is as it was before, so that the step may
    /// be tried again.
    pub fn step(&mut self) -> Result<Vec<Event>, Error> {
        self.step_with_logits(&mut |_| {})
    }

    /// As [`Scheduler::step`], and hands the logits that requests want to `on_logits`: those of a prompt in order of
    /// position, those of a sampled token before the step returns its event.
    ///
    /// # Errors
    /// As [`Scheduler::step`].
    pub fn step_with_logits(&mut self, on_logits: &mut dyn FnMut(RowLogits<'_>)) -> Result<Vec<Event>, Error> {
        self.grow_running();
        self.start_waiting();
        let chunks = self.plan()?;
        if !chunks.is_empty() {
            self.read(&chunks)?;
            self.advance(chunks, on_logits);
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// Makes room for the latest token of every running sequence, in order. If there is none, the last ones lose their
    /// blocks.
    fn grow_running(&mut self) {
        let turns: Vec<Turn> = self.running.keys().copied().collect();
        for turn in turns {
            // Ends without room if the sequence was the last itself.
            while let Some(mut sequence) = self.running.remove(&turn) {
                let room = self.make_room(&mut sequence);
                self.running.insert(turn, sequence);
                match room {
                    Ok(()) => break,
                    Err(OutOfBlocks { .. }) => self.preempt_last(),
                }
            }
        }
    }

    /// Starts waiting sequences in order, as long as there is room and the step has tokens left for them.
    fn start_waiting(&mut self) {
        while let Some((turn, mut sequence)) = self.waiting.pop_first() {
            if self.tokens_before(turn) >= self.settings.max_step_tokens || !self.start(turn, &mut sequence) {
                self.waiting.insert(turn, sequence);
                return;
            }
            self.running.insert(turn, sequence);
        }
    }

    /// Returns how many tokens of other sequences a step reads before those of `turn`.
    fn tokens_before(&self, turn: Turn) -> usize {
        let is_before = |other: Turn, sequence: &Sequence| other < turn || sequence.is_decoded();
        let before = self.running.iter().filter(|(other, sequence)| is_before(**other, sequence));
        before.map(|(_, sequence)| sequence.all_unread()).sum()
    }

    /// Gives a waiting sequence blocks, those of sequences of lower priority if it must. Returns false if there is no
    /// room.
    fn start(&mut self, turn: Turn, sequence: &mut Sequence) -> bool {
        loop {
            let has_place = self.taken_places() + sequence.places() <= self.settings.max_sequences;
            if has_place && self.make_room(sequence).is_ok() {
                let started = sequence.both().map(Sequence::window_tokens);
                self.counters.started_tokens += started.sum::<usize>() as u64;
                let reused = sequence.both().map(|sequence| sequence.computed_tokens().len());
                self.counters.reused_tokens += reused.sum::<usize>() as u64;
                return true;
            }
            // Blocks found in the cache must not be held while waiting.
            self.release(sequence);
            match self.running.last_key_value() {
                Some((last, _)) if last.priority > turn.priority => self.preempt_last(),
                _ => return false,
            }
        }
    }

    /// Gives a sequence, and the second one if its samples are guided, the blocks for all tokens it has.
    fn make_room(&mut self, sequence: &mut Sequence) -> Result<(), OutOfBlocks> {
        if sequence.slide(self.model.context_length())
            && let Some(table) = sequence.table.take()
        {
            self.pool.release(table);
        }
        if sequence.table.is_none() {
            let table = self.pool.open(sequence.owner(), sequence.reusable_tokens());
            sequence.computed = sequence.window + table.blocks().len() * self.pool.block_tokens();
            sequence.table = Some(table);
        }
        let (written, tokens) = (sequence.computed - sequence.window, sequence.window_tokens());
        if let Some(table) = &mut sequence.table
            && let Some(copy) = self.pool.reserve(table, written, tokens)?
        {
            self.model.copy_block(copy.from, copy.to);
        }
        sequence.negative.as_mut().map_or(Ok(()), |negative| self.make_room(negative))
    }

    /// Makes the last running sequence wait; it will be computed again.
    fn preempt_last(&mut self) {
        if let Some((turn, mut sequence)) = self.running.pop_last() {
            self.release(&mut sequence);
            self.waiting.insert(turn, sequence);
            self.counters.preemptions += 1;
        }
    }

    /// Divides the tokens of a step: one for every sequence that is being decoded, then chunks of what else is unread,
    /// in order, then drafts.
    fn plan(&mut self) -> Result<Vec<Chunk>, Error> {
        let decoded = self.running.values().filter(|sequence| sequence.is_decoded());
        let mut budget = self.settings.max_step_tokens - decoded.map(Sequence::places).sum::<usize>();
        let mut chunks = Vec::with_capacity(self.running.len());
        for (&turn, sequence) in &self.running {
            let is_decoded = sequence.is_decoded();
            let [tokens, negative_tokens] = sequence.share(if is_decoded { sequence.places() } else { budget });
            if !is_decoded {
                budget -= tokens + negative_tokens;
            }
            if tokens + negative_tokens > 0 {
                chunks.push(Chunk { turn, tokens, negative_tokens, draft: Vec::new() });
            }
        }
        let mut wanted = Vec::new();
        for chunk in &mut chunks {
            let mut tokens = self.draft_room(chunk.turn, budget);
            if self.draft_model.is_none() {
                chunk.draft = draft::lookup(&self.running[&chunk.turn].tokens, tokens);
                self.cut(chunk);
                tokens = chunk.draft.len();
            }
            tokens = self.reserve_draft(chunk.turn, tokens);
            chunk.draft.truncate(tokens);
            budget -= tokens;
            wanted.push((chunk.turn, tokens));
        }
        if let Some(draft_model) = &mut self.draft_model {
            let vocab_size = self.settings.vocab_size.unwrap_or(self.model.vocab_size());
            let drafts = draft_model.propose(&wanted, &mut self.running, vocab_size)?;
            for (chunk, draft) in chunks.iter_mut().zip(drafts) {
                chunk.draft = draft;
                self.cut(chunk);
            }
        }
        Ok(chunks)
    }

    /// Returns how many tokens a draft for a sequence may have, at most `budget`.
    fn draft_room(&self, turn: Turn, budget: usize) -> usize {
        let sequence = &self.running[&turn];
        if sequence.unread() > 1 || sequence.samples.len() > 1 || sequence.negative.is_some() {
            return 0;
        }
        let max_tokens = [
            budget,
            self.settings.draft_tokens,
            // The last remaining token is never read, and none can be read beyond the context.
            sequence.remaining_tokens().saturating_sub(1),
            self.model.context_length() - sequence.window_tokens(),
        ];
        max_tokens.into_iter().min().unwrap_or_default()
    }

    /// Ends a draft before the first token that the constraint of its sample refuses.
    fn cut(&mut self, chunk: &mut Chunk) {
        let sequence = self.running.get_mut(&chunk.turn).filter(|_| !chunk.draft.is_empty());
        if let Some(guide) = sequence.and_then(|sequence| sequence.samples[0].guide.as_mut()) {
            guide.cut(&mut chunk.draft);
        }
    }

    /// Makes room for a draft of so many tokens if there are blocks that no one uses, and returns how many fit.
    fn reserve_draft(&mut self, turn: Turn, draft_tokens: usize) -> usize {
        let Some(sequence) = self.running.get_mut(&turn).filter(|_| draft_tokens > 0) else { return 0 };
        let (written, tokens) = (sequence.computed - sequence.window, sequence.window_tokens());
        let Some(table) = sequence.table.as_mut() else { return 0 };
        match self.pool.reserve(table, written, tokens + draft_tokens) {
            Ok(_) => draft_tokens,
            Err(OutOfBlocks { .. }) => draft_tokens.min(table.blocks().len() * self.pool.block_tokens() - tokens),
        }
    }

    /// Runs the model over the chunks; the results of the rows that want them are in `self.results` then.
    fn read(&mut self, chunks: &[Chunk]) -> Result<(), Error> {
        let mut rows = Vec::new();
        let mut sequences = Vec::with_capacity(chunks.len());
        let mut expected = 0;
        let parts = chunks.iter().flat_map(|chunk| {
            let sequence = &self.running[&chunk.turn];
            let negative = sequence.negative.as_deref().map(|negative| (negative, chunk.negative_tokens, &[][..]));
            std::iter::once((sequence, chunk.tokens, &chunk.draft[..])).chain(negative)
        });
        for (sequence, tokens, draft) in parts.filter(|(_, tokens, _)| *tokens > 0) {
            let unread = &sequence.tokens[sequence.computed..][..tokens];
            let first = rows.len();
            rows.extend(unread.iter().chain(draft).zip(sequence.computed..).map(|(&token, position)| Row {
                sequence: sequences.len(),
                position: position - sequence.window,
                token,
                wants_logits: sequence.is_sampled(position) || sequence.is_scored(position),
            }));
            let blocks = sequence.table.as_ref().map_or(&[][..], |table| table.blocks());
            let result = sequence.request.result();
            let adapter = sequence.request.adapter.as_deref();
            sequences.push(SequenceRef { blocks, adapter, result });
            expected += self.result_len(sequence) * rows[first..].iter().filter(|row| row.wants_logits).count();
        }
        self.results.clear();
        self.model.forward_sequences(&rows, &sequences, &mut self.results)?;
        assert_eq!(self.results.len(), expected, "the model appends the results of the rows that want them");
        self.counters.steps += 1;
        self.counters.read_tokens += rows.len() as u64;
        Ok(())
    }

    /// Returns the length of the result of a sequence's rows.
    pub(super) fn result_len(&self, sequence: &Sequence) -> usize {
        match sequence.request.result() {
            RowResult::Logits => self.model.vocab_size(),
            RowResult::HiddenState => self.model.width(),
            // Only the last token of the prompt gets one.
            RowResult::Attention { .. } => {
                self.model.attention_heads().map_or(0, |[_, n_head]| n_head * sequence.request.prompt.len())
            }
        }
    }
}
