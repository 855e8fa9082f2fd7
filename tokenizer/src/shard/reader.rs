//! Reading shards.

use std::ops::Range;
use std::path::{Path, PathBuf};

use artifact::{Digest, Sealed};
use memmap2::Mmap;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};

use super::{PAIRS, mapped};
use crate::Error;

/// The tokens of one split, mapped from its shards.
#[derive(Debug)]
pub struct Split {
    shards: Vec<Shard>,
    vocab_size: usize,
    tokenizer_digest: Digest,
    len: usize,
    n_documents: usize,
    bytes: u64,
    pairs: bool,
}

#[derive(Debug)]
struct Shard {
    map: Mmap,
    /// Where the tokens lie in the file, and how many bytes one takes.
    tokens: Range<usize>,
    token_bytes: usize,
    /// Where the loss mask lies in the file, if there is one: a byte for each token.
    loss_mask: Option<Range<usize>>,
    /// Where the document offsets lie in the file.
    document_offsets: Range<usize>,
    /// The shard's first token and first document, counted from the beginning of the split.
    first_token: usize,
    first_document: usize,
}

/// What a shard says about the split it belongs to.
struct Header {
    vocab_size: usize,
    tokenizer_digest: Digest,
    text_bytes: u64,
    pairs: bool,
}

impl Split {
    /// Opens `train`, `validation` or `test` of a tokens artifact after checking every shard: its digest, its tensors'
    /// types and shapes, that all tokens are in the vocabulary, and that all shards and the `tokenizer.json` beside
    /// them agree.
    ///
    /// # Errors
    /// When there are no such shards, or one does not hold what it should; the error names the file and both values.
    pub fn open(tokens: &Sealed, split: &str) -> Result<Self, Error> {
        let names = tokens.files(&format!("{split}-"));
        let mut opened: Option<Self> = None;
        for name in names.iter().filter(|name| name.ends_with(".safetensors")) {
            let path = tokens.verified(name)?;
            let wrong = |problem| Error::Shard { path: path.clone(), problem };
            let (mut shard, header) = Shard::open(&path, split)?;
            if let Some(entry) = tokens.manifest().files.get("tokenizer.json") {
                let expected = entry.sha256;
                let found = header.tokenizer_digest;
                if found != expected {
                    let problem =
                        format!("it was made with tokenizer {found}, the tokenizer.json beside it is {expected}");
                    return Err(wrong(problem));
                }
            }
            let whole = opened.get_or_insert_with(|| Self {
                shards: Vec::new(),
                vocab_size: header.vocab_size,
                tokenizer_digest: header.tokenizer_digest,
                len: 0,
                n_documents: 0,
                bytes: 0,
                pairs: header.pairs,
            });
            if header.vocab_size != whole.vocab_size {
                let (found, expected) = (header.vocab_size, whole.vocab_size);
                return Err(wrong(format!("its vocab_size is {found}, the first shard's is {expected}")));
            }
            if header.tokenizer_digest != whole.tokenizer_digest {
                let (found, expected) = (header.tokenizer_digest, whole.tokenizer_digest);
                return Err(wrong(format!("its tokenizer is {found}, the first shard's is {expected}")));
            }
            if header.pairs != whole.pairs {
                return Err(wrong("it has pairs where the first shard has none, or the other way round".to_owned()));
            }
            shard.first_token = whole.len;
            shard.first_document = whole.n_documents;
            whole.len += shard.len();
            whole.n_documents += shard.n_documents();
            whole.bytes += header.text_bytes;
            whole.shards.push(shard);
        }
        opened.ok_or_else(|| Error::NoShards { path: tokens.folder().to_owned(), split: split.to_owned() })
    }

    /// Returns how many tokens there are, end-of-text tokens included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many documents there are.
    pub fn n_documents(&self) -> usize {
        self.n_documents
    }

    /// Returns how many ids a model must know.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the digest of the `tokenizer.json` that made the tokens.
    pub fn tokenizer_digest(&self) -> Digest {
        self.tokenizer_digest
    }

    /// Returns the UTF-8 bytes of the text that the tokens stand for: the divisor of bits per byte.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies the tokens from `start` on, counted over all shards, until `into` is full.
    ///
    /// # Panics
    /// When there are not that many.
    pub fn copy(&self, start: usize, into: &mut [u32]) {
        self.copy_with(start, into, Shard::copy);
    }

