//! Chat templates by name, for models that have none.

use serde::Serialize;

/// A chat template of a common format, with what it needs from a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Builtin {
    /// The name.
    pub name: &'static str,
    /// The source text.
    pub source: &'static str,
    /// The special tokens that it writes, apart from begin-of-text and end-of-text.
    pub special_tokens: &'static [&'static str],
    /// The token after each of the assistant's turns; `None`: end-of-text.
    pub end_of_turn: Option<&'static str>,
}

/// The templates. Each marks the assistant's turns.
pub const BUILTIN: [Builtin; 5] = [
    Builtin {
        name: "chatml",
        source: include_str!("builtin/chatml.jinja"),
        special_tokens: &["<|im_start|>", "<|im_end|>"],
        end_of_turn: Some("<|im_end|>"),
    },
    Builtin {
        name: "llama3",
        source: include_str!("builtin/llama3.jinja"),
        special_tokens: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        end_of_turn: Some("<|eot_id|>"),
    },
    Builtin {
        name: "gemma",
        source: include_str!("builtin/gemma.jinja"),
        special_tokens: &["<start_of_turn>", "<end_of_turn>"],
        end_of_turn: Some("<end_of_turn>"),
    },
    Builtin {
        name: "mistral",
        source: include_str!("builtin/mistral.jinja"),
        special_tokens: &["[INST]", "[/INST]"],
        end_of_turn: None,
    },
    Builtin { name: "alpaca", source: include_str!("builtin/alpaca.jinja"), special_tokens: &[], end_of_turn: None },
];

/// Returns the template with a name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|builtin| builtin.name == name)
}
