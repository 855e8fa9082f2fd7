//! Requests of `/v1/embeddings`, and their answers.

use std::collections::BTreeMap;
use std::slice::from_ref;

use generate::{CompletionOptions, Generator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{PartialSchema, ToSchema};

use crate::Config;
use crate::api_error::ApiError;
use crate::event::Event;
use crate::json_body::{deserialize, json, refuse_unsupported, shown};
use crate::paced_events::PacedEvents;
use crate::prompt::{Prompt, Prompts};
use crate::work::{Scoring, Work};

/// What to embed. A parameter that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingRequest {
    /// The model's name, as listed at `/v1/models`.
    #[expect(dead_code, reason = "the model is chosen before the rest is read")]
    model: Option<String>,
    /// The text to embed, or its tokens, or several of them. Special tokens in a text are read as such, as in the
    /// prompt of a completion.
    #[schema(value_type = Prompts, required = true)]
    #[serde(default)]
    input: Value,
    /// `float` for numbers, `base64` for the bytes of little-endian 32-bit numbers.
    #[schema(default = "float")]
    encoding_format: Option<String>,
    /// The number of elements, which can only be that of the model: the beginning of an embedding is an embedding only
    /// where a model was trained for it.
    #[schema(minimum = 1)]
    dimensions: Option<i64>,
    /// Accepted without effect: who asks.
    #[expect(dead_code, reason = "only its type is checked")]
    user: Option<String>,
}

/// A request whose parameters are valid.
#[derive(Debug)]
pub(crate) struct ValidRequest {
    inputs: Vec<Prompt>,
    encoding: Encoding,
    dimensions: Option<i64>,
}

/// How the numbers of an embedding are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Float,
    Base64,
}

/// Embeddings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingList {
    /// Always `list`.
    object: &'static str,
    /// The embeddings, in the order of the inputs.
    data: Vec<Embedding>,
    /// The model's name.
    model: String,
    /// Token counts.
    usage: EmbeddingUsage,
}

/// The embedding of an input: the mean of the hidden states of its tokens after the last norm, with length 1.
#[allow(clippy::struct_field_names)] // OpenAI's names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embedding {
    /// Always `embedding`.
    object: &'static str,
    /// The index of the input.
    index: usize,
    /// The numbers.
    embedding: Numbers,
}

/// The numbers of an embedding.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Numbers {
    /// With `encoding_format` `float`.
    Float(Vec<f32>),
    /// With `base64`.
    Base64(String),
}

/// Token counts.
#[allow(clippy::struct_field_names)] // OpenAI's names.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    /// Tokens of the inputs.
    prompt_tokens: usize,
    /// The same.
    total_tokens: usize,
}

/// Parses and validates the body of a request.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], config: &Config) -> Result<ValidRequest, ApiError> {
    let mut body = json(body)?;
    refuse_unsupported(&body, &EmbeddingRequest::schema())?;
    if let Value::Object(parameters) = &mut body {
        parameters.retain(|_, value| !value.is_null());
    }
    let request: EmbeddingRequest = deserialize(&body, config)?;
    let encoding = match request.encoding_format.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(_) => {
            let found = shown(&body["encoding_format"]);
            let message = format!("`encoding_format` must be \"float\" or \"base64\", not {found}.");
            return Err(ApiError::parameter("encoding_format", "invalid_value", message));
        }
    };
    let inputs = read(request.input)?.into_vec();
    if inputs.is_empty() || inputs.iter().any(Prompt::is_empty) {
        let message = "`input` must hold at least one string or list of tokens, none of them empty.";
        return Err(ApiError::parameter("input", "invalid_value", message.to_owned()));
    }
    if inputs.len() > config.max_inputs {
        let message = format!("`input` must hold at most {} inputs, not {}.", config.max_inputs, inputs.len());
        return Err(ApiError::parameter("input", "invalid_value", message));
    }
    Ok(ValidRequest { inputs, encoding, dimensions: request.dimensions })
}

