//! The claims in the headers of pages, validated before the pages are decoded.
//!
//! The decoder allocates as many values and bytes as the header of a page claims. So the headers of all requested pages
//! are read first, skipping their bodies (Apache Parquet, `parquet.thrift`).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

use crate::thrift::{Compact, Kind};
use crate::{HARMLESS_BYTES, MAX_RATIO, wrong};

/// The largest header of a page, including its statistics.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// The decoder's input buffer.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Values that a column may have in a row group, whatever its size. Heuristic, not measured: writers put a
/// million rows or fewer into one.
const HARMLESS_VALUES: u64 = 1 << 28;

/// The type of a page.
const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

/// The claims in the header of a page; `None` where a field is missing.
#[derive(Debug, Default, PartialEq)]
struct PageHeader {
    page_type: Option<i64>,
    unpacked_bytes: Option<i64>,
    packed_bytes: Option<i64>,
    /// The fields of the header of each type of page, by number: 5 of data, 7 of a dictionary, 8 of data, version 2.
    data: Option<DataHeader>,
    dictionary: Option<DataHeader>,
    data_v2: Option<DataHeader>,
}

/// The integers in the header of data or of a dictionary, by their numbers in version 2: values, nulls, rows, encoding,
/// bytes of definition and repetition levels.
type DataHeader = [Option<i64>; 6];

impl PageHeader {
    fn read<R: Read>(compact: &mut Compact<R>) -> io::Result<Self> {
        let mut header = Self::default();
        compact.fields(|compact, number, kind| {
            let integer = match number {
                1 => &mut header.page_type,
                2 => &mut header.unpacked_bytes,
                3 => &mut header.packed_bytes,
                5 | 7 | 8 if kind == Kind::Struct => {
                    let mut data = DataHeader::default();
                    compact.fields(|compact, number, kind| {
                        let field = usize::try_from(i32::from(number) - 1).ok().and_then(|place| data.get_mut(place));
                        let Some(field) = field.filter(|_| kind == Kind::Integer) else { return Ok(false) };
                        *field = Some(compact.integer()?);
                        Ok(true)
                    })?;
                    *match number {
                        5 => &mut header.data,
                        7 => &mut header.dictionary,
                        _ => &mut header.data_v2,
                    } = Some(data);
                    return Ok(true);
                }
                _ => return Ok(false),
            };
            if kind != Kind::Integer {
                return Ok(false);
            }
            *integer = Some(compact.integer()?);
            Ok(true)
        })?;
        Ok(header)
    }

