//! Prompts from the configuration and from a file.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use encoding_rs::{Encoding, UTF_8};
use serde_json::Value;

use crate::{Config, Error};

/// The byte-order mark.
const MARK: char = '\u{feff}';

/// Returns all prompts, those of the configuration first.
pub(crate) fn read(config: &Config, base: &Path) -> Result<Vec<String>, Error> {
    let mut prompts = config.inline_prompts();
    if let Some(path) = file(config, base) {
        prompts.extend(read_prompts(&path)?);
    }
    if prompts.is_empty() { Err(Error::NoPrompts) } else { Ok(prompts) }
}

/// Returns the path of the prompts file, if there is one.
pub(crate) fn file(config: &Config, base: &Path) -> Option<PathBuf> {
    config.prompts_file.as_ref().map(|file| base.join(file))
}

/// Returns the prompts of a file: the key `prompt` of each line of a `.jsonl` or `.ndjson` file, each line of another
/// one. Empty lines are skipped. The text is UTF-8, or UTF-16 with a byte-order mark; a mark is not part of a prompt.
///
/// # Errors
/// Returns an error if the file cannot be read or a line is not a prompt.
pub fn read_prompts(path: &Path) -> Result<Vec<String>, Error> {
    let bytes = fs::read(path).map_err(|source| Error::PromptsFile { path: path.to_owned(), source })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<String>, Error> {
    let is_json_lines = path
        .extension()
        .is_some_and(|extension| ["jsonl", "ndjson"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
    let mut prompts = Vec::new();
    for (i, line) in unmarked(bytes).split(|byte| *byte == b'\n').enumerate() {
        let invalid = |reason: String| Error::PromptsLine { path: path.to_owned(), line: i + 1, reason };
        let line = std::str::from_utf8(line).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        // Files that were joined have marks in the middle.
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches(MARK);
        if line.is_empty() {
            continue;
        }
        if is_json_lines {
            let value: Value = serde_json::from_str(line).map_err(|e| invalid(format!("it is not JSON: {e}")))?;
            match value.get("prompt") {
                Some(Value::String(prompt)) => prompts.push(prompt.trim_start_matches(MARK).to_owned()),
                Some(_) => return Err(invalid("its `prompt` is not a string".to_owned())),
                None => return Err(invalid("it has no `prompt`".to_owned())),
            }
        } else {
            prompts.push(line.to_owned());
        }
    }
    Ok(prompts)
}

/// Returns text without its byte-order mark, and as UTF-8 if the mark says UTF-16.
pub fn unmarked(bytes: &[u8]) -> Cow<'_, [u8]> {
    match Encoding::for_bom(bytes) {
        Some((encoding, _)) if encoding != UTF_8 => {
            let (text, _) = encoding.decode_with_bom_removal(bytes);
            Cow::Owned(text.into_owned().into_bytes())
        }
        Some((_, length)) => Cow::Borrowed(&bytes[length..]),
        None => Cow::Borrowed(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, content: &[u8], expected: Result<&[&str], &str>) {
        let found = parse(Path::new(name), content).map_err(|e| e.to_string());
        assert_eq!(found, expected.map(|e| e.iter().map(ToString::to_string).collect()).map_err(str::to_owned));
    }

    #[test]
    fn prompts_are_lines_or_objects() {
        check("p.txt", b"fn main() {\n\n  let x\r\n", Ok(&["fn main() {", "  let x"]));
        check("p.txt", b"", Ok(&[]));
        check("p.txt", b"a\n\xff\n", Err("p.txt line 2: it is not UTF-8"));
        check("p.jsonl", b"{\"prompt\": \"a\\nb\", \"id\": 1}\n{\"prompt\": \"\"}\n", Ok(&["a\nb", ""]));
        check("p.jsonl", b"{\"text\": \"a\"}", Err("p.jsonl line 1: it has no `prompt`"));
        check("p.txt", b"\xef\xbb\xbfa\r\n\r\n\xef\xbb\xbfb", Ok(&["a", "b"]));
        check("p.jsonl", b"\xef\xbb\xbf{\"prompt\": \"\xef\xbb\xbfa\"}\n", Ok(&["a"]));
        check("p.ndjson", b"{\"prompt\": \"a\"}\n", Ok(&["a"]));
        check("p.JSONL", b"{\"prompt\": 1}", Err("p.JSONL line 1: its `prompt` is not a string"));
    }

    #[test]
    fn utf_16_is_decoded_in_both_byte_orders() {
        let text = "\u{feff}ein Glück\r\n\r\n二つ\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big] {
            check("p.txt", &bytes, Ok(&["ein Glück", "二つ"]));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let config = Config { prompts_file: Some("none.txt".to_owned()), ..Config::default() };
        let error = read(&config, Path::new("nowhere")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot read the prompts in {}", Path::new("nowhere/none.txt").display())
        );
    }
}
