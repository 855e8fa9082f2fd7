//! The pages of a column, unpacked, on their way to the decoder.
//!
//! Lengths of texts may be delta encoded, with a count of their own in the page, which the decoder allocates without
//! comparing it with the header. So it is validated here (Apache Parquet, `Encodings.md`, delta encodings).

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::{HARMLESS_BYTES, MAX_RATIO};

/// The last I/O error of a file, which the decoder passes on as text only.
pub type IoErrorSlot = Arc<Mutex<Option<io::Error>>>;

/// The pages of one column in one row group.
pub struct Pages {
    inner: SerializedPageReader<File>,
    /// The largest repetition and definition level.
    max_levels: [i16; 2],
    io_error: IoErrorSlot,
}

impl Pages {
    /// Returns the pages with their claims validated; `max_levels` are of repetition and of definition.
    pub fn new(inner: SerializedPageReader<File>, max_levels: [i16; 2], io_error: IoErrorSlot) -> Self {
        Self { inner, max_levels, io_error }
    }

    fn validated(&mut self, page: Result<Option<Page>>) -> Result<Option<Page>> {
        let page = page.inspect_err(|error| {
            if let ParquetError::External(cause) = error
                && let Some(number) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
            {
                *self.io_error.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(io::Error::from_raw_os_error(number));
            }
        })?;
        if let Some(page) = &page {
            validate(page, self.max_levels).map_err(|message| ParquetError::General(message.to_owned()))?;
        }
        Ok(page)
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page();
        self.validated(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// The pages of one column: those of one row group.
#[derive(Debug)]
pub struct OneGroup(pub Option<Pages>);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("max_levels", &self.max_levels).finish_non_exhaustive()
    }
}

impl Iterator for OneGroup {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for OneGroup {}

fn validate(page: &Page, max_levels: [i16; 2]) -> std::result::Result<(), &'static str> {
    let encoding = page.encoding();
    if !matches!(encoding, Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
        return Ok(());
    }
    let damaged = "a page is shorter than its lengths";
    let values = values(page, max_levels).ok_or(damaged)?;
    if values.is_empty() {
        return Ok(());
    }
    let mut lists = if encoding == Encoding::DELTA_BYTE_ARRAY { 2 } else { 1 };
    let (mut rest, mut bytes) = (values, 0_u64);
    while lists > 0 {
        let lengths = Lengths::read(rest, u64::from(page.num_values())).ok_or(damaged)?;
        rest = &rest[lengths.end..];
        bytes += lengths.sum;
        lists -= 1;
    }
    let most = HARMLESS_BYTES.max((values.len() as u64).saturating_mul(MAX_RATIO));
    if bytes > most { Err("its texts are more than 1000 times as long as the page") } else { Ok(()) }
}

/// Returns the values of a page, which come after its levels.
fn values(page: &Page, max_levels: [i16; 2]) -> Option<&[u8]> {
    match page {
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let mut rest: &[u8] = buf;
            for (max_level, encoding) in max_levels.into_iter().zip([rep_level_encoding, def_level_encoding]) {
                if max_level == 0 {
                    continue;
                }
                let bytes = if *encoding == Encoding::RLE {
                    let (length, after) = rest.split_first_chunk::<4>()?;
                    rest = after;
                    u32::from_le_bytes(*length) as usize
                } else {
                    let bits = u64::from(16 - (max_level as u16).leading_zeros());
                    (u64::from(*num_values) * bits).div_ceil(8) as usize
                };
                rest = rest.get(bytes..)?;
            }
            Some(rest)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            buf.get((*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)?..)
        }
        Page::DictionaryPage { buf, .. } => Some(buf),
    }
}

/// Lengths that are delta encoded.
#[derive(Debug, PartialEq, Eq)]
struct Lengths {
    /// Their sum, without negative ones, which are the decoder's concern.
    sum: u64,
    /// Where they end.
    end: usize,
}

impl Lengths {
    /// Reads at most `max_count` lengths.
    fn read(data: &[u8], max_count: u64) -> Option<Self> {
        let mut at = 0;
        let block = varint(data, &mut at)?;
        let mini_blocks = usize::try_from(varint(data, &mut at)?).ok()?;
        let count = varint(data, &mut at).filter(|count| *count <= max_count)?;
        let mut length = zigzag(data, &mut at)? as i32;
        if mini_blocks == 0 || mini_blocks > data.len() {
            return None;
        }
        let per_mini_block = block / mini_blocks as u64;
        if per_mini_block == 0 || !per_mini_block.is_multiple_of(8) {
            return None;
        }
        let positive = |length: i32| u64::try_from(length).unwrap_or(0);
        let mut sum = if count == 0 { 0 } else { positive(length) };
        let mut left = count.saturating_sub(1);
        while left > 0 {
            let least = zigzag(data, &mut at)? as i32;
            let widths = data.get(at..at.checked_add(mini_blocks)?)?;
            at += mini_blocks;
            for width in widths {
                if left == 0 {
                    break;
                }
                let width = u64::from(*width);
                let used = left.min(per_mini_block);
                let bytes = usize::try_from(per_mini_block.checked_mul(width)? / 8).ok()?;
                // The last values of a page need not be padded.
                let packed = &data[at.min(data.len())..at.saturating_add(bytes).min(data.len())];
                if width > 32 || (packed.len() as u64).saturating_mul(8) < used.saturating_mul(width) {
                    return None;
                }
                for i in 0..used {
                    length = length.wrapping_add(least).wrapping_add(bits(packed, i * width, width) as i32);
                    sum = sum.saturating_add(positive(length));
                }
                at = at.saturating_add(bytes).min(data.len());
                left -= used;
            }
        }
        Some(Self { sum, end: at })
    }
}

/// Returns `width` bits, at most 32, from the bit `start` on; those of a byte begin with the lowest.
fn bits(packed: &[u8], start: u64, width: u64) -> u32 {
    let mut word = [0; 8];
    let bytes = packed.get((start / 8) as usize..).unwrap_or_default();
    let length = bytes.len().min(8);
    word[..length].copy_from_slice(&bytes[..length]);
    ((u64::from_le_bytes(word) >> (start % 8)) & ((1 << width) - 1)) as u32
}

fn varint(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(data: &[u8], at: &mut usize) -> Option<i64> {
    let value = varint(data, at)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delta_encoded_lengths_are_counted() {
        // Of `Encodings.md`: the lengths 5, 5, 6, 6, whose deltas 0, 1, 0 take one bit each.
        let lengths = |count: u8| {
            let mut data = vec![0x80, 1, 4, count, 10, 0, 1, 0, 0, 0, 0b010];
            data.extend([0; 3]);
            data
        };
        let check = |data: &[u8], most, expected| {
            assert_eq!(Lengths::read(data, most).map(|lengths| (lengths.sum, lengths.end)), expected, "{data:?}");
        };
        check(&lengths(4), 4, Some((22, 14)));
        check(&lengths(4)[..11], 4, Some((22, 11)));
        check(&lengths(4), 3, None);
        check(&lengths(4)[..10], 4, None);
        check(&[0x80, 1, 4, 0, 0], 0, Some((0, 5)));
        check(&[0x80, 1, 0, 4, 10, 0], 4, None);
        check(&[0x80, 1, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 10], 4, None);
        check(&[], 4, None);
        assert_eq!(bits(&[0b1010_0000, 0b11], 5, 5), 0b11101);
    }
}
