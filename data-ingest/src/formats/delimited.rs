//! Records of values separated by commas or tabs.

use std::io::{self, Read};

use csv::ByteRecord;

use crate::formats::limits::AllowanceReader;

/// A record of a table, or its fault.
#[derive(Debug)]
pub(crate) enum DelimitedPiece {
    /// The names in the header; they come first.
    Header(Vec<String>),
    /// A record: its number, from 1 for the first after the header, and its values.
    Record(u64, ByteRecord),
    /// A record with another number of values than the header: its line, and the fault.
    Malformed(u64, String),
    /// A record that begins in this line and is longer than allowed.
    TooLong(u64),
}

/// Reads records until `reader` ends or fails; none is longer than about `max_bytes`.
pub(crate) fn records<E: From<io::Error>>(
    reader: impl Read,
    delimiter: u8,
    max_bytes: u64,
    mut emit: impl FnMut(DelimitedPiece) -> Result<(), E>,
) -> Result<(), E> {
    /// The parser's read-ahead.
    const BUFFER_BYTES: usize = 256 << 10;
    let (limited, left) = AllowanceReader::new(reader);
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder.delimiter(delimiter).flexible(true).buffer_capacity(BUFFER_BYTES).from_reader(limited);
    let mut record = ByteRecord::new();
    let mut width = 0;
    let mut number = 0;
    loop {
        left.set(max_bytes + 2 * BUFFER_BYTES as u64);
        let line = reader.position().line();
        let read = if width == 0 {
            reader.byte_headers().map(|header| {
                record.clone_from(header);
                !header.is_empty()
            })
        } else {
            reader.read_byte_record(&mut record)
        };
        match read.map_err(csv::Error::into_kind) {
            Ok(false) => return Ok(()),
            Ok(true) if width == 0 => {
                width = record.len();
                emit(DelimitedPiece::Header(record.iter().enumerate().map(name).collect()))?;
            }
            Ok(true) => {
                number += 1;
                if record.len() == width {
                    emit(DelimitedPiece::Record(number, std::mem::take(&mut record)))?;
                } else {
                    let line = record.position().map_or(line, csv::Position::line);
                    let found = record.len();
                    emit(DelimitedPiece::Malformed(line, format!("{found} fields, but the header has {width}")))?;
                }
            }
            // After an unclosed quote, the start of the next record is unknown.
            Err(csv::ErrorKind::Io(_)) if left.get() == 0 => return emit(DelimitedPiece::TooLong(line)),
            Err(csv::ErrorKind::Io(error)) => return Err(error.into()),
            Err(other) => return Err(io::Error::other(format!("{other:?}")).into()),
        }
    }
}

/// Returns a column's name; without a byte order mark in front of the first.
fn name((i, bytes): (usize, &[u8])) -> String {
    let name = String::from_utf8_lossy(bytes).into_owned();
    if i == 0 { name.trim_start_matches('\u{feff}').to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &str) {
        let mut found = Vec::new();
        let emit = |piece: DelimitedPiece| {
            found.push(match piece {
                DelimitedPiece::Header(names) => names.join(";"),
                DelimitedPiece::Record(n, record) => {
                    let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
                    format!("{n} {}", fields.join(";"))
                }
                DelimitedPiece::Malformed(line, message) => format!("line {line}: {message}"),
                DelimitedPiece::TooLong(line) => format!("line {line}: too long"),
            });
            io::Result::Ok(())
        };
        records(text, b',', 100, emit).unwrap();
        assert_eq!(found.join("|"), expected, "{}", String::from_utf8_lossy(&text[..text.len().min(100)]));
    }

    #[test]
    fn records_are_numbered_and_bad_ones_reported_by_line() {
        check(b"", "");
        check(b"a,b\n", "a;b");
        check(b"a,b\n1,2\n\n3,\"4\n\"\"5\"\n6,7", "a;b|1 1;2|2 3;4\n\"5|3 6;7");
        check(b"\xef\xbb\xbfa,b\r\n1,2\r\n", "a;b|1 1;2");
        check(
            b"a,b\n1\n2,3\n4,5,6\n7,8\n",
            "a;b|line 2: 1 fields, but the header has 2|2 2;3|\
            line 4: 3 fields, but the header has 2|4 7;8",
        );
        check(b"a\n\xff\n", "a|1 \u{fffd}");
        let open = format!("a,b\n1,2\n3,\"{}", "x,y\n".repeat(1 << 19));
        check(open.as_bytes(), "a;b|1 1;2|line 3: too long");
    }
}
