//! Incremental decoding.

use crate::{Error, Tokenizer};

/// Decodes tokens one by one, and holds back the bytes of an incomplete character.
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    /// The bytes of an incomplete character.
    pending: Vec<u8>,
    /// For tokenizers that do not work on bytes: ids that are not returned yet, and those before them that decide
    /// spacing.
    ids: Vec<u32>,
    returned: String,
    returned_ids: usize,
}

impl Tokenizer {
    /// Returns an incremental decoder.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, pending: Vec::new(), ids: Vec::new(), returned: String::new(), returned_ids: 0 }
    }
}

impl DecodeStream<'_> {
    /// Adds a token and returns the text that is complete with it, often empty; special tokens have no text.
    ///
    /// # Errors
    /// Returns an error if the id is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.tokenizer.check_ids(&[id])?;
        let Some(table) = self.tokenizer.token_bytes() else {
            let text = tokenizers::tokenizer::step_decode_stream(
                self.tokenizer.inner(),
                vec![id],
                true,
                &mut self.ids,
                &mut self.returned,
                &mut self.returned_ids,
            );
            return Ok(text.map_err(|source| Error::Decode { tokens: 1, source })?.unwrap_or_default());
        };
        self.pending.extend_from_slice(&table[id as usize]);
        Ok(drain_complete_characters(&mut self.pending))
    }

    /// Returns the rest of the text; the bytes of an incomplete character are replaced by U+FFFD.
    pub fn finish(self) -> String {
        if self.tokenizer.token_bytes().is_some() {
            return String::from_utf8_lossy(&self.pending).into_owned();
        }
        let text = self.tokenizer.decode(&self.ids).unwrap_or_default();
        text.strip_prefix(&self.returned).unwrap_or_default().to_owned()
    }
}

/// Removes all complete characters from `bytes` and returns them.
fn drain_complete_characters(bytes: &mut Vec<u8>) -> String {
    let complete = match bytes.utf8_chunks().last() {
        // An incomplete character is a prefix of a valid one: the error then has no length.
        Some(last) if std::str::from_utf8(last.invalid()).is_err_and(|e| e.error_len().is_none()) => {
            bytes.len() - last.invalid().len()
        }
        _ => bytes.len(),
    };
    let text = String::from_utf8_lossy(&bytes[..complete]).into_owned();
    bytes.drain(..complete);
    text
}
