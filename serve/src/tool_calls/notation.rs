//! How models write calls of tools, told by the chat template that they were trained with.

use generate::{Grammar, Part, Tagged};
use serde_json::{Value, json};

use super::ToolCall;
use crate::random::random;

/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// Hermes and Qwen: `<tool_call>{"name": …, "arguments": …}</tool_call>`.
    Hermes,
    /// Llama 3.1 and later: `{"name": …, "parameters": …}` as the whole answer, after `<|python_tag|>` or without it,
    /// and `;` between several.
    Llama,
    /// Mistral: `[TOOL_CALLS] [{"name": …, "arguments": …}, …]`; later models write `[TOOL_CALLS]name[ARGS]{…}`.
    Mistral,
    /// `DeepSeek` V3 and R1: `<｜tool▁call▁begin｜>function<｜tool▁sep｜>name`, the arguments in a fenced block, and
    /// `<｜tool▁call▁end｜>`.
    DeepSeek,
    /// `DeepSeek` V3.1: `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`.
    DeepSeekPlain,
    /// Granite: `<|tool_call|>[{"name": …, "arguments": …}, …]`.
    Granite,
    /// Phi-4-mini: the same before `<|/tool_call|>`, or one call without the brackets.
    Phi,
    /// Phi-4-mini and others: `functools[{"name": …, "arguments": …}, …]`.
    Functools,
}

/// What stands at the beginning of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Parsed {
    /// It may become calls.
    Incomplete,
    /// It is text.
    Invalid,
    /// Calls, and the length of their text in bytes.
    Calls(Vec<ToolCall>, usize),
}

const HERMES: [&str; 2] = ["<tool_call>", "</tool_call>"];
const PYTHON_TAG: &str = "<|python_tag|>";
const MISTRAL: [&str; 3] = ["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"];
const DEEPSEEK_CALL: [&str; 3] = ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"];
const DEEPSEEK_CALLS: [&str; 2] = ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"];
const FENCE: &str = "```json";
const MARKED: [&str; 2] = ["<|tool_call|>", "<|/tool_call|>"];
const FUNCTOOLS: &str = "functools";

/// The length of a function's name in OpenAI's API.
const MAX_NAME_BYTES: usize = 64;
/// The length of the ids of calls that Mistral's templates accept.
const MISTRAL_ID_CHARACTERS: usize = 9;

impl Notation {
    /// Returns the notation of the models that a chat template belongs to; that of Hermes if it shows none.
    pub(crate) fn of_template(source: &str) -> Self {
        let has = |text: &str| source.contains(text);
        match () {
            () if has(DEEPSEEK_CALL[0]) && has(FENCE) => Self::DeepSeek,
            () if has(DEEPSEEK_CALL[0]) => Self::DeepSeekPlain,
            () if has(MISTRAL[0]) => Self::Mistral,
            () if has(HERMES[0]) => Self::Hermes,
            () if has(MARKED[1]) => Self::Phi,
            () if has(MARKED[0]) => Self::Granite,
            () if has(FUNCTOOLS) => Self::Functools,
            () if has(PYTHON_TAG) || has("\"name\": function name, \"parameters\"") => Self::Llama,
            () => Self::Hermes,
        }
    }

    /// Returns true if the template reads the arguments of calls as text.
    pub(crate) fn reads_arguments_as_text(self) -> bool {
        matches!(self, Self::DeepSeek | Self::DeepSeekPlain)
    }

