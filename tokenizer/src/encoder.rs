//! Encoding of texts.

use std::ops::Range;

use ahash::AHashMap;
use tokenizers::Model;

use crate::pre_tokenizer::to_byte_level;
use crate::{Error, Tokenizer};

/// The number of words that an encoder caches: most words of a corpus, in about 20 MB.
const MAX_CACHED_WORDS: usize = 1 << 17;

/// The longest word that is cached, in bytes: longer ones are rarely repeated.
const MAX_CACHED_WORD_BYTES: usize = 64;

/// Encodes texts with a cache of words, since few words make up most of any text. One per thread.
///
/// The ids are those of Hugging Face's `encode`. Where the tokenizer has no normalizer and does no more than split text
/// by one regular expression, this is faster, since it does not compute offsets.
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// The range in `tokens` of each cached word.
    words: AHashMap<Box<str>, (u32, u32)>,
    tokens: Vec<u32>,
}

impl Tokenizer {
    /// Returns the tokens of `text`. Special tokens in it are ordinary text, and none are added.
    ///
    /// # Errors
    /// Returns an error if the library fails, which a byte-level tokenizer never does.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encoder().encode(text)
    }

    /// Returns the tokens of a document: [`Tokenizer::encode`] with the tokens that transformers' `tokenizer(text)`
    /// places before and after a text, such as begin-of-text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_document(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encoder().encode_document(text)
    }

    /// Returns the tokens of a prompt, exactly those of transformers' `tokenizer(text)`: special tokens in the text are
    /// read as such, and those before and after a text are placed.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let failed = |source| Error::Encode { bytes: text.len(), source };
        let encoding = self.parsing().encode_fast(text, false).map_err(failed)?;
        Ok([self.prefix_tokens(), encoding.get_ids(), self.suffix_tokens()].concat())
    }

    /// Returns the tokens of [`Tokenizer::encode`], each with the bytes of `text` that it stands for. Tokens that have
    /// parts of one character have the whole of it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, Error> {
        let failed = |source| Error::Encode { bytes: text.len(), source };
        let encoding = self.inner().encode(text, false).map_err(failed)?;
        let offsets = encoding.get_offsets().iter().map(|(start, end)| *start..*end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    /// Returns an encoder for many texts, one per thread.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder { tokenizer: self, words: AHashMap::new(), tokens: Vec::new() }
    }
}

impl<'t> Encoder<'t> {
    /// Returns the tokens of `text`. Special tokens in it are ordinary text, and none are added.
    ///
    /// # Errors
    /// Returns an error if the library fails, which a byte-level tokenizer never does.
    pub fn encode(&mut self, text: &str) -> Result<Vec<u32>, Error> {
        let failed = |source| Error::Encode { bytes: text.len(), source };
        let Some(splitter) = self.tokenizer.splitter() else {
            return Ok(self.tokenizer.inner().encode_fast(text, false).map_err(failed)?.get_ids().to_vec());
        };
        // Most texts have fewer tokens than a third of their bytes.
        let mut ids = Vec::with_capacity(text.len() / 3);
        splitter.split(text, |word| self.encode_word(word, &mut ids)).map_err(failed)?;
        Ok(ids)
    }

    /// As [`Tokenizer::encode_document`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_document(&mut self, text: &str) -> Result<Vec<u32>, Error> {
        let ids = self.encode(text)?;
        let (prefix, suffix) = (self.tokenizer.prefix_tokens(), self.tokenizer.suffix_tokens());
        Ok(if prefix.is_empty() && suffix.is_empty() { ids } else { [prefix, &ids, suffix].concat() })
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
        if word.len() <= MAX_CACHED_WORD_BYTES && self.words.len() < MAX_CACHED_WORDS {
            let start = self.tokens.len() as u32;
            self.tokens.extend(tokens.iter().map(|token| token.id));
            self.words.insert(word.into(), (start, self.tokens.len() as u32));
        }
        Ok(())
    }
}
