//! Calls of tools in an answer, in the notation of Hermes and Qwen:
//! `<tool_call>{"name": …, "arguments": …}</tool_call>`.

use generate::Grammar;
use serde_json::{Value, json};

const START: &str = "<tool_call>";
const END: &str = "</tool_call>";

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// The arguments, as JSON.
    pub(crate) arguments: String,
}

/// Takes the calls out of a text that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct CallFilter {
    /// Text that may be the beginning of a call, or the call that has begun.
    held: String,
    is_in_call: bool,
    has_calls: bool,
    /// White space after a call, which is dropped if nothing but calls follows.
    space: String,
}

impl CallFilter {
    /// Adds a piece, and returns the text that is certain to be outside of calls, and the calls that are complete.
    pub(crate) fn push(&mut self, piece: &str) -> (String, Vec<ToolCall>) {
        self.held.push_str(piece);
        let (mut text, mut calls) = (String::new(), Vec::new());
        loop {
            let held = std::mem::take(&mut self.held);
            if self.is_in_call {
                let Some((call, rest)) = held.split_once(END) else {
                    self.held = held;
                    break;
                };
                (self.held, self.is_in_call) = (rest.to_owned(), false);
                match parse(call) {
                    Some(call) => {
                        self.has_calls = true;
                        calls.push(call);
                    }
                    None => self.release(&format!("{START}{call}{END}"), &mut text),
                }
            } else if let Some((before, rest)) = held.split_once(START) {
                (self.held, self.is_in_call) = (rest.to_owned(), true);
                self.release(before, &mut text);
            } else {
                let kept = (1..START.len()).rev().find(|length| held.ends_with(&START[..*length]));
                let (outside, kept) = held.split_at(held.len() - kept.unwrap_or_default());
                kept.clone_into(&mut self.held);
                self.release(outside, &mut text);
                break;
            }
        }
        (text, calls)
    }

    /// Returns the rest of the text, and the call that was not closed if it is complete nevertheless.
    pub(crate) fn finish(mut self) -> (String, Option<ToolCall>) {
        let (held, mut text) = (std::mem::take(&mut self.held), String::new());
        if self.is_in_call {
            let call = parse(&held);
            if call.is_none() {
                self.release(&format!("{START}{held}"), &mut text);
            }
            return (text, call);
        }
        self.release(&held, &mut text);
        (text, None)
    }

    /// Appends text outside of calls to what is returned.
    fn release(&mut self, outside: &str, text: &mut String) {
        if !self.has_calls {
            text.push_str(outside);
            return;
        }
        self.space.push_str(outside);
        let end = self.space.trim_end().len();
        text.extend(self.space.drain(..end));
    }
}

/// Returns the grammar of one call of one of these tools.
pub(crate) fn grammar<'t>(tools: impl IntoIterator<Item = &'t Value>) -> Grammar {
    let call = |tool: &Value| {
        let function = &tool["function"];
        let parameters = Some(&function["parameters"]).filter(|parameters| parameters.is_object());
        let arguments = parameters.cloned().unwrap_or_else(|| json!({"type": "object"}));
        json!({
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let calls: Vec<Value> = tools.into_iter().map(call).collect();
    Grammar::Tagged { before: format!("{START}\n"), schema: json!({"anyOf": calls}), after: format!("\n{END}") }
}

fn parse(text: &str) -> Option<ToolCall> {
    let call: Value = serde_json::from_str(text.trim()).ok()?;
    let arguments = call.get("arguments").or_else(|| call.get("parameters"))?;
    // Some models write the arguments as a string.
    let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
    Some(ToolCall { name: call["name"].as_str()?.to_owned(), arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    /// Checks the text outside of calls and the calls, wherever the text is split.
    #[track_caller]
    fn check(text: &str, outside: &str, calls: &[ToolCall]) {
        for size in 1..=text.chars().count() {
            let characters: Vec<char> = text.chars().collect();
            let (mut filter, mut found, mut found_calls) = (CallFilter::default(), String::new(), Vec::new());
            for piece in characters.chunks(size) {
                let (text, calls) = filter.push(&piece.iter().collect::<String>());
                found += &text;
                found_calls.extend(calls);
            }
            let (rest, last) = filter.finish();
            found_calls.extend(last);
            assert_eq!((found + &rest, &found_calls[..]), (outside.to_owned(), calls), "{text} by {size}");
        }
    }

    #[test]
    fn calls_are_taken_out_of_the_text() {
        check("é <b> x", "é <b> x", &[]);
        let add = r#"<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>"#;
        check(&format!("Sum:{add}"), "Sum:", &[call("add", r#"{"a":1}"#)]);
        let open = r#"<tool_call>{"name": "f", "parameters": "{}"}"#;
        check(&format!("{add}\n{open}"), "", &[call("add", r#"{"a":1}"#), call("f", "{}")]);
        check("<tool_call>{\"name\"", "<tool_call>{\"name\"", &[]);
        check("a<tool_call>no</tool_call>b", "a<tool_call>no</tool_call>b", &[]);
        check("a <tool_", "a <tool_", &[]);
        check(&format!("a {add} b \n{add}\n"), "a  b", &[call("add", r#"{"a":1}"#), call("add", r#"{"a":1}"#)]);
    }
}
