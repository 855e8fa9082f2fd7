//! The parameters that completions and chat have in common.

use std::collections::BTreeMap;

use generate::{Grammar, Sampling, SamplingChoice};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::Config;
use crate::answer::Streaming;
use crate::api_error::ApiError;
use crate::json_body::{invalid, shown};
use crate::random::random;
use crate::structured_output;
use crate::tool_calls::Notation;

/// What requests are checked against.
pub(crate) struct Limits<'a> {
    /// The server's configuration.
    pub(crate) config: &'a Config,
    /// The sampling settings that the model declares: the defaults before OpenAI's.
    pub(crate) declared: SamplingChoice,
    /// How the model writes calls of tools.
    pub(crate) notation: Notation,
}

/// The parameters that both routes have. One that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Parameters {
    /// The model's name, as listed at `/v1/models`; without it, the first that is loaded answers.
    model: Option<String>,
    /// Divides the logits; 0 always picks the most likely token. This and the other settings of sampling are by default
    /// those of the model's `generation_config.json`, if it sets `do_sample`.
    #[schema(default = 1.0, minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this.
    #[schema(default = 1.0, maximum = 1, exclusive_minimum = 0)]
    top_p: Option<f64>,
    /// Samples only from this many of the most likely tokens; 0 for all. An extension.
    #[schema(default = 0, minimum = 0)]
    top_k: Option<i64>,
    /// Samples only from tokens with at least this fraction of the most likely one's probability. An extension.
    #[schema(default = 0.0, minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Samples only from the smallest set of tokens whose information is closest to the expected one and whose
    /// probabilities sum to at least this. An extension.
    #[schema(default = 1.0, maximum = 1, exclusive_minimum = 0)]
    typical_p: Option<f64>,
    /// Repetition penalty of tokens in the prompt or the text so far; 1 disables it. An extension.
    #[schema(default = 1.0, minimum = 0.01, maximum = 100)]
    repetition_penalty: Option<f64>,
    /// Subtracted from the logit of a token for each time that the text has it.
    #[schema(default = 0.0, minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Subtracted from the logit of every token that the text has.
    #[schema(default = 0.0, minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Classifier-free guidance, with two sequences to compute: above 1 a text follows its prompt more closely, and 0
    /// follows the `negative_prompt` alone. Not with the log probabilities of a prompt (`echo` and `logprobs`). An
    /// extension.
    #[schema(default = 1.0, minimum = 0, maximum = 100)]
    guidance_scale: Option<f64>,
    /// What texts are guided away from; only with `guidance_scale`. Of a conversation it stands in place of all but the
    /// system message, as the user's message. By default the last token of the prompt. An extension.
    negative_prompt: Option<String>,
    /// Numbers from -100 to 100 added to the logits of tokens, by the id of the token.
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Texts per prompt.
    #[schema(default = 1, minimum = 1)]
    n: Option<i64>,
    /// A text ends before the first of these strings. It ends with the model's own stop tokens in any case.
    stop: Option<OneOrMany>,
    /// A text ends before the first of these tokens. An extension, as in vLLM.
    stop_token_ids: Option<Vec<u32>>,
    /// The same seed gives the same text, whatever else the server does. Text `i` of a request is sampled with
    /// `seed + i`.
    seed: Option<i64>,
    /// Keeps only this many of the last tokens of a prompt, or, if it is -1, as many as the model's context holds. By
    /// default a prompt that is too long is refused. An extension, as in vLLM.
    #[schema(minimum = -1)]
    truncate_prompt_tokens: Option<i64>,
    /// What the text must be: `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "json_schema":
    /// {"schema": …}}`. A text that reaches its maximum of tokens is cut off nevertheless.
    #[schema(value_type = Option<Object>)]
    response_format: Option<Value>,
    /// A JSON schema that the text must obey. An extension, as in vLLM.
    #[schema(value_type = Option<Object>)]
    guided_json: Option<Value>,
    /// A regular expression that the whole text must match. An extension, as in vLLM.
    guided_regex: Option<String>,
    /// A grammar in the Lark notation of llguidance that the text must obey. An extension, as in vLLM.
    guided_grammar: Option<String>,
    /// Whether to return the ids of the tokens: `prompt_token_ids`, and `token_ids` of each text. An extension, as in
    /// vLLM.
    #[schema(default = false)]
    return_token_ids: Option<bool>,
    /// Whether to stream the texts as server-sent events that end with `data: [DONE]`.
    #[schema(default = false)]
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
}

