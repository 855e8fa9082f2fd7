//! Reading shards.

use std::ops::Range;

use artifact::{Digest, Sealed};

use super::shard_file::Shard;
use crate::Error;

/// The tokens of one split, mapped from its shards.
#[derive(Debug)]
pub struct Split {
    shards: Vec<Shard>,
    vocab_size: usize,
    tokenizer_digest: Digest,
    len: usize,
    n_documents: usize,
    text_bytes: u64,
    /// Whether the documents are pairs.
    is_paired: bool,
}

impl Split {
    /// Opens `train`, `validation` or `test` of a tokens artifact after validating every shard: its digest, the types
    /// and shapes of its tensors, that all tokens are in the vocabulary, and that all shards match each other and the
    /// `tokenizer.json` beside them.
    ///
    /// # Errors
    /// Returns an error if there are no such shards, or one that names the file and both values if a shard is invalid.
    pub fn open(tokens: &Sealed, split: &str) -> Result<Self, Error> {
        Self::open_shards(tokens, split, usize::MAX)
    }

    /// Opens the first shard of a split alone, for a look at a split that may be large.
    ///
    /// # Errors
    /// As [`Split::open`].
    pub fn open_first(tokens: &Sealed, split: &str) -> Result<Self, Error> {
        Self::open_shards(tokens, split, 1)
    }

    fn open_shards(tokens: &Sealed, split: &str, max_shards: usize) -> Result<Self, Error> {
        let names = tokens.files(&format!("{split}-"));
        let mut opened: Option<Self> = None;
        for name in names.iter().filter(|name| name.ends_with(".safetensors")).take(max_shards) {
            let path = tokens.verified(name)?;
            let invalid = |problem| Error::Shard { path: path.clone(), problem };
            let (mut shard, metadata) = Shard::open(&path, split)?;
            if let Some(entry) = tokens.manifest().files.get("tokenizer.json") {
                let expected = entry.sha256;
                let found = metadata.tokenizer_digest;
                if found != expected {
                    let problem =
                        format!("it was made with tokenizer {found}, the tokenizer.json beside it is {expected}");
                    return Err(invalid(problem));
                }
            }
            let whole = opened.get_or_insert_with(|| Self {
                shards: Vec::new(),
                vocab_size: metadata.vocab_size,
                tokenizer_digest: metadata.tokenizer_digest,
                len: 0,
                n_documents: 0,
                text_bytes: 0,
                is_paired: metadata.is_paired,
            });
            if metadata.vocab_size != whole.vocab_size {
                let (found, expected) = (metadata.vocab_size, whole.vocab_size);
                return Err(invalid(format!("its vocab_size is {found}, the first shard's is {expected}")));
            }
            if metadata.tokenizer_digest != whole.tokenizer_digest {
                let (found, expected) = (metadata.tokenizer_digest, whole.tokenizer_digest);
                return Err(invalid(format!("its tokenizer is {found}, the first shard's is {expected}")));
            }
            if metadata.is_paired != whole.is_paired {
                return Err(invalid(
                    "its documents are pairs and those of the first shard are not, or vice versa".to_owned(),
                ));
            }
            shard.first_token = whole.len;
            shard.first_document = whole.n_documents;
            whole.len += shard.len();
            whole.n_documents += shard.n_documents();
            whole.text_bytes += metadata.text_bytes;
            whole.shards.push(shard);
        }
        opened.ok_or_else(|| Error::NoShards { path: tokens.folder().to_owned(), split: split.to_owned() })
    }

    /// Returns the number of tokens, end-of-text tokens included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of documents.
    pub fn n_documents(&self) -> usize {
        self.n_documents
    }

    /// Returns the number of ids that a model must have.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the digest of the `tokenizer.json` that made the tokens.
    pub fn tokenizer_digest(&self) -> Digest {
        self.tokenizer_digest
    }

