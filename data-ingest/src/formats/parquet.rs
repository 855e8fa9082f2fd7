//! Row groups of Parquet, validated before they are decoded.
//!
//! The decoder allocates as many values as the header of a page claims, and a negative count makes polars abort. So the
//! headers of all requested pages are read first, skipping their bodies (Apache Parquet, `parquet.thrift`).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use polars_parquet::parquet::metadata::ColumnChunkMetadata;
use polars_parquet_format::thrift::protocol::TCompactInputProtocol;
use polars_parquet_format::{PageHeader, PageType};

/// The largest header of a page, including its statistics.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Bytes that a page may unpack to, whatever its size. Heuristic, as for compressed files.
const HARMLESS_BYTES: u64 = 64 << 20;
/// How many times its size a page may unpack to beyond that.
const MAX_RATIO: u64 = 1000;
/// Values that a column may have in a row group, whatever its size. Heuristic, not measured: writers put a
/// million rows or fewer into one.
const HARMLESS_VALUES: u64 = 1 << 28;

/// Validates the claims of a column's pages in a group of `height` rows.
///
/// # Errors
/// Returns the claim that cannot be true.
pub(crate) fn validate(file: &File, rows: usize, chunk: &ColumnChunkMetadata) -> io::Result<()> {
    let range = chunk.byte_range();
    if range.end > file.metadata()?.len() || range.start > range.end {
        return Err(wrong("a column ends after the end of the file".to_owned()));
    }
    let all = chunk.num_values();
    let most = HARMLESS_VALUES.max((range.end - range.start).saturating_mul(MAX_RATIO));
    // A row has at least one value, which may be null.
    if u64::try_from(all).map_or(true, |all| all > most || all < rows as u64) {
        return Err(wrong(format!("a column claims {all} values in a group of {rows} rows")));
    }
    let mut reader = BufReader::with_capacity(1 << 12, file.try_clone()?);
    reader.seek(SeekFrom::Start(range.start))?;
    let mut seen = 0;
    while seen < all {
        let start = reader.stream_position()?;
        let rest = range.end.saturating_sub(start);
        let header = {
            let mut protocol = TCompactInputProtocol::new(reader.by_ref().take(rest), MAX_HEADER_BYTES);
            PageHeader::read_from_in_protocol(&mut protocol).map_err(|e| wrong(format!("the header of a page: {e}")))?
        };
        let body = reader.stream_position()?;
        let bytes = size("bytes", header.compressed_page_size)?;
        if bytes > range.end.saturating_sub(body) {
            return Err(wrong(format!("a page of {bytes} bytes is longer than its column")));
        }
        let unpacked = size("bytes", header.uncompressed_page_size)?;
        if unpacked > HARMLESS_BYTES.max(bytes.saturating_mul(MAX_RATIO)) {
            return Err(wrong(format!("a page of {bytes} bytes claims to unpack to {unpacked}")));
        }
        seen += values(&header, bytes, unpacked)? as i64;
        if seen > all {
            return Err(wrong(format!("the pages of a column have more than its {all} values")));
        }
        reader.seek_relative(bytes as i64)?;
    }
    Ok(())
}

/// Returns the number of values that a page claims, after validating its compressed and uncompressed size.
fn values(header: &PageHeader, bytes: u64, unpacked: u64) -> io::Result<u64> {
    let missing = || wrong("a page lacks the header of its type".to_owned());
    match header.type_ {
        PageType::DATA_PAGE => size("values", header.data_page_header.as_ref().ok_or_else(missing)?.num_values),
        PageType::DATA_PAGE_V2 => {
            let data = header.data_page_header_v2.as_ref().ok_or_else(missing)?;
            let values = size("values", data.num_values)?;
            let levels =
                size("bytes", data.definition_levels_byte_length)? + size("bytes", data.repetition_levels_byte_length)?;
            if levels > bytes || size("nulls", data.num_nulls)? > values || size("rows", data.num_rows)? > values {
                return Err(wrong("a page has more levels, nulls or rows than values".to_owned()));
            }
            Ok(values)
        }
        PageType::DICTIONARY_PAGE => {
            let dictionary = header.dictionary_page_header.as_ref().ok_or_else(missing)?;
            if size("values", dictionary.num_values)? > unpacked {
                return Err(wrong("a dictionary has more values than bytes".to_owned()));
            }
            Ok(0)
        }
        _ => Ok(0),
    }
}

fn size(what: &str, claim: i32) -> io::Result<u64> {
    u64::try_from(claim).map_err(|_| wrong(format!("a page claims {claim} {what}")))
}

