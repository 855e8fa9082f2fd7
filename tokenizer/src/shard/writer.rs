//! Writing shards.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use artifact::Digest;
use serde_json::json;

use super::format::{NARROW_VOCABULARY, PAIRS, file_name};
use crate::{Error, Tokenizer};

/// Writes the documents of one split, in the order given, to shards of bounded size. The bytes of the files depend only
/// on the documents and the tokenizer.
pub struct Writer {
    folder: PathBuf,
    split: String,
    shard_bytes: u64,
    vocab_size: usize,
    tokenizer_digest: Digest,
    unknown_token: Option<u32>,
    tokens: Vec<u8>,
    /// One value per token, or empty.
    loss_mask: Vec<u8>,
    document_offsets: Vec<u64>,
    text_bytes: u64,
    /// Whether documents are pairs.
    is_paired: bool,
    totals: ShardTotals,
}

/// The totals of what a [`Writer`] wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Number of files.
    pub shards: usize,
    /// Number of documents.
    pub documents: u64,
    /// Number of tokens, end-of-text tokens included.
    pub tokens: u64,
    /// Number of tokens that count towards the loss.
    pub learned_tokens: u64,
    /// Number of unknown tokens, for text that cannot be encoded.
    pub unknown_tokens: u64,
    /// Number of UTF-8 bytes of the documents' text.
    pub text_bytes: u64,
}

impl Writer {
    /// Returns a writer of `split` into `folder`. A shard is closed once its tokens have `shard_bytes`; documents are
    /// never split between shards, so a shard may be larger by one document.
    pub fn new(folder: impl Into<PathBuf>, split: &str, tokenizer: &Tokenizer, shard_bytes: u64) -> Self {
        Self {
            folder: folder.into(),
            split: split.to_owned(),
            shard_bytes,
            vocab_size: tokenizer.vocab_size(),
            tokenizer_digest: tokenizer.digest(),
            unknown_token: tokenizer.unknown_token(),
            tokens: Vec::new(),
            loss_mask: Vec::new(),
            document_offsets: vec![0],
            text_bytes: 0,
            is_paired: false,
            totals: ShardTotals::default(),
        }
    }

    /// Adds a document: its tokens, the end-of-text token included, and the length of its text. All tokens count
    /// towards the loss.
    ///
    /// # Errors
    /// On I/O errors, when a full shard is written.
    ///
    /// # Panics
    /// If a token is not in the vocabulary.
    pub fn push(&mut self, document: &[u32], text_bytes: u64) -> Result<(), Error> {
        self.add(document, text_bytes);
        if !self.loss_mask.is_empty() {
            self.loss_mask.resize(self.n_tokens(), 1);
        }
        self.close_full_shard()
    }

    /// Adds a document of which only the tokens where `loss_mask` is true count towards the loss.
    ///
    /// # Errors
    /// On I/O errors, when a full shard is written.
    ///
    /// # Panics
    /// If a token is not in the vocabulary, or the mask does not have the length of the document.
    pub fn push_masked(&mut self, document: &[u32], loss_mask: &[bool], text_bytes: u64) -> Result<(), Error> {
        let (found, expected) = (loss_mask.len(), document.len());
        assert!(found == expected, "a loss mask of {found} for a document of {expected} tokens");
        // Earlier documents of this shard may have none.
        self.loss_mask.resize(self.n_tokens(), 1);
        self.loss_mask.extend(loss_mask.iter().map(|is_target| u8::from(*is_target)));
        self.add(document, text_bytes);
        self.close_full_shard()
    }

    /// Adds a chosen and a rejected answer, each a whole document with its loss mask, to one shard. Either all
    /// documents of a split are pairs, or none are.
    ///
    /// # Errors
    /// On I/O errors, when a full shard is written.
    ///
    /// # Panics
    /// If a token is not in the vocabulary, if a mask does not have the length of its document, or if there are
    /// documents that are not pairs.
    pub fn push_pair(&mut self, pair: [(&[u32], &[bool]); 2], text_bytes: u64) -> Result<(), Error> {
        let has_others = self.totals.documents > 0 || self.document_offsets.len() > 1;
        assert!(self.is_paired || !has_others, "a pair after documents that are not pairs");
        self.is_paired = true;
        for ((document, loss_mask), text_bytes) in pair.into_iter().zip([text_bytes, 0]) {
            assert_eq!(loss_mask.len(), document.len(), "the loss mask must have one value per token");
            self.loss_mask.extend(loss_mask.iter().map(|is_target| u8::from(*is_target)));
            self.add(document, text_bytes);
        }
        self.close_full_shard()
    }