/// Reads the inputs, and names what is none.
fn read(input: Value) -> Result<Prompts, ApiError> {
    if input.is_null() {
        let message = "`input` is missing: a string, an array of strings, or the numbers of tokens.";
        return Err(ApiError::parameter("input", "missing_required_parameter", message.to_owned()));
    }
    let found = shown(invalid_item(&input));
    serde_json::from_value(input).map_err(|_| {
        let message = format!("`input` must be a string, an array of strings, or the numbers of tokens, not {found}.");
        ApiError::parameter("input", "invalid_type", message)
    })
}

/// Returns what keeps an input from being of any of its forms.
fn invalid_item(input: &Value) -> &Value {
    let Some(items) = input.as_array() else { return input };
    let is_token = |item: &&Value| item.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
    let found = match items.first() {
        Some(Value::String(_)) => items.iter().find(|item| !item.is_string()),
        Some(Value::Array(_)) => {
            let tokens = items.iter().flat_map(|item| item.as_array().map_or(from_ref(item), Vec::as_slice));
            { tokens }.find(|item| !is_token(item))
        }
        _ => items.iter().find(|item| !is_token(item)),
    };
    found.unwrap_or(input)
}

impl ValidRequest {
    /// Encodes the inputs, and returns the work to do and how the embeddings are written.
    ///
    /// # Errors
    /// Returns an error if an input cannot be encoded or is too long, a token is not in the vocabulary, or another
    /// number of dimensions is asked for than the model's.
    pub(crate) fn encode(&self, generator: &Generator, config: &Config) -> Result<(Work, Encoding), ApiError> {
        let width = generator.config().d_model;
        if let Some(found) = self.dimensions.filter(|dimensions| usize::try_from(*dimensions) != Ok(width)) {
            let message = format!("`dimensions` must be {width}, the width of this model, or left out, not {found}.");
            return Err(ApiError::parameter("dimensions", "invalid_value", message));
        }
        let context_length = generator.config().context_length;
        let limit = config.max_prompt_tokens.map_or(context_length, |limit| limit.min(context_length));
        let mut prompts = Vec::with_capacity(self.inputs.len());
        for (i, input) in self.inputs.iter().enumerate() {
            let tokens = input.tokens("input", generator)?;
            if tokens.len() > limit {
                let message = format!(
                    "Input {i} of `input` has {} tokens, and this model reads at most {limit}; shorten or divide it.",
                    tokens.len()
                );
                return Err(ApiError::parameter("input", "context_length_exceeded", message));
            }
            prompts.push(tokens);
        }
        let (options, scoring) = (CompletionOptions { max_tokens: 0, ..Default::default() }, Scoring::default());
        let work = Work {
            prompts,
            operation: "embeddings",
            n: 1,
            options,
            scoring,
            shown_tokens: Vec::new(),
            embeds: true,
            attention_layer: None,
        };
        Ok((work, self.encoding))
    }
}

/// Waits for all embeddings of a request.
///
/// # Errors
/// Returns an error if the server is shutting down, or the model fails.
pub(crate) async fn answer(events: PacedEvents, encoding: Encoding, model: &str) -> Result<EmbeddingList, ApiError> {
    // The inputs are read at the same time, and end in any order.
    let (mut data, mut usage) = (BTreeMap::new(), EmbeddingUsage::default());
    for event in events.all().await {
        match event {
            Event::Embedding { index, embedding } => {
                let embedding = Embedding { object: "embedding", index, embedding: encoding.write(embedding) };
                data.insert(index, embedding);
            }
            Event::Finished { prompt_tokens, .. } => usage.prompt_tokens += prompt_tokens,
            Event::Failed(error) => return Err(error),
            Event::Prompt { .. } | Event::Text { .. } | Event::Attention { .. } => {}
        }
    }
    usage.total_tokens = usage.prompt_tokens;
    Ok(EmbeddingList { object: "list", data: data.into_values().collect(), model: model.to_owned(), usage })
}

