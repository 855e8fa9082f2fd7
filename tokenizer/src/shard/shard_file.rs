//! A shard file, mapped into memory and validated.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use artifact::Digest;
use memmap2::Mmap;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};

use super::format::PAIRS;
use super::mapped;
use crate::Error;

/// A shard.
#[derive(Debug)]
pub(super) struct Shard {
    map: Mmap,
    /// The position of the tokens in the file, and the bytes per token.
    tokens: Range<usize>,
    token_bytes: usize,
    /// The position of the loss mask in the file, if there is one: a byte per token.
    loss_mask: Option<Range<usize>>,
    /// The position of the document offsets in the file.
    document_offsets: Range<usize>,
    /// The index in the split of the shard's first token.
    pub first_token: usize,
    /// The index in the split of the shard's first document.
    pub first_document: usize,
}

/// The metadata of a shard.
pub(super) struct Metadata {
    pub vocab_size: usize,
    pub tokenizer_digest: Digest,
    pub text_bytes: u64,
    /// Whether its documents are pairs.
    pub is_paired: bool,
}

impl Shard {
    /// Maps and validates the shard at `path`.
    pub fn open(path: &Path, split: &str) -> Result<(Self, Metadata), Error> {
        let invalid = |problem: String| Error::Shard { path: path.to_owned(), problem };
        let map = mapped::map(path)?;
        let (header_bytes, header) = SafeTensors::read_metadata(&map).map_err(|e| invalid(e.to_string()))?;
        let tensor = |name: &str| header.info(name).ok_or_else(|| invalid(format!("it has no tensor `{name}`")));
        // The length of the header takes 8 bytes.
        let position = |info: &TensorInfo| {
            let (start, end) = info.data_offsets;
            8 + header_bytes + start..8 + header_bytes + end
        };
        let (tokens, offsets) = (tensor("tokens")?, tensor("document_offsets")?);
        let token_bytes = match tokens.dtype {
            Dtype::U16 => 2,
            Dtype::U32 => 4,
            other => return Err(invalid(format!("tensor `tokens` has dtype {other:?}, expected U16 or U32"))),
        };
        if offsets.dtype != Dtype::U64 {
            return Err(invalid(format!("tensor `document_offsets` has dtype {:?}, expected U64", offsets.dtype)));
        }
        for (name, info) in [("tokens", tokens), ("document_offsets", offsets)] {
            if info.shape.len() != 1 || info.shape[0] == 0 {
                return Err(invalid(format!(
                    "tensor `{name}` has shape {:?}, expected one dimension, not 0",
                    info.shape
                )));
            }
        }
        let loss_mask = header.info("loss_mask");
        if let Some(mask) = loss_mask {
            if mask.dtype != Dtype::U8 {
                return Err(invalid(format!("tensor `loss_mask` has dtype {:?}, expected U8", mask.dtype)));
            }
            if mask.shape != tokens.shape {
                let (found, expected) = (&mask.shape, &tokens.shape);
                return Err(invalid(format!(
                    "tensor `loss_mask` has shape {found:?}, expected {expected:?} as `tokens`"
                )));
            }
        }
        let (tokens, document_offsets, loss_mask) = (position(tokens), position(offsets), loss_mask.map(position));
        let metadata = Metadata::read(header.metadata().as_ref(), path, split)?;
        let shard = Self { map, tokens, token_bytes, loss_mask, document_offsets, first_token: 0, first_document: 0 };
        shard.check(path, metadata.vocab_size)?;
        if metadata.is_paired && !shard.n_documents().is_multiple_of(2) {
            return Err(invalid(format!(
                "it has {} documents, expected an even number for pairs",
                shard.n_documents()
            )));
        }
        Ok((shard, metadata))
    }

