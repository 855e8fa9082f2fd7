//! JSON records: split without parsing, then parsed for the requested keys only.

mod fields;

use std::io::{self, Read};

pub(crate) use fields::{Fields, FieldsError, fields, keys};

/// What is wrong with a value that is or contains NaN or infinity, in any format.
pub(crate) const NOT_A_VALUE: &str = "is or contains NaN or Infinity, which is not a value of JSON";
/// Bytes read before lines are passed on. Heuristic, not measured: enough work for another core.
const CHUNK_BYTES: u64 = 512 << 10;

/// Consecutive records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// The number of the first: of its line, or of the object.
    pub first: u64,
    /// Lines, the last with or without its end; or one object.
    pub bytes: Vec<u8>,
}

/// A piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonPiece {
    /// Records.
    Records(Records),
    /// A record that is longer than allowed, by its number.
    TooLong(u64),
    /// Something else in place of an object, by the number of the object.
    NoObject(u64),
    /// An object without an end, by its number.
    Unended(u64),
    /// Brackets, commas or colons in the wrong place before an object, by its number; the rest cannot be read.
    Broken(u64),
}

/// Splits `reader` into lines until it ends or fails; none longer than `max_bytes` is kept.
pub(crate) fn lines<E: From<io::Error>>(
    mut reader: impl Read,
    max_bytes: u64,
    mut emit: impl FnMut(JsonPiece) -> Result<(), E>,
) -> Result<(), E> {
    let mut pending = Vec::new();
    let mut first = 1;
    let mut is_too_long = false;
    loop {
        let known = pending.len();
        let read = reader.by_ref().take(CHUNK_BYTES).read_to_end(&mut pending);
        let end = pending[known..].iter().rposition(|byte| *byte == b'\n').map(|at| known + at + 1);
        if let Some(mut end) = end {
            if is_too_long {
                is_too_long = false;
                emit(JsonPiece::TooLong(first))?;
                first += 1;
                let rest = pending.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                pending.drain(..rest);
                end -= rest;
            }
            let after = pending.split_off(end);
            let bytes = std::mem::replace(&mut pending, after);
            let lines: u64 = bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum();
            if !bytes.is_empty() {
                emit(JsonPiece::Records(Records { first, bytes }))?;
            }
            first += lines;
        }
        if pending.len() as u64 > max_bytes {
            is_too_long = true;
        }
        if is_too_long {
            pending.clear();
        }
        if read? == 0 {
            break;
        }
    }
    match (is_too_long, pending.is_empty()) {
        (true, _) => emit(JsonPiece::TooLong(first)),
        (false, true) => Ok(()),
        (false, false) => emit(JsonPiece::Records(Records { first, bytes: pending })),
    }
}

