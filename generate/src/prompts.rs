//! Prompts from the configuration and from a file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Config, Error};

/// Returns all prompts, those of the configuration first.
pub(crate) fn read(config: &Config, base: &Path) -> Result<Vec<String>, Error> {
    let mut prompts = config.inline_prompts();
    if let Some(path) = file(config, base) {
        let bytes = fs::read(&path).map_err(|source| Error::PromptsFile { path: path.clone(), source })?;
        prompts.extend(parse(&path, &bytes)?);
    }
    if prompts.is_empty() { Err(Error::NoPrompts) } else { Ok(prompts) }
}

/// Returns the path of the prompts file, if there is one.
pub(crate) fn file(config: &Config, base: &Path) -> Option<PathBuf> {
    config.prompts_file.as_ref().map(|file| base.join(file))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<String>, Error> {
    let json_lines = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let mut prompts = Vec::new();
    for (i, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let invalid = |reason: String| Error::PromptsLine { path: path.to_owned(), line: i + 1, reason };
        let line = std::str::from_utf8(line).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if json_lines {
            let value: Value = serde_json::from_str(line).map_err(|e| invalid(format!("it is not JSON: {e}")))?;
            match value.get("prompt") {
                Some(Value::String(prompt)) => prompts.push(prompt.clone()),
                Some(_) => return Err(invalid("its `prompt` is not a string".to_owned())),
                None => return Err(invalid("it has no `prompt`".to_owned())),
            }
        } else {
            prompts.push(line.to_owned());
        }
    }
    Ok(prompts)
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
        check("p.JSONL", b"{\"prompt\": 1}", Err("p.JSONL line 1: its `prompt` is not a string"));
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
