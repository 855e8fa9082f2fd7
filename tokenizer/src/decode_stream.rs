//! Incremental decoding.

use crate::decoder::{Chain, drain_complete_characters};
use crate::{Error, Tokenizer};

/// Decodes tokens one by one. The pieces concatenated are the text of the whole sequence: what a later token may
/// change, such as the bytes of an incomplete character, is held back.
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    state: State<'t>,
    /// The text of the prompt that is not returned because it was held back at the end of the prompt.
    prompt: String,
}

#[derive(Clone)]
enum State<'t> {
    /// The bytes of an incomplete character, where the bytes of a token do not depend on its neighbours.
    Bytes(Vec<u8>),
    Chain(Chain<'t>),
    /// All ids: the decoder needs the whole sequence.
    Whole(Vec<u32>),
}

impl Tokenizer {
    /// Returns an incremental decoder.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        let state = match (self.token_bytes(), self.decoder_steps()) {
            (Some(_), _) => State::Bytes(Vec::new()),
            (None, Some(steps)) => State::Chain(Chain::new(steps)),
            (None, None) => State::Whole(Vec::new()),
        };
        DecodeStream { tokenizer: self, state, prompt: String::new() }
    }

    /// Returns an incremental decoder of what follows `prompt`: its text is that of the whole sequence without that of
    /// the prompt. With many tokenizers it starts with a space that the same tokens alone would not have.
    ///
    /// # Errors
    /// Returns an error if an id is not in the vocabulary.
    pub fn decode_stream_after(&self, prompt: &[u32]) -> Result<DecodeStream<'_>, Error> {
        let mut stream = self.decode_stream();
        let mut returned_bytes = 0;
        for id in prompt {
            returned_bytes += stream.push(*id)?.len();
        }
        stream.prompt = self.decode(prompt)?.split_off(returned_bytes);
        Ok(stream)
    }
}

impl DecodeStream<'_> {
    /// Adds a token and returns the text that is complete with it, often empty; special tokens have no text.
    ///
    /// # Errors
    /// Returns an error if the id is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.tokenizer.check_ids(&[id])?;
        let text = match &mut self.state {
            State::Bytes(pending) => {
                pending.extend_from_slice(&self.tokenizer.token_bytes().unwrap_or_default()[id as usize]);
                drain_complete_characters(pending)
            }
            State::Chain(chain) => {
                let mut text = String::new();
                if let Some(token) = self.tokenizer.text_token(id) {
                    let failed = |source| Error::Decode { tokens: 1, source };
                    chain.push(token, &mut text).map_err(failed)?;
                }
                text
            }
            State::Whole(ids) => {
                ids.push(id);
                String::new()
            }
        };
        Ok(self.after_prompt(text))
    }

    /// Returns the text that is held back, as if the sequence ended here; later pieces continue after it. A character
    /// that is incomplete here stays held back, and so belongs to what follows.
    pub fn flush(&mut self) -> String {
        let is_incomplete = match &self.state {
            State::Bytes(pending) => !pending.is_empty(),
            State::Chain(chain) => chain.is_within_character(),
            State::Whole(_) => false,
        };
        if is_incomplete {
            return String::new();
        }
        let held = self.state.clone().finish(self.tokenizer);
        let text = self.after_prompt(held.clone());
        self.prompt = held;
        text
    }

    /// Returns the rest of the text; the bytes of an incomplete character are replaced by U+FFFD.
    pub fn finish(mut self) -> String {
        let state = std::mem::replace(&mut self.state, State::Bytes(Vec::new()));
        let text = state.finish(self.tokenizer);
        self.after_prompt(text)
    }

    /// Returns `text` without what belongs to the prompt. An incomplete character at the end of the prompt belongs to
    /// what follows if that completes it.
    fn after_prompt(&mut self, text: String) -> String {
        if self.prompt.is_empty() || text.is_empty() {
            return text;
        }
        let pairs = text.chars().zip(self.prompt.chars());
        let common: usize = pairs.take_while(|(a, b)| a == b).map(|(character, _)| character.len_utf8()).sum();
        if common == text.len() {
            self.prompt.drain(..common);
        } else {
            self.prompt.clear();
        }
        text[common..].to_owned()
    }
}

impl State<'_> {
    /// Returns the text that is held back.
    fn finish(self, tokenizer: &Tokenizer) -> String {
        match self {
            Self::Bytes(pending) => String::from_utf8_lossy(&pending).into_owned(),
            Self::Chain(chain) => {
                let mut text = String::new();
                // The decoders of the library fail on regular expressions alone, which `push` has applied by now.
                let _ = chain.finish(&mut text);
                text
            }
            Self::Whole(ids) => tokenizer.decode(&ids).unwrap_or_default(),
        }
    }
}
