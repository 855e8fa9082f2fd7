//! The text of a completion while its tokens arrive.

use tokenizer::DecodeStream;

use crate::Error;
use crate::stop_strings::StopFilter;

/// Turns tokens into text that is final: whole characters that cannot be the start of a stop string. The pieces
/// concatenated are the completion's text.
pub struct TextStream<'t> {
    detokenizer: DecodeStream<'t>,
    filter: StopFilter,
    /// Special tokens that are shown by their names.
    shown: Vec<(u32, String)>,
    decoded_characters: usize,
}

impl<'t> TextStream<'t> {
    pub(crate) fn new(detokenizer: DecodeStream<'t>, stop: &[String], shown: Vec<(u32, String)>) -> Self {
        Self { detokenizer, filter: StopFilter::new(stop), shown, decoded_characters: 0 }
    }

    /// Adds a token, not a stop token, and returns the text that is final with it, often none.
    ///
    /// # Errors
    /// Returns an error if the token is not in the vocabulary.
    pub fn push(&mut self, token: u32) -> Result<String, Error> {
        let mut text = self.detokenizer.push(token)?;
        if let Some((_, name)) = self.shown.iter().find(|(id, _)| *id == token) {
            text += &self.detokenizer.flush();
            text += name;
        }
        self.decoded_characters += text.chars().count();
        Ok(self.filter.push(&text))
    }

    /// Returns the number of characters of the tokens so far, those held back for a stop string included: where the
    /// text of the next token begins.
    pub fn decoded_characters(&self) -> usize {
        self.decoded_characters
    }

    /// Returns true if a stop string was found: the text is complete.
    pub fn is_stopped(&self) -> bool {
        self.filter.is_stopped()
    }

    /// Returns the rest of the text, and whether a stop string was found by then.
    pub fn finish(mut self) -> (String, bool) {
        let mut rest = self.filter.push(&self.detokenizer.finish());
        if !self.filter.is_stopped() {
            rest += &self.filter.finish();
        }
        (rest, self.filter.is_stopped())
    }
}
