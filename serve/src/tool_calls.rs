//! Calls of tools in an answer.

mod nesting;
mod notation;
mod reading;
#[cfg(test)]
mod tests;

use serde_json::Value;

use nesting::Nesting;
pub(crate) use notation::Notation;
use reading::Reading;

/// What a call of Llama may begin with.
const FIRST_KEYS: [&str; 3] = ["\"name\"", "\"type\"", "\"function\""];
/// Heuristic, not measured: because the beginning of a call of this length is read a few times at most until then.
const LONG_BEGINNING_BYTES: usize = 256;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The arguments as the model has written them: JSON, if it makes no mistake and is not cut off.
    pub(crate) arguments: String,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// Text outside of calls.
    Text(String),
    /// The beginning of a call.
    Call {
        /// Its id.
        id: String,
        /// The name of the function.
        name: String,
    },
    /// More of the arguments of the last call.
    Arguments(String),
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
        let mut parts = filter.push(text);
        parts.extend(filter.finish());
        join(parts)
    }
}

/// Returns the text outside of calls, and the calls.
fn join(parts: Vec<Part>) -> (String, Vec<ToolCall>) {
    let (mut outside, mut calls) = (String::new(), Vec::<ToolCall>::new());
    for part in parts {
        match part {
            Part::Text(text) => outside += &text,
            Part::Call { id, name } => calls.push(ToolCall { id, name, arguments: String::new() }),
            Part::Arguments(more) => {
                if let Some(call) = calls.last_mut() {
                    call.arguments += &more;
                }
            }
        }
    }
    (outside, calls)
}

/// Takes the calls out of a text that arrives in pieces. What cannot be read as a call is text; once the name and the
/// beginning of the arguments have come, what follows belongs to a call.
#[derive(Debug)]
pub(crate) struct CallFilter {
    tools: Tools,
    /// Text that may be the beginning of a call, or of what stands after one.
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
    /// After the mark of a call, which is empty where there is none; or after a call of a list.
    Before {
        mark: &'static str,
        in_list: bool,
    },
    /// In the arguments of a call, which are inside so many objects.
    Arguments {
        nesting: Nesting,
        enclosing: usize,
        in_list: bool,
    },
    /// After the arguments, in the objects around them.
    Around {
        nesting: Nesting,
        in_list: bool,
    },
    /// After a call.
    After {
        in_list: bool,
    },
}

impl CallFilter {
    /// Returns a filter that has seen no text.
    pub(crate) fn new(tools: Tools) -> Self {
        let state = Self::initial(tools.notation);
        Self { tools, held: String::new(), state, has_calls: false, space: String::new() }
    }

    fn initial(notation: Notation) -> State {
        if notation.may_be_bare() { State::Start } else { State::Outside }
    }

    /// Adds a piece, and returns the parts that are certain.
    pub(crate) fn push(&mut self, piece: &str) -> Vec<Part> {
        self.held.push_str(piece);
        let mut parts = Vec::new();
        // A long beginning is not read again before it may end.
        let is_waiting = matches!(self.state, State::Before { .. }) && self.held.len() > LONG_BEGINNING_BYTES;
        if is_waiting && !piece.contains(['{', '}', ']', '>']) {
            return parts;
        }
        while self.advance(false, &mut parts) {}
        parts
    }

    /// Returns the rest: text, and a call that was not closed but is complete nevertheless.
    pub(crate) fn finish(mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        while self.advance(true, &mut parts) {}
        let held = std::mem::take(&mut self.held);
        if !self.has_calls {
            self.release(&held, &mut parts);
        }
        parts
    }

