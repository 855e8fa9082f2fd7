//! Log probabilities on their way from the scheduler to the text.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use inference::{Logprobs, RequestId, RowLogits};
use tokenizer::Tokenizer;

use crate::event::ScoredToken;

/// The log probabilities of sampled tokens, in order, by sample.
#[derive(Debug, Default)]
pub(super) struct Scores(HashMap<(RequestId, usize), VecDeque<Logprobs>>);

impl Scores {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, row: RowLogits<'_>, sample: usize, token: u32, alternatives: usize) {
        let scores = Logprobs::of(row.logits, token, alternatives);
        self.0.entry((row.request, sample)).or_default().push_back(scores);
    }

    /// Returns those of the next token of a sample, if they are wanted.
    pub(super) fn take(&mut self, request: RequestId, sample: usize) -> Option<Logprobs> {
        self.0.get_mut(&(request, sample)).and_then(VecDeque::pop_front)
    }
}

/// The log probabilities of a prompt's tokens but the first.
#[derive(Debug, Default)]
pub(super) struct PromptScores(Vec<Logprobs>);

impl PromptScores {
    /// Adds those of the token after a row; returns them all after the last row, which no token follows.
    pub(super) fn add(&mut self, logits: &[f32], next: Option<u32>, alternatives: usize) -> Option<Vec<Logprobs>> {
        match next {
            Some(token) => {
                self.0.push(Logprobs::of(logits, token, alternatives));
                None
            }
            None => Some(std::mem::take(&mut self.0)),
        }
    }
}

/// The tokens of a text whose beginning is not released yet.
#[derive(Debug, Default)]
pub(super) struct PendingTokens {
    tokens: VecDeque<ScoredToken>,
    released_characters: usize,
}

impl PendingTokens {
    pub(super) fn push(&mut self, token: ScoredToken) {
        self.tokens.push_back(token);
    }

    /// Returns the tokens that begin before the end of the released text, of which `piece` is new.
    pub(super) fn release(&mut self, piece: &str) -> Vec<ScoredToken> {
        self.released_characters += piece.chars().count();
        let released = self.tokens.iter().take_while(|token| token.offset < self.released_characters).count();
        self.tokens.drain(..released).collect()
    }

    /// Returns the tokens without text at the end.
    pub(super) fn rest(self) -> impl Iterator<Item = ScoredToken> {
        self.tokens.into_iter()
    }
}

/// Returns a token after which these characters of the text were complete. Those at their end are its own, as far as it
/// is UTF-8 by itself; before them may be the replacement of bytes that it has left incomplete.
pub(super) fn scored(
    tokenizer: &Tokenizer,
    characters: Range<usize>,
    token: u32,
    scores: Option<Logprobs>,
) -> ScoredToken {
    let bytes = |token| tokenizer.shown_bytes(token);
    let own = tokenizer.bytes_of(token).and_then(|bytes| String::from_utf8(bytes).ok());
    let own = own.map_or(characters.len(), |text| text.chars().count()).min(characters.len());
    let offset = characters.end - own;
    let (logprob, top) = scores.map_or((None, Vec::new()), |scores| (Some(scores.logprob), scores.top));
    let alternatives = top.into_iter().map(|(token, logprob)| (bytes(token), logprob)).collect();
    ScoredToken { id: token, bytes: bytes(token), offset, logprob, alternatives }
}

/// Returns the tokens of a prompt with the log probabilities of those after the first.
pub(super) fn of_prompt(tokenizer: &Tokenizer, prompt: &[u32], following: &[Logprobs]) -> Vec<ScoredToken> {
    let scores = std::iter::once(None).chain(following.iter().cloned().map(Some));
    let (mut stream, mut start) = (tokenizer.decode_stream(), 0);
    prompt
        .iter()
        .zip(scores)
        .map(|(&token, scores)| {
            // The tokens have been checked by now.
            let end = start + stream.push(token).map_or(0, |text| text.chars().count());
            scored(tokenizer, std::mem::replace(&mut start, end)..end, token, scores)
        })
        .collect()
}