    /// Returns the number of values that the page claims, after validating its compressed and uncompressed size.
    fn values(&self, packed: u64, unpacked: u64) -> io::Result<u64> {
        let missing = || wrong("a page lacks the header of its type");
        match self.page_type {
            Some(DATA_PAGE) => size("values", self.data.ok_or_else(missing)?[0]),
            Some(DATA_PAGE_V2) => {
                let data = self.data_v2.ok_or_else(missing)?;
                let values = size("values", data[0])?;
                let levels = size("bytes", data[4])? + size("bytes", data[5])?;
                if levels > packed || size("nulls", data[1])? > values || size("rows", data[2])? > values {
                    return Err(wrong("a page has more levels, nulls or rows than values"));
                }
                Ok(values)
            }
            Some(DICTIONARY_PAGE) => {
                if size("values", self.dictionary.ok_or_else(missing)?[0])? > unpacked {
                    return Err(wrong("a dictionary has more values than bytes"));
                }
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    /// Returns the bytes at the beginning of the page that are never compressed.
    fn level_bytes(&self) -> u64 {
        let levels = self.data_v2.filter(|_| self.page_type == Some(DATA_PAGE_V2));
        levels.map_or(0, |data| data[4..].iter().flatten().map(|bytes| *bytes as u64).sum())
    }
}

/// Validates the claims of a column's pages in a group of `rows` rows.
///
/// # Errors
/// Returns the claim that cannot be true.
pub fn validate(file: &File, rows: u64, chunk: &ColumnChunkMetaData) -> io::Result<()> {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    let end = start.checked_add(chunk.compressed_size()).unwrap_or(-1);
    let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end)) else {
        return Err(wrong("a column begins before the file"));
    };
    if end > file.metadata()?.len() || start > end {
        return Err(wrong("a column ends after the end of the file"));
    }
    let all = chunk.num_values();
    let most = HARMLESS_VALUES.max((end - start).saturating_mul(MAX_RATIO));
    // A row has at least one value, which may be null.
    let Some(all) = u64::try_from(all).ok().filter(|all| (rows..=most).contains(all)) else {
        return Err(wrong(format!("a column claims {all} values in a group of {rows} rows")));
    };
    let mut reader = BufReader::with_capacity(1 << 12, file.try_clone()?);
    reader.seek(SeekFrom::Start(start))?;
    let (mut at, mut seen) = (start, 0);
    while at < end {
        let header = {
            let mut compact = Compact::new(reader.by_ref().take((end - at).min(MAX_HEADER_BYTES)));
            let header = PageHeader::read(&mut compact);
            at += compact.bytes;
            match header {
                Ok(header) => header,
                // Padding after the last page.
                Err(_) if seen == all => return Ok(()),
                Err(e) => return Err(io::Error::new(e.kind(), format!("the header of a page: {e}"))),
            }
        };
        let packed = size("bytes", header.packed_bytes)?;
        if packed > end - at {
            return Err(wrong(format!("a page of {packed} bytes is longer than its column")));
        }
        let unpacked = size("bytes", header.unpacked_bytes)?;
        if unpacked > HARMLESS_BYTES.max(packed.saturating_mul(MAX_RATIO)) {
            return Err(wrong(format!("a page of {packed} bytes claims to unpack to {unpacked}")));
        }
        seen += header.values(packed, unpacked)?;
        if seen > all {
            return Err(wrong(format!("the pages of a column have more than its {all} values")));
        }
        let levels = header.level_bytes();
        match chunk.compression() {
            Compression::GZIP(_) => {
                validate_unpacked(&mut reader, packed, levels, unpacked, MultiGzDecoder::new)?;
                reader.seek(SeekFrom::Start(at + packed))?;
            }
            Compression::BROTLI(_) => {
                let decoder = |body| brotli_decompressor::Decompressor::new(body, BROTLI_BUFFER_BYTES);
                validate_unpacked(&mut reader, packed, levels, unpacked, decoder)?;
                reader.seek(SeekFrom::Start(at + packed))?;
            }
            _ => reader.seek_relative(packed as i64)?,
        }
        at += packed;
    }
    if seen < all {
        return Err(wrong(format!("the pages of a column have {seen} of its {all} values")));
    }
    Ok(())
}

/// Validates the unpacked size of a page, which the decoders of gzip and Brotli do not limit.
fn validate_unpacked<'a, R: Read + 'a, D: Read>(
    reader: &'a mut R,
    packed: u64,
    levels: u64,
    unpacked: u64,
    decoder: impl FnOnce(io::Take<&'a mut R>) -> D,
) -> io::Result<()> {
    let mut body = reader.take(packed);
    io::copy(&mut body.by_ref().take(levels), &mut io::sink())?;
    let most = unpacked.saturating_sub(levels);
    // A page that is not compressed, or damaged, is the decoder's concern.
    let found = io::copy(&mut decoder(body).take(most + 1), &mut io::sink()).unwrap_or(0);
    if found > most {
        Err(wrong(format!("a page unpacks to more than the {unpacked} bytes it claims")))
    } else {
        Ok(())
    }
}

fn size(what: &str, claim: Option<i64>) -> io::Result<u64> {
    let claim = claim.ok_or_else(|| wrong(format!("a page does not say how many {what} it has")))?;
    i32::try_from(claim)
        .ok()
        .and_then(|claim| u64::try_from(claim).ok())
        .ok_or_else(|| wrong(format!("a page claims {claim} {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a struct of Thrift: integers, each under its number.
    fn integers(fields: &[(u8, i64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut last = 0;
        for (number, value) in fields {
            bytes.extend([((number - last) << 4) | 5, ((value << 1) ^ (value >> 63)) as u8]);
            last = *number;
        }
        bytes
    }

    #[test]
    fn a_page_needs_the_header_of_its_type() {
        let check = |page_type: i64, number: u8, data: &[(u8, i64)], expected: Result<u64, &str>| {
            let own = integers(&[(1, page_type), (2, 40), (3, 40)]);
            let bytes = [&own, &[((number - 3) << 4) | 0xc][..], &integers(data), &[0, 0]].concat();
            let header = PageHeader::read(&mut Compact::new(&bytes[..])).unwrap();
            let found = header.values(40, 40).map_err(|e| e.to_string());
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
        };
        let v2 = [(1, 7), (2, 0), (3, 7), (4, 0), (5, 0), (6, 0)];
        let missing = Err("a page lacks the header of its type");
        check(DATA_PAGE, 5, &[(1, 40), (2, 0)], Ok(40));
        check(DATA_PAGE, 8, &v2, missing);
        check(DATA_PAGE_V2, 8, &v2, Ok(7));
        check(DATA_PAGE_V2, 5, &[(1, 40)], missing);
        let levels = Err("a page has more levels, nulls or rows than values");
        check(DATA_PAGE_V2, 8, &[(1, 7), (2, 8), (3, 7), (4, 0), (5, 0), (6, 0)], levels);
        check(DATA_PAGE_V2, 8, &[(1, 7), (2, 0), (3, 7), (4, 0), (5, 20), (6, 21)], levels);
        check(DATA_PAGE_V2, 8, &[(1, 7)], Err("a page does not say how many bytes it has"));
        check(DICTIONARY_PAGE, 5, &[(1, 40)], missing);
        check(DICTIONARY_PAGE, 7, &[(1, 41)], Err("a dictionary has more values than bytes"));
        check(1, 8, &v2, Ok(0));
        check(DATA_PAGE, 5, &[(1, -1)], Err("a page claims -1 values"));
    }
}
