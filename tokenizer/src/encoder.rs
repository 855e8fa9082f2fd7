//! Encoding many texts.

use std::collections::HashMap;

use tokenizers::Model;

use crate::words::to_byte_level;
use crate::{Error, Tokenizer};

/// How many words an encoder remembers: most of what a corpus says, in some 20 MB.
const REMEMBERED_WORDS: usize = 1 << 17;

/// The longest word worth remembering, in bytes: longer ones rarely come twice.
const LONGEST_REMEMBERED_BYTES: usize = 64;

/// Encodes texts and remembers their words, since a few words make most of any text. One for each thread.
///
/// The ids are those of Hugging Face's `encode`; where the tokenizer is byte-level BPE without a normalizer, the way
/// there is shorter, since it leaves out their alignment with the text (on Rust source some four times faster).
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    remembered: HashMap<Box<str>, Box<[u32]>>,
}

impl<'t> Encoder<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, remembered: HashMap::new() }
    }

    /// Returns the tokens of `text`. Special tokens in it are text like any other, and none are added.
    ///
    /// # Errors
    /// When the library fails, which a byte-level tokenizer never does.
    pub fn encode(&mut self, text: &str) -> Result<Vec<u32>, Error> {
        let failed = |source| Error::Encode { bytes: text.len(), source };
        let Some(words) = self.tokenizer.words() else {
            return Ok(self.tokenizer.inner().encode_fast(text, false).map_err(failed)?.get_ids().to_vec());
        };
        // A third of the bytes is more than most texts have in tokens.
        let mut ids = Vec::with_capacity(text.len() / 3);
        for word in words.split(text) {
            if let Some(known) = self.remembered.get(word) {
                ids.extend_from_slice(known);
                continue;
            }
            let tokens = self.tokenizer.inner().get_model().tokenize(&to_byte_level(word)).map_err(failed)?;
            let first = ids.len();
            ids.extend(tokens.iter().map(|token| token.id));
            if word.len() <= LONGEST_REMEMBERED_BYTES && self.remembered.len() < REMEMBERED_WORDS {
                self.remembered.insert(word.into(), ids[first..].into());
            }
        }
        Ok(ids)
    }
}