    /// Returns the number of UTF-8 bytes of the text: the divisor of bits per byte.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Copies the tokens from index `start` on until `into` is full.
    ///
    /// # Panics
    /// If there are not that many tokens.
    pub fn copy(&self, start: usize, into: &mut [u32]) {
        self.copy_with(start, into, Shard::copy);
    }

    /// Returns the number of tokens that count towards the loss.
    pub fn learned_tokens(&self) -> usize {
        self.shards.iter().map(Shard::learned_tokens).sum()
    }

    /// Returns whether any shard has a loss mask, as those of chats do.
    pub fn has_loss_mask(&self) -> bool {
        self.shards.iter().any(Shard::has_loss_mask)
    }

    /// Copies the loss mask from index `start` on until `into` is full: true where a token counts towards the loss,
    /// which is everywhere without a mask.
    ///
    /// # Panics
    /// If there are not that many tokens.
    pub fn copy_mask(&self, start: usize, into: &mut [bool]) {
        self.copy_with(start, into, Shard::copy_mask);
    }

    /// Copies the mask for measuring a model's loss on the split: as [`Split::copy_mask`], but false for the rejected
    /// answers of pairs.
    ///
    /// # Panics
    /// If there are not that many tokens.
    pub fn copy_scored(&self, start: usize, into: &mut [bool]) {
        self.copy_mask(start, into);
        if self.is_paired {
            let end = start + into.len();
            let mut document = self.document_at(start);
            while document < self.n_documents && self.document_range(document).start < end {
                if document % 2 == 1 {
                    let range = self.document_range(document);
                    into[range.start.max(start) - start..range.end.min(end) - start].fill(false);
                }
                document += 1;
            }
        }
    }

    /// Returns the index of the document of a token.
    fn document_at(&self, token: usize) -> usize {
        let shard = &self.shards[self.shards.partition_point(|shard| shard.first_token <= token).saturating_sub(1)];
        let (mut low, mut high) = (0, shard.n_documents());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if shard.first_token + shard.document_offset(middle) <= token {
                low = middle;
            } else {
                high = middle;
            }
        }
        shard.first_document + low
    }

    /// Fills `into` from index `start` on, with `copy` for each shard.
    fn copy_with<T>(&self, start: usize, into: &mut [T], copy: impl Fn(&Shard, usize, &mut [T])) {
        let end = start + into.len();
        assert!(end <= self.len, "tokens {start}..{end} of a split of {}", self.len);
        let mut filled = 0;
        let mut index = self.shards.partition_point(|shard| shard.first_token <= start).saturating_sub(1);
        while filled < into.len() {
            let shard = &self.shards[index];
            let from = start + filled - shard.first_token;
            let count = (shard.len() - from).min(into.len() - filled);
            copy(shard, from, &mut into[filled..filled + count]);
            filled += count;
            index += 1;
        }
    }

    /// Returns the number of pairs of a chosen and a rejected answer: documents `2 i` and `2 i + 1`. `None` if
    /// documents are not pairs.
    pub fn n_pairs(&self) -> Option<usize> {
        self.is_paired.then_some(self.n_documents / 2)
    }

    /// Returns the tokens of a document, its end-of-text token included.
    ///
    /// # Panics
    /// If there is no document of that index.
    pub fn document(&self, index: usize) -> Vec<u32> {
        let range = self.document_range(index);
        let mut tokens = vec![0; range.len()];
        self.copy(range.start, &mut tokens);
        tokens
    }

    /// Returns the range of a document's tokens in the split.
    ///
    /// # Panics
    /// If there is no document of that index.
    pub fn document_range(&self, index: usize) -> Range<usize> {
        assert!(index < self.n_documents, "document {index} of a split of {}", self.n_documents);
        let shard = &self.shards[self.shards.partition_point(|shard| shard.first_document <= index) - 1];
        let within = index - shard.first_document;
        shard.first_token + shard.document_offset(within)..shard.first_token + shard.document_offset(within + 1)
    }
}
