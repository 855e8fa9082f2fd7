//! Parsing and validation of completion requests.
//!
//! Unknown parameters are ignored, since OpenAI's clients send some of their own. OpenAI parameters that this server
//! does not support are refused if they would change the text: ignoring them would give a wrong answer.

use axum::http::StatusCode;
use generate::{CompletionOptions, Sampling};
use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Segment;
use utoipa::ToSchema;

use crate::Config;
use crate::api_error::ApiError;
use crate::response::random;
use crate::worker::Work;

/// The maximum number of strings in `stop`: OpenAI's limit.
const MAX_STOP: usize = 4;
/// `max_tokens` of requests that leave it out: OpenAI's default.
const DEFAULT_MAX_TOKENS: usize = 16;
/// Characters of an invalid value repeated in an error. Heuristic, not measured: because longer messages are hard to
/// read.
const SHOWN_CHARACTERS: usize = 40;

/// The body of a completion request. A parameter that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The model's name, as listed at `/v1/models`; optional, since there is only one.
    model: Option<String>,
    /// The text to continue. An empty or missing prompt starts a new document. A prompt longer than the model's context
    /// loses its beginning.
    prompt: Option<OneOrMany>,
    /// The maximum number of tokens per text.
    #[schema(default = 16, minimum = 0)]
    max_tokens: Option<i64>,
    /// Divides the logits; 0 always picks the most likely token.
    #[schema(default = 1.0, minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this.
    #[schema(default = 1.0, maximum = 1, exclusive_minimum = 0)]
    top_p: Option<f32>,
    /// Samples only from this many of the most likely tokens; 0 for all. An extension.
    #[schema(default = 0, minimum = 0)]
    top_k: Option<i64>,
    /// Repetition penalty of tokens in the prompt or the text so far; 1 disables it. An extension.
    #[schema(default = 1.0, exclusive_minimum = 0)]
    repetition_penalty: Option<f32>,
    /// Texts per prompt.
    #[schema(default = 1, minimum = 1)]
    n: Option<i64>,
    /// A text ends before the first of these: up to four strings.
    stop: Option<OneOrMany>,
    /// The same seed gives the same text. Text `i` of a request is sampled with `seed + i`.
    seed: Option<i64>,
    /// Whether each text starts with its prompt.
    #[schema(default = false)]
    echo: Option<bool>,
    /// Whether to stream the texts as server-sent events that end with `data: [DONE]`.
    #[schema(default = false)]
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
}

/// One string or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One string.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a stream carries besides the texts.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Whether a last chunk without text holds the token counts.
    #[schema(default = false)]
    include_usage: Option<bool>,
}

/// A request whose parameters are valid.
#[derive(Debug, PartialEq)]
pub(crate) struct ValidRequest {
    /// The texts to generate.
    pub(crate) work: Work,
    /// Whether each text starts with its prompt.
    pub(crate) echo: bool,
    /// How to stream the texts; none for one whole answer.
    pub(crate) streaming: Option<Streaming>,
}

/// How to stream the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streaming {
    /// Whether a last chunk without text holds the token counts.
    pub(crate) include_usage: bool,
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Parses and validates a request's body.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], config: &Config) -> Result<ValidRequest, ApiError> {
    let malformed = |reason: String| ApiError::request(StatusCode::BAD_REQUEST, reason);
    let body: Value =
        serde_json::from_slice(body).map_err(|e| malformed(format!("The body of your request is not JSON: {e}.")))?;
    if !body.is_object() {
        return Err(malformed(format!("The body of your request must be a JSON object, not {}.", shown(&body))));
    }
    // serde would read an array as the struct's fields in order.
    if body["stream_options"].is_array() {
        return Err(invalid("stream_options", "invalid_type", &body["stream_options"], config));
    }
    let request: CompletionRequest =
        serde_path_to_error::deserialize(&body).map_err(|error| invalid_type(error.path(), &body, config))?;
    request.check_ranges(&body, config)?;
    refuse_unsupported(&body)?;
    request.validate(config)
}

