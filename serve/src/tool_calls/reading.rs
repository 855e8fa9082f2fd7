//! Reading the beginning of a call: its name, and where its arguments begin.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::notation::{DEEPSEEK_CALL, FENCE, MISTRAL, Notation};

/// The length of a function's name in OpenAI's API.
const MAX_NAME_BYTES: usize = 64;

/// What stands at the beginning of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    /// It may become a call.
    Incomplete,
    /// It is text.
    Invalid,
    /// A call whose arguments are an object.
    Open {
        name: String,
        /// The byte at which the arguments begin.
        at: usize,
        /// How many objects are around the arguments.
        enclosing: usize,
        /// Whether the call is in a list.
        in_list: bool,
    },
    /// A whole call, whose arguments are something else or come before the name.
    Whole {
        name: String,
        arguments: String,
        /// The length of its text in bytes.
        length: usize,
        /// Whether it is in a list.
        in_list: bool,
    },
}

/// Why there is no call.
enum Stop {
    Incomplete,
    Invalid,
}

impl Notation {
    /// Reads the call after one of the [starts](Self::starts), or a further one of a list. At the end of the answer,
    /// what is missing is not to come.
    pub(super) fn read(self, text: &str, in_list: bool, is_end: bool) -> Reading {
        let read = match self {
            Self::DeepSeek | Self::DeepSeekPlain => deepseek(text, is_end),
            Self::Mistral if !in_list && !text.trim_start().starts_with(['[', '{']) => named(text),
            Self::Functools if !(in_list || text.is_empty() || text.starts_with('[')) => Err(Stop::Invalid),
            _ => object(text, in_list),
        };
        match read {
            Ok(reading) => reading,
            Err(Stop::Incomplete) if !is_end => Reading::Incomplete,
            Err(_) => Reading::Invalid,
        }
    }
}

/// Reads `{"name": …, "arguments": …}`, maybe the first of a list, or with both inside `"function"`.
fn object(text: &str, in_list: bool) -> Result<Reading, Stop> {
    let mut cursor = Cursor { text, at: 0 };
    let begins_list = !in_list && cursor.peek()? == '[';
    if begins_list {
        cursor.skip('[')?;
    }
    let in_list = in_list || begins_list;
    cursor.peek()?;
    let start = cursor.at;
    cursor.skip('{')?;
    let (mut name, mut enclosing) = (None, 1);
    loop {
        let key: String = cursor.value()?;
        cursor.skip(':')?;
        let is_object = cursor.peek()? == '{';
        match (key.as_str(), name.take()) {
            ("arguments" | "parameters", Some(name)) if is_object => {
                return Ok(Reading::Open { name, at: cursor.at, enclosing, in_list });
            }
            ("arguments" | "parameters", _) => break,
            ("function", outer) if is_object => {
                (name, enclosing) = (outer, enclosing + 1);
                cursor.skip('{')?;
                continue;
            }
            ("name", _) => name = Some(cursor.value()?),
            (_, known) => {
                name = known;
                cursor.value::<IgnoredAny>()?;
            }
        }
        if cursor.peek()? == '}' {
            break;
        }
        cursor.skip(',')?;
    }
    cursor.at = start;
    let value: Value = cursor.value()?;
    let (name, arguments) = whole(&value).ok_or(Stop::Invalid)?;
    Ok(Reading::Whole { name, arguments, length: cursor.at, in_list })
}

/// Returns the name and the arguments of the call that a value is.
fn whole(value: &Value) -> Option<(String, String)> {
    let call = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
    let arguments = call.get("arguments").or_else(|| call.get("parameters"))?;
    // Some models write the arguments as a string.
    let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
    Some((call["name"].as_str()?.to_owned(), arguments))
}

/// Reads `name[ARGS]{…}`, with `[CALL_ID]` and an id after the name, or `name{…}`.
fn named(text: &str) -> Result<Reading, Stop> {
    let name_end = text.find(['[', '{']).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let name = name.trim_start();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.len() > MAX_NAME_BYTES || !name.chars().all(is_name) {
        return Err(Stop::Invalid);
    }
    let Some(start) = rest.find('{') else {
        let may_be_mark = MISTRAL.iter().any(|mark| mark.starts_with(rest) || rest.starts_with(mark));
        return Err(if may_be_mark { Stop::Incomplete } else { Stop::Invalid });
    };
    let marks = rest[..start].trim_end();
    if !(marks.is_empty() || marks.ends_with(MISTRAL[2])) {
        return Err(Stop::Invalid);
    }
    Ok(Reading::Open { name: name.to_owned(), at: name_end + start, enclosing: 0, in_list: false })
}

/// Reads `name<｜tool▁sep｜>{…}`, or `function<｜tool▁sep｜>name` and the arguments in a fenced block.
fn deepseek(text: &str, is_end: bool) -> Result<Reading, Stop> {
    let (call, is_closed) = match text.split_once(DEEPSEEK_CALL[2]) {
        Some((call, _)) => (call, true),
        None => (text, is_end),
    };
    let incomplete = || if is_closed { Stop::Invalid } else { Stop::Incomplete };
    let (before, after) = call.split_once(DEEPSEEK_CALL[1]).ok_or_else(incomplete)?;
    let (name, arguments) = match (before.trim(), after.split_once('\n')) {
        ("function", Some(parts)) => parts,
        ("function", None) if is_closed => {
            let (name, arguments) = (after.trim().to_owned(), "{}".to_owned());
            return Ok(Reading::Whole { name, arguments, length: call.len(), in_list: false });
        }
        ("function", None) => return Err(Stop::Incomplete),
        (name, _) => (name, after),
    };
    let arguments = arguments.trim_start();
    let object = arguments.strip_prefix(FENCE).unwrap_or(arguments).trim_start();
    if !object.starts_with('{') {
        let may_begin = object.is_empty() || FENCE.starts_with(object);
        return Err(if may_begin { incomplete() } else { Stop::Invalid });
    }
    let (name, at) = (name.trim().to_owned(), call.len() - object.len());
    Ok(Reading::Open { name, at, enclosing: 0, in_list: false })
}

/// A place in JSON text.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    /// Moves to the next character that is not white space, and returns it.
    fn peek(&mut self) -> Result<char, Stop> {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
        self.text[self.at..].chars().next().ok_or(Stop::Incomplete)
    }

    /// Moves past a character, and white space before it.
    fn skip(&mut self, expected: char) -> Result<(), Stop> {
        if self.peek()? != expected {
            return Err(Stop::Invalid);
        }
        self.at += expected.len_utf8();
        Ok(())
    }

    /// Reads a value.
    fn value<T: DeserializeOwned>(&mut self) -> Result<T, Stop> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            None => Err(Stop::Incomplete),
            Some(Err(error)) if error.is_eof() => Err(Stop::Incomplete),
            Some(Err(_)) => Err(Stop::Invalid),
        }
    }
}
