//! Decoding tokens that arrive one by one.

use crate::{Error, Tokenizer};

/// Turns tokens into text as they arrive, holding back the bytes of a character that is not complete yet.
pub struct Stream<'t> {
    tokenizer: &'t Tokenizer,
    /// Bytes that begin a character.
    pending: Vec<u8>,
    /// Ids not printed yet, with the few before them that decide spacing, for tokenizers that do not work on bytes.
    ids: Vec<u32>,
    printed: String,
    printed_ids: usize,
}

impl<'t> Stream<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new(), ids: Vec::new(), printed: String::new(), printed_ids: 0 }
    }

    /// Adds a token and returns the text that is now certain, often empty; special tokens are nothing.
    ///
    /// # Errors
    /// When the id is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.tokenizer.check_ids(&[id])?;
        let Some(table) = self.tokenizer.token_bytes() else {
            let text = tokenizers::tokenizer::step_decode_stream(
                self.tokenizer.inner(),
                vec![id],
                true,
                &mut self.ids,
                &mut self.printed,
                &mut self.printed_ids,
            );
            return Ok(text.map_err(|source| Error::Decode { tokens: 1, source })?.unwrap_or_default());
        };
        self.pending.extend_from_slice(&table[id as usize]);
        Ok(take_whole_characters(&mut self.pending))
    }

    /// Returns what was held back; U+FFFD stands for bytes that never became a character.
    pub fn finish(self) -> String {
        if self.tokenizer.token_bytes().is_some() {
            return String::from_utf8_lossy(&self.pending).into_owned();
        }
        let text = self.tokenizer.decode(&self.ids).unwrap_or_default();
        text.strip_prefix(&self.printed).unwrap_or_default().to_owned()
    }
}

/// Takes everything from `bytes` but an incomplete character at the end.
fn take_whole_characters(bytes: &mut Vec<u8>) -> String {
    let whole = match bytes.utf8_chunks().last() {
        // An incomplete character is a prefix of a valid one: the error then has no length.
        Some(last) if std::str::from_utf8(last.invalid()).is_err_and(|e| e.error_len().is_none()) => {
            bytes.len() - last.invalid().len()
        }
        _ => bytes.len(),
    };
    let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
    bytes.drain(..whole);
    text
}
