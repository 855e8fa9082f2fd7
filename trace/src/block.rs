//! A block of the index: some documents, and the suffix array over their tokens.
//!
//! The text of a block is a sequence of symbols: of each document its tokens, each plus one, and then 0, which ends the
//! document in place of its end-of-text token. A query has no 0, so that it is never found across documents.

use std::cmp::Ordering;
use std::ops::Range;
use std::path::Path;

use libsais::SuffixArrayConstruction;
use safetensors::Dtype;
use tokenizer::shard::Split;

use crate::tensor_file::{Tensor, TensorFile, Values, write};
use crate::{Document, Error};

/// The largest vocabulary whose symbols fit in 16 bits.
const NARROW_VOCABULARY: usize = u16::MAX as usize;

/// The most symbols of a text.
const MAX_SYMBOLS: usize = i32::MAX as usize;

const TEXT: &str = "text";
const SUFFIX_ARRAY: &str = "suffix_array";
const DOCUMENT_OFFSETS: &str = "document_offsets";
const DOCUMENTS: &str = "documents";
const LINE_OFFSETS: &str = "document_line_offsets";

/// Divides the documents of a split into blocks of at most `block_tokens` tokens, or of one longer document.
///
/// # Errors
/// Returns an error if a document is longer than a suffix array can be.
pub(crate) fn divide(split: &Split, block_tokens: u64) -> Result<Vec<Range<usize>>, Error> {
    let (mut blocks, mut start, mut symbols) = (Vec::new(), 0, 0);
    for document in 0..split.n_documents() {
        let tokens = split.document_range(document).len();
        if tokens >= MAX_SYMBOLS {
            return Err(Error::DocumentTooLong { document, tokens });
        }
        // Its end is one more where it has no end-of-text token.
        let length = tokens + 1;
        if document > start && (symbols + length) as u64 > block_tokens {
            blocks.push(start..document);
            (start, symbols) = (document, 0);
        }
        symbols += length;
    }
    blocks.push(start..split.n_documents());
    Ok(blocks)
}

/// Builds the block of some documents of a split, and writes it to `path`. `end_of_text` is the token that ends them.
///
/// # Errors
/// Returns an error if memory is full, and on I/O errors.
pub(crate) fn build(
    split: &Split,
    range: Range<usize>,
    end_of_text: Option<u32>,
    documents: &[Document],
    path: &Path,
) -> Result<(), Error> {
    let mut lines = Lines::default();
    for document in documents {
        lines.push(document);
    }
    let failed = |symbols: usize| move |source| Error::SuffixArray { symbols, source };
    if split.vocab_size() <= NARROW_VOCABULARY {
        let Text { symbols, offsets } = Text::of(split, range, end_of_text, |symbol| symbol as u16);
        let suffixes = SuffixArrayConstruction::for_text(&symbols).in_owned_buffer32().single_threaded().run();
        let suffixes = suffixes.map_err(failed(symbols.len()))?.into_vec();
        write_block(path, Values::U16(&symbols), &suffixes, &offsets, &lines)
    } else {
        let Text { mut symbols, offsets } = Text::of(split, range, end_of_text, |symbol| symbol as i32);
        let count = symbols.len();
        let suffixes = SuffixArrayConstruction::for_text_mut(&mut symbols).in_owned_buffer32().single_threaded().run();
        let suffixes = suffixes.map_err(failed(count))?.into_vec();
        write_block(path, Values::I32(&symbols), &suffixes, &offsets, &lines)
    }
}

fn write_block(path: &Path, text: Values<'_>, suffixes: &[i32], offsets: &[u64], lines: &Lines) -> Result<(), Error> {
    write(
        path,
        &[
            (DOCUMENT_OFFSETS, Values::U64(offsets)),
            (LINE_OFFSETS, Values::U64(&lines.offsets)),
            (SUFFIX_ARRAY, Values::I32(suffixes)),
            (TEXT, text),
            (DOCUMENTS, Values::U8(&lines.bytes)),
        ],
    )
}

