//! Parsing and validation of requests: what both routes have in common, and the completions.
//!
//! Unknown parameters are ignored, since OpenAI's clients send some of their own. OpenAI parameters that this server
//! does not support are refused if they would change the text: ignoring them would give a wrong answer.

use axum::http::StatusCode;
use generate::{CompletionOptions, Conversation, Generator, Prompt, Sampling, SamplingChoice};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use utoipa::ToSchema;

use crate::Config;
use crate::answer::{Shape, Streaming};
use crate::api_error::ApiError;
use crate::job::Work;
use crate::response::random;

/// The maximum number of strings in `stop`: OpenAI's limit.
const MAX_STOP: usize = 4;
/// `max_tokens` of completions that leave it out: OpenAI's default.
const DEFAULT_MAX_TOKENS: usize = 16;
/// Characters of an invalid value repeated in an error. Heuristic, not measured: because longer messages are hard to
/// read.
const SHOWN_CHARACTERS: usize = 40;

/// What requests are checked against.
pub(crate) struct Limits<'a> {
    /// The server's configuration.
    pub(crate) config: &'a Config,
    /// The sampling settings that the model declares: the defaults before OpenAI's.
    pub(crate) declared: SamplingChoice,
}

/// The body of a completion request. A parameter that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The model's name, as listed at `/v1/models`; optional, since there is only one.
    model: Option<String>,
    /// The text to continue, or its tokens, or several of them. Special tokens in a text are read as such. An empty or
    /// missing prompt starts a new document. A prompt longer than the model's context loses its beginning.
    prompt: Option<Prompts>,
    /// The maximum number of tokens per text.
    #[schema(default = 16, minimum = 0)]
    max_tokens: Option<i64>,
    /// Divides the logits; 0 always picks the most likely token. This and the other settings of sampling are by default
    /// those of the model's `generation_config.json`, if it sets `do_sample`.
    #[schema(default = 1.0, minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this.
    #[schema(default = 1.0, maximum = 1, exclusive_minimum = 0)]
    top_p: Option<f32>,
    /// Samples only from this many of the most likely tokens; 0 for all. An extension.
    #[schema(default = 0, minimum = 0)]
    top_k: Option<i64>,
    /// Samples only from tokens with at least this fraction of the most likely one's probability. An extension.
    #[schema(default = 0.0, minimum = 0, maximum = 1)]
    min_p: Option<f32>,
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

/// One prompt or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Prompts {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// The tokens of one.
    Tokens(Vec<u32>),
    /// The tokens of several.
    TokenLists(Vec<Vec<u32>>),
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
    pub(crate) include_usage: Option<bool>,
}

/// A request whose parameters are valid.
#[derive(Debug, PartialEq)]
pub(crate) struct ValidRequest {
    /// What to generate from, at least one.
    pub(crate) inputs: Vec<Input>,
    /// Whether each text starts with its prompt.
    pub(crate) echo: bool,
    /// The rest.
    pub(crate) settings: Settings,
}

/// What a text is generated from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// A text.
    Text(String),
    /// The tokens of a text.
    Tokens(Vec<u32>),
    /// A conversation, and variables of its template.
    Chat(Conversation, Map<String, Value>),
}

/// Valid parameters that both routes have.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    /// Texts per prompt.
    pub(crate) n: usize,
    /// The maximum number of tokens per text; none for as many as the model's context has room for.
    pub(crate) max_tokens: Option<usize>,
    /// How the next token is chosen.
    pub(crate) sampling: Sampling,
    /// A text ends before the first of these.
    pub(crate) stop: Vec<String>,
    /// How to stream the texts; none for one whole answer.
    pub(crate) streaming: Option<Streaming>,
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

