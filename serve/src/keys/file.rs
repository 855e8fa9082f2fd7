//! The file of keys: one JSON object a line.

use std::fmt::Write;
use std::num::NonZeroU32;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Scope;
use crate::Error;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Whose key it is; in the access log.
    pub(super) name: String,
    /// The SHA-256 hash of the secret.
    pub(super) sha256: Hash,
    /// What it may be used for.
    pub(super) scopes: Vec<Scope>,
    /// How many requests it may make in a minute; none for as many as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) requests_per_minute: Option<NonZeroU32>,
}

/// A SHA-256 hash, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(pub(super) [u8; 32]);

/// Reads the entries of a file. Empty lines and lines that begin with `#` are ignored.
///
/// # Errors
/// Returns an error that names the file, and the line that is not an entry or repeats a name.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    let failed = |line: Option<usize>, reason: String| Error::Keys { path: path.to_owned(), line, reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(None, error.to_string()))?;
    let mut entries: Vec<Entry> = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        // The text of the error never repeats the line, which may hold a secret by mistake.
        let entry: Entry = serde_json::from_str(text).map_err(|error| {
            failed(Some(line + 1), format!("{error}; a line is as `pipeline serve --new-key` writes it"))
        })?;
        if entries.iter().any(|other| other.name == entry.name) {
            return Err(failed(Some(line + 1), format!("the name `{}` is there already", entry.name)));
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let invalid = || serde::de::Error::custom("`sha256` must be 64 hexadecimal digits");
        // `from_str_radix` takes a sign, too.
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(hash))
    }
}

/// Returns bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_their_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let good = format!(r#"{{"name": "a", "sha256": "{}", "scopes": ["inference", "admin"]}}"#, "0a".repeat(32));
        std::fs::write(&path, format!("# keys\n\n{good}\n")).unwrap();
        let entries = read(&path).unwrap();
        let expected = Entry {
            name: "a".to_owned(),
            sha256: Hash([10; 32]),
            scopes: vec![Scope::Inference, Scope::Admin],
            requests_per_minute: None,
        };
        assert_eq!(entries, [expected]);
        let cases = [
            (format!("{good}\n{good}"), "line 2: the name `a` is there already"),
            (good.replace("0a0a", "0a0"), "line 1: `sha256` must be 64 hexadecimal digits"),
            (good.replace("0a0a", "0ag0"), "line 1: `sha256` must be 64 hexadecimal digits"),
            (good.replace("0a0a", "+a0a"), "line 1: `sha256` must be 64 hexadecimal digits"),
            (good.replace("admin", "root"), "line 1: unknown variant `root`"),
            (good.replace("name", "title"), "line 1: unknown field `title`"),
            (good.replace('}', r#", "requests_per_minute": 0}"#), "line 1: invalid value: integer `0`"),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, &text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} for {text}");
        }
    }
}
