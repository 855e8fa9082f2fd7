//! The text interface of a model: what the files beside `tokenizer.json` declare, read as transformers reads them.
//!
//! - `tokenizer_config.json` and, for older models, `special_tokens_map.json`: the special tokens and their roles, the
//!   longest input, the chat template.
//! - `chat_template.jinja`, `chat_template.json` and `additional_chat_templates/*.jinja`: the chat templates, which
//!   take precedence over that of `tokenizer_config.json`.
//! - `generation_config.json`, else `config.json`: the ids that end a text, and the default sampling settings.
//!
//! Where begin-of-text is placed is decided by the post-processor of `tokenizer.json`, see
//! [`Tokenizer::encode_document`](crate::Tokenizer::encode_document). As in transformers 5, the keys `add_bos_token`
//! and `add_eos_token` act only where there is no `tokenizer.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::files::{
    ADDED_TOKENS, CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, GENERATION_CONFIG, MODEL_CONFIG, NAMED_TEMPLATES,
    SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG, named_templates, object, text,
};
use crate::tokenizer_class::CLASS;
use crate::{Error, tokenizer_class};

/// The largest value of `model_max_length` that is a length: transformers writes 1e30 for "unknown".
const MAX_MODEL_LENGTH: f64 = 1e15;

/// A token with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialToken {
    /// The text that stands for it.
    pub content: String,
    /// Its id.
    pub id: u32,
}

/// The sampling settings that a model recommends, each where it is declared.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingDefaults {
    /// Whether to sample at all; where it is false, transformers decodes greedily and ignores the other settings.
    pub do_sample: Option<bool>,
    /// The temperature.
    pub temperature: Option<f64>,
    /// The number of most probable tokens to sample from.
    pub top_k: Option<usize>,
    /// The cumulative probability of the tokens to sample from.
    pub top_p: Option<f64>,
    /// The probability, relative to that of the most probable token, below which tokens are not sampled.
    pub min_p: Option<f64>,
    /// The mass of locally typical sampling.
    pub typical_p: Option<f64>,
    /// The repetition penalty.
    pub repetition_penalty: Option<f64>,
}

/// The chat templates of a model, as source text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTemplates {
    /// The template that is used where none is named.
    pub default: Option<String>,
    /// Further templates by name, such as `tool_use`.
    pub named: BTreeMap<String, String>,
}

/// What the files beside a `tokenizer.json` declare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextInterface {
    /// The token at the beginning of a text. That it is declared does not mean that it is placed.
    pub bos: Option<SpecialToken>,
    /// The token at the end of a text.
    pub eos: Option<SpecialToken>,
    /// The token that fills shorter sequences of a batch.
    pub pad: Option<SpecialToken>,
    /// The token for text that cannot be encoded.
    pub unk: Option<SpecialToken>,
    /// Every declared special token by its key, such as `eot_token`, for templates.
    pub special_tokens: BTreeMap<String, String>,
    /// The longest input in tokens.
    pub model_max_length: Option<usize>,
    /// The ids that end a generated text: those of `generation_config.json`, else of `config.json`; and the tokens that
    /// `tokenizer_config.json` declares as `eos_token` and `eot_token`.
    pub stop_tokens: Vec<u32>,
    /// The chat templates.
    pub chat_templates: ChatTemplates,
    /// The default sampling settings.
    pub sampling: SamplingDefaults,
    /// The content of `tokenizer_config.json`.
    pub(crate) tokenizer_config: Map<String, Value>,
    /// Its text, which is written again where nothing changed, so that its digest stays.
    tokenizer_config_text: String,
    /// Whether the model's type overrules the declared class of the tokenizer.
    is_class_overruled: bool,
    /// The content of `generation_config.json`.
    pub(crate) generation_config: Map<String, Value>,
}