impl CompletionRequest {
    /// Checks the numbers against their limits.
    fn check_ranges(&self, body: &Value, config: &Config) -> Result<(), ApiError> {
        let integer = |value: Option<i64>, min: i64, max: usize| {
            value.is_none_or(|value| value >= min && usize::try_from(value).is_ok_and(|value| value <= max))
        };
        let number = |value: Option<f32>, valid: fn(f32) -> bool| value.is_none_or(valid);
        let ranges = [
            ("max_tokens", integer(self.max_tokens, 0, config.max_tokens)),
            ("temperature", number(self.temperature, |value| (0.0..=2.0).contains(&value))),
            ("top_p", number(self.top_p, |value| value > 0.0 && value <= 1.0)),
            ("top_k", integer(self.top_k, 0, u32::MAX as usize)),
            ("repetition_penalty", number(self.repetition_penalty, |value| value > 0.0 && value.is_finite())),
            ("n", integer(self.n, 1, config.max_choices)),
        ];
        match ranges.into_iter().find(|(_, is_valid)| !is_valid) {
            Some((name, _)) => Err(invalid(name, "invalid_value", &body[name], config)),
            None => Ok(()),
        }
    }

    /// Checks the other parameters and how they combine. The numbers are within their limits.
    fn validate(self, config: &Config) -> Result<ValidRequest, ApiError> {
        let invalid = |name, message: String| Err(ApiError::parameter(name, "invalid_value", message));
        if let Some(requested) = self.model.filter(|requested| *requested != config.model_name) {
            return Err(ApiError::model_not_found(&requested, &config.model_name));
        }
        let is_streamed = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !is_streamed {
            return invalid("stream_options", "`stream_options` is only for requests with `stream`: true.".to_owned());
        }
        let n = self.n.map_or(1, |n| n as usize);
        let prompts = self.prompt.map_or_else(|| vec![String::new()], OneOrMany::into_vec);
        let choices = prompts.len().saturating_mul(n);
        if prompts.is_empty() {
            return invalid("prompt", "`prompt` must hold at least one string.".to_owned());
        }
        if choices > config.max_choices {
            let limit = config.max_choices;
            let message = format!("`prompt` and `n` ask for {choices} texts; one request may ask for {limit}.");
            return invalid("prompt", message);
        }
        let stop = self.stop.map_or_else(Vec::new, OneOrMany::into_vec);
        if stop.len() > MAX_STOP {
            return invalid("stop", format!("`stop` must hold at most {MAX_STOP} strings, not {}.", stop.len()));
        }
        if stop.iter().any(String::is_empty) {
            return invalid("stop", "`stop` must not hold an empty string.".to_owned());
        }
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0) as usize,
            top_p: self.top_p.unwrap_or(1.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            seed: self.seed.map_or_else(random, i64::cast_unsigned),
        };
        let max_tokens = self.max_tokens.map_or(DEFAULT_MAX_TOKENS.min(config.max_tokens), |tokens| tokens as usize);
        let options = CompletionOptions { max_tokens, sampling, stop, chat: false };
        let include_usage = self.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(ValidRequest {
            work: Work { prompts, n, options },
            echo: self.echo.unwrap_or(false),
            streaming: is_streamed.then_some(Streaming { include_usage }),
        })
    }
}

/// Refuses parameters of OpenAI's that this server does not support, unless their value has no effect.
fn refuse_unsupported(body: &Value) -> Result<(), ApiError> {
    for name in ["logprobs", "best_of", "frequency_penalty", "presence_penalty", "logit_bias", "suffix"] {
        let value = &body[name];
        let has_no_effect = match (name, value) {
            (_, Value::Null) => true,
            ("best_of", value) => value.as_i64() == Some(body["n"].as_i64().unwrap_or(1)),
            ("frequency_penalty" | "presence_penalty", value) => value.as_f64() == Some(0.0),
            ("logit_bias", Value::Object(biases)) => biases.is_empty(),
            ("suffix", Value::String(text)) => text.is_empty(),
            _ => false,
        };
        if !has_no_effect {
            let message = format!("This server does not support `{name}`; leave it out.");
            return Err(ApiError::parameter(name, "unsupported_parameter", message));
        }
    }
    Ok(())
}