impl Encoding {
    fn write(self, embedding: Vec<f32>) -> Numbers {
        match self {
            Self::Float => Numbers::Float(embedding),
            Self::Base64 => {
                let bytes: Vec<u8> = embedding.iter().flat_map(|x| x.to_le_bytes()).collect();
                Numbers::Base64(base64(&bytes))
            }
        }
    }
}

/// Returns bytes in base64 (RFC 4648) with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().zip([16, 8, 0]).fold(0_u32, |bits, (byte, shift)| bits | u32::from(*byte) << shift);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS[(bits >> shift) as usize % 64];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<ValidRequest, ApiError> {
        super::parse(body.to_string().as_bytes(), &Config { max_inputs: 3, ..Config::default() })
    }

    #[test]
    fn inputs_are_read_in_openais_four_forms() {
        let check = |input: Value, expected: &[Prompt]| {
            assert_eq!(parse(&json!({"input": input, "user": "a"})).unwrap().inputs, expected);
        };
        let text = |text: &str| Prompt::Text(text.to_owned());
        check(json!("a"), &[text("a")]);
        check(json!(["a", "b"]), &[text("a"), text("b")]);
        check(json!([1, 2]), &[Prompt::Tokens(vec![1, 2])]);
        check(json!([[1], [2, 3]]), &[Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]);
        let encoding = |format: Value| parse(&json!({"input": "a", "encoding_format": format})).unwrap().encoding;
        assert_eq!(encoding(Value::Null), Encoding::Float);
        assert_eq!(encoding(json!("base64")), Encoding::Base64);
    }

    #[test]
    fn invalid_parameters_are_named() {
        let expected = "`input` must be a string, an array of strings, or the numbers of tokens, not";
        let empty = "`input` must hold at least one string or list of tokens, none of them empty.";
        for (body, param, code, message) in [
            (json!({}), "input", "missing_required_parameter", "`input` is missing"),
            (json!({"input": 1}), "input", "invalid_type", &format!("{expected} 1.")[..]),
            (json!({"input": ["a", 1]}), "input", "invalid_type", &format!("{expected} 1.")),
            (json!({"input": [1, -1]}), "input", "invalid_type", &format!("{expected} -1.")),
            (
                json!({"input": [[1], [2, 5_000_000_000_u64]]}),
                "input",
                "invalid_type",
                &format!("{expected} 5000000000."),
            ),
            (json!({"input": [{}]}), "input", "invalid_type", &format!("{expected} an object.")),
            (json!({"input": ""}), "input", "invalid_value", empty),
            (json!({"input": []}), "input", "invalid_value", empty),
            (json!({"input": ["a", ""]}), "input", "invalid_value", empty),
            (json!({"input": [[1], []]}), "input", "invalid_value", empty),
            (
                json!({"input": ["a", "b", "c", "d"]}),
                "input",
                "invalid_value",
                "`input` must hold at most 3 inputs, not 4.",
            ),
            (
                json!({"input": "a", "encoding_format": "int8"}),
                "encoding_format",
                "invalid_value",
                "`encoding_format` must be \"float\" or \"base64\", not \"int8\".",
            ),
            (
                json!({"input": "a", "user": 1, "unknown": null}),
                "user",
                "invalid_type",
                "`user` must be a string, not 1.",
            ),
            (
                json!({"input": "a", "input_type": "query"}),
                "input_type",
                "unsupported_parameter",
                "This server does not support `input_type`; leave it out.",
            ),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!((error.detail.param.as_deref(), error.detail.code), (Some(param), Some(code)), "{body}");
            assert!(error.detail.message.starts_with(message), "{body}: {}", error.detail.message);
            assert_eq!(error.status.as_u16(), 400);
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(Encoding::Base64.write(vec![1.0, -2.5]), Numbers::Base64("AACAPwAAIMA=".to_owned()));
    }
}