impl Prompts {
    fn into_inputs(self) -> Vec<Input> {
        match self {
            Self::Text(text) => vec![Input::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
            Self::Tokens(tokens) => vec![Input::Tokens(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
        }
    }
}

/// Parses and validates the body of a completion request.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], limits: &Limits<'_>) -> Result<ValidRequest, ApiError> {
    let body = json(body)?;
    let request: CompletionRequest = deserialize(&body, limits.config)?;
    let parameters = Parameters {
        model: request.model,
        max_tokens: ("max_tokens", request.max_tokens),
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        repetition_penalty: request.repetition_penalty,
        n: request.n,
        stop: request.stop,
        seed: request.seed,
        stream: request.stream,
        stream_options: request.stream_options,
    };
    parameters.check_ranges(&body, limits.config)?;
    refuse_unsupported(
        &body,
        &["logprobs", "best_of", "frequency_penalty", "presence_penalty", "logit_bias", "suffix"],
    )?;
    let inputs = request.prompt.map_or_else(|| vec![Input::Text(String::new())], Prompts::into_inputs);
    let mut settings = parameters.validate(limits)?;
    settings.max_tokens = settings.max_tokens.or(Some(DEFAULT_MAX_TOKENS.min(limits.config.max_tokens)));
    let invalid = |message: String| Err(ApiError::parameter("prompt", "invalid_value", message));
    if inputs.is_empty() || inputs.contains(&Input::Tokens(Vec::new())) {
        return invalid("`prompt` must hold at least one string or token.".to_owned());
    }
    let (choices, limit) = (inputs.len().saturating_mul(settings.n), limits.config.max_choices);
    if choices > limit {
        return invalid(format!("`prompt` and `n` ask for {choices} texts; one request may ask for {limit}."));
    }
    Ok(ValidRequest { inputs, echo: request.echo.unwrap_or(false), settings })
}

impl ValidRequest {
    /// Encodes the prompts, and returns the work to do and the shape of its answer.
    ///
    /// # Errors
    /// Returns an error if a conversation cannot be rendered or a prompt cannot be encoded.
    pub(crate) fn encode(&self, generator: &Generator, config: &Config) -> Result<(Work, Shape), ApiError> {
        let Settings { n, max_tokens, sampling, ref stop, streaming: _ } = self.settings;
        let prompts = self.inputs.iter().map(|input| input.tokens(generator)).collect::<Result<Vec<_>, _>>()?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let rest = generator.config().context_length.saturating_sub(longest).max(1);
        let max_tokens = max_tokens.unwrap_or(rest.min(config.max_tokens));
        let is_chat = self.inputs.iter().any(|input| matches!(input, Input::Chat(..)));
        let shape = if is_chat {
            Shape::Messages
        } else {
            let echoed = self.inputs.iter().map(|input| input.text(generator)).collect::<Result<_, _>>();
            Shape::Texts { echoed: self.echo.then_some(echoed).transpose()?, n }
        };
        Ok((Work { prompts, n, options: CompletionOptions { max_tokens, sampling, stop: stop.clone() } }, shape))
    }
}

impl Input {
    fn tokens(&self, generator: &Generator) -> Result<Vec<u32>, ApiError> {
        let invalid = |name, message| ApiError::parameter(name, "invalid_value", message);
        match self {
            Self::Text(text) => {
                let tokens = generator.encode(&Prompt::Text(text.clone()));
                tokens.map_err(|error| invalid("prompt", format!("`prompt` cannot be encoded: {}.", causes(&error))))
            }
            Self::Tokens(tokens) => {
                let size = generator.tokenizer().vocab_size();
                match tokens.iter().find(|token| **token as usize >= size) {
                    Some(token) => Err(invalid(
                        "prompt",
                        format!("`prompt` must hold tokens below {size}, the size of the vocabulary, not {token}."),
                    )),
                    None => Ok(tokens.clone()),
                }
            }
            Self::Chat(conversation, variables) => {
                generator.encode_chat(conversation, variables).map_err(|error| match error {
                    generate::Error::Tokenizer(tokenizer::Error::NoChatTemplate) => ApiError::no_chat_template(),
                    error => invalid("messages", format!("`messages` cannot be rendered: {}.", causes(&error))),
                })
            }
        }
    }

    /// Returns the text that `echo` repeats.
    fn text(&self, generator: &Generator) -> Result<String, ApiError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Tokens(tokens) => {
                let text = generator.tokenizer().decode(tokens);
                text.map_err(|error| ApiError::parameter("prompt", "invalid_value", format!("{error}.")))
            }
            Self::Chat(..) => Ok(String::new()),
        }
    }
}

/// Returns an error's text with those of its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        // Some errors repeat their cause.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text.trim_end_matches('.').to_owned()
}

