//! Prompts from the configuration and from a file.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use encoding_rs::{Encoding, UTF_8};
use serde_json::Value;

use tokenizer::{Conversation, Message};

use crate::{Config, Error, Prompt};

/// The byte-order mark.
const MARK: char = '\u{feff}';

/// Returns all prompts, those of the configuration first.
pub(crate) fn read(config: &Config, base: &Path) -> Result<Vec<Prompt>, Error> {
    let prompt = |text: String| config.prompt(text);
    let mut prompts: Vec<Prompt> = config.inline_prompts().into_iter().map(prompt).collect();
    if let Some(path) = file(config, base) {
        prompts.extend(read_prompts(&path, &prompt)?);
    }
    if prompts.is_empty() { Err(Error::NoPrompts) } else { Ok(prompts) }
}

/// Returns the path of the prompts file, if there is one.
pub(crate) fn file(config: &Config, base: &Path) -> Option<PathBuf> {
    config.prompts_file.as_ref().map(|file| base.join(file))
}

/// Returns the prompts of a file: the key `prompt` of each line of a `.jsonl` or `.ndjson` file, each line of another
/// one, which `prompt` turns into prompts; or the conversation under `messages` of a line of JSON. Empty lines are
/// skipped. The text is UTF-8, or UTF-16 with a byte-order mark; a mark is not part of a prompt.
///
/// # Errors
/// Returns an error if the file cannot be read or a line is not a prompt.
pub fn read_prompts(path: &Path, prompt: &dyn Fn(String) -> Prompt) -> Result<Vec<Prompt>, Error> {
    let bytes = fs::read(path).map_err(|source| Error::PromptsFile { path: path.to_owned(), source })?;
    parse(path, &bytes, prompt)
}

fn parse(path: &Path, bytes: &[u8], prompt: &dyn Fn(String) -> Prompt) -> Result<Vec<Prompt>, Error> {
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
            prompts.push(of_object(value, prompt).map_err(invalid)?);
        } else {
            prompts.push(prompt(line.to_owned()));
        }
    }
    Ok(prompts)
}

/// Returns the prompt of an object, or what is wrong with it.
fn of_object(mut value: Value, prompt: &dyn Fn(String) -> Prompt) -> Result<Prompt, String> {
    let Some(keys) = value.as_object_mut() else { return Err("it is not a JSON object".to_owned()) };
    match (keys.remove("prompt"), keys.remove("messages")) {
        (Some(Value::String(text)), None) => Ok(prompt(text.trim_start_matches(MARK).to_owned())),
        (Some(_), None) => Err("its `prompt` is not a string".to_owned()),
        (None, Some(messages)) => {
            let messages: Vec<Message> =
                serde_json::from_value(messages).map_err(|e| format!("its `messages` are not messages: {e}"))?;
            if messages.is_empty() {
                return Err("its `messages` are empty".to_owned());
            }
            let tools = keys.remove("tools").filter(|tools| !tools.is_null());
            Ok(Prompt::Chat(Conversation { tools, ..messages.into() }))
        }
        (Some(_), Some(_)) => Err("it has both `prompt` and `messages`".to_owned()),
        (None, None) => Err("it has no `prompt`".to_owned()),
    }
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
        let found = parse(Path::new(name), content, &Prompt::Text).map_err(|e| e.to_string());
        let expected = expected.map(|texts| texts.iter().map(|text| Prompt::Text((*text).to_owned())).collect());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn messages_are_conversations() {
        let line = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}"#;
        let found = parse(Path::new("p.jsonl"), line.as_bytes(), &Prompt::Text).unwrap();
        assert_eq!(found, [Prompt::chat(Some("Be brief."), "Why?")]);
        check("p.jsonl", br#"{"messages": []}"#, Err("p.jsonl line 1: its `messages` are empty"));
        check(
            "p.jsonl",
            br#"{"messages": [], "prompt": ""}"#,
            Err("p.jsonl line 1: it has both `prompt` and `messages`"),
        );
    }

    #[test]
    fn prompts_are_lines_or_objects() {
        check("p.txt", b"fn main() {\n\n  let x\r\n", Ok(&["fn main() {", "  let x"]));
        check("p.txt", b"", Ok(&[]));
        check("p.txt", b"a\n\xff\n", Err("p.txt line 2: it is not UTF-8"));
        check("p.jsonl", b"{\"prompt\": \"a\\nb\", \"id\": 1}\n{\"prompt\": \"\"}\n", Ok(&["a\nb", ""]));
        check("p.jsonl", b"[]", Err("p.jsonl line 1: it is not a JSON object"));
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