    /// Returns the marks of calls, which are special tokens of most tokenizers.
    pub(crate) fn marks(self) -> Vec<&'static str> {
        match self {
            Self::Hermes => HERMES.to_vec(),
            Self::Llama => vec![PYTHON_TAG],
            Self::Mistral => MISTRAL.to_vec(),
            Self::DeepSeek | Self::DeepSeekPlain => [&DEEPSEEK_CALL[..], &DEEPSEEK_CALLS].concat(),
            Self::Granite | Self::Phi => MARKED.to_vec(),
            Self::Functools => Vec::new(),
        }
    }

    /// Returns the marks that stand before calls, and those that stand around them and say nothing.
    pub(super) fn starts(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &HERMES[..1],
            Self::Llama => &[PYTHON_TAG],
            Self::Mistral => &MISTRAL[..1],
            Self::DeepSeek | Self::DeepSeekPlain => &[DEEPSEEK_CALL[0], DEEPSEEK_CALLS[0], DEEPSEEK_CALLS[1]],
            Self::Granite | Self::Phi => &MARKED,
            Self::Functools => &[FUNCTOOLS],
        }
    }

    /// Returns true if a call may also stand without a mark, at the beginning of an answer.
    pub(super) fn may_be_bare(self) -> bool {
        self == Self::Llama
    }

    /// Returns an id for a call.
    pub(crate) fn new_id(self) -> String {
        let mut id = format!("call_{:016x}", random());
        if self == Self::Mistral { id.split_off(id.len() - MISTRAL_ID_CHARACTERS) } else { id }
    }

    /// Reads the calls after one of the [starts](Self::starts). At the end of the answer, what is missing is not to
    /// come.
    pub(super) fn parse(self, start: &str, text: &str, is_end: bool) -> Parsed {
        match self {
            _ if [DEEPSEEK_CALLS[0], DEEPSEEK_CALLS[1], MARKED[1]].contains(&start) => Parsed::Calls(Vec::new(), 0),
            Self::Hermes => self.hermes(text, is_end),
            Self::DeepSeek | Self::DeepSeekPlain => {
                Self::until(DEEPSEEK_CALL[2], text, is_end, |call| Some(vec![self.deepseek(call)?]))
            }
            Self::Mistral if !text.trim_start().starts_with(['[', '{']) => self.named(text),
            Self::Functools if !(text.is_empty() || text.starts_with('[')) => Parsed::Invalid,
            Self::Llama | Self::Mistral | Self::Granite | Self::Phi | Self::Functools => match json_value(text) {
                Json::Incomplete => Parsed::Incomplete,
                Json::Invalid => Parsed::Invalid,
                Json::Value(value, length) => {
                    self.calls(&value).map_or(Parsed::Invalid, |calls| Parsed::Calls(calls, length))
                }
            },
        }
    }

    /// Reads a JSON value and the mark after it. The mark may stand in the value's strings as well.
    fn hermes(self, text: &str, is_end: bool) -> Parsed {
        let (value, length) = match json_value(text) {
            Json::Incomplete => return Parsed::Incomplete,
            Json::Invalid => return Parsed::Invalid,
            Json::Value(value, length) => (value, length),
        };
        let rest = text[length..].trim_start();
        let length = match rest.strip_prefix(HERMES[1]) {
            Some(after) => text.len() - after.len(),
            None if rest.is_empty() && is_end => text.len(),
            None if HERMES[1].starts_with(rest) => return Parsed::Incomplete,
            None => return Parsed::Invalid,
        };
        self.calls(&value).map_or(Parsed::Invalid, |calls| Parsed::Calls(calls, length))
    }

    /// Reads calls up to a mark.
    fn until(end: &str, text: &str, is_end: bool, read: impl FnOnce(&str) -> Option<Vec<ToolCall>>) -> Parsed {
        let (calls, length) = match text.split_once(end) {
            Some((calls, _)) => (calls, calls.len() + end.len()),
            None if is_end => (text, text.len()),
            None => return Parsed::Incomplete,
        };
        read(calls.trim()).map_or(Parsed::Invalid, |calls| Parsed::Calls(calls, length))
    }

    /// Reads `name[ARGS]{…}`, with `[CALL_ID]` and an id after the name, or `name{…}`.
    fn named(self, text: &str) -> Parsed {
        let name_end = text.find(['[', '{']).unwrap_or(text.len());
        let (name, rest) = text.split_at(name_end);
        let name = name.trim_start();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.len() > MAX_NAME_BYTES || !name.chars().all(is_name) {
            return Parsed::Invalid;
        }
        let arguments_start = match rest.find('{') {
            Some(start) => start,
            None if MISTRAL.iter().any(|mark| mark.starts_with(rest) || rest.starts_with(mark)) => {
                return Parsed::Incomplete;
            }
            None => return Parsed::Invalid,
        };
        let (marks, arguments) = rest.split_at(arguments_start);
        let marks = marks.trim_end();
        if !(marks.is_empty() || marks.ends_with(MISTRAL[2])) {
            return Parsed::Invalid;
        }
        match json_value(arguments) {
            Json::Incomplete => Parsed::Incomplete,
            Json::Invalid => Parsed::Invalid,
            Json::Value(arguments, length) => {
                Parsed::Calls(vec![self.call(name, &arguments)], name_end + arguments_start + length)
            }
        }
    }

    fn deepseek(self, call: &str) -> Option<ToolCall> {
        let (before, after) = call.split_once(DEEPSEEK_CALL[1])?;
        let (name, arguments) = match before.trim() {
            "function" => after.split_once('\n').unwrap_or((after, "{}")),
            name => (name, after),
        };
        let arguments = arguments.trim();
        let arguments = arguments.strip_prefix(FENCE).unwrap_or(arguments);
        let Json::Value(arguments, _) = json_value(arguments) else { return None };
        Some(self.call(name.trim(), &arguments))
    }

    /// Returns the call or the calls that a value is.
    fn calls(self, value: &Value) -> Option<Vec<ToolCall>> {
        match value {
            Value::Array(calls) if !calls.is_empty() => calls.iter().map(|call| self.call_of(call)).collect(),
            Value::Object(_) => Some(vec![self.call_of(value)?]),
            _ => None,
        }
    }

    fn call_of(self, value: &Value) -> Option<ToolCall> {
        let call = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
        let arguments = call.get("arguments").or_else(|| call.get("parameters"))?;
        Some(self.call(call["name"].as_str()?, arguments))
    }

    fn call(self, name: &str, arguments: &Value) -> ToolCall {
        // Some models write the arguments as a string.
        let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
        ToolCall { id: self.new_id(), name: name.to_owned(), arguments }
    }

    /// Returns the grammar of one call of one of these tools.
    pub(crate) fn grammar<'t>(self, tools: impl IntoIterator<Item = &'t Value>) -> Grammar {
        let functions: Vec<(&Value, Value)> = tools
            .into_iter()
            .map(|tool| {
                let function = &tool["function"];
                let parameters = Some(&function["parameters"]).filter(|parameters| parameters.is_object());
                (&function["name"], parameters.cloned().unwrap_or_else(|| json!({"type": "object"})))
            })
            .collect();
        let (token, text) = (|name: &str| Part::Token(name.to_owned()), |text: &str| Part::Text(text.to_owned()));
        let [begin, separator, end] = DEEPSEEK_CALL.map(token);
        let [calls_begin, calls_end] = DEEPSEEK_CALLS.map(token);
        if self.reads_arguments_as_text() {
            let call = |(name, schema): (&Value, Value)| {
                let name = name.as_str().unwrap_or_default();
                let mut before = vec![calls_begin.clone(), begin.clone()];
                let mut after = vec![end.clone(), calls_end.clone()];
                if self == Self::DeepSeek {
                    before.extend([text("function"), separator.clone(), text(&format!("{name}\n{FENCE}\n"))]);
                    after.insert(0, text("\n```"));
                } else {
                    before.extend([text(name), separator.clone()]);
                }
                Tagged { before, schema, after }
            };
            return Grammar::Tagged(functions.into_iter().map(call).collect());
        }
        let key = if self == Self::Llama { "parameters" } else { "arguments" };
        let call = |(name, schema): (&Value, Value)| {
            json!({
                "type": "object",
                "properties": {"name": {"const": name}, key: schema},
                "required": ["name", key],
                "additionalProperties": false,
            })
        };
        let calls: Vec<Value> = functions.into_iter().map(call).collect();
        let (before, after) = match self {
            Self::Llama => (vec![], vec![]),
            Self::Mistral => (vec![token(MISTRAL[0]), text(" [")], vec![text("]")]),
            Self::Granite => (vec![token(MARKED[0]), text("[")], vec![text("]")]),
            Self::Phi => (vec![token(MARKED[0]), text("[")], vec![text("]"), token(MARKED[1])]),
            Self::Functools => (vec![text("functools[")], vec![text("]")]),
            Self::Hermes | Self::DeepSeek | Self::DeepSeekPlain => {
                (vec![token(HERMES[0]), text("\n")], vec![text("\n"), token(HERMES[1])])
            }
        };
        Grammar::Tagged(vec![Tagged { before, schema: json!({"anyOf": calls}), after }])
    }
}

