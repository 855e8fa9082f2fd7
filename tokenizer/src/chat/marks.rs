//! Invisible marks in a rendered conversation: where the assistant's turns and the contents of messages are, and which
//! special tokens were written in a message and are ordinary text.
//!
//! The marks are noncharacters, code points that Unicode reserves for a program's internal use; they are removed from
//! texts that hold them. Transformers marks control tokens in messages in the same way (5.24).

use std::ops::Range;

use serde_json::Value;

/// Around what a `{% generation %}` block rendered.
const GENERATION: [char; 2] = ['\u{FDD0}', '\u{FDD1}'];

/// Around a special token in a message.
const ORDINARY: [char; 2] = ['\u{FDD2}', '\u{FDD3}'];

/// Around the texts of a message.
const CONTENT: [char; 2] = ['\u{FDD4}', '\u{FDD5}'];

/// The filter that `{% generation %}` blocks become.
pub(super) const GENERATION_FILTER: &str = "_generation";

/// A text without its marks, and the bytes that were marked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) text: String,
    pub(super) generated: Vec<Range<usize>>,
    pub(super) ordinary: Vec<Range<usize>>,
    /// From the first mark of a text to the last.
    pub(super) content: Option<Range<usize>>,
}

/// Marks what a `{% generation %}` block rendered.
pub(super) fn mark_generation(text: &str) -> String {
    format!("{}{text}{}", GENERATION[0], GENERATION[1])
}

/// What is marked in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marking {
    /// The content, the reasoning, and the names and arguments of tool calls.
    Texts,
    /// The content and the reasoning, where a template looks at the others.
    Contents,
    /// A content that is empty, white space, or missing.
    Empty,
}

/// Marks texts of a message. A template that looks at them may render it in another way then.
pub(super) fn mark_message(message: &mut Value, marking: Marking) {
    let Some(message) = message.as_object_mut() else { return };
    if marking == Marking::Empty {
        let content = message.entry("content").or_insert_with(|| "".into());
        if let Some(text) = content.as_str().filter(|text| text.trim().is_empty()) {
            *content = Value::String(format!("{}{}{text}", CONTENT[0], CONTENT[1]));
        }
        return;
    }
    for (key, value) in message.iter_mut() {
        match key.as_str() {
            "content" | "reasoning_content" | "thinking" => mark_strings(value),
            "tool_calls" if marking == Marking::Texts => mark_strings(value),
            _ => {}
        }
    }
}

fn mark_strings(value: &mut Value) {
    match value {
        Value::String(text) => *text = mark_text(text),
        Value::Array(values) => values.iter_mut().for_each(mark_strings),
        Value::Object(object) => {
            // Templates compare types, and measure ids.
            let keys = object.iter_mut().filter(|(key, _)| !["type", "id"].contains(&key.as_str()));
            keys.for_each(|(_, value)| mark_strings(value));
        }
        _ => {}
    }
}

/// Marks a text. White space around it stays outside, so that a template that trims contents still does.
fn mark_text(text: &str) -> String {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return text.to_owned();
    }
    let start = text.len() - text.trim_start().len();
    let (before, after) = (&text[..start], &text[start + trimmed.len()..]);
    format!("{before}{}{trimmed}{}{after}", CONTENT[0], CONTENT[1])
}

/// Marks the special tokens in every string of `value`, and removes marks that were written by someone.
pub(super) fn mark_special_tokens(value: &mut Value, special_tokens: &[String]) {
    match value {
        Value::String(text) => {
            if text.contains(is_mark) {
                *text = text.replace(is_mark, "");
            }
            if let Some(marked) = marked_special_tokens(text, special_tokens) {
                *text = marked;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mark_special_tokens(value, special_tokens)),
        Value::Object(object) => object.values_mut().for_each(|value| mark_special_tokens(value, special_tokens)),
        _ => {}
    }
}

/// Returns `text` with its special tokens marked, the longest at each place; `None` if it has none.
fn marked_special_tokens(text: &str, special_tokens: &[String]) -> Option<String> {
    let mut marked = String::new();
    let mut rest = text;
    loop {
        let found = special_tokens.iter().filter_map(|token| rest.find(token.as_str()).map(|at| (at, token)));
        let Some((at, token)) = found.min_by_key(|(at, token)| (*at, usize::MAX - token.len())) else { break };
        marked += &rest[..at];
        marked.push(ORDINARY[0]);
        marked += token;
        marked.push(ORDINARY[1]);
        rest = &rest[at + token.len()..];
    }
    (!marked.is_empty()).then(|| marked + rest)
}

fn is_mark(c: char) -> bool {
    ('\u{FDD0}'..='\u{FDD7}').contains(&c)
}

/// Removes all marks. A generation or a special token without one of its marks, which the template cut off, counts for
/// nothing.
pub(super) fn remove(rendered: &str) -> Marked {
    let mut marked = Marked::default();
    if !rendered.contains(is_mark) {
        rendered.clone_into(&mut marked.text);
        return marked;
    }
    let (mut generation, mut ordinary) = (None, None);
    for c in rendered.chars() {
        let at = marked.text.len();
        let close = |start: &mut Option<usize>| start.take().filter(|start| *start < at).map(|start| start..at);
        match c {
            _ if c == GENERATION[0] => generation = Some(at),
            _ if c == GENERATION[1] => marked.generated.extend(close(&mut generation)),
            _ if c == ORDINARY[0] => ordinary = Some(at),
            _ if c == ORDINARY[1] => marked.ordinary.extend(close(&mut ordinary)),
            _ if CONTENT.contains(&c) => {
                let start = marked.content.as_ref().map_or(at, |content| content.start);
                marked.content = Some(start..at);
            }
            _ if is_mark(c) => {}
            _ => marked.text.push(c),
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_are_found_and_removed() {
        let mut message = json!({"a": ["x <s> y<s>", {"b": "\u{FDD0}z"}], "n": 1});
        mark_special_tokens(&mut message, &["<s>", "<s"].map(str::to_owned));
        let first = remove(message["a"][0].as_str().unwrap());
        assert_eq!((first.text.as_str(), first.ordinary), ("x <s> y<s>", vec![2..5, 7..10]));
        assert_eq!(message["a"][1]["b"], "z");

        let content = mark_text(" hé \n");
        assert!(content.starts_with(' ') && content.ends_with(" \n"));
        let found = remove(&format!("<a>{content}<b>"));
        assert_eq!((found.text.as_str(), found.content), ("<a> hé \n<b>", Some(4..7)));

        let mut message = json!({"content": "", "tool_calls": [{"id": "i", "function": {"arguments": {"a": "x"}}}]});
        mark_message(&mut message, Marking::Texts);
        let call = &message["tool_calls"][0];
        assert_eq!((&message["content"], &call["id"]), (&json!(""), &json!("i")));
        assert_eq!(remove(call["function"]["arguments"]["a"].as_str().unwrap()).content, Some(0..1));
        mark_message(&mut message, Marking::Empty);
        assert_eq!(remove(message["content"].as_str().unwrap()).content, Some(0..0));

        let found = remove(&format!("a{}{}", mark_generation("bc"), GENERATION[1]));
        assert_eq!((found.text.as_str(), found.generated.as_slice()), ("abc", std::slice::from_ref(&(1..3))));
        assert_eq!(remove("plain").text, "plain");
    }
}
