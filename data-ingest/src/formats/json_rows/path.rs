//! Paths in JSON: keys separated by dots.

/// Parses a path: keys separated by dots; a key with dots or quotes is quoted as in JSON.
pub(crate) fn parse_path(text: &str) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = if rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let key = values.next().and_then(Result::ok).ok_or("a quote is not closed")?;
            (key, &rest[values.byte_offset()..])
        } else {
            let (key, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
            (key.to_owned(), after)
        };
        if key.is_empty() {
            return Err("a key is empty; keys are separated by dots: `data.items`".to_owned());
        }
        keys.push(key);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(keys),
            None => return Err("a dot must follow a quoted key".to_owned()),
        }
    }
}

/// Returns a path as [`parse_path`] reads it.
pub(super) fn written(path: &[String]) -> String {
    let quote = |key: &String| {
        let is_plain = !key.is_empty() && !key.contains(['.', '"', '\n']);
        if is_plain { key.clone() } else { serde_json::Value::from(key.as_str()).to_string() }
    };
    path.iter().map(quote).collect::<Vec<_>>().join(".")
}