fn wrong(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use polars::prelude::{DataFrame, IntoSeries, NamedFrom, ParquetCompression, ParquetWriter, Series};

    use polars_parquet_format::thrift::protocol::TCompactOutputProtocol;
    use polars_parquet_format::{DataPageHeader, DataPageHeaderV2, DictionaryPageHeader, Encoding};

    use super::*;
    use crate::Source;
    use crate::documents::mapping::{Columns, Mapping};
    use crate::formats::columnar::{self, Table, TablePart};

    /// Returns a small table with nulls and, optionally, a dictionary.
    fn packed(compression: ParquetCompression, repeated: bool) -> Vec<u8> {
        let text = |i: usize| (i % 3 != 1).then(|| if repeated { "again".repeat(9) } else { format!("text {i}") });
        let column = Series::new("text".into(), (0..40).map(text).collect::<Vec<_>>());
        let mut frame = DataFrame::new_infer_height(vec![column.into_series().into()]).unwrap();
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).with_compression(compression).finish(&mut frame).unwrap();
        bytes
    }

    /// Returns the number of rows read, and the complaint about the others.
    fn read(bytes: &[u8]) -> (usize, Vec<String>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let columns = Columns::of(&Source::default());
        let mapping = Mapping::new(&columns, 1 << 20).unwrap();
        let (mut rows, mut messages) = (0, Vec::new());
        columnar::read(&file, Table::Parquet, &mapping, &mut |found| {
            match found {
                TablePart::Rows(_, frame) => rows += frame.height(),
                TablePart::Damaged(_, message) => messages.push(message),
                TablePart::Unreadable(error) => panic!("{error}"),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        (rows, messages)
    }

    /// polars allocated 2^64 − 192 values, and the process aborted.
    #[test]
    fn a_page_with_a_negative_value_count_is_damaged() {
        let mut bytes = packed(ParquetCompression::Uncompressed, false);
        assert_eq!(read(&bytes).0, 40);
        // The header's fifth field is the header of its data, the first of which are 40 values, in zigzag 80.
        let at = bytes.windows(3).position(|window| window == [0x2c, 0x15, 80]).unwrap();
        bytes[at + 2] = 79;
        assert_eq!(read(&bytes), (0, vec!["a page claims -40 values".to_owned()]));
        bytes[at + 2] = 82;
        assert_eq!(read(&bytes), (0, vec!["the pages of a column have more than its 40 values".to_owned()]));
    }

    /// Returns the header of a page of 40 bytes, as it is in a file.
    fn header(type_: PageType, change: impl Fn(&mut PageHeader)) -> Vec<u8> {
        let encoding = Encoding::PLAIN;
        let data = DataPageHeader::new(40, encoding, encoding, encoding, None);
        let mut header = PageHeader::new(type_, 40, 40, None, data, None, None, None);
        change(&mut header);
        let mut bytes = Vec::new();
        header.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut bytes)).unwrap();
        bytes
    }

    #[test]
    fn a_page_needs_the_header_of_its_type() {
        let check = |type_, change: fn(&mut PageHeader), expected: Result<u64, &str>| {
            let bytes = header(type_, change);
            let mut protocol = TCompactInputProtocol::new(&bytes[..], MAX_HEADER_BYTES);
            let header = PageHeader::read_from_in_protocol(&mut protocol).unwrap();
            let found = values(&header, 40, 40).map_err(|e| e.to_string());
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
        };
        let v2 = |header: &mut PageHeader| {
            header.data_page_header_v2 = Some(DataPageHeaderV2::new(7, 0, 7, Encoding::PLAIN, 0, 0, None, None));
        };
        let dictionary = |header: &mut PageHeader| {
            header.dictionary_page_header = Some(DictionaryPageHeader::new(41, Encoding::PLAIN, None));
        };
        check(PageType::DATA_PAGE, v2, Ok(40));
        check(PageType::DATA_PAGE_V2, v2, Ok(7));
        check(PageType::DATA_PAGE_V2, |_| {}, Err("a page lacks the header of its type"));
        check(PageType::DICTIONARY_PAGE, |_| {}, Err("a page lacks the header of its type"));
        check(PageType::DICTIONARY_PAGE, dictionary, Err("a dictionary has more values than bytes"));
        check(PageType::INDEX_PAGE, v2, Ok(0));
        let negative = |header: &mut PageHeader| header.data_page_header.as_mut().unwrap().num_values = -1;
        check(PageType::DATA_PAGE, negative, Err("a page claims -1 values"));
    }

    #[test]
    fn changed_bytes_do_not_abort_the_process() {
        for (compression, repeated) in
            [(ParquetCompression::Uncompressed, true), (ParquetCompression::Zstd(None), false)]
        {
            let whole = packed(compression, repeated);
            for at in 0..whole.len() {
                for change in [0x01, 0x40, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= change;
                    assert!(read(&bytes).0 <= 80, "byte {at} changed by {change:x}");
                }
            }
        }
    }
}