/// Parameters that both routes have.
pub(crate) struct Parameters {
    pub(crate) model: Option<String>,
    /// With the name of the parameter that is set.
    pub(crate) max_tokens: (&'static str, Option<i64>),
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
    pub(crate) n: Option<i64>,
    pub(crate) stop: Option<OneOrMany>,
    pub(crate) seed: Option<i64>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
}

impl Parameters {
    /// Checks the numbers against their limits.
    pub(crate) fn check_ranges(&self, body: &Value, config: &Config) -> Result<(), ApiError> {
        let integer = |value: Option<i64>, min: i64, max: usize| {
            value.is_none_or(|value| value >= min && usize::try_from(value).is_ok_and(|value| value <= max))
        };
        let number = |value: Option<f32>, valid: fn(f32) -> bool| value.is_none_or(valid);
        let ranges = [
            (self.max_tokens.0, integer(self.max_tokens.1, 0, config.max_tokens)),
            ("temperature", number(self.temperature, |value| (0.0..=2.0).contains(&value))),
            ("top_p", number(self.top_p, |value| value > 0.0 && value <= 1.0)),
            ("top_k", integer(self.top_k, 0, u32::MAX as usize)),
            ("min_p", number(self.min_p, |value| (0.0..=1.0).contains(&value))),
            ("repetition_penalty", number(self.repetition_penalty, |value| value > 0.0 && value.is_finite())),
            ("n", integer(self.n, 1, config.max_choices)),
        ];
        match ranges.into_iter().find(|(_, is_valid)| !is_valid) {
            Some((name, _)) => Err(invalid(name, "invalid_value", &body[name], config)),
            None => Ok(()),
        }
    }

