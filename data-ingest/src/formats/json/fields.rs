//! The values of an object, parsed for the requested keys only.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::NOT_A_VALUE;
use crate::documents::field::{Field, kind};

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