    /// Moves on by one part of the text. Returns false if more text must come first.
    fn advance(&mut self, is_end: bool, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Outside => self.outside(is_end, parts),
            State::Before { mark, in_list } => self.before(mark, in_list, is_end, parts),
            State::Arguments { mut nesting, enclosing, in_list } => {
                let (arguments, is_closed) = self.take_nested(&mut nesting);
                if !arguments.is_empty() {
                    parts.push(Part::Arguments(arguments));
                }
                self.state = match (is_closed, enclosing) {
                    (false, _) => State::Arguments { nesting, enclosing, in_list },
                    (true, 0) => State::After { in_list },
                    (true, _) => State::Around { nesting: Nesting::inside(enclosing), in_list },
                };
                is_closed
            }
            State::Around { mut nesting, in_list } => {
                let (_, is_closed) = self.take_nested(&mut nesting);
                self.state = if is_closed { State::After { in_list } } else { State::Around { nesting, in_list } };
                is_closed
            }
            State::After { in_list } => self.after(in_list, is_end),
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
            self.state = State::Before { mark: "", in_list: false };
            if self.has_calls {
                self.held = call.to_owned();
            }
        } else {
            self.state = State::Outside;
        }
        true
    }

    fn outside(&mut self, is_end: bool, parts: &mut Vec<Part>) -> bool {
        let starts = self.tools.notation.starts();
        let held = std::mem::take(&mut self.held);
        let first = starts.iter().filter_map(|mark| Some((held.find(mark)?, *mark))).min_by_key(|(at, _)| *at);
        if let Some((at, mark)) = first {
            self.release(&held[..at], parts);
            held[at + mark.len()..].clone_into(&mut self.held);
            if !Notation::is_silent(mark) {
                self.state = State::Before { mark, in_list: false };
            }
            return true;
        }
        let is_beginning = |(at, _): &(usize, char)| starts.iter().any(|mark| mark.starts_with(&held[*at..]));
        let kept = held.char_indices().find(is_beginning).filter(|_| !is_end);
        let (outside, kept) = held.split_at(kept.map_or(held.len(), |(at, _)| at));
        kept.clone_into(&mut self.held);
        self.release(outside, parts);
        false
    }

    fn before(&mut self, mark: &'static str, in_list: bool, is_end: bool, parts: &mut Vec<Part>) -> bool {
        let is_bare = mark.is_empty() && !in_list;
        let mut reading = self.tools.notation.read(&self.held, in_list, is_end);
        if is_bare && !self.is_call(&reading) {
            reading = Reading::Invalid;
        }
        match reading {
            Reading::Incomplete => return false,
            Reading::Open { name, at, enclosing, in_list } => {
                self.begin(name, at, parts);
                self.state = State::Arguments { nesting: Nesting::default(), enclosing, in_list };
            }
            Reading::Whole { name, arguments, length, in_list } => {
                self.begin(name, length, parts);
                parts.push(Part::Arguments(arguments));
                self.state = State::After { in_list };
            }
            Reading::Invalid => {
                self.state = State::Outside;
                // The mark is text; after it there may be another.
                self.release(mark, parts);
            }
        }
        true
    }

    /// Begins a call, after so many bytes of the text that is held.
    fn begin(&mut self, name: String, length: usize, parts: &mut Vec<Part>) {
        self.held.drain(..length);
        self.has_calls = true;
        parts.push(Part::Call { id: self.tools.notation.new_id(), name });
    }

    /// Takes what is held up to the end of the outermost object, and returns whether that has come.
    fn take_nested(&mut self, nesting: &mut Nesting) -> (String, bool) {
        match nesting.close(&self.held) {
            Some(end) => (self.held.drain(..end).collect(), true),
            None => (std::mem::take(&mut self.held), false),
        }
    }

    /// Drops what stands after a call.
    fn after(&mut self, in_list: bool, is_end: bool) -> bool {
        let rest = self.held.trim_start();
        if in_list {
            let Some(next) = rest.chars().next() else { return false };
            self.state = match next {
                ',' => State::Before { mark: "", in_list },
                ']' => State::After { in_list: false },
                _ => State::Outside,
            };
            if [',', ']'].contains(&next) {
                self.held = rest[1..].to_owned();
            }
            return true;
        }
        for closing in self.tools.notation.closings() {
            if let Some(after) = rest.strip_prefix(closing) {
                self.held = after.to_owned();
                return true;
            }
            if closing.starts_with(rest) && !is_end {
                return false;
            }
        }
        self.state = Self::initial(self.tools.notation);
        true
    }

    /// Returns true if what has no mark is a call, or may become one: other answers may be JSON too.
    fn is_call(&self, reading: &Reading) -> bool {
        match reading {
            Reading::Invalid => false,
            Reading::Open { name, .. } | Reading::Whole { name, .. } => self.tools.names.contains(name),
            Reading::Incomplete => {
                let key = self.held.trim_start().trim_start_matches('{').trim_start();
                FIRST_KEYS.iter().any(|first| first.starts_with(key) || key.starts_with(first))
            }
        }
    }

    /// Adds text outside of calls to what is returned.
    fn release(&mut self, outside: &str, parts: &mut Vec<Part>) {
        let mut text = outside.to_owned();
        if self.has_calls {
            self.space.push_str(outside);
            let end = self.space.trim_end().len();
            text = self.space.drain(..end).collect();
        }
        match parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(earlier)) => earlier.push_str(&text),
            _ => parts.push(Part::Text(text)),
        }
    }
}
