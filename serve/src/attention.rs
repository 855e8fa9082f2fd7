//! Requests of `/attention`, and their answers.

use generate::{CompletionOptions, Generator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{PartialSchema, ToSchema};

use crate::Config;
use crate::api_error::ApiError;
use crate::event::Event;
use crate::json_body::{deserialize, json, refuse_unsupported, shown};
use crate::paced_events::PacedEvents;
use crate::prompt::Prompt;
use crate::response::Usage;
use crate::work::{Scoring, Work};

/// Whose attention to show. A parameter that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttentionRequest {
    /// The model's name, as listed at `/v1/models`.
    #[expect(dead_code, reason = "the model is chosen before the rest is read")]
    model: Option<String>,
    /// The text, or its tokens; the attention is that of the last of them, with which the model chooses the next one.
    /// Special tokens in a text are read as such, as in the prompt of a completion.
    #[schema(value_type = Prompt, required = true)]
    #[serde(default)]
    prompt: Value,
    /// The layer, from 0; by default the last one.
    #[schema(minimum = 0)]
    layer: Option<i64>,
    /// The query head, from 0; by default all of the layer.
    #[schema(minimum = 0)]
    head: Option<i64>,
}

/// A request whose parameters are of the right types.
#[derive(Debug, PartialEq)]
pub(crate) struct ValidRequest {
    prompt: Prompt,
    layer: Option<i64>,
    head: Option<i64>,
}

/// What an answer shows of the weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    layer: usize,
    layers: usize,
    /// The only head that is shown; none for all.
    head: Option<usize>,
    heads: usize,
    tokens: Vec<AttendedToken>,
}

/// The weights of attention at the last token of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttentionBody {
    /// Always `attention`.
    #[schema(example = "attention")]
    object: &'static str,
    /// The model's name.
    model: String,
    /// The layer, from 0.
    layer: usize,
    /// The number of layers of the model.
    layers: usize,
    /// The number of query heads of each layer.
    heads: usize,
    /// The tokens of the text.
    tokens: Vec<AttendedToken>,
    /// For each query head, or for the one that was asked for, a number from 0 to 1 for each token of the text; they
    /// sum to 1. Those of tokens before a layer's sliding window are 0.
    weights: Vec<Vec<f32>>,
    /// Token counts.
    usage: Usage,
}

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct AttendedToken {
    /// Its id.
    id: u32,
    /// The token; what is not UTF-8 by itself is replaced by U+FFFD.
    token: String,
    /// Its bytes.
    bytes: Vec<u8>,
}

/// Parses the body of a request.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], config: &Config) -> Result<ValidRequest, ApiError> {
    let mut body = json(body)?;
    refuse_unsupported(&body, &AttentionRequest::schema())?;
    if let Value::Object(parameters) = &mut body {
        parameters.retain(|_, value| !value.is_null());
    }
    let AttentionRequest { prompt, layer, head, .. } = deserialize(&body, config)?;
    if prompt.is_null() {
        let message = "`prompt` is missing: a string, or the numbers of tokens.".to_owned();
        return Err(ApiError::parameter("prompt", "missing_required_parameter", message));
    }
    let is_token = |item: &&Value| item.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
    let found = prompt.as_array().and_then(|items| items.iter().find(|item| !is_token(item)));
    let found = shown(found.unwrap_or(&prompt));
    let prompt = serde_json::from_value(prompt).map_err(|_| {
        let message = format!("`prompt` must be a string, or the numbers of tokens, not {found}.");
        ApiError::parameter("prompt", "invalid_type", message)
    })?;
    Ok(ValidRequest { prompt, layer, head })
}

impl ValidRequest {
    /// Encodes the text, and returns the work to do and what is shown of its result.
    ///
    /// # Errors
    /// Returns an error if the text cannot be encoded, is empty or too long, a token is not in the vocabulary, or the
    /// model has no such layer or head.
    pub(crate) fn encode(&self, generator: &Generator, config: &Config) -> Result<(Work, Shown), ApiError> {
        let model = generator.config();
        let layer = index("layer", self.layer, model.n_layer)?.unwrap_or(model.n_layer - 1);
        let head = index("head", self.head, model.n_head)?;
        if self.prompt.is_empty() {
            let message = "`prompt` must have at least one token.".to_owned();
            return Err(ApiError::parameter("prompt", "invalid_value", message));
        }
        let prompt = self.prompt.tokens("prompt", generator)?;
        let limit = config.max_prompt_tokens.map_or(model.context_length, |limit| limit.min(model.context_length));
        if prompt.len() > limit {
            let tokens = prompt.len();
            let message = format!("`prompt` has {tokens} tokens, and this model reads at most {limit}; shorten it.");
            return Err(ApiError::parameter("prompt", "context_length_exceeded", message));
        }
        let token = |&id: &u32| {
            let bytes = generator.tokenizer().shown_bytes(id);
            AttendedToken { id, token: String::from_utf8_lossy(&bytes).into_owned(), bytes }
        };
        let tokens = prompt.iter().map(token).collect();
        let work = Work {
            prompts: vec![prompt],
            operation: "attention",
            n: 1,
            options: CompletionOptions { max_tokens: 0, ..Default::default() },
            scoring: Scoring::default(),
            shown_tokens: Vec::new(),
            embeds: false,
            attention_layer: Some(layer),
        };
        Ok((work, Shown { layer, layers: model.n_layer, head, heads: model.n_head, tokens }))
    }
}