    fn check(&self, path: &Path, vocab_size: usize) -> Result<(), Error> {
        let invalid = |problem: String| Err(Error::Shard { path: path.to_owned(), problem });
        let n = self.n_documents();
        if (self.document_offset(0), self.document_offset(n)) != (0, self.len()) {
            let (first, last) = (self.document_offset(0), self.document_offset(n));
            return invalid(format!(
                "its document offsets run from {first} to {last}, its tokens from 0 to {}",
                self.len()
            ));
        }
        if let Some(i) = (0..n).find(|i| self.document_offset(*i) > self.document_offset(i + 1)) {
            return invalid(format!("document {i} ends before it begins"));
        }
        let mask = self.loss_mask.clone().map_or(&[][..], |mask| &self.map[mask]);
        if let Some((at, value)) = mask.iter().enumerate().find(|(_, value)| **value > 1) {
            return invalid(format!("its loss mask is {value} at position {at}, expected 0 or 1"));
        }
        if (self.largest_token() as usize) < vocab_size {
            return Ok(());
        }
        let mut tokens = vec![0; self.len()];
        self.copy(0, &mut tokens);
        match tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            Some((at, id)) => invalid(format!("token {id} at position {at} is not in its vocabulary of {vocab_size}")),
            None => Ok(()),
        }
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.token_bytes
    }

    /// Returns the number of documents.
    pub fn n_documents(&self) -> usize {
        self.document_offsets.len() / 8 - 1
    }

    /// Returns the first token of a document.
    pub fn document_offset(&self, index: usize) -> usize {
        let bytes = &self.map[self.document_offsets.clone()][8 * index..8 * index + 8];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    }

    /// Copies tokens from `from` on until `into` is full.
    pub fn copy(&self, from: usize, into: &mut [u32]) {
        let bytes = &self.map[self.tokens.clone()][from * self.token_bytes..];
        if self.token_bytes == 2 {
            let ids = bytes.as_chunks().0.iter().map(|id| u32::from(u16::from_le_bytes(*id)));
            into.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
        } else {
            let ids = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id));
            into.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
        }
    }

    /// Copies the loss mask from `from` on until `into` is full; without one, all tokens count towards the loss.
    pub fn copy_mask(&self, from: usize, into: &mut [bool]) {
        match &self.loss_mask {
            Some(mask) => {
                let values = &self.map[mask.clone()][from..];
                into.iter_mut().zip(values).for_each(|(to, value)| *to = *value != 0);
            }
            None => into.fill(true),
        }
    }

    /// Returns whether it has a loss mask.
    pub fn has_loss_mask(&self) -> bool {
        self.loss_mask.is_some()
    }

    /// Returns the number of tokens that count towards the loss.
    pub fn learned_tokens(&self) -> usize {
        let learned = |mask: &Range<usize>| self.map[mask.clone()].iter().map(|value| usize::from(*value)).sum();
        self.loss_mask.as_ref().map_or_else(|| self.len(), learned)
    }

    fn largest_token(&self) -> u32 {
        let bytes = &self.map[self.tokens.clone()];
        let largest = if self.token_bytes == 2 {
            bytes.as_chunks().0.iter().map(|id| u32::from(u16::from_le_bytes(*id))).max()
        } else {
            bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).max()
        };
        largest.unwrap_or(0)
    }
}

impl Metadata {
    fn read(metadata: Option<&HashMap<String, String>>, path: &Path, split: &str) -> Result<Self, Error> {
        let invalid = |problem: String| Error::Shard { path: path.to_owned(), problem };
        let value = |key: &str| {
            let value = metadata.and_then(|metadata| metadata.get(key));
            value.ok_or_else(|| invalid(format!("its metadata has no `{key}`")))
        };
        let number = |key: &str| {
            let text = value(key)?;
            text.parse().map_err(|_| invalid(format!("its metadata has {key} = {text}, expected a number")))
        };
        let found = value("split")?;
        if found != split {
            return Err(invalid(format!("it is of split {found}, expected {split}")));
        }
        Ok(Self {
            vocab_size: number("vocab_size")? as usize,
            tokenizer_digest: value("tokenizer_digest")?.parse().map_err(|e| invalid(format!("{e}")))?,
            text_bytes: number("text_bytes")?,
            is_paired: metadata.is_some_and(|metadata| metadata.contains_key(PAIRS)),
        })
    }
}