/// Splits an array of objects, or consecutive objects, by their braces.
pub(crate) fn objects<E: From<io::Error>>(
    mut reader: impl Read,
    max_bytes: u64,
    mut emit: impl FnMut(JsonPiece) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let mut object = Vec::new();
    let mut number = 0;
    let (mut depth, mut is_text, mut is_escaped, mut is_too_long, mut is_between) = (0_u64, false, false, false, true);
    loop {
        let read = match reader.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        for byte in &buffer[..read] {
            if depth == 0 && *byte != b'{' {
                // One complaint per run of unexpected bytes; a byte order mark is ignored.
                let belongs = byte.is_ascii_whitespace() || b"[],\xef\xbb\xbf".contains(byte);
                if !belongs && is_between {
                    number += 1;
                    emit(JsonPiece::NoObject(number))?;
                }
                is_between = belongs;
                continue;
            }
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                b'{' if !is_text => {
                    number += u64::from(depth == 0);
                    depth += 1;
                }
                b'}' if !is_text => depth -= 1,
                _ => {}
            }
            if object.len() as u64 >= max_bytes {
                is_too_long = true;
                object = Vec::new();
            }
            if !is_too_long {
                object.push(*byte);
            }
            if depth == 0 {
                let bytes = std::mem::take(&mut object);
                let is_kept = !std::mem::take(&mut is_too_long);
                is_between = true;
                emit(if is_kept {
                    JsonPiece::Records(Records { first: number, bytes })
                } else {
                    JsonPiece::TooLong(number)
                })?;
            }
        }
    }
    if depth > 0 { emit(JsonPiece::Unended(number)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    fn cut(text: &[u8], max_bytes: u64, are_lines: bool) -> String {
        let mut found = String::new();
        for step in [1, 2, 3, 7, 1 << 20] {
            let mut pieces = Vec::new();
            let emit = |piece: JsonPiece| {
                match piece {
                    JsonPiece::Records(Records { first, bytes }) if are_lines => {
                        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
                        let shown = |line: &[u8]| String::from_utf8_lossy(line.trim_ascii()).into_owned();
                        pieces.extend((first..).zip(lines).map(|(n, line)| format!("{n} {}", shown(line))));
                    }
                    JsonPiece::Records(Records { first, bytes }) => {
                        pieces.push(format!("{first} {}", String::from_utf8_lossy(&bytes)));
                    }
                    JsonPiece::TooLong(n) => pieces.push(format!("{n} too long")),
                    JsonPiece::NoObject(n) => pieces.push(format!("{n} no object")),
                    JsonPiece::Unended(n) => pieces.push(format!("{n} unended")),
                    JsonPiece::Broken(n) => pieces.push(format!("{n} broken")),
                }
                io::Result::Ok(())
            };
            let reader = Slow(text, step);
            if are_lines { lines(reader, max_bytes, emit) } else { objects(reader, max_bytes, emit) }.unwrap();
            let pieces = pieces.join("|");
            assert!(found.is_empty() || found == pieces, "{found}\n{pieces}");
            found = pieces;
        }
        found
    }

    #[test]
    fn lines_are_cut_and_numbered() {
        let cases: &[(&str, &str)] =
            &[("", ""), ("a", "1 a"), ("a\n", "1 a"), ("a\n\nb", "1 a|2 |3 b"), ("a\r\nb\r\n", "1 a|2 b")];
        for (text, expected) in cases {
            assert_eq!(cut(text.as_bytes(), 100, true), *expected, "{text:?}");
        }
        // A line is cut off once more than a chunk and the limit have come without an end.
        let long = "x".repeat(CHUNK_BYTES as usize * 3);
        for (text, expected) in [
            (format!("a\n{long}\nb\nc"), "1 a|2 too long|3 b|4 c"),
            (format!("{long}\n"), "1 too long"),
            (long.clone(), "1 too long"),
            (format!("{long}\n{long}\n{long}"), "1 too long|2 too long|3 too long"),
        ] {
            let mut pieces = Vec::new();
            let emit = |piece: JsonPiece| {
                match piece {
                    JsonPiece::Records(Records { first, bytes }) => {
                        for (n, line) in (first..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
                            let line = String::from_utf8_lossy(line.trim_ascii());
                            pieces.push(if line.len() > 100 { format!("{n} too long") } else { format!("{n} {line}") });
                        }
                    }
                    JsonPiece::TooLong(n) => pieces.push(format!("{n} too long")),
                    other => panic!("{other:?}"),
                }
                io::Result::Ok(())
            };
            lines(text.as_bytes(), 100, emit).unwrap();
            assert_eq!(pieces.join("|"), expected);
        }
    }

    #[test]
    fn objects_are_cut_and_numbered() {
        let cases: &[(&str, &str)] = &[
            ("[]", ""),
            ("\u{feff}[{\"a\": 1}, {\"b\": {\"c\": []}}]", "1 {\"a\": 1}|2 {\"b\": {\"c\": []}}"),
            ("{\"a\": 1}\n{\"a\": 2}{}", "1 {\"a\": 1}|2 {\"a\": 2}|3 {}"),
            (r#"[{"}": "{\"}\\"}]"#, r#"1 {"}": "{\"}\\"}"#),
            ("[1, {\"a\": 1}, \"x y\", {}]", "1 no object|2 {\"a\": 1}|3 no object|4 no object|5 {}"),
            ("[{\"a\": [}, {\"b\": 1}]", "1 {\"a\": [}|2 {\"b\": 1}"),
            ("[{\"a\": 1", "1 unended"),
            ("[{\"a\": \"}", "1 unended"),
            ("[{\"a\": \"0123456789\"}, {\"a\": 1}]", "1 too long|2 {\"a\": 1}"),
        ];
        for (text, expected) in cases {
            assert_eq!(cut(text.as_bytes(), 16, false), *expected, "{text:?}");
        }
    }
}
