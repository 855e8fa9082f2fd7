//! Row groups of Parquet, looked over before they are decoded.
//!
//! The decoder takes memory for as many values as the header of a page claims, and a claim of less than none ends the process.
//! So the headers of all wanted pages are read first, which skips what the pages hold (Apache Parquet, `parquet.thrift`).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use polars_parquet::parquet::metadata::ColumnChunkMetadata;
use polars_parquet_format::PageHeader;
use polars_parquet_format::thrift::protocol::TCompactInputProtocol;

/// Bytes that the header of a page may have; statistics are in it.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Bytes that a page may unpack to, whatever its size. A guess, as for packed files.
const HARMLESS_BYTES: u64 = 64 << 20;
/// How many times its size a page may unpack to beyond that.
const MAX_RATIO: u64 = 1000;
/// Values that a column may have in a row group; writers put a million or less into one. A guess.
const MAX_VALUES: i64 = 1 << 28;

/// Checks what the pages of a column claim in a group of so many rows.
///
/// # Errors
/// Says which claim cannot be true.
pub(crate) fn look_over(file: &File, rows: usize, chunk: &ColumnChunkMetadata) -> io::Result<()> {
    let range = chunk.byte_range();
    let all = chunk.num_values();
    // A row has at least one value, which may be null.
    if !(0..=MAX_VALUES).contains(&all) || rows as u64 > all as u64 {
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
        let mut values = 0;
        if let Some(data) = &header.data_page_header {
            values = size("values", data.num_values)?;
        }
        if let Some(data) = &header.data_page_header_v2 {
            values = size("values", data.num_values)?;
            let levels =
                size("bytes", data.definition_levels_byte_length)? + size("bytes", data.repetition_levels_byte_length)?;
            if levels > bytes || size("nulls", data.num_nulls)? > values || size("rows", data.num_rows)? > values {
                return Err(wrong("a page has more levels, nulls or rows than values".to_owned()));
            }
        }
        if let Some(dictionary) = &header.dictionary_page_header
            && size("values", dictionary.num_values)? > unpacked
        {
            return Err(wrong("a dictionary has more values than bytes".to_owned()));
        }
        seen += values as i64;
        if seen > all {
            return Err(wrong(format!("the pages of a column have more than its {all} values")));
        }
        reader.seek_relative(bytes as i64)?;
    }
    Ok(())
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

    use crate::Source;
    use crate::columns::{self, Found, Table};
    use crate::mapping::{Columns, Mapping};

    /// Returns a small table with nulls and, where asked, a dictionary.
    fn packed(compression: ParquetCompression, repeated: bool) -> Vec<u8> {
        let text = |i: usize| (i % 3 != 1).then(|| if repeated { "again".repeat(9) } else { format!("text {i}") });
        let column = Series::new("text".into(), (0..40).map(text).collect::<Vec<_>>());
        let mut frame = DataFrame::new_infer_height(vec![column.into_series().into()]).unwrap();
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).with_compression(compression).finish(&mut frame).unwrap();
        bytes
    }

    /// Returns how many rows are read, and what is said of the others.
    fn read(bytes: &[u8]) -> (usize, Vec<String>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let columns = Columns::of(&Source::default());
        let mapping = Mapping::new(&columns, 1 << 20).unwrap();
        let (mut rows, mut said) = (0, Vec::new());
        columns::read(&file, Table::Parquet, &mapping, &mut |found| {
            match found {
                Found::Rows(_, frame) => rows += frame.height(),
                Found::Damaged(_, message) => said.push(message),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        (rows, said)
    }

    /// polars took memory for 2^64 − 192 values, and the process ended.
    #[test]
    fn a_page_that_claims_fewer_values_than_none_is_damaged() {
        let mut bytes = packed(ParquetCompression::Uncompressed, false);
        assert_eq!(read(&bytes).0, 40);
        // The header's fifth field is the header of its data, the first of which are 40 values, in zigzag 80.
        let at = bytes.windows(3).position(|window| window == [0x2c, 0x15, 80]).unwrap();
        bytes[at + 2] = 79;
        assert_eq!(read(&bytes), (0, vec!["a page claims -40 values".to_owned()]));
        bytes[at + 2] = 82;
        assert_eq!(read(&bytes), (0, vec!["the pages of a column have more than its 40 values".to_owned()]));
    }

    #[test]
    fn no_changed_byte_ends_the_process() {
        std::panic::set_hook(Box::new(|_| {}));
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
        let _ = std::panic::take_hook();
    }
}
