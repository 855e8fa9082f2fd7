//! How models write calls of tools, told by the chat template that they were trained with.

use generate::{Grammar, Part, Tagged};
use serde_json::{Value, json};

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

pub(super) const HERMES: [&str; 2] = ["<tool_call>", "</tool_call>"];
const PYTHON_TAG: &str = "<|python_tag|>";
pub(super) const MISTRAL: [&str; 3] = ["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"];
pub(super) const DEEPSEEK_CALL: [&str; 3] = ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"];
const DEEPSEEK_CALLS: [&str; 2] = ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"];
pub(super) const FENCE: &str = "```json";
const FENCE_END: &str = "```";
const MARKED: [&str; 2] = ["<|tool_call|>", "<|/tool_call|>"];
const FUNCTOOLS: &str = "functools";

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

    /// Returns true if a mark stands around calls and says nothing.
    pub(super) fn is_silent(mark: &str) -> bool {
        [DEEPSEEK_CALLS[0], DEEPSEEK_CALLS[1], MARKED[1]].contains(&mark)
    }

    /// Returns what may stand after each call, in this order.
    pub(super) fn closings(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &HERMES[1..],
            Self::DeepSeek => &[FENCE_END, DEEPSEEK_CALL[2]],
            Self::DeepSeekPlain => &DEEPSEEK_CALL[2..],
            Self::Llama | Self::Mistral | Self::Granite | Self::Phi | Self::Functools => &[],
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