/// The text of a block, and where each document starts in it, with its end as the last.
struct Text<T> {
    symbols: Vec<T>,
    offsets: Vec<u64>,
}

impl<T> Text<T> {
    fn of(split: &Split, range: Range<usize>, end_of_text: Option<u32>, symbol: impl Fn(u32) -> T) -> Self {
        let tokens: usize = range.clone().map(|document| split.document_range(document).len() + 1).sum();
        let mut text = Self { symbols: Vec::with_capacity(tokens), offsets: vec![0] };
        for document in range {
            let ids = split.document(document);
            let ids = match ids.split_last() {
                Some((last, ids)) if Some(*last) == end_of_text => ids,
                _ => &ids,
            };
            text.symbols.extend(ids.iter().map(|id| symbol(id + 1)));
            text.symbols.push(symbol(0));
            text.offsets.push(text.symbols.len() as u64);
        }
        text
    }
}

/// The documents as lines of JSON, and where each starts, with the end of the last.
struct Lines {
    bytes: Vec<u8>,
    offsets: Vec<u64>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }
}

impl Lines {
    fn push(&mut self, document: &Document) {
        self.bytes.extend(serde_json::json!(document).to_string().into_bytes());
        self.bytes.push(b'\n');
        self.offsets.push(self.bytes.len() as u64);
    }
}

/// A block, mapped into memory.
#[derive(Debug)]
pub(crate) struct Block {
    file: TensorFile,
    text: Tensor,
    suffix_array: Tensor,
    document_offsets: Tensor,
    documents: Tensor,
    line_offsets: Tensor,
}