/// Returns the error for a value whose type is wrong.
fn invalid_type(path: &serde_path_to_error::Path, body: &Value, config: &Config) -> ApiError {
    let (mut name, mut found) = (String::new(), body);
    for segment in path {
        if let Segment::Map { key } = segment {
            let separator = if name.is_empty() { "" } else { "." };
            name = format!("{name}{separator}{key}");
            found = &found[key.as_str()];
        }
    }
    if matches!(name.as_str(), "prompt" | "stop") {
        found = found.as_array().and_then(|items| items.iter().find(|item| !item.is_string())).unwrap_or(found);
    }
    invalid(&name, "invalid_type", found, config)
}

fn invalid(name: &str, code: &'static str, found: &Value, config: &Config) -> ApiError {
    let expected = expected(name, config);
    ApiError::parameter(name, code, format!("`{name}` must be {expected}, not {}.", shown(found)))
}

/// Returns the valid values of a parameter in words.
fn expected(name: &str, config: &Config) -> String {
    match name {
        "prompt" | "stop" => "a string or an array of strings".to_owned(),
        "max_tokens" => format!("an integer from 0 to {}", config.max_tokens),
        "temperature" => "a number from 0 to 2".to_owned(),
        "top_p" => "a number above 0 and at most 1".to_owned(),
        "top_k" => format!("an integer from 0 to {}", u32::MAX),
        "repetition_penalty" => "a number above 0".to_owned(),
        "n" => format!("an integer from 1 to {}", config.max_choices),
        "seed" => "an integer of 64 bits".to_owned(),
        "echo" | "stream" | "stream_options.include_usage" => "true or false".to_owned(),
        "stream_options" => "an object".to_owned(),
        _ => "a string".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => {
            let text = scalar.to_string();
            let mut characters = text.chars();
            let shown: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
            if characters.next().is_some() { format!("{shown}…") } else { shown }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &str) -> Result<ValidRequest, ApiError> {
        super::parse(body.as_bytes(), &Config { max_tokens: 100, max_choices: 4, ..Config::default() })
    }

    #[track_caller]
    fn check_refused(body: &str, status: u16, param: Option<&str>, message: &str) {
        let error = parse(body).unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.detail.param.as_deref(), error.detail.message.as_str()),
            (status, param, message),
            "{body}"
        );
        assert_eq!(error.detail.kind, "invalid_request_error");
    }

    #[test]
    fn invalid_values_are_named() {
        let cases = [
            (r#"{"prompt": 1}"#, "prompt", "`prompt` must be a string or an array of strings, not 1."),
            (r#"{"prompt": [1, 2]}"#, "prompt", "`prompt` must be a string or an array of strings, not 1."),
            (r#"{"prompt": []}"#, "prompt", "`prompt` must hold at least one string."),
            (
                r#"{"prompt": ["", "", ""], "n": 2}"#,
                "prompt",
                "`prompt` and `n` ask for 6 texts; one request may ask for 4.",
            ),
            (r#"{"n": 5}"#, "n", "`n` must be an integer from 1 to 4, not 5."),
            (r#"{"n": 0}"#, "n", "`n` must be an integer from 1 to 4, not 0."),
            (r#"{"max_tokens": 101}"#, "max_tokens", "`max_tokens` must be an integer from 0 to 100, not 101."),
            (r#"{"max_tokens": -1}"#, "max_tokens", "`max_tokens` must be an integer from 0 to 100, not -1."),
            (r#"{"max_tokens": 1.5}"#, "max_tokens", "`max_tokens` must be an integer from 0 to 100, not 1.5."),
            (r#"{"temperature": "hot"}"#, "temperature", "`temperature` must be a number from 0 to 2, not \"hot\"."),
            (r#"{"temperature": 2.1}"#, "temperature", "`temperature` must be a number from 0 to 2, not 2.1."),
            (r#"{"temperature": 1e300}"#, "temperature", "`temperature` must be a number from 0 to 2, not 1e+300."),
            (r#"{"top_p": 0}"#, "top_p", "`top_p` must be a number above 0 and at most 1, not 0."),
            (r#"{"top_k": -1}"#, "top_k", "`top_k` must be an integer from 0 to 4294967295, not -1."),
            (
                r#"{"repetition_penalty": 0}"#,
                "repetition_penalty",
                "`repetition_penalty` must be a number above 0, not 0.",
            ),
            (r#"{"stop": ["a","b","c","d","e"]}"#, "stop", "`stop` must hold at most 4 strings, not 5."),
            (r#"{"stop": ""}"#, "stop", "`stop` must not hold an empty string."),
            (r#"{"stop": {}}"#, "stop", "`stop` must be a string or an array of strings, not an object."),
            (r#"{"seed": 0.5}"#, "seed", "`seed` must be an integer of 64 bits, not 0.5."),
            (r#"{"stream": "yes"}"#, "stream", "`stream` must be true or false, not \"yes\"."),
            (r#"{"echo": 1}"#, "echo", "`echo` must be true or false, not 1."),
            (
                r#"{"stream_options": {"include_usage": true}}"#,
                "stream_options",
                "`stream_options` is only for requests with `stream`: true.",
            ),
            (
                r#"{"stream": true, "stream_options": {"include_usage": 1}}"#,
                "stream_options.include_usage",
                "`stream_options.include_usage` must be true or false, not 1.",
            ),
            (
                r#"{"stream": true, "stream_options": [true]}"#,
                "stream_options",
                "`stream_options` must be an object, not an array.",
            ),
            (r#"{"logprobs": 1}"#, "logprobs", "This server does not support `logprobs`; leave it out."),
            (r#"{"best_of": 2}"#, "best_of", "This server does not support `best_of`; leave it out."),
        ];
        for (body, param, message) in cases {
            check_refused(body, 400, Some(param), message);
        }
        check_refused("[]", 400, None, "The body of your request must be a JSON object, not an array.");
        check_refused(
            "{",
            400,
            None,
            "The body of your request is not JSON: EOF while parsing an object at line 1 column 1.",
        );
        let message = "The model `gpt-4` does not exist; this server has `pipeline`.";
        check_refused(r#"{"model": "gpt-4"}"#, 404, Some("model"), message);
        let long = json!({"temperature": "x".repeat(50)}).to_string();
        let shown = format!("`temperature` must be a number from 0 to 2, not \"{}….", "x".repeat(39));
        check_refused(&long, 400, Some("temperature"), &shown);
    }

    #[test]
    fn missing_parameters_have_openais_defaults() {
        let request = parse(r#"{"model": null, "user": "me", "logprobs": null, "presence_penalty": 0, "best_of": 1}"#);
        let request = request.unwrap();
        assert_eq!((&request.work.prompts[..], request.work.n), (&[String::new()][..], 1));
        let options = request.work.options;
        let sampling = Sampling { seed: options.sampling.seed, ..Sampling::unfiltered() };
        let expected = CompletionOptions { max_tokens: 16, sampling, stop: Vec::new(), chat: false };
        assert_eq!(options, expected);
        assert!(request.streaming.is_none() && !request.echo);
    }

    #[test]
    fn parameters_are_read() {
        let body = json!({
            "model": "pipeline", "prompt": ["a", "b"], "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3,
            "repetition_penalty": 1.5, "n": 2, "stop": "\n", "seed": -1, "echo": true, "stream": true,
            "stream_options": {"include_usage": true, "include_obfuscation": false},
        });
        let request = parse(&body.to_string()).unwrap();
        let sampling = Sampling { temperature: 0.0, top_k: 3, top_p: 0.5, repetition_penalty: 1.5, seed: u64::MAX };
        let expected = CompletionOptions { max_tokens: 7, sampling, stop: vec!["\n".to_owned()], chat: false };
        let work = Work { prompts: vec!["a".to_owned(), "b".to_owned()], n: 2, options: expected };
        let streaming = Some(Streaming { include_usage: true });
        assert_eq!(request, ValidRequest { work, echo: true, streaming });
    }
}
