//! JSON records: split without parsing, then parsed for the requested keys only.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::documents::field::{Field, kind};

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

/// Why an object has no fields.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FieldsError {
    /// It is not a JSON object.
    Malformed(String),
    /// The value of a requested key is not in JSON.
    Value(String),
}

/// The requested values of an object.
#[derive(Debug, PartialEq)]
pub(crate) struct Fields {
    /// The value of each name.
    pub values: Vec<Option<Field>>,
    /// Whether halves of surrogate pairs in them were replaced by U+FFFD.
    pub has_replaced: bool,
}

/// Parses an object and returns its values of `names`.
///
/// What Python reads and writes although JSON does not have it is read too: control characters in text, halves of
/// surrogate pairs, and `NaN`, `Infinity` and `-Infinity`, which are errors in requested values only.
pub(crate) fn fields<'n>(object: &[u8], names: impl Iterator<Item = &'n str>) -> Result<Fields, FieldsError> {
    let names: Vec<&str> = names.collect();
    let error = match parse(object, &names) {
        Ok(values) => return Ok(Fields { values, has_replaced: false }),
        Err(error) => FieldsError::Malformed(describe(&error, object)),
    };
    // A number beyond the range of numbers can be skipped, but not read.
    let Some(strict) = as_json(object, b"1e999") else { return Err(error) };
    if let Ok(values) = parse(&strict, &names) {
        let is_replaced =
            |field: &Field| matches!(field, Field::Value(value) if value.to_string().contains('\u{fffd}'));
        let has_replaced = values.iter().flatten().any(is_replaced);
        return Ok(Fields { values, has_replaced });
    }
    let wrong = names.iter().find(|name| parse(&strict, &[**name]).is_err());
    Err(match wrong {
        Some(name) if parse(&strict, &[]).is_ok() => FieldsError::Value(format!("`{name}` {NOT_A_VALUE}")),
        _ => error,
    })
}

fn parse(object: &[u8], names: &[&str]) -> Result<Vec<Option<Field>>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    let fields = FieldsVisitor { names }.deserialize(&mut deserializer)?;
    deserializer.end().map(|()| fields)
}

/// Returns JSON of what Python takes for JSON: `number` in place of each `NaN` and `Infinity`, which may have a sign;
/// escapes of control characters; U+FFFD in place of halves of surrogate pairs. None if it has none of these.
fn as_json(text: &[u8], number: &[u8]) -> Option<Vec<u8>> {
    let mut json = Vec::with_capacity(text.len());
    let (mut is_text, mut is_changed) = (false, false);
    let mut rest = text;
    while let [byte, ..] = rest {
        let is_word = |word: &&[u8]| !is_text && rest.starts_with(word);
        let (length, changed): (usize, Option<Vec<u8>>) = match byte {
            b'N' | b'I' => match [&b"NaN"[..], b"Infinity"].into_iter().find(is_word) {
                Some(word) => (word.len(), Some(number.to_vec())),
                None => (1, None),
            },
            b'"' => {
                is_text = !is_text;
                (1, None)
            }
            0..0x20 if is_text => (1, Some(format!("\\u{byte:04x}").into_bytes())),
            b'\\' if is_text => match (surrogate(rest), rest.get(6..).and_then(surrogate)) {
                (Some(0xd800..0xdc00), Some(0xdc00..)) => (12, None),
                (Some(_), _) => (6, Some(b"\\ufffd".to_vec())),
                (None, _) => (2, None),
            },
            _ => (1, None),
        };
        let (read, after) = rest.split_at(length.min(rest.len()));
        is_changed |= changed.is_some();
        json.extend_from_slice(changed.as_deref().unwrap_or(read));
        rest = after;
    }
    is_changed.then_some(json)
}

/// Returns the surrogate that an escape at the beginning of `text` means.
fn surrogate(text: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(text.strip_prefix(b"\\u")?.get(..4)?).ok()?;
    u32::from_str_radix(digits, 16).ok().filter(|code| (0xd800..0xe000).contains(code))
}