    /// Checks the other parameters and how they combine. The numbers are within their limits.
    pub(crate) fn validate(self, limits: &Limits<'_>) -> Result<Settings, ApiError> {
        let invalid = |name, message: String| Err(ApiError::parameter(name, "invalid_value", message));
        let served = &limits.config.model_name;
        if let Some(requested) = self.model.filter(|requested| requested != served) {
            return Err(ApiError::model_not_found(&requested, served));
        }
        let is_streamed = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !is_streamed {
            return invalid("stream_options", "`stream_options` is only for requests with `stream`: true.".to_owned());
        }
        let stop = self.stop.map_or_else(Vec::new, OneOrMany::into_vec);
        if stop.len() > MAX_STOP {
            return invalid("stop", format!("`stop` must hold at most {MAX_STOP} strings, not {}.", stop.len()));
        }
        if stop.iter().any(String::is_empty) {
            return invalid("stop", "`stop` must not hold an empty string.".to_owned());
        }
        let requested = SamplingChoice {
            temperature: self.temperature,
            top_k: self.top_k.map(|k| k as usize),
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        };
        let openai = Sampling { seed: self.seed.map_or_else(random, i64::cast_unsigned), ..Sampling::unfiltered() };
        let include_usage = self.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(Settings {
            n: self.n.map_or(1, |n| n as usize),
            max_tokens: self.max_tokens.1.map(|tokens| tokens as usize),
            sampling: requested.or(limits.declared).or_sampling(openai),
            stop,
            streaming: is_streamed.then_some(Streaming { include_usage }),
        })
    }
}

/// Parses a body, which must be a JSON object.
pub(crate) fn json(body: &[u8]) -> Result<Value, ApiError> {
    let malformed = |reason: String| ApiError::request(StatusCode::BAD_REQUEST, reason);
    let body: Value =
        serde_json::from_slice(body).map_err(|e| malformed(format!("The body of your request is not JSON: {e}.")))?;
    if body.is_object() {
        Ok(body)
    } else {
        Err(malformed(format!("The body of your request must be a JSON object, not {}.", shown(&body))))
    }
}

/// Reads the parameters of a body by their types.
pub(crate) fn deserialize<T: DeserializeOwned>(body: &Value, config: &Config) -> Result<T, ApiError> {
    // serde would read an array as the struct's fields in order.
    if body["stream_options"].is_array() {
        return Err(invalid("stream_options", "invalid_type", &body["stream_options"], config));
    }
    serde_path_to_error::deserialize(body).map_err(|error| invalid_type(error.path(), body, config))
}

/// Refuses parameters of OpenAI's that this server does not support, unless their value has no effect.
pub(crate) fn refuse_unsupported(body: &Value, names: &[&str]) -> Result<(), ApiError> {
    for &name in names {
        let value = &body[name];
        let has_no_effect = match (name, value) {
            (_, Value::Null) => true,
            ("best_of", value) => value.as_i64() == Some(body["n"].as_i64().unwrap_or(1)),
            ("frequency_penalty" | "presence_penalty", value) => value.as_f64() == Some(0.0),
            ("logprobs", Value::Bool(false)) => body["messages"].is_array(),
            ("tool_choice", Value::String(choice)) => matches!(choice.as_str(), "auto" | "none"),
            ("response_format", format) => format["type"] == "text",
            ("modalities", modalities) => *modalities == serde_json::json!(["text"]),
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
        let is_right = |item: &Value| item.is_string() || (name == "prompt" && item.is_u64());
        found = found.as_array().and_then(|items| items.iter().find(|item| !is_right(item))).unwrap_or(found);
    }
    invalid(&name, "invalid_type", found, config)
}

pub(crate) fn invalid(name: &str, code: &'static str, found: &Value, config: &Config) -> ApiError {
    let expected = expected(name, config);
    ApiError::parameter(name, code, format!("`{name}` must be {expected}, not {}.", shown(found)))
}

/// Returns the valid values of a parameter in words.
fn expected(name: &str, config: &Config) -> String {
    match name {
        "prompt" => "a string, an array of strings, or the numbers of tokens".to_owned(),
        "stop" => "a string or an array of strings".to_owned(),
        "max_tokens" | "max_completion_tokens" => format!("an integer from 0 to {}", config.max_tokens),
        "temperature" => "a number from 0 to 2".to_owned(),
        "top_p" => "a number above 0 and at most 1".to_owned(),
        "top_k" => format!("an integer from 0 to {}", u32::MAX),
        "min_p" => "a number from 0 to 1".to_owned(),
        "repetition_penalty" => "a number above 0".to_owned(),
        "n" => format!("an integer from 1 to {}", config.max_choices),
        "seed" => "an integer of 64 bits".to_owned(),
        "echo" | "stream" | "stream_options.include_usage" => "true or false".to_owned(),
        "stream_options" | "chat_template_kwargs" => "an object".to_owned(),
        _ => "a string".to_owned(),
    }
}

pub(crate) fn shown(value: &Value) -> String {
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
        let config = Config { max_tokens: 100, max_choices: 4, ..Config::default() };
        super::parse(body.as_bytes(), &Limits { config: &config, declared: SamplingChoice::default() })
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
            (
                r#"{"prompt": 1}"#,
                "prompt",
                "`prompt` must be a string, an array of strings, or the numbers of tokens, not 1.",
            ),
            (
                r#"{"prompt": [1, -2]}"#,
                "prompt",
                "`prompt` must be a string, an array of strings, or the numbers of tokens, not -2.",
            ),
            (r#"{"prompt": []}"#, "prompt", "`prompt` must hold at least one string or token."),
            (r#"{"prompt": [[1], []]}"#, "prompt", "`prompt` must hold at least one string or token."),
            (r#"{"min_p": 2}"#, "min_p", "`min_p` must be a number from 0 to 1, not 2."),
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
        assert_eq!((&request.inputs[..], request.settings.n), (&[Input::Text(String::new())][..], 1));
        let settings = request.settings;
        let sampling = Sampling { seed: settings.sampling.seed, ..Sampling::unfiltered() };
        let expected = Settings { n: 1, max_tokens: Some(16), sampling, stop: Vec::new(), streaming: None };
        assert!(settings == expected && !request.echo, "{settings:?}");
    }

    #[test]
    fn the_model_comes_before_openais_defaults() {
        let config = Config::default();
        let declared = SamplingChoice { temperature: Some(0.5), top_k: Some(20), ..SamplingChoice::default() };
        let parsed = |body: &str| super::parse(body.as_bytes(), &Limits { config: &config, declared }).unwrap();
        let found = parsed(r#"{"top_k": 3, "seed": 7}"#).settings.sampling;
        assert_eq!(found, Sampling { temperature: 0.5, top_k: 3, seed: 7, ..Sampling::unfiltered() });
    }

    #[test]
    fn prompts_may_be_tokens() {
        let inputs = |prompt: Value| parse(&json!({ "prompt": prompt }).to_string()).unwrap().inputs;
        assert_eq!(inputs(json!([1, 2])), [Input::Tokens(vec![1, 2])]);
        assert_eq!(inputs(json!([[1], [2, 3]])), [Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]);
    }

    #[test]
    fn parameters_are_read() {
        let body = json!({
            "model": "pipeline", "prompt": ["a", "b"], "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3,
            "min_p": 0.25, "repetition_penalty": 1.5, "n": 2, "stop": "\n", "seed": -1, "echo": true, "stream": true,
            "stream_options": {"include_usage": true, "include_obfuscation": false},
        });
        let request = parse(&body.to_string()).unwrap();
        let sampling =
            Sampling { temperature: 0.0, top_k: 3, top_p: 0.5, min_p: 0.25, repetition_penalty: 1.5, seed: u64::MAX };
        let streaming = Some(Streaming { include_usage: true });
        let settings = Settings { n: 2, max_tokens: Some(7), sampling, stop: vec!["\n".to_owned()], streaming };
        let inputs = vec![Input::Text("a".to_owned()), Input::Text("b".to_owned())];
        assert_eq!(request, ValidRequest { inputs, echo: true, settings });
    }
}
