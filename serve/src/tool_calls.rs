//! Calls of tools in an answer.

mod notation;

use serde_json::Value;

pub(crate) use notation::Notation;
use notation::Parsed;

/// What a call of Llama may begin with.
const FIRST_KEYS: [&str; 3] = ["\"name\"", "\"type\"", "\"function\""];
/// Heuristic, not measured: because a call of this length is read a few times at most until then.
const LONG_CALL_BYTES: usize = 256;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The arguments, as JSON.
    pub(crate) arguments: String,
}

/// The tools that an answer may call, and how it does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tools {
    pub(crate) notation: Notation,
    /// The names of the functions.
    pub(crate) names: Vec<String>,
}

impl Tools {
    /// Returns the tools of a request.
    pub(crate) fn new(notation: Notation, tools: &Value) -> Self {
        let functions = tools.as_array().into_iter().flatten().map(|tool| &tool["function"]);
        let names = functions.filter_map(|function| function["name"].as_str()).map(str::to_owned).collect();
        Self { notation, names }
    }

    /// Returns the text of an answer outside of calls, and the calls.
    pub(crate) fn split(&self, text: &str) -> (String, Vec<ToolCall>) {
        let mut filter = CallFilter::new(self.clone());
        let (mut outside, mut calls) = filter.push(text);
        let (rest, last) = filter.finish();
        outside += &rest;
        calls.extend(last);
        (outside, calls)
    }
}

/// Takes the calls out of a text that arrives in pieces. What cannot be read as a call is text.
#[derive(Debug)]
pub(crate) struct CallFilter {
    tools: Tools,
    /// Text that may be the beginning of a call, or what has come of a call.
    held: String,
    state: State,
    has_calls: bool,
    /// White space after a call, which is dropped if nothing but calls follows.
    space: String,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before the first text, or after a call without a mark.
    Start,
    Outside,
    /// After the mark of a call, which is empty where there is none.
    Inside(&'static str),
}

impl CallFilter {
    /// Returns a filter that has seen no text.
    pub(crate) fn new(tools: Tools) -> Self {
        let state = if tools.notation.may_be_bare() { State::Start } else { State::Outside };
        Self { tools, held: String::new(), state, has_calls: false, space: String::new() }
    }

    /// Adds a piece, and returns the text that is certain to be outside of calls, and the calls that are complete.
    pub(crate) fn push(&mut self, piece: &str) -> (String, Vec<ToolCall>) {
        self.held.push_str(piece);
        let (mut text, mut calls) = (String::new(), Vec::new());
        // A long call is not read again before it may end.
        let is_waiting = matches!(self.state, State::Inside(_)) && self.held.len() > LONG_CALL_BYTES;
        if is_waiting && !piece.contains(['}', ']', '>']) {
            return (text, calls);
        }
        while self.advance(false, &mut text, &mut calls) {}
        (text, calls)
    }

    /// Returns the rest of the text, and the calls that were not closed but are complete nevertheless.
    pub(crate) fn finish(mut self) -> (String, Vec<ToolCall>) {
        let (mut text, mut calls) = (String::new(), Vec::new());
        while self.advance(true, &mut text, &mut calls) {}
        let held = std::mem::take(&mut self.held);
        if !self.has_calls {
            self.release(&held, &mut text);
        }
        (text, calls)
    }