    /// Tells whether any shard has a loss mask, as those of chats do.
    pub fn has_loss_mask(&self) -> bool {
        self.shards.iter().any(|shard| shard.loss_mask.is_some())
    }

    /// Copies, for the tokens from `start` on, whether a model shall learn to write them, until `into` is full; all of
    /// them where there is no mask.
    ///
    /// # Panics
    /// When there are not that many tokens.
    pub fn copy_mask(&self, start: usize, into: &mut [bool]) {
        self.copy_with(start, into, Shard::copy_mask);
    }

    /// As [`Split::copy_mask`], without what a model shall learn not to write: the rejected answers of pairs. It is what a
    /// model's loss on the split is measured on.
    ///
    /// # Panics
    /// When there are not that many tokens.
    pub fn copy_scored(&self, start: usize, into: &mut [bool]) {
        self.copy_mask(start, into);
        if self.pairs {
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

    /// Returns the number of the document that has a token.
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

    /// Fills `into` with what `copy` takes from each shard at its tokens from `start` on.
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

    /// Returns how many pairs there are of an answer that was chosen and one that was rejected: documents `2 i` and
    /// `2 i + 1`. None where documents are no pairs.
    pub fn n_pairs(&self) -> Option<usize> {
        self.pairs.then_some(self.n_documents / 2)
    }

    /// Returns the tokens of a document, its end-of-text token included.
    ///
    /// # Panics
    /// When there is no document of that number.
    pub fn document(&self, index: usize) -> Vec<u32> {
        let range = self.document_range(index);
        let mut tokens = vec![0; range.len()];
        self.copy(range.start, &mut tokens);
        tokens
    }

    /// Returns where a document's tokens lie, counted over all shards.
    ///
    /// # Panics
    /// When there is no document of that number.
    pub fn document_range(&self, index: usize) -> Range<usize> {
        assert!(index < self.n_documents, "document {index} of a split of {}", self.n_documents);
        let shard = &self.shards[self.shards.partition_point(|shard| shard.first_document <= index) - 1];
        let within = index - shard.first_document;
        shard.first_token + shard.document_offset(within)..shard.first_token + shard.document_offset(within + 1)
    }
}

impl Shard {
    fn open(path: &Path, split: &str) -> Result<(Self, Header), Error> {
        let wrong = |problem: String| Error::Shard { path: path.to_owned(), problem };
        let map = mapped::map(path)?;
        let (header_bytes, metadata) = SafeTensors::read_metadata(&map).map_err(|e| wrong(e.to_string()))?;
        let tensor = |name: &str| metadata.info(name).ok_or_else(|| wrong(format!("it has no tensor `{name}`")));
        // 8 bytes hold the header's length.
        let place = |info: &TensorInfo| {
            let (start, end) = info.data_offsets;
            8 + header_bytes + start..8 + header_bytes + end
        };
        let (tokens, offsets) = (tensor("tokens")?, tensor("document_offsets")?);
        let token_bytes = match tokens.dtype {
            Dtype::U16 => 2,
            Dtype::U32 => 4,
            other => return Err(wrong(format!("tensor `tokens` has dtype {other:?}, expected U16 or U32"))),
        };
        if offsets.dtype != Dtype::U64 {
            return Err(wrong(format!("tensor `document_offsets` has dtype {:?}, expected U64", offsets.dtype)));
        }
        for (name, info) in [("tokens", tokens), ("document_offsets", offsets)] {
            if info.shape.len() != 1 || info.shape[0] == 0 {
                return Err(wrong(format!(
                    "tensor `{name}` has shape {:?}, expected one dimension, not 0",
                    info.shape
                )));
            }
        }
        let loss_mask = metadata.info("loss_mask");
        if let Some(mask) = loss_mask {
            if mask.dtype != Dtype::U8 {
                return Err(wrong(format!("tensor `loss_mask` has dtype {:?}, expected U8", mask.dtype)));
            }
            if mask.shape != tokens.shape {
                let (found, expected) = (&mask.shape, &tokens.shape);
                return Err(wrong(format!(
                    "tensor `loss_mask` has shape {found:?}, expected {expected:?} as `tokens`"
                )));
            }
        }
        let (tokens, document_offsets, loss_mask) = (place(tokens), place(offsets), loss_mask.map(place));
        let header = Header::read(metadata.metadata().as_ref(), path, split)?;
        let shard = Self { map, tokens, token_bytes, loss_mask, document_offsets, first_token: 0, first_document: 0 };
        shard.check(path, header.vocab_size)?;
        if header.pairs && !shard.n_documents().is_multiple_of(2) {
            return Err(wrong(format!("it has {} documents, expected pairs of them", shard.n_documents())));
        }
        Ok((shard, header))
    }

    fn check(&self, path: &Path, vocab_size: usize) -> Result<(), Error> {
        let wrong = |problem: String| Err(Error::Shard { path: path.to_owned(), problem });
        let n = self.n_documents();
        if (self.document_offset(0), self.document_offset(n)) != (0, self.len()) {
            let (first, last) = (self.document_offset(0), self.document_offset(n));
            return wrong(format!(
                "its document offsets run from {first} to {last}, its tokens from 0 to {}",
                self.len()
            ));
        }
        if let Some(i) = (0..n).find(|i| self.document_offset(*i) > self.document_offset(i + 1)) {
            return wrong(format!("document {i} ends before it begins"));
        }
        let mask = self.loss_mask.clone().map_or(&[][..], |mask| &self.map[mask]);
        if let Some((at, value)) = mask.iter().enumerate().find(|(_, value)| **value > 1) {
            return wrong(format!("its loss mask is {value} at position {at}, expected 0 or 1"));
        }
        if (self.largest() as usize) < vocab_size {
            return Ok(());
        }
        let mut tokens = vec![0; self.len()];
        self.copy(0, &mut tokens);
        match tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            Some((at, id)) => wrong(format!("token {id} at position {at} is not in its vocabulary of {vocab_size}")),
            None => Ok(()),
        }
    }

    fn len(&self) -> usize {
        self.tokens.len() / self.token_bytes
    }

    fn n_documents(&self) -> usize {
        self.document_offsets.len() / 8 - 1
    }

    fn document_offset(&self, index: usize) -> usize {
        let bytes = &self.map[self.document_offsets.clone()][8 * index..8 * index + 8];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    }

    fn copy(&self, from: usize, into: &mut [u32]) {
        let bytes = &self.map[self.tokens.clone()][from * self.token_bytes..];
        if self.token_bytes == 2 {
            let ids = bytes.as_chunks().0.iter().map(|id| u32::from(u16::from_le_bytes(*id)));
            into.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
        } else {
            let ids = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id));
            into.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
        }
    }

    fn copy_mask(&self, from: usize, into: &mut [bool]) {
        match &self.loss_mask {
            Some(mask) => {
                let values = &self.map[mask.clone()][from..];
                into.iter_mut().zip(values).for_each(|(to, value)| *to = *value != 0);
            }
            None => into.fill(true),
        }
    }

    fn largest(&self) -> u32 {
        let bytes = &self.map[self.tokens.clone()];
        let largest = if self.token_bytes == 2 {
            bytes.as_chunks().0.iter().map(|id| u32::from(u16::from_le_bytes(*id))).max()
        } else {
            bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).max()
        };
        largest.unwrap_or(0)
    }
}

impl Header {
    fn read(
        metadata: Option<&std::collections::HashMap<String, String>>,
        path: &Path,
        split: &str,
    ) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Shard { path: PathBuf::from(path), problem };
        let value = |key: &str| {
            let value = metadata.and_then(|metadata| metadata.get(key));
            value.ok_or_else(|| wrong(format!("its metadata has no `{key}`")))
        };
        let number = |key: &str| {
            let text = value(key)?;
            text.parse().map_err(|_| wrong(format!("its metadata says {key} = {text}, expected a number")))
        };
        let found = value("split")?;
        if found != split {
            return Err(wrong(format!("it is of split {found}, expected {split}")));
        }
        Ok(Self {
            vocab_size: number("vocab_size")? as usize,
            tokenizer_digest: value("tokenizer_digest")?.parse().map_err(|e| wrong(format!("{e}")))?,
            text_bytes: number("text_bytes")?,
            pairs: metadata.is_some_and(|metadata| metadata.contains_key(PAIRS)),
        })
    }
}