/// Returns the keys of an object, quoted, for the error that one is not among them.
pub(crate) fn keys(object: &[u8]) -> String {
    /// The most keys in a message.
    const SHOWN: usize = 20;
    let strict = as_json(object, b"0");
    let keys = match serde_json::from_slice(strict.as_deref().unwrap_or(object)) {
        Ok(Value::Object(map)) => map.into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let mut quoted: Vec<String> = keys.iter().take(SHOWN).map(|key| format!("`{}`", key.escape_debug())).collect();
    quoted.extend((keys.len() > SHOWN).then(|| "…".to_owned()));
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// Returns serde's message about a record, without its line number, which is relative to the record.
fn describe(error: &serde_json::Error, object: &[u8]) -> String {
    if error.is_data()
        && let Ok(value) = serde_json::from_slice::<Value>(object)
        && !value.is_object()
    {
        return format!("expected a JSON object, found {}", kind(&value));
    }
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or(&text);
    format!("column {}: {cause}", error.column())
}

struct FieldsVisitor<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for FieldsVisitor<'_> {
    type Value = Vec<Option<Field>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = Vec<Option<Field>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = vec![None; self.names.len()];
        while let Some(Key(key)) = map.next_key()? {
            let Some(first) = self.names.iter().position(|name| *name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: Value = map.next_value()?;
            // One column may be requested twice, for example as text and as name.
            for (later, name) in self.names.iter().enumerate().skip(first + 1) {
                if *name == key {
                    fields[later] = Some(Field::Value(value.clone()));
                }
            }
            fields[first] = Some(Field::Value(value));
        }
        Ok(fields)
    }
}

/// A key, borrowed from the record if it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
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

    #[test]
    fn requested_keys_are_parsed() {
        let check = |object: &str, expected: Result<&[Option<Value>], &str>| {
            let found = fields(object.as_bytes(), ["text", "id", "text"].into_iter());
            let value = |field: Option<Field>| {
                field.map(|field| match field {
                    Field::Value(value) => value,
                    other => panic!("{other:?}"),
                })
            };
            let found = found.map(|fields| fields.values.into_iter().map(value).collect::<Vec<_>>());
            let found = found.map_err(|(FieldsError::Malformed(message) | FieldsError::Value(message))| message);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{object}");
        };
        let text = |text: &str| Some(Value::from(text));
        check(r#"{"text": "a", "x": [1, {"text": 2}], "id": 7}"#, Ok(&[text("a"), Some(7.into()), text("a")]));
        check(r#" {"t\u0065xt": "\u00e4\n", "text": "last"} "#, Ok(&[text("last"), None, text("last")]));
        check("{}", Ok(&[None, None, None]));
        check(r#"{"text": "NaN", "x": [NaN, -Infinity], "id": 7}"#, Ok(&[text("NaN"), Some(7.into()), text("NaN")]));
        let wrong = "`id` is or contains NaN or Infinity, which is not a value of JSON";
        check(r#"{"text": "a", "x": NaN, "id": [1, {"b": -Infinity}]}"#, Err(wrong));
        check(r#"{"text": "a", "x": Nan}"#, Err("column 20: expected value"));
        check("[1]", Err("expected a JSON object, found an array"));
        check("1", Err("expected a JSON object, found a number"));
        check("{\"text\": \"a\",}", Err("column 14: trailing comma"));
        check("{\"text\": \"a\"} x", Err("column 15: trailing characters"));
        check(
            r#"{"text": "\ud800 \\ud800 \ud83d\ude00\udc00"}"#,
            Ok(&[text("\u{fffd} \\ud800 😀\u{fffd}"), None, text("\u{fffd} \\ud800 😀\u{fffd}")]),
        );
        check("{\"text\": \"a\tb\u{1}\"}", Ok(&[text("a\tb\u{1}"), None, text("a\tb\u{1}")]));
        check(&format!("{{\"text\": {}", "[".repeat(1 << 20)), Err("column 136: recursion limit exceeded"));
        check(&format!("{{\"x\": {}", "[".repeat(1 << 20)), Err("column 1048582: EOF while parsing a list"));
        assert!(fields(b"{\"text\": \"caf\xe9\"}", ["text"].into_iter()).is_err());
        assert_eq!(keys(b"{\"a\": 1, \"b\\n\": 2}"), "`a`, `b\\n`");
        assert_eq!(keys(b"{}"), "none");
        assert_eq!(keys(b"{\"a\": -Infinity}"), "`a`");
    }
}
