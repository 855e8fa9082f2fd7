//! The tokenizer: loading, vocabulary, decoding.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use artifact::Digest;
use tokenizers::{DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use crate::decoder::{self, Chain, Step};
use crate::files::TOKENIZER;
use crate::pre_tokenizer::{WordSplitter, byte_of};
use crate::special_tokens::{END_OF_TEXT, SPECIAL_TOKENS};
use crate::text_interface::{SpecialToken, TextInterface};
use crate::{ChatTemplate, Error, tokenizer_class, vocabulary_files};

/// Names of the end-of-document token where none is declared: ours first, then those of other common tokenizers.
const END_OF_TEXT_NAMES: [&str; 4] = [END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>"];

/// How often a tokenizer may map bytes to characters: each time doubles those that are not ASCII. Known tokenizers do
/// it once.
const MAX_BYTE_LEVELS: usize = 2;

/// Encodes text as token ids, and decodes them.
#[derive(Clone)]
pub struct Tokenizer {
    /// Reads special tokens in a text as ordinary text.
    inner: tokenizers::Tokenizer,
    /// The same tokenizer, which reads special tokens in a text as such; made when it is needed.
    parsing: OnceLock<Arc<tokenizers::Tokenizer>>,
    interface: TextInterface,
    /// The chat template that was used last.
    template: Arc<Mutex<Option<Arc<ChatTemplate>>>>,
    /// The special tokens, the longest first.
    special_token_names: Vec<String>,
    /// The ids that the post-processor places before and after a text.
    affixes: (Vec<u32>, Vec<u32>),
    /// The bytes of each token, where they do not depend on its neighbours; special tokens have none.
    token_bytes: Option<Vec<Box<[u8]>>>,
    /// From tokens to text; `None` if the whole sequence is needed.
    decoder_steps: Option<Vec<Step>>,
    /// How text is split into words, each of which is encoded by itself, where the tokenizer does no more than that;
    /// and whether the bytes of the words are mapped to characters.
    splitter: Option<Arc<(WordSplitter, bool)>>,
    vocab_size: usize,
    end_of_text: Option<SpecialToken>,
    unknown: Option<(String, u32)>,
    json: String,
}

impl Tokenizer {
    /// Reads the tokenizer of a folder in Hugging Face layout: `tokenizer.json`, else `vocab.json` with `merges.txt`,
    /// and the files beside it.
    ///
    /// # Errors
    /// Returns an error if there is no tokenizer, or a file cannot be read or is not valid.
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(TOKENIZER);
        if file.exists() { Self::from_file(&file) } else { vocabulary_files::read(folder)?.with_files_of(folder) }
    }

    /// Reads a `tokenizer.json` and the files beside it that say how it is used. As in transformers, the class that
    /// they declare may replace parts of it.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is not valid.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
        let (origin, folder) = (path.display().to_string(), path.parent().unwrap_or(Path::new("")));
        let mut inner = Self::parse(&bytes, &origin)?;
        tokenizer_class::apply(&mut inner, folder)?;
        Self::wrap(inner, &origin)?.with_files_of(folder)
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// Returns an error if it is not a tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let origin = "the given text";
        Self::wrap(Self::parse(bytes, origin)?, origin)
    }

    fn parse(bytes: &[u8], origin: &str) -> Result<tokenizers::Tokenizer, Error> {
        let failed = |source| Error::Parse { origin: origin.to_owned(), source };
        // The library panics on some files: those nested deeply, or with merges shorter than the prefix of subwords.
        let parsed = catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes));
        let parsed =
            parsed.unwrap_or_else(|_| Err("it is nested too deeply, or its merges do not fit the model".into()));
        let inner = parsed.map_err(failed)?;
        let byte_levels = inner.get_normalizer().map_or(0, normalizer_byte_levels)
            + inner.get_pre_tokenizer().map_or(0, pre_tokenizer_byte_levels);
        if byte_levels > MAX_BYTE_LEVELS {
            let problem =
                format!("it has {byte_levels} steps of type `ByteLevel`, and at most {MAX_BYTE_LEVELS} are allowed");
            return Err(failed(problem.into()));
        }
        Ok(inner)
    }

    /// Wraps the library's tokenizer, without padding, truncation or special tokens in the text.
    pub(crate) fn wrap(mut inner: tokenizers::Tokenizer, origin: &str) -> Result<Self, Error> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|source| Error::Parse { origin: origin.to_owned(), source })?;
        inner.set_encode_special_tokens(true);
        let vocabulary = inner.get_vocab(true);
        let Some(largest) = vocabulary.values().max() else {
            return Err(Error::EmptyVocabulary { origin: origin.to_owned() });
        };
        let end_of_text = END_OF_TEXT_NAMES.iter().find_map(|name| {
            let id = *vocabulary.get(*name)?;
            Some(SpecialToken { content: (*name).to_owned(), id })
        });
        let json = inner.to_string(true).map_err(Error::Serialize)? + "\n";
        Ok(Self {
            parsing: OnceLock::new(),
            interface: TextInterface::default(),
            template: Arc::default(),
            special_token_names: special_token_names(&inner),
            affixes: affixes(&inner),
            vocab_size: *largest as usize + 1,
            token_bytes: token_bytes(&inner, *largest),
            decoder_steps: decoder::steps(inner.get_decoder()),
            splitter: splitter(&inner).map(Arc::new),
            end_of_text,
            unknown: unknown(&inner),
            json,
            inner,
        })
    }

    /// Adds what the files in `folder` declare.
    fn with_files_of(self, folder: &Path) -> Result<Self, Error> {
        let interface = TextInterface::read(folder, &|token| self.id(token))?;
        Ok(self.with_interface(interface))
    }

    /// Replaces the text interface.
    #[must_use]
    pub fn with_interface(mut self, interface: TextInterface) -> Self {
        if let Some(eos) = &interface.eos {
            self.end_of_text = Some(eos.clone());
        } else if let Some(&id) = interface.stop_tokens.first()
            && let Some(content) = self.inner.id_to_token(id)
        {
            self.end_of_text = Some(SpecialToken { content, id });
        }
        self.interface = interface;
        self.template = Arc::default();
        self
    }

    /// Returns what the files beside `tokenizer.json` declare.
    pub fn interface(&self) -> &TextInterface {
        &self.interface
    }

    /// Returns the ids that end a generated text: the declared ones, and the token that ends a document. Where neither
    /// a chat template nor stop tokens are declared, also the end of a turn of `ChatML`, the template that is then
    /// used.
    pub fn stop_tokens(&self) -> Vec<u32> {
        let interface = &self.interface;
        let mut ids = interface.stop_tokens.clone();
        let is_declared = interface.chat_templates.default.is_some() || !interface.stop_tokens.is_empty();
        let end_of_turn = if is_declared { None } else { self.id(SPECIAL_TOKENS[2]) };
        for id in self.end_of_text().into_iter().chain(end_of_turn) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// Returns the ids that transformers places before every text, often begin-of-text alone, and often none.
    pub fn prefix_tokens(&self) -> &[u32] {
        &self.affixes.0
    }

    /// Returns the ids that transformers places after every text, mostly none.
    pub fn suffix_tokens(&self) -> &[u32] {
        &self.affixes.1
    }

    /// Returns the id that an empty prompt starts from: the last of the prefix, else the token that ends the document
    /// before.
    pub fn start_of_text(&self) -> Option<u32> {
        self.prefix_tokens().last().copied().or_else(|| self.end_of_text())
    }

    /// Returns the content of `tokenizer.json`; equal tokenizers have equal JSON.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// Returns the digest of [`Tokenizer::to_json`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.json.as_bytes())
    }

    /// Returns the number of ids that a model must have: the largest plus one, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the id of the token that ends a document, if there is one: the declared one, else one with a common
    /// name.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text.as_ref().map(|token| token.id)
    }

    /// Returns the name of the token that ends a document, if there is one.
    pub fn end_of_text_name(&self) -> Option<&str> {
        self.end_of_text.as_ref().map(|token| token.content.as_str())
    }

    /// Returns the id of the token for text that cannot be encoded, if there is one.
    pub fn unknown_token(&self) -> Option<u32> {
        self.unknown.as_ref().map(|(_, id)| *id)
    }

    /// Returns the name of the token for text that cannot be encoded, if there is one.
    pub fn unknown_token_name(&self) -> Option<&str> {
        self.unknown.as_ref().map(|(name, _)| name.as_str())
    }

    /// Checks that a model with `model_vocab_size` ids has every token. Models often have a few more, for speed.
    ///
    /// # Errors
    /// Returns an error that names both sizes if it does not.
    pub fn check_vocabulary(&self, model_vocab_size: usize) -> Result<(), Error> {
        let vocab_size = self.vocab_size;
        if vocab_size <= model_vocab_size {
            return Ok(());
        }
        Err(Error::VocabularyTooLarge { vocab_size, model_vocab_size })
    }

    /// Returns the id of a token by its name, special tokens included.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Returns the text of `ids` without special tokens. Bytes that are not UTF-8, as at the end of a truncated
    /// sequence, are replaced by U+FFFD.
    ///
    /// # Errors
    /// Returns an error if an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.check_ids(ids)?;
        if let Some(table) = &self.token_bytes {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| &*table[*id as usize]).copied().collect();
            return Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()));
        }
        let failed = |source| Error::Decode { tokens: ids.len(), source };
        let Some(steps) = &self.decoder_steps else {
            // Some of the library's decoders panic without tokens.
            return if ids.is_empty() { Ok(String::new()) } else { self.inner.decode(ids, true).map_err(failed) };
        };
        let (mut chain, mut text) = (Chain::new(steps), String::new());
        for token in ids.iter().filter_map(|id| self.text_token(*id)) {
            chain.push(token, &mut text).map_err(failed)?;
        }
        chain.finish(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// Returns the bytes that a token adds to a text after other tokens; none for special tokens, and `None` if they
    /// depend on its neighbours or there is no such token.
    pub fn bytes_of(&self, id: u32) -> Option<Vec<u8>> {
        self.check_ids(&[id]).ok()?;
        if let Some(table) = &self.token_bytes {
            return Some(table[id as usize].to_vec());
        }
        let Some(token) = self.text_token(id) else { return Some(Vec::new()) };
        decoder::bytes_of(self.decoder_steps.as_deref()?, token)
    }

    /// Returns the bytes that show a token by itself: those that it adds to a text, or its name if it adds none.
    pub fn shown_bytes(&self, id: u32) -> Vec<u8> {
        match self.bytes_of(id) {
            Some(bytes) if !bytes.is_empty() => bytes,
            _ => match self.special_token(id) {
                Some(name) => name.into_bytes(),
                None => self.decode(&[id]).unwrap_or_default().into_bytes(),
            },
        }
    }

    /// Returns the token with that id if it has text: special tokens have none.
    pub(crate) fn text_token(&self, id: u32) -> Option<String> {
        let token = self.inner.id_to_token(id)?;
        (!self.inner.get_added_vocabulary().is_special_token(&token)).then_some(token)
    }

    /// Returns the name of a token that has no text: that of a special token, or the id of one that does not exist.
    pub(crate) fn special_token(&self, id: u32) -> Option<String> {
        match self.inner.id_to_token(id) {
            Some(token) => self.inner.get_added_vocabulary().is_special_token(&token).then_some(token),
            None => Some(format!("<{id}>")),
        }
    }

    /// Returns the steps from tokens to text; `None` if the whole sequence is needed.
    pub(crate) fn decoder_steps(&self) -> Option<&[Step]> {
        self.decoder_steps.as_deref()
    }

    /// Returns the bytes of each token; `None` where they depend on its neighbours.
    pub(crate) fn token_bytes(&self) -> Option<&[Box<[u8]>]> {
        self.token_bytes.as_deref()
    }

    /// Returns how text is split into words, where the tokenizer does no more than that before it applies the model.
    pub(crate) fn splitter(&self) -> Option<&WordSplitter> {
        self.splitter.as_ref().map(|splitter| &splitter.0)
    }

    /// Returns whether the bytes of words are mapped to characters before the model is applied.
    pub(crate) fn is_byte_level(&self) -> bool {
        self.splitter.as_ref().is_some_and(|splitter| splitter.1)
    }

    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Returns the library's tokenizer with special tokens in a text read as such.
    pub(crate) fn parsing(&self) -> &tokenizers::Tokenizer {
        self.parsing.get_or_init(|| {
            let mut parsing = self.inner.clone();
            parsing.set_encode_special_tokens(false);
            Arc::new(parsing)
        })
    }

    pub(crate) fn compiled_template(&self) -> MutexGuard<'_, Option<Arc<ChatTemplate>>> {
        self.template.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the special tokens, the longest first.
    pub(crate) fn special_token_names(&self) -> &[String] {
        &self.special_token_names
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        match ids.iter().find(|id| **id as usize >= self.vocab_size) {
            Some(id) => Err(Error::UnknownToken { id: *id, vocab_size: self.vocab_size }),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

fn normalizer_byte_levels(normalizer: &NormalizerWrapper) -> usize {
    match normalizer {
        NormalizerWrapper::ByteLevel(_) => 1,
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().map(normalizer_byte_levels).sum(),
        _ => 0,
    }
}

fn pre_tokenizer_byte_levels(pre_tokenizer: &PreTokenizerWrapper) -> usize {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(_) => 1,
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().map(pre_tokenizer_byte_levels).sum(),
        _ => 0,
    }
}

fn special_token_names(inner: &tokenizers::Tokenizer) -> Vec<String> {
    let added = inner.get_added_tokens_decoder();
    let mut names: Vec<String> = added.into_values().filter(|token| token.special).map(|token| token.content).collect();
    names.sort_by_key(|name| (usize::MAX - name.len(), name.clone()));
    names
}

/// Returns the ids that the post-processor places before and after a text.
fn affixes(inner: &tokenizers::Tokenizer) -> (Vec<u32>, Vec<u32>) {
    let encode = |special| inner.encode("a", special).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
    let (text, whole) = (encode(false), encode(true));
    let at = whole.windows(text.len().max(1)).position(|window| window == text);
    at.map_or_else(Default::default, |at| (whole[..at].to_vec(), whole[at + text.len()..].to_vec()))
}

fn splitter(inner: &tokenizers::Tokenizer) -> Option<(WordSplitter, bool)> {
    let only_special = inner.get_added_tokens_decoder().values().all(|token| token.special);
    let only_splits = inner.get_normalizer().is_none() && only_special;
    only_splits.then(|| inner.get_pre_tokenizer().and_then(WordSplitter::of)).flatten()
}

fn unknown(inner: &tokenizers::Tokenizer) -> Option<(String, u32)> {
    let name = match inner.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.clone()?,
        ModelWrapper::WordPiece(model) => model.unk_token.clone(),
        ModelWrapper::WordLevel(model) => model.unk_token.clone(),
        // The `unk_id` of the model is private.
        ModelWrapper::Unigram(model) => {
            let id = serde_json::to_value(model).ok()?.get("unk_id")?.as_u64()?;
            model.id_to_token(id as u32)?
        }
    };
    let id = inner.token_to_id(&name)?;
    Some((name, id))
}

fn token_bytes(inner: &tokenizers::Tokenizer, largest: u32) -> Option<Vec<Box<[u8]>>> {
    let is_byte_level = match inner.get_decoder()? {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Fuse(_) => false,
        _ => return None,
    };
    let added = inner.get_added_tokens_decoder();
    let bytes_of = |id| match added.get(&id) {
        Some(token) if token.special => Box::default(),
        Some(token) => token.content.as_bytes().into(),
        None => {
            let token = inner.id_to_token(id).unwrap_or_default();
            let bytes: Option<Box<[u8]>> = is_byte_level.then(|| token.chars().map(byte_of).collect()).flatten();
            bytes.unwrap_or_else(|| token.as_bytes().into())
        }
    };
    Some((0..=largest).map(bytes_of).collect())
}