impl Block {
    /// Maps and validates the block at `path`.
    ///
    /// # Errors
    /// Returns an error that names the file if it is not a block.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = TensorFile::open(path)?;
        let block = Self {
            text: file.tensor(TEXT, &[Dtype::U16, Dtype::I32])?,
            suffix_array: file.tensor(SUFFIX_ARRAY, &[Dtype::I32])?,
            document_offsets: file.tensor(DOCUMENT_OFFSETS, &[Dtype::U64])?,
            documents: file.tensor(DOCUMENTS, &[Dtype::U8])?,
            line_offsets: file.tensor(LINE_OFFSETS, &[Dtype::U64])?,
            file,
        };
        block.check().map_err(|problem| Error::invalid(path, problem))?;
        Ok(block)
    }

    fn check(&self) -> Result<(), String> {
        let symbols = self.text.bytes.len() / self.symbol_bytes();
        if symbols != self.len() {
            return Err(format!("`{SUFFIX_ARRAY}` has {} values, and `{TEXT}` has {symbols}", self.len()));
        }
        let largest = self.file.bytes(&self.suffix_array).as_chunks().0.iter().map(|at| u32::from_le_bytes(*at)).max();
        if largest.is_none_or(|largest| largest as usize >= symbols) {
            return Err(format!("`{SUFFIX_ARRAY}` has {largest:?}, and `{TEXT}` has {symbols} symbols"));
        }
        if self.symbol(symbols - 1) != 0 {
            return Err("its last document has no end".to_owned());
        }
        let bytes = self.documents.bytes.len();
        for (name, offsets, end) in
            [(DOCUMENT_OFFSETS, &self.document_offsets, symbols), (LINE_OFFSETS, &self.line_offsets, bytes)]
        {
            let offsets = self.file.bytes(offsets).as_chunks().0;
            let values: Vec<u64> = offsets.iter().map(|value| u64::from_le_bytes(*value)).collect();
            let is_valid = values.first() == Some(&0) && values.last() == Some(&(end as u64)) && values.is_sorted();
            if !is_valid || offsets.len() != self.n_documents() + 1 {
                return Err(format!("`{name}` does not divide what it should"));
            }
        }
        Ok(())
    }

    /// Returns the number of symbols.
    fn len(&self) -> usize {
        self.suffix_array.bytes.len() / 4
    }

    /// Returns the number of documents.
    pub fn n_documents(&self) -> usize {
        (self.document_offsets.bytes.len() / 8).saturating_sub(1)
    }

    /// Returns the number of tokens, without those that end documents.
    pub fn tokens(&self) -> usize {
        self.len() - self.n_documents()
    }

    fn symbol_bytes(&self) -> usize {
        if self.text.dtype == Dtype::U16 { 2 } else { 4 }
    }

    /// Returns the symbol at a position of the text: 0 at the end of a document, else a token plus one.
    fn symbol(&self, position: usize) -> u32 {
        let bytes = self.file.bytes(&self.text);
        if self.text.dtype == Dtype::U16 {
            u32::from(u16::from_le_bytes(bytes.as_chunks().0[position]))
        } else {
            u32::from_le_bytes(bytes.as_chunks().0[position])
        }
    }

    /// Returns the position in the text of a suffix.
    pub fn suffix(&self, index: usize) -> usize {
        u32::from_le_bytes(self.file.bytes(&self.suffix_array).as_chunks().0[index]) as usize
    }

    /// Returns the tokens of a range of the text that is within a document.
    pub fn ids(&self, range: Range<usize>) -> Vec<u32> {
        range.map(|position| self.symbol(position).saturating_sub(1)).collect()
    }

    /// Returns the document that a position of the text is in, and the range of its tokens.
    pub fn document_at(&self, position: usize) -> (usize, Range<usize>) {
        let offsets = self.file.bytes(&self.document_offsets).as_chunks().0;
        let start = |index: usize| u64::from_le_bytes(offsets[index]) as usize;
        let document = offsets.partition_point(|offset| u64::from_le_bytes(*offset) <= position as u64) - 1;
        (document, start(document)..start(document + 1) - 1)
    }

    /// Returns a document.
    ///
    /// # Errors
    /// Returns an error if its line is not valid.
    pub fn document(&self, index: usize) -> Result<Document, Error> {
        let offsets = self.file.bytes(&self.line_offsets).as_chunks().0;
        let at = |index: usize| u64::from_le_bytes(offsets[index]) as usize;
        let line = &self.file.bytes(&self.documents)[at(index)..at(index + 1)];
        serde_json::from_slice(line).map_err(|e| Error::invalid(self.file.path(), format!("document {index}: {e}")))
    }

    /// Returns the number of first tokens of `query` that occur somewhere in the text, one after the other.
    pub fn longest_prefix(&self, query: &[u32]) -> usize {
        self.bound(query, Ordering::is_lt).1
    }

    /// Returns the range of the suffix array whose suffixes begin with `query`.
    pub fn range(&self, query: &[u32]) -> Range<usize> {
        self.bound(query, Ordering::is_lt).0..self.bound(query, Ordering::is_le).0
    }

    /// Returns the number of first suffixes that `is_before` accepts, by their order relative to `query`, and the
    /// longest prefix of `query` that the suffixes on both sides of that border begin with.
    ///
    /// A binary search that skips what all suffixes between its bounds have in common with `query` (Manber and Myers,
    /// "Suffix arrays: a new method for on-line string searches", 1993).
    fn bound(&self, query: &[u32], is_before: fn(Ordering) -> bool) -> (usize, usize) {
        let (mut low, mut high) = (0, self.len());
        let (mut low_common, mut high_common) = (0, 0);
        while low < high {
            let middle = low.midpoint(high);
            let (order, common) = self.compare(self.suffix(middle), query, low_common.min(high_common));
            if is_before(order) {
                (low, low_common) = (middle + 1, common);
            } else {
                (high, high_common) = (middle, common);
            }
        }
        (low, low_common.max(high_common))
    }

    /// Returns the order of the suffix at `position` relative to `query`, and the number of first tokens that they have
    /// in common, of which `common` are known. They are equal if the suffix begins with the query.
    fn compare(&self, position: usize, query: &[u32], mut common: usize) -> (Ordering, usize) {
        // A document ends by a symbol that no query has, and so before the text does.
        while let Some(id) = query.get(common) {
            match self.symbol(position + common).cmp(&id.saturating_add(1)) {
                Ordering::Equal => common += 1,
                order => return (order, common),
            }
        }
        (Ordering::Equal, common)
    }
}