/// Parameters that `OpenAI`'s clients send and that have no effect here: they do not change a text.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "only their types are checked")]
pub(crate) struct Ignored {
    /// Accepted without effect: who asks.
    user: Option<String>,
    /// Accepted without effect: who asks.
    safety_identifier: Option<String>,
    /// Accepted without effect: nothing is stored.
    store: Option<bool>,
    /// Accepted without effect: nothing is stored.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Accepted without effect: every beginning that prompts have in common is read once.
    prompt_cache_key: Option<String>,
    /// Accepted without effect.
    prompt_cache_retention: Option<String>,
    /// Accepted without effect: there is one tier.
    service_tier: Option<String>,
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
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// Whether a last chunk without text holds the token counts.
    #[schema(default = false)]
    include_usage: Option<bool>,
    /// Accepted without effect.
    #[expect(dead_code, reason = "only its type is checked")]
    include_obfuscation: Option<bool>,
}

/// Valid parameters that both routes have.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    /// Texts per prompt.
    pub(crate) n: usize,
    /// How the next token is chosen.
    pub(crate) sampling: Sampling,
    /// The scale of classifier-free guidance, if there is some, and its negative prompt.
    pub(crate) guidance: Option<(f32, Option<String>)>,
    /// Numbers added to the logits of tokens.
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// A text ends before the first of these strings.
    pub(crate) stop: Vec<String>,
    /// A text ends before the first of these tokens.
    pub(crate) stop_token_ids: Vec<u32>,
    /// How much of a prompt is kept.
    pub(crate) truncation: Option<Truncation>,
    /// What the text must obey, and the parameter that says so.
    pub(crate) grammar: Option<(&'static str, Grammar)>,
    /// Whether the ids of tokens are shown.
    pub(crate) token_ids: bool,
    /// How to stream the texts; none for one whole answer.
    pub(crate) streaming: Option<Streaming>,
}

/// How much of a prompt is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truncation {
    /// As many tokens as the model's context holds.
    Context,
    /// This many.
    Tokens(usize),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Returns the schema of an object with the properties of `own`, [`Parameters`] and [`Ignored`], and no others.
pub(crate) fn with_common_parameters(own: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut merged)) = own else { return own };
    for schema in [Parameters::schema(), Ignored::schema()] {
        if let RefOr::T(Schema::Object(object)) = schema {
            merged.properties.extend(object.properties);
        }
    }
    merged.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    RefOr::T(Schema::Object(merged))
}

impl Parameters {
    /// Checks the parameters and how they combine.
    ///
    /// # Errors
    /// Returns an error that names the first invalid parameter.
    pub(crate) fn validate(self, body: &Value, limits: &Limits<'_>) -> Result<Settings, ApiError> {
        self.check_ranges(body, limits.config)?;
        let invalid = |name, message: String| Err(ApiError::parameter(name, "invalid_value", message));
        let served = &limits.config.model_name;
        if let Some(requested) = self.model.filter(|requested| requested != served) {
            return Err(ApiError::model_not_found(&requested, served));
        }
        let is_streamed = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !is_streamed {
            return invalid("stream_options", "`stream_options` is only for requests with `stream`: true.".to_owned());
        }
        if self.negative_prompt.is_some() && self.guidance_scale.is_none() {
            let message = "`negative_prompt` is only for requests with `guidance_scale`.";
            return invalid("negative_prompt", message.to_owned());
        }
        let stop = self.stop.map_or_else(Vec::new, OneOrMany::into_vec);
        let stop_token_ids = self.stop_token_ids.unwrap_or_default();
        let Config { max_stop, max_stop_bytes, .. } = *limits.config;
        for (name, found) in [("stop", stop.len()), ("stop_token_ids", stop_token_ids.len())] {
            if found > max_stop {
                let items = if name == "stop" { "strings" } else { "tokens" };
                return invalid(name, format!("`{name}` must hold at most {max_stop} {items}, not {found}."));
            }
        }
        if stop.iter().any(String::is_empty) {
            return invalid("stop", "`stop` must not hold an empty string.".to_owned());
        }
        if stop.iter().any(|text| text.len() > max_stop_bytes) {
            return invalid("stop", format!("`stop` must hold strings of at most {max_stop_bytes} bytes."));
        }
        let requested = SamplingChoice {
            temperature: self.temperature.map(single),
            top_k: self.top_k.map(|k| k as usize),
            top_p: self.top_p.map(single),
            min_p: self.min_p.map(single),
            typical_p: self.typical_p.map(single),
            repetition_penalty: self.repetition_penalty.map(single),
            frequency_penalty: self.frequency_penalty.map(single),
            presence_penalty: self.presence_penalty.map(single),
        };
        let openai = Sampling { seed: self.seed.map_or_else(random, i64::cast_unsigned), ..Sampling::unfiltered() };
        let include_usage = self.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        let grammars = structured_output::Parameters {
            response_format: self.response_format,
            guided_json: self.guided_json,
            guided_regex: self.guided_regex,
            guided_grammar: self.guided_grammar,
        };
        Ok(Settings {
            n: self.n.map_or(1, |n| n as usize),
            sampling: requested.or(limits.declared).or_sampling(openai),
            guidance: self.guidance_scale.map(|scale| (single(scale), self.negative_prompt)),
            logit_bias: logit_bias(self.logit_bias.unwrap_or_default())?,
            stop,
            stop_token_ids,
            truncation: self.truncate_prompt_tokens.map(|tokens| match usize::try_from(tokens) {
                Ok(tokens) => Truncation::Tokens(tokens),
                Err(_) => Truncation::Context,
            }),
            grammar: grammars.validate()?,
            token_ids: self.return_token_ids.unwrap_or(false),
            streaming: is_streamed.then_some(Streaming { include_usage }),
        })
    }