    fn add(&mut self, document: &[u32], text_bytes: u64) {
        let largest = document.iter().copied().max().unwrap_or(0) as usize;
        assert!(largest < self.vocab_size, "token {largest} is not in a vocabulary of {}", self.vocab_size);
        if self.is_narrow() {
            self.tokens.extend(document.iter().flat_map(|id| (*id as u16).to_le_bytes()));
        } else {
            self.tokens.extend(document.iter().flat_map(|id| id.to_le_bytes()));
        }
        if let Some(unknown) = self.unknown_token {
            self.totals.unknown_tokens += document.iter().filter(|id| **id == unknown).count() as u64;
        }
        self.document_offsets.push(self.n_tokens() as u64);
        self.text_bytes += text_bytes;
    }

    fn close_full_shard(&mut self) -> Result<(), Error> {
        if self.tokens.len() as u64 >= self.shard_bytes { self.close_shard() } else { Ok(()) }
    }

    /// Writes the last shard and returns the totals. A split without documents has no shards.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn finish(mut self) -> Result<ShardTotals, Error> {
        if self.document_offsets.len() > 1 {
            self.close_shard()?;
        }
        Ok(self.totals)
    }

    fn is_narrow(&self) -> bool {
        self.vocab_size <= NARROW_VOCABULARY
    }

    fn n_tokens(&self) -> usize {
        self.tokens.len() / self.token_bytes()
    }

    fn token_bytes(&self) -> usize {
        if self.is_narrow() { 2 } else { 4 }
    }

    // Not written by the safetensors crate, which keeps metadata in a hash map and so writes it in another order each
    // time.
    fn close_shard(&mut self) -> Result<(), Error> {
        let documents = self.document_offsets.len() - 1;
        let tokens = self.n_tokens();
        let offsets_end = 8 * self.document_offsets.len();
        let tokens_end = offsets_end + self.tokens.len();
        let mut header = json!({
            "__metadata__": {
                "split": self.split,
                "vocab_size": self.vocab_size.to_string(),
                "tokenizer_digest": self.tokenizer_digest.to_string(),
                "text_bytes": self.text_bytes.to_string(),
            },
            "document_offsets": {
                "dtype": "U64",
                "shape": [documents + 1],
                "data_offsets": [0, offsets_end],
            },
            "tokens": {
                "dtype": if self.is_narrow() { "U16" } else { "U32" },
                "shape": [tokens],
                "data_offsets": [offsets_end, tokens_end],
            },
        });
        if self.is_paired {
            header["__metadata__"][PAIRS] = "true".into();
        }
        if !self.loss_mask.is_empty() {
            header["loss_mask"] =
                json!({ "dtype": "U8", "shape": [tokens], "data_offsets": [tokens_end, tokens_end + tokens] });
        }
        let mut header = header.to_string().into_bytes();
        // The data begins at a multiple of 8, so that a reader may map u64 in place.
        header.resize(header.len().next_multiple_of(8), b' ');
        let path = self.folder.join(file_name(&self.split, self.totals.shards));
        let write = || {
            let mut file = BufWriter::new(File::create(&path)?);
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            for offset in &self.document_offsets {
                file.write_all(&offset.to_le_bytes())?;
            }
            file.write_all(&self.tokens)?;
            file.write_all(&self.loss_mask)?;
            file.flush()
        };
        write().map_err(|e| artifact::Error::io("write", &path, e))?;
        self.totals.shards += 1;
        self.totals.documents += documents as u64;
        self.totals.tokens += tokens as u64;
        let learned: u64 = self.loss_mask.iter().map(|is_target| u64::from(*is_target)).sum();
        self.totals.learned_tokens += if self.loss_mask.is_empty() { tokens as u64 } else { learned };
        self.totals.text_bytes += self.text_bytes;
        self.tokens.clear();
        self.loss_mask.clear();
        self.document_offsets.truncate(1);
        self.text_bytes = 0;
        Ok(())
    }
}