impl TextInterface {
    /// Reads the files in `folder`; none of them is required. `id` returns the id of a token.
    pub(crate) fn read(folder: &Path, id: &dyn Fn(&str) -> Option<u32>) -> Result<Self, Error> {
        let tokenizer_config = object(folder, TOKENIZER_CONFIG)?.unwrap_or_default();
        let generation_config = object(folder, GENERATION_CONFIG)?.unwrap_or_default();
        // Loading the weights reports what is wrong with this file.
        let model_config = object(folder, MODEL_CONFIG).ok().flatten().unwrap_or_default();

        let mut special_tokens = token_names(&tokenizer_config);
        // As in transformers 5: the older file counts where the newer one does not list the added tokens.
        if !tokenizer_config.contains_key("added_tokens_decoder") {
            special_tokens.extend(token_names(&object(folder, SPECIAL_TOKENS_MAP)?.unwrap_or_default()));
        }
        let token = |role: &str| {
            let content = special_tokens.get(role)?;
            Some(SpecialToken { content: content.clone(), id: id(content)? })
        };
        let (bos, eos, pad, unk) = (token("bos_token"), token("eos_token"), token("pad_token"), token("unk_token"));

        let mut stop_tokens = ids(&generation_config);
        if stop_tokens.is_empty() {
            stop_tokens = ids(&model_config);
        }
        let declared = [&eos, &token("eot_token")].map(|token| token.as_ref().map(|token| token.id));
        for id in declared.into_iter().flatten() {
            if !stop_tokens.contains(&id) {
                stop_tokens.push(id);
            }
        }
        let max_length = tokenizer_config.get("model_max_length").and_then(Value::as_f64);
        Ok(Self {
            bos,
            eos,
            pad,
            unk,
            model_max_length: max_length.filter(|length| (1.0..MAX_MODEL_LENGTH).contains(length)).map(|x| x as usize),
            stop_tokens,
            chat_templates: templates(folder, &tokenizer_config)?,
            sampling: SamplingDefaults::of(&generation_config),
            special_tokens,
            is_class_overruled: tokenizer_class::is_overruled(&tokenizer_config, &model_config),
            tokenizer_config,
            tokenizer_config_text: text(&folder.join(TOKENIZER_CONFIG))?.unwrap_or_default(),
            generation_config,
        })
    }

    /// Returns the name of the tokens that `vocab.json` lacks with their ids, and whether they are special.
    pub(crate) fn added_tokens(folder: &Path) -> Result<Vec<AddedToken>, Error> {
        let config = object(folder, TOKENIZER_CONFIG)?.unwrap_or_default();
        let mut tokens: Vec<AddedToken> = Vec::new();
        for (id, token) in config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
            let (Ok(id), Some(content)) = (id.parse(), content_of(token)) else { continue };
            let is = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
            let added = tokenizers::AddedToken::from(content, is("special"))
                .normalized(is("normalized"))
                .lstrip(is("lstrip"))
                .rstrip(is("rstrip"));
            tokens.push(AddedToken { id, token: added });
        }
        let names: Vec<String> = token_names(&config).into_values().collect();
        for (content, id) in object(folder, ADDED_TOKENS)?.unwrap_or_default() {
            let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else { continue };
            if tokens.iter().all(|added| added.token.content != content) {
                let is_special = names.contains(&content);
                tokens.push(AddedToken { id, token: tokenizers::AddedToken::from(content, is_special) });
            }
        }
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }
}

/// A token that is not in `vocab.json`.
#[derive(Debug)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) token: tokenizers::AddedToken,
}

impl SamplingDefaults {
    fn of(generation_config: &Map<String, Value>) -> Self {
        let number = |key: &str| generation_config.get(key).and_then(Value::as_f64);
        Self {
            do_sample: generation_config.get("do_sample").and_then(Value::as_bool),
            temperature: number("temperature"),
            top_k: generation_config.get("top_k").and_then(Value::as_u64).map(|k| k as usize),
            top_p: number("top_p"),
            min_p: number("min_p"),
            typical_p: number("typical_p"),
            repetition_penalty: number("repetition_penalty"),
        }
    }
}

