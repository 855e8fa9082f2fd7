//! Whether two folders have the same text interface: what transformers' `tokenizer(text)` and `apply_chat_template`
//! return, where a generated text ends, and how it is sampled.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use tokenizer::{Conversation, RenderOptions, Tokenizer};

use crate::Error;

/// Texts that normalizers, pre-tokenizers and post-processors of published tokenizers treat differently.
const TEXTS: [&str; 14] = [
    "",
    " ",
    "The quiet engine",
    " two  spaces   before ",
    "line\nends\r\n\r\nand\ttabs\n",
    "It's we'd I'LL 's",
    "0 12 123 1234567890 3.14 1,000",
    "Größe naïve café",
    "Gro\u{308}\u{df}e cafe\u{301} ﬁ Å",
    "机器学习。こんにちは 안녕",
    "Привет שלום مرحبا",
    "🦀 👩‍👩‍👧 \u{200b}",
    "def f(x):\n    return x*2  # done\n",
    "!?...---<<>> <unk> <0x41> ▁ Ġ",
];

/// What was compared and is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextParity {
    /// Texts with the same tokens, special tokens included.
    pub texts: usize,
    /// Conversations that the chat template renders to the same text; 0 if there is no template.
    pub conversations: usize,
}

impl std::fmt::Display for TextParity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} texts have the same tokens", self.texts)?;
        match self.conversations {
            0 => write!(f, "; there is no chat template"),
            count => write!(f, ", {count} conversations the same prompt"),
        }
    }
}

impl TextParity {
    /// Compares the text interface of the model in the folder `written` with that in `source`.
    ///
    /// # Errors
    /// Names the first text, conversation or value that differs. Returns an error if a tokenizer cannot be read, too.
    pub fn of(source: &Path, written: &Path) -> Result<Self, Error> {
        let [first, second] = [source, written].map(Tokenizer::from_folder);
        let (first, second) = (first?, second?);
        let [original, written] = [source, written].map(|folder| folder.display().to_string());
        match difference(&first, &second)? {
            Some(difference) => Err(Error::TextDiffers { written, original, difference }),
            None => Ok(Self {
                texts: texts(&first).len(),
                conversations: if first.chat_template(false).is_ok() { conversations().len() } else { 0 },
            }),
        }
    }
}

/// Returns the first difference between two tokenizers and what is declared of them.
fn difference(source: &Tokenizer, written: &Tokenizer) -> Result<Option<String>, Error> {
    let [before, after] = [source, written].map(|tokenizer| &tokenizer.interface().special_tokens);
    for key in before.keys().chain(after.keys()) {
        let (before, after) = (before.get(key), after.get(key));
        if before != after {
            let value = |token: Option<&String>| token.map_or_else(|| "none".to_owned(), |token| format!("`{token}`"));
            return Ok(Some(format!("{key} is {} instead of {}", value(after), value(before))));
        }
    }
    for text in texts(source) {
        let (before, after) = (source.encode_prompt(&text)?, written.encode_prompt(&text)?);
        if before != after {
            return Ok(Some(format!("{text:?} has the tokens {after:?} instead of {before:?}")));
        }
    }
    for conversation in conversations() {
        let render = |tokenizer: &Tokenizer| {
            let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
            tokenizer.apply_chat_template(&conversation, &options).map_err(|error| error.to_string())
        };
        let (before, after) = (render(source), render(written));
        if before != after {
            let text = |rendered: &Result<String, String>| match rendered {
                Ok(text) => format!("{text:?}"),
                Err(error) => format!("an error ({error})"),
            };
            let messages = json!(conversation.messages);
            let (before, after) = (text(&before), text(&after));
            return Ok(Some(format!("the prompt of {messages} is {after} instead of {before}")));
        }
    }
    let (before, after) = (source.stop_tokens(), written.stop_tokens());
    if before != after {
        return Ok(Some(format!("the stop tokens are {after:?} instead of {before:?}")));
    }
    let (before, after) = (source.interface().sampling, written.interface().sampling);
    Ok((before != after).then(|| format!("the sampling defaults are {after:?} instead of {before:?}")))
}

/// Returns texts to encode, some with the special tokens of a tokenizer.
fn texts(tokenizer: &Tokenizer) -> Vec<String> {
    let declared = tokenizer.interface().special_tokens.values().map(String::as_str);
    let special = declared.chain(tokenizer.end_of_text_name());
    let special: BTreeSet<&str> = special.collect();
    let with_special = special.into_iter().map(|token| format!("{token}start {token}inside{token} {token}"));
    TEXTS.iter().map(|text| (*text).to_owned()).chain(with_special).collect()
}

/// Returns conversations to render: with several turns, a system prompt, tools, and texts to trim.
fn conversations() -> Vec<Conversation> {
    let tool = json!({"type": "function", "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }});
    let call = json!({"type": "function", "id": "123456789", "function": {
        "name": "weather",
        "arguments": {"city": "Łódź"},
    }});
    let values = [
        json!({"messages": [{"role": "user", "content": "Hi"}]}),
        json!({"messages": [
            {"role": "system", "content": "Be brief.\n"},
            {"role": "user", "content": " One? "},
            {"role": "assistant", "content": "1\n"},
            {"role": "user", "content": "Two?"},
        ]}),
        json!({"messages": [{"role": "user", "content": "Is it warm?"}], "tools": [tool]}),
        json!({"messages": [
            {"role": "user", "content": "Is it warm?"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "21.5", "tool_call_id": "123456789", "name": "weather"},
        ], "tools": [tool]}),
    ];
    values.into_iter().map(|value| serde_json::from_value(value).expect("messages are objects with a role")).collect()
}
