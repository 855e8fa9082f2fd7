//! JSON as Python writes it.

use std::borrow::Cow;

use serde_json::{Error, Value};

/// The numbers that Python's `json` writes and reads, and JSON does not have. Longer names first: each is the end of
/// the one before.
const NOT_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Reads a JSON file of another program: as JSON, or as Python's `json` reads it, where `NaN`, `Infinity` and
/// `-Infinity` are numbers. They become the strings of that name, so that a reader of the key reports them and no
/// other reader notices. A byte-order mark is skipped.
///
/// # Errors
/// Returns an error if the text is neither.
pub fn from_slice(bytes: &[u8]) -> Result<Value, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| match quoted(bytes) {
        Cow::Owned(quoted) => serde_json::from_slice(&quoted),
        Cow::Borrowed(_) => Err(error),
    })
}

/// Returns the text with the names of [`NOT_FINITE`] outside strings in quotation marks.
fn quoted(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted = Vec::new();
    let (mut start, mut at, mut in_string) = (0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            _ => {
                if let Some(name) = NOT_FINITE.into_iter().find(|name| bytes[at..].starts_with(name.as_bytes())) {
                    quoted.extend_from_slice(&bytes[start..at]);
                    quoted.extend(format!("\"{name}\"").bytes());
                    at += name.len();
                    start = at;
                    continue;
                }
            }
        }
        at += 1;
    }
    if start == 0 {
        return bytes.into();
    }
    quoted.extend_from_slice(&bytes[start..]);
    quoted.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_of_python_are_read_as_their_names() {
        let check = |text: &str, expected: Value| assert_eq!(from_slice(text.as_bytes()).unwrap(), expected, "{text}");
        check(r#"{"a": 1}"#, json!({"a": 1}));
        check("\u{feff}[1]", json!([1]));
        check(r#"{"a": NaN, "b": [Infinity,-Infinity]}"#, json!({"a": "NaN", "b": ["Infinity", "-Infinity"]}));
        check(r#"{"NaN": NaN, "b\"": "a \" NaN \\"}"#, json!({"NaN": "NaN", "b\"": "a \" NaN \\"}));
        check("NaN", json!("NaN"));
    }

    #[test]
    fn other_text_is_an_error() {
        let check = |text: &str| from_slice(text.as_bytes()).map(|value| panic!("{text}: {value}")).unwrap_err();
        for text in ["", "{", "nan", r#"{"a": NaN"#, r#"{"a": NaNa}"#, r#"{"a": -NaN}"#, "\"NaN", r#"NaN"a"#] {
            check(text);
        }
    }
}
