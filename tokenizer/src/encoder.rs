//! Encoding many texts.

use ahash::AHashMap;
use tokenizers::Model;

use crate::words::to_byte_level;
use crate::{Error, Tokenizer};

/// How many words an encoder remembers: most of what a corpus says, in some 20 MB.
const REMEMBERED_WORDS: usize = 1 << 17;

/// The longest word worth remembering, in bytes: longer ones rarely come twice.
const LONGEST_REMEMBERED_BYTES: usize = 64;

/// Encodes texts and remembers their words, since a few words make most of any text. One for each thread.
///
/// The ids are those of Hugging Face's `encode`; where the tokenizer has no normalizer and does no more than cut text by
/// one regular expression, the way there is shorter, since it leaves out their alignment with the text.
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Where the tokens of each word lie in `tokens`.
    words: AHashMap<Box<str>, (u32, u32)>,
    tokens: Vec<u32>,
}

impl<'t> Encoder<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, words: AHashMap::new(), tokens: Vec::new() }
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
        words.split(text, |word| self.encode_word(word, &mut ids)).map_err(failed)?;
        Ok(ids)
    }

    pub(crate) fn tokenizer(&self) -> &'t Tokenizer {
        self.tokenizer
    }

    fn encode_word(&mut self, word: &str, ids: &mut Vec<u32>) -> Result<(), tokenizers::Error> {
        if let Some((start, end)) = self.words.get(word) {
            ids.extend_from_slice(&self.tokens[*start as usize..*end as usize]);
            return Ok(());
        }
        let model = self.tokenizer.inner().get_model();
        let tokens = if self.tokenizer.is_byte_level() {
            model.tokenize(&to_byte_level(word))?
        } else {
            model.tokenize(word)?
        };
        ids.extend(tokens.iter().map(|token| token.id));
        if word.len() <= LONGEST_REMEMBERED_BYTES && self.words.len() < REMEMBERED_WORDS {
            let start = self.tokens.len() as u32;
            self.tokens.extend(tokens.iter().map(|token| token.id));
            self.words.insert(word.into(), (start, self.tokens.len() as u32));
        }
        Ok(())
    }
}