/// Returns the declared special tokens by key: each is a string, or an object with a `content`.
pub(crate) fn token_names(config: &Map<String, Value>) -> BTreeMap<String, String> {
    let named = config.iter().filter(|(key, _)| key.ends_with("_token"));
    let mut names: BTreeMap<String, String> =
        named.filter_map(|(key, value)| Some((key.clone(), content_of(value)?.to_owned()))).collect();
    // Transformers 5 writes tokens of the model's own under this key.
    for (key, value) in config.get("extra_special_tokens").and_then(Value::as_object).into_iter().flatten() {
        names.extend(content_of(value).map(|content| (key.clone(), content.to_owned())));
    }
    names
}

fn content_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}

/// Returns the ids of `eos_token_id`: one id, or a list of several.
pub(crate) fn ids(config: &Map<String, Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(several)) => several.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn templates(folder: &Path, tokenizer_config: &Map<String, Value>) -> Result<ChatTemplates, Error> {
    let mut templates = ChatTemplates::default();
    for file in named_templates(folder) {
        let name = file.trim_start_matches(NAMED_TEMPLATES).trim_matches('/').trim_end_matches(".jinja");
        templates.named.extend(text(&folder.join(&file))?.map(|source| (name.to_owned(), source)));
    }
    templates.default = text(&folder.join(CHAT_TEMPLATE))?;
    if templates.default.is_none() {
        templates.default = object(folder, CHAT_TEMPLATE_JSON)?
            .and_then(|file| file.get("chat_template").and_then(Value::as_str).map(str::to_owned));
    }
    if templates.default.is_some() || !templates.named.is_empty() {
        return Ok(templates);
    }
    match tokenizer_config.get("chat_template") {
        Some(Value::String(source)) => templates.default = Some(source.clone()),
        // A list of objects with name and template.
        Some(Value::Array(several)) => {
            for template in several {
                let part = |key: &str| template.get(key).and_then(Value::as_str).map(str::to_owned);
                if let (Some(name), Some(source)) = (part("name"), part("template")) {
                    templates.named.insert(name, source);
                }
            }
            templates.default = templates.named.remove("default");
        }
        _ => {}
    }
    Ok(templates)
}

impl TextInterface {
    /// Returns true if `tokenizer_config.json` holds the chat template; otherwise it is in a file of its own.
    pub(crate) fn has_template_in_config(&self) -> bool {
        let own = self.tokenizer_config.get("chat_template").and_then(Value::as_str);
        self.chat_templates.named.is_empty() && own.is_some() && own == self.chat_templates.default.as_deref()
    }

    /// Returns the text of `tokenizer_config.json`: what was read, or an object with the declared special tokens.
    pub(crate) fn tokenizer_config_text(&self) -> String {
        let replaces = self.tokenizer_config.contains_key("chat_template") && !self.has_template_in_config();
        if !self.tokenizer_config_text.is_empty() && !replaces && !self.is_class_overruled {
            return self.tokenizer_config_text.clone();
        }
        let mut config = self.tokenizer_config.clone();
        if !self.has_template_in_config() {
            config.remove("chat_template");
        }
        if self.is_class_overruled {
            // So that the tokenizer is the same where it is read without the model.
            config.remove(CLASS);
        }
        config.entry(CLASS).or_insert_with(|| "PreTrainedTokenizerFast".into());
        for (key, content) in &self.special_tokens {
            config.entry(key).or_insert_with(|| content.as_str().into());
        }
        format!("{:#}\n", Value::Object(config))
    }

    /// Returns the content of `generation_config.json`: what was read, with the ids that end a text.
    pub(crate) fn generation_config(&self) -> Map<String, Value> {
        let mut config = self.generation_config.clone();
        set_ids(&mut config, self.stop_tokens.clone());
        config
    }
}

/// Sets `eos_token_id`: to one id, or to a list of several without duplicates.
pub(crate) fn set_ids(config: &mut Map<String, Value>, mut ids: Vec<u32>) {
    let mut seen = Vec::new();
    ids.retain(|id| {
        !seen.contains(id) && {
            seen.push(*id);
            true
        }
    });
    match ids.as_slice() {
        [] => {}
        [one] => drop(config.insert("eos_token_id".to_owned(), json!(one))),
        several => drop(config.insert("eos_token_id".to_owned(), json!(several))),
    }
}