    /// Checks the numbers against their limits.
    fn check_ranges(&self, body: &Value, config: &Config) -> Result<(), ApiError> {
        let number = |value: Option<f64>, valid: fn(f64) -> bool| value.is_none_or(valid);
        let is_fraction = |value: f64| value > 0.0 && value <= 1.0;
        let is_penalty = |value: f64| (-2.0..=2.0).contains(&value);
        let ranges = [
            ("temperature", number(self.temperature, |value| (0.0..=2.0).contains(&value))),
            ("top_p", number(self.top_p, is_fraction)),
            ("top_k", is_integer(self.top_k, 0, u32::MAX as usize)),
            ("min_p", number(self.min_p, |value| (0.0..=1.0).contains(&value))),
            ("typical_p", number(self.typical_p, is_fraction)),
            ("repetition_penalty", number(self.repetition_penalty, |value| (0.01..=100.0).contains(&value))),
            ("frequency_penalty", number(self.frequency_penalty, is_penalty)),
            ("presence_penalty", number(self.presence_penalty, is_penalty)),
            ("guidance_scale", number(self.guidance_scale, |value| (0.0..=100.0).contains(&value))),
            ("n", is_integer(self.n, 1, config.max_choices)),
            ("truncate_prompt_tokens", self.truncate_prompt_tokens.is_none_or(|tokens| tokens == -1 || tokens > 0)),
        ];
        check_ranges(&ranges, body, config)
    }
}

/// Returns an error that names the first parameter out of range.
pub(crate) fn check_ranges(ranges: &[(&str, bool)], body: &Value, config: &Config) -> Result<(), ApiError> {
    match ranges.iter().find(|(_, is_valid)| !is_valid) {
        Some((name, _)) => Err(invalid(name, "invalid_value", &body[*name], config)),
        None => Ok(()),
    }
}

/// Returns true if an integer is left out or within its limits.
pub(crate) fn is_integer(value: Option<i64>, min: i64, max: usize) -> bool {
    value.is_none_or(|value| value >= min && usize::try_from(value).is_ok_and(|value| value <= max))
}

/// Returns the nearest number of single precision, but not 0 for a number above it.
fn single(value: f64) -> f32 {
    let single = value as f32;
    if single == 0.0 && value > 0.0 { f32::MIN_POSITIVE } else { single }
}

fn logit_bias(by_token: BTreeMap<String, f64>) -> Result<Vec<(u32, f32)>, ApiError> {
    let invalid = |message: String| Err(ApiError::parameter("logit_bias", "invalid_value", message));
    let mut biases = Vec::with_capacity(by_token.len());
    for (token, bias) in by_token {
        // One spelling for a token, so that none has two numbers.
        let Some(id) = token.parse().ok().filter(|id: &u32| id.to_string() == token) else {
            let token = shown(&Value::from(token));
            return invalid(format!("`logit_bias` must have the ids of tokens as keys, not {token}."));
        };
        if !(-100.0..=100.0).contains(&bias) {
            return invalid(format!("`logit_bias` must hold numbers from -100 to 100, not {bias}."));
        }
        biases.push((id, bias as f32));
    }
    Ok(biases)
}