/// Returns the index of a layer or a head, if there is one.
fn index(name: &str, index: Option<i64>, count: usize) -> Result<Option<usize>, ApiError> {
    let Some(found) = index else { return Ok(None) };
    let index = usize::try_from(found).ok().filter(|index| *index < count);
    index.map(Some).ok_or_else(|| {
        let message = format!("`{name}` must be an integer from 0 to {}, not {found}.", count - 1);
        ApiError::parameter(name, "invalid_value", message)
    })
}

/// Waits for the weights of a request.
///
/// # Errors
/// Returns an error if the server is shutting down, the device gives no weights, or the model fails.
pub(crate) async fn answer(events: PacedEvents, shown: Shown, model: &str) -> Result<AttentionBody, ApiError> {
    let (mut weights, mut usage) = (Vec::new(), Usage::default());
    for event in events.all().await {
        match event {
            Event::Attention { weights: found } => weights = found,
            Event::Finished { prompt_tokens, .. } => usage.add(prompt_tokens, 0),
            Event::Failed(error) => return Err(error),
            Event::Prompt { .. } | Event::Text { .. } | Event::Embedding { .. } => {}
        }
    }
    let Shown { layer, layers, head, heads, tokens } = shown;
    let weights = weights.chunks_exact(tokens.len()).map(<[f32]>::to_vec).enumerate();
    let weights = weights.filter(|(i, _)| head.is_none_or(|head| head == *i)).map(|(_, weights)| weights).collect();
    Ok(AttentionBody { object: "attention", model: model.to_owned(), layer, layers, heads, tokens, weights, usage })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<ValidRequest, ApiError> {
        super::parse(body.to_string().as_bytes(), &Config::default())
    }

    #[test]
    fn prompts_are_texts_or_tokens() {
        let check = |body: Value, prompt: Prompt, layer: Option<i64>, head: Option<i64>| {
            assert_eq!(parse(&body).unwrap(), ValidRequest { prompt, layer, head });
        };
        check(json!({"prompt": "a", "model": "m"}), Prompt::Text("a".to_owned()), None, None);
        check(json!({"prompt": [1.0, 2], "layer": 3, "head": 0}), Prompt::Tokens(vec![1, 2]), Some(3), Some(0));
        check(json!({"prompt": "a", "layer": null}), Prompt::Text("a".to_owned()), None, None);
    }

    #[test]
    fn invalid_parameters_are_named() {
        for (body, param, code, message) in [
            (json!({}), "prompt", "missing_required_parameter", "`prompt` is missing: a string, or the numbers"),
            (json!({"prompt": 1}), "prompt", "invalid_type", "a string, or the numbers of tokens, not 1."),
            (json!({"prompt": ["a"]}), "prompt", "invalid_type", "not \"a\"."),
            (json!({"prompt": [1, -1]}), "prompt", "invalid_type", "not -1."),
            (json!({"prompt": "a", "layer": "b"}), "layer", "invalid_type", "`layer` must be an integer, not \"b\"."),
            (json!({"prompt": "a", "head": 0.5}), "head", "invalid_type", "`head` must be an integer, not 0.5."),
            (json!({"prompt": "a", "heads": 1}), "heads", "unsupported_parameter", "does not support `heads`"),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!((error.detail.param.as_deref(), error.detail.code), (Some(param), Some(code)), "{body}");
            assert!(error.detail.message.contains(message), "{body}: {}", error.detail.message);
        }
    }

    #[test]
    fn indices_are_below_their_count() {
        assert_eq!(index("layer", None, 2), Ok(None));
        assert_eq!(index("layer", Some(1), 2), Ok(Some(1)));
        for found in [2, -1, i64::MAX, i64::MIN] {
            let error = index("layer", Some(found), 2).unwrap_err();
            assert_eq!(error.detail.message, format!("`layer` must be an integer from 0 to 1, not {found}."));
        }
    }
}