enum Json {
    Incomplete,
    Invalid,
    /// A value, and the length of its text in bytes.
    Value(Value, usize),
}

/// Reads the object or array at the beginning of a text.
fn json_value(text: &str) -> Json {
    let start = text.trim_start();
    if !(start.is_empty() || start.starts_with(['{', '['])) {
        return Json::Invalid;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    match values.next() {
        None => Json::Incomplete,
        Some(Ok(value)) => Json::Value(value, values.byte_offset()),
        Some(Err(error)) if error.is_eof() => Json::Incomplete,
        Some(Err(_)) => Json::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_shows_the_notation() {
        for (source, notation) in [
            ("{{ '<tool_call>\\n' }}", Notation::Hermes),
            ("{{ message.content }}", Notation::Hermes),
            ("{{- \"<|python_tag|>\" + tool_call.name + \".call(\" }}", Notation::Llama),
            ("Respond in the format {\"name\": function name, \"parameters\": dictionary}", Notation::Llama),
            ("{{- '[TOOL_CALLS] [' }}", Notation::Mistral),
            ("{{'<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + '```json'}}", Notation::DeepSeek),
            ("{{'<｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>'}}", Notation::DeepSeekPlain),
            ("write <|tool_call|> followed by a JSON list", Notation::Granite),
            ("{{ '<|tool_call|>' + calls + '<|/tool_call|>' }}", Notation::Phi),
            ("prefix function calls with functools", Notation::Functools),
        ] {
            assert_eq!(Notation::of_template(source), notation, "{source}");
        }
        assert_eq!(Notation::of_template(tokenizer::CHAT_TEMPLATE), Notation::Hermes);
    }

    #[test]
    fn ids_suit_the_templates() {
        assert!(Notation::Hermes.new_id().starts_with("call_"));
        let id = Notation::Mistral.new_id();
        assert!(id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
    }
}