    /// Moves on by one part of the text. Returns false if more text must come first.
    fn advance(&mut self, is_end: bool, text: &mut String, calls: &mut Vec<ToolCall>) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Outside => self.outside(is_end, text),
            State::Inside(mark) => self.inside(mark, is_end, text, calls),
        }
    }

    /// Looks whether a call without a mark begins.
    fn start(&mut self) -> bool {
        let is_between = |c: char| c.is_whitespace() || self.has_calls && c == ';';
        let call = self.held.trim_start_matches(is_between);
        if call.is_empty() {
            return false;
        }
        if call.starts_with('{') {
            self.state = State::Inside("");
            if self.has_calls {
                self.held = call.to_owned();
            }
        } else {
            self.state = State::Outside;
        }
        true
    }

    fn outside(&mut self, is_end: bool, text: &mut String) -> bool {
        let starts = self.tools.notation.starts();
        let held = std::mem::take(&mut self.held);
        let first = starts.iter().filter_map(|mark| Some((held.find(mark)?, *mark))).min_by_key(|(at, _)| *at);
        if let Some((at, mark)) = first {
            self.release(&held[..at], text);
            (self.held, self.state) = (held[at + mark.len()..].to_owned(), State::Inside(mark));
            return true;
        }
        let is_beginning = |(at, _): &(usize, char)| starts.iter().any(|mark| mark.starts_with(&held[*at..]));
        let kept = held.char_indices().find(is_beginning).filter(|_| !is_end);
        let (outside, kept) = held.split_at(kept.map_or(held.len(), |(at, _)| at));
        kept.clone_into(&mut self.held);
        self.release(outside, text);
        false
    }

    fn inside(&mut self, mark: &'static str, is_end: bool, text: &mut String, calls: &mut Vec<ToolCall>) -> bool {
        let is_bare = mark.is_empty();
        let mut parsed = self.tools.notation.parse(mark, &self.held, is_end);
        if is_bare && !self.is_call(&parsed) {
            parsed = Parsed::Invalid;
        }
        match parsed {
            Parsed::Incomplete if !is_end => false,
            Parsed::Calls(found, length) => {
                self.held.drain(..length);
                self.has_calls |= !found.is_empty();
                calls.extend(found);
                self.state = if self.tools.notation.may_be_bare() { State::Start } else { State::Outside };
                true
            }
            Parsed::Incomplete | Parsed::Invalid => {
                let held = std::mem::take(&mut self.held);
                // The mark is text; after it there may be another.
                self.release(mark, text);
                if is_bare {
                    self.release(&held, text);
                } else {
                    self.held = held;
                }
                self.state = State::Outside;
                true
            }
        }
    }

    /// Returns true if what has no mark is a call, or may become one: other answers may be JSON too.
    fn is_call(&self, parsed: &Parsed) -> bool {
        match parsed {
            Parsed::Invalid => false,
            Parsed::Calls(calls, _) => calls.iter().all(|call| self.tools.names.contains(&call.name)),
            Parsed::Incomplete => {
                let key = self.held.trim_start().trim_start_matches('{').trim_start();
                FIRST_KEYS.iter().any(|first| first.starts_with(key) || key.starts_with(first))
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Checks the text outside of calls and the calls, wherever the text is split.
    #[track_caller]
    fn check(notation: Notation, text: &str, outside: &str, calls: &[(&str, &str)]) {
        let function = |name: &str| json!({"type": "function", "function": {"name": name}});
        let tools = Tools::new(notation, &json!([function("add"), function("f")]));
        let characters: Vec<char> = text.chars().collect();
        for size in 1..=characters.len() {
            let (mut filter, mut found, mut found_calls) = (CallFilter::new(tools.clone()), String::new(), Vec::new());
            for piece in characters.chunks(size) {
                let (text, calls) = filter.push(&piece.iter().collect::<String>());
                found += &text;
                found_calls.extend(calls);
            }
            let (rest, last) = filter.finish();
            found_calls.extend(last);
            let found_calls: Vec<(&str, &str)> =
                found_calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
            assert_eq!((found + &rest, &found_calls[..]), (outside.to_owned(), calls), "{text} by {size}");
        }
    }

    const ADD: (&str, &str) = ("add", r#"{"a":1}"#);
    const F: (&str, &str) = ("f", "{}");

    #[test]
    fn calls_of_hermes_are_taken_out_of_the_text() {
        let check = |text: &str, outside: &str, calls: &[_]| check(Notation::Hermes, text, outside, calls);
        check("é <b> x", "é <b> x", &[]);
        let add = r#"<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>"#;
        check(&format!("Sum:{add}"), "Sum:", &[ADD]);
        let open = r#"<tool_call>{"name": "f", "parameters": "{}"}"#;
        check(&format!("{add}\n{open}"), "", &[ADD, F]);
        check("<tool_call>{\"name\"", "<tool_call>{\"name\"", &[]);
        check("a<tool_call>no</tool_call>b", "a<tool_call>no</tool_call>b", &[]);
        check("a <tool_", "a <tool_", &[]);
        check(&format!("a {add} b \n{add}\n"), "a  b", &[ADD, ADD]);
        let nested = r#"<tool_call>{"name": "f", "arguments": {"a": "</tool>", "b": [{}]}}</tool_call>"#;
        check(nested, "", &[("f", r#"{"a":"</tool>","b":[{}]}"#)]);
        // The mark in a string ends nothing; what is between the value and the mark makes it text.
        let quoted = r#"<tool_call> {"name": "f", "arguments": {"a": "</tool_call>"}} </tool_call>!"#;
        check(quoted, "!", &[("f", r#"{"a":"</tool_call>"}"#)]);
        let followed = r#"<tool_call>{"name": "f", "arguments": {}} and</tool_call>"#;
        check(followed, followed, &[]);
    }

    #[test]
    fn calls_of_llama_are_taken_out_of_the_text() {
        let check = |text: &str, outside: &str, calls: &[_]| check(Notation::Llama, text, outside, calls);
        let add = r#"{"name": "add", "parameters": {"a": 1}}"#;
        check(add, "", &[ADD]);
        check(&format!("\n\n{add}"), "", &[ADD]);
        check(&format!("<|python_tag|>{add}"), "", &[ADD]);
        check(&format!(r#"{add}; {{"type": "function", "name": "f", "parameters": {{}}}}"#), "", &[ADD, F]);
        check(&format!("<|python_tag|>{add};{add}"), "", &[ADD, ADD]);
        // Another tool, and JSON that is the answer.
        let other = r#"{"name": "other", "parameters": {}}"#;
        check(other, other, &[]);
        check(" {\"a\": [1, {}]} ", " {\"a\": [1, {}]} ", &[]);
        check("{\"name\": \"add\"", "{\"name\": \"add\"", &[]);
        check("{", "{", &[]);
        check("  ", "  ", &[]);
        check("The answer is {}.", "The answer is {}.", &[]);
        let built_in = r#"<|python_tag|>brave_search.call(query="a")"#;
        check(built_in, built_in, &[]);
        check(&format!("Let me see. <|python_tag|>{add}"), "Let me see. ", &[ADD]);
    }

    #[test]
    fn calls_of_mistral_are_taken_out_of_the_text() {
        let check = |text: &str, outside: &str, calls: &[_]| check(Notation::Mistral, text, outside, calls);
        let add = r#"{"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"}"#;
        let both = format!(r#"[TOOL_CALLS] [{add}, {{"name": "f", "arguments": {{}}}}]"#);
        check(&both, "", &[ADD, F]);
        check(r#"Sure.[TOOL_CALLS][{"name":"f","arguments":{}}]"#, "Sure.", &[F]);
        check(r#"[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}"#, "", &[ADD, F]);
        check(r#"[TOOL_CALLS]add{"a": 1}"#, "", &[ADD]);
        check("[TOOL_CALLS] [{\"name\": 1}]", "[TOOL_CALLS] [{\"name\": 1}]", &[]);
        check("[TOOL_CALLS]no such, I think", "[TOOL_CALLS]no such, I think", &[]);
        check("[TOOL_CALLS] [{", "[TOOL_CALLS] [{", &[]);
        check("[1, 2] [TOOL", "[1, 2] [TOOL", &[]);
    }

    #[test]
    fn calls_of_deepseek_are_taken_out_of_the_text() {
        let call = |inner: &str| format!("<｜tool▁call▁begin｜>{inner}<｜tool▁call▁end｜>");
        let fenced =
            |name: &str, arguments: &str| call(&format!("function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```"));
        let calls = |inner: &str| format!("<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>");
        let (add, f) = (fenced("add", "{\"a\": 1}"), fenced("f", "{}"));
        check(Notation::DeepSeek, &format!("Let me. {}", calls(&format!("{add}\n{f}"))), "Let me. ", &[ADD, F]);
        // Where the outer marks are special tokens without text.
        check(Notation::DeepSeek, &add, "", &[ADD]);
        let plain = calls(&(call("add<｜tool▁sep｜>{\"a\": 1}") + &call("f<｜tool▁sep｜>{}")));
        check(Notation::DeepSeekPlain, &plain, "", &[ADD, F]);
        let broken = call("f<｜tool▁sep｜>{");
        check(Notation::DeepSeekPlain, &broken, &broken, &[]);
    }

    #[test]
    fn calls_of_granite_and_phi_are_taken_out_of_the_text() {
        let both = r#"[{"name": "add", "arguments": {"a": 1}}, {"name": "f", "arguments": {}}]"#;
        check(Notation::Granite, &format!("<|tool_call|>{both}"), "", &[ADD, F]);
        check(Notation::Granite, &format!("<|tool_call|> {both}"), "", &[ADD, F]);
        check(Notation::Phi, &format!("<|tool_call|>{both}<|/tool_call|>"), "", &[ADD, F]);
        check(Notation::Phi, r#"<|tool_call|>{"name": "f", "arguments": {}}<|/tool_call|>"#, "", &[F]);
        let wrapped =
            r#"<|tool_call|>[{"type": "function", "function": {"name": "f", "arguments": {}}}]<|/tool_call|>"#;
        check(Notation::Phi, wrapped, "", &[F]);
        check(Notation::Functools, &format!("functools{both}"), "", &[ADD, F]);
        check(Notation::Functools, "Use functools or functools[0].", "Use functools or functools[0].", &[]);
        check(Notation::Granite, "<|tool_call|>[]", "<|tool_call|>[]", &[]);
    }
}
