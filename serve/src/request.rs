//! What a client may ask, and the names of what it got wrong.
//!
//! Fields that nobody knows are passed over, since OpenAI's clients send some of their own. Fields of OpenAI's that this
//! server does not have are refused when they would change the text: silently leaving one out would be a wrong answer.

use axum::http::StatusCode;
use generate::{CompletionOptions, Sampling};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Config;
use crate::problem::Problem;
use crate::response::random;

/// The most strings that `stop` may have: OpenAI's limit.
const MAX_STOP: usize = 4;
/// Texts asked for without `max_tokens` are this long: OpenAI's default.
const DEFAULT_MAX_TOKENS: usize = 16;
/// Characters of a wrong value that an error repeats. A guess at what stays readable.
const SHOWN_CHARACTERS: usize = 40;

/// A completion that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The model's name, as `/v1/models` has it; may be left out, since there is one.
    pub(crate) model: Option<String>,
    /// What to continue. Without it, or where it is empty, a new document is begun. A prompt longer than the model's
    /// context loses its beginning.
    pub(crate) prompt: Option<OneOrMany>,
    /// The most tokens to write for one text.
    #[schema(required = false, default = 16, minimum = 0)]
    pub(crate) max_tokens: usize,
    /// What logits are divided by; 0 always takes the likeliest token.
    #[schema(required = false, default = 1.0, minimum = 0, maximum = 2)]
    pub(crate) temperature: f32,
    /// Only the smallest set of likeliest tokens whose probabilities reach this can be drawn.
    #[schema(required = false, default = 1.0, maximum = 1, exclusive_minimum = 0)]
    pub(crate) top_p: f32,
    /// Only this many of the likeliest tokens can be drawn; 0 for all. An extension.
    #[schema(required = false, default = 0, minimum = 0)]
    pub(crate) top_k: usize,
    /// How much tokens that were already read or written are held back; 1 not at all. An extension.
    #[schema(required = false, default = 1.0, exclusive_minimum = 0)]
    pub(crate) repetition_penalty: f32,
    /// Texts for each prompt.
    #[schema(required = false, default = 1, minimum = 1)]
    pub(crate) n: usize,
    /// A text ends before the first of these: up to four strings.
    pub(crate) stop: Option<OneOrMany>,
    /// The same seed gives the same text. Text number `i` of a request is drawn with `seed + i`.
    pub(crate) seed: Option<i64>,
    /// Whether the texts begin with their prompts.
    #[schema(required = false, default = false)]
    pub(crate) echo: bool,
    /// Whether to send the texts as they are written, as server-sent events that end with `data: [DONE]`.
    #[schema(required = false, default = false)]
    pub(crate) stream: bool,
    /// Only with `stream`.
    pub(crate) stream_options: Option<StreamOptions>,
}

/// A string, or several.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One string.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a stream carries beside the texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Whether one more piece, without any text, says how many tokens were read and written.
    #[schema(required = false, default = false)]
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

impl CompletionRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Names the first parameter that is wrong.
    pub(crate) fn parse(body: &[u8], config: &Config) -> Result<Self, Problem> {
        let unreadable = |reason: String| Problem::request(StatusCode::BAD_REQUEST, reason);
        let body: Value = serde_json::from_slice(body)
            .map_err(|e| unreadable(format!("The body of your request is not JSON: {e}.")))?;
        let Value::Object(fields) = body else {
            return Err(unreadable(format!("The body of your request must be a JSON object, not {}.", shown(&body))));
        };
        let fields = Fields(&fields);
        let request = Self {
            model: fields.string("model")?,
            prompt: fields.strings("prompt", usize::MAX)?,
            max_tokens: fields
                .integer("max_tokens", 0, config.max_tokens as i64)?
                .unwrap_or(DEFAULT_MAX_TOKENS.min(config.max_tokens) as i64) as usize,
            temperature: fields.number("temperature", 0.0, Some(2.0))?.unwrap_or(1.0),
            top_p: fields.number("top_p", f32::MIN_POSITIVE, Some(1.0))?.unwrap_or(1.0),
            top_k: fields.integer("top_k", 0, i64::from(u32::MAX))?.unwrap_or(0) as usize,
            repetition_penalty: fields.number("repetition_penalty", f32::MIN_POSITIVE, None)?.unwrap_or(1.0),
            n: fields.integer("n", 1, config.max_choices as i64)?.unwrap_or(1) as usize,
            stop: fields.strings("stop", MAX_STOP)?,
            seed: fields.integer("seed", i64::MIN, i64::MAX)?,
            echo: fields.boolean("echo")?.unwrap_or(false),
            stream: fields.boolean("stream")?.unwrap_or(false),
            stream_options: fields.stream_options()?,
        };
        fields.refuse_unsupported(request.n)?;
        request.check(config)?;
        Ok(request)
    }

    /// Checks what more than one parameter decides.
    fn check(&self, config: &Config) -> Result<(), Problem> {
        let wrong = |name, message: String| Err(Problem::parameter(name, "invalid_value", message));
        if let Some(asked) = self.model.as_ref().filter(|asked| **asked != config.model_name) {
            return Err(Problem::model_not_found(asked, &config.model_name));
        }
        if self.stream_options.is_some() && !self.stream {
            return wrong("stream_options", "`stream_options` is only for requests with `stream`: true.".to_owned());
        }
        if let Some(OneOrMany::Many(prompts)) = &self.prompt {
            let choices = prompts.len().saturating_mul(self.n);
            if prompts.is_empty() {
                return wrong("prompt", "`prompt` must hold at least one string.".to_owned());
            }
            if choices > config.max_choices {
                let limit = config.max_choices;
                let message = format!("`prompt` and `n` ask for {choices} texts; one request may ask for {limit}.");
                return wrong("prompt", message);
            }
        }
        let stops = match &self.stop {
            None => &[],
            Some(OneOrMany::One(stop)) => std::slice::from_ref(stop),
            Some(OneOrMany::Many(stops)) => stops.as_slice(),
        };
        if stops.iter().any(String::is_empty) {
            return wrong("stop", "`stop` must not hold an empty string.".to_owned());
        }
        Ok(())
    }

    /// Returns the prompts: at least one.
    pub(crate) fn prompts(&self) -> Vec<String> {
        self.prompt.clone().map_or_else(|| vec![String::new()], OneOrMany::into_vec)
    }

    /// Tells whether a streamed answer ends with the usage.
    pub(crate) fn include_usage(&self) -> bool {
        self.stream_options.is_some_and(|options| options.include_usage)
    }

    /// Returns the options of the first text.
    pub(crate) fn options(&self) -> CompletionOptions {
        CompletionOptions {
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                repetition_penalty: self.repetition_penalty,
                seed: self.seed.map_or_else(random, i64::cast_unsigned),
            },
            stop: self.stop.clone().map_or_else(Vec::new, OneOrMany::into_vec),
            chat: false,
        }
    }
}

/// The fields of a request. One that is null counts as left out.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn string(&self, name: &str) -> Result<Option<String>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong_type(name, "a string", other)),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(name, "true or false", other)),
        }
    }

    fn integer(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let expected = match (least, most) {
            (i64::MIN, _) => "an integer of 64 bits".to_owned(),
            _ => format!("an integer from {least} to {most}"),
        };
        match value.as_i64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ if value.is_i64() || value.is_u64() => Err(wrong_value(name, &expected, value)),
            _ => Err(wrong_type(name, &expected, value)),
        }
    }

    fn number(&self, name: &str, least: f32, most: Option<f32>) -> Result<Option<f32>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let expected = match most {
            Some(most) if least > 0.0 => format!("a number above 0 and at most {most}"),
            Some(most) => format!("a number from {least} to {most}"),
            None => "a number above 0".to_owned(),
        };
        let Some(number) = value.as_f64() else { return Err(wrong_type(name, &expected, value)) };
        let number = number as f32;
        if number.is_finite() && number >= least && most.is_none_or(|most| number <= most) {
            Ok(Some(number))
        } else {
            Err(wrong_value(name, &expected, value))
        }
    }

    fn strings(&self, name: &str, most: usize) -> Result<Option<OneOrMany>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(OneOrMany::One(text.clone()))),
            Some(Value::Array(items)) => {
                if items.len() > most {
                    let message = format!("`{name}` must hold at most {most} strings, not {}.", items.len());
                    return Err(Problem::parameter(name, "invalid_value", message));
                }
                let texts = items.iter().map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    other => Err(wrong_type(name, "a string or an array of strings", other)),
                });
                Ok(Some(OneOrMany::Many(texts.collect::<Result<_, _>>()?)))
            }
            Some(other) => Err(wrong_type(name, "a string or an array of strings", other)),
        }
    }

    fn stream_options(&self) -> Result<Option<StreamOptions>, Problem> {
        match self.get("stream_options") {
            None => Ok(None),
            Some(Value::Object(options)) => {
                let include_usage = match options.get("include_usage") {
                    None | Some(Value::Null) => false,
                    Some(Value::Bool(value)) => *value,
                    Some(other) => return Err(wrong_type("stream_options.include_usage", "true or false", other)),
                };
                Ok(Some(StreamOptions { include_usage }))
            }
            Some(other) => Err(wrong_type("stream_options", "an object", other)),
        }
    }

    /// Refuses what OpenAI has, this server has not, and would change the answer.
    fn refuse_unsupported(&self, n: usize) -> Result<(), Problem> {
        for name in ["logprobs", "best_of", "frequency_penalty", "presence_penalty", "logit_bias", "suffix"] {
            let Some(value) = self.get(name) else { continue };
            let changes_nothing = match (name, value) {
                ("best_of", value) => value.as_u64() == Some(n as u64),
                ("frequency_penalty" | "presence_penalty", value) => value.as_f64() == Some(0.0),
                ("logit_bias", Value::Object(biases)) => biases.is_empty(),
                ("suffix", Value::String(text)) => text.is_empty(),
                _ => false,
            };
            if !changes_nothing {
                let message = format!("This server does not support `{name}`; leave it out.");
                return Err(Problem::parameter(name, "unsupported_parameter", message));
            }
        }
        Ok(())
    }
}

fn wrong_type(name: &str, expected: &str, found: &Value) -> Problem {
    Problem::parameter(name, "invalid_type", format!("`{name}` must be {expected}, not {}.", shown(found)))
}

fn wrong_value(name: &str, expected: &str, found: &Value) -> Problem {
    Problem::parameter(name, "invalid_value", format!("`{name}` must be {expected}, not {}.", shown(found)))
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

    fn parse(body: &str) -> Result<CompletionRequest, Problem> {
        CompletionRequest::parse(body.as_bytes(), &Config { max_tokens: 100, max_choices: 4, ..Config::default() })
    }

    #[track_caller]
    fn check_refused(body: &str, status: u16, param: Option<&str>, message: &str) {
        let problem = parse(body).unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.detail.param.as_deref(), problem.detail.message.as_str()),
            (status, param, message),
            "{body}"
        );
        assert_eq!(problem.detail.kind, "invalid_request_error");
    }

    #[test]
    fn wrong_values_are_named() {
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
        let message = "The model `gpt-4` does not exist here; this server has `pipeline`.";
        check_refused(r#"{"model": "gpt-4"}"#, 404, Some("model"), message);
        let long = json!({"temperature": "x".repeat(50)}).to_string();
        let shown = format!("`temperature` must be a number from 0 to 2, not \"{}….", "x".repeat(39));
        check_refused(&long, 400, Some("temperature"), &shown);
    }

    #[test]
    fn what_is_left_out_has_openais_defaults() {
        let request = parse(r#"{"model": null, "user": "me", "logprobs": null, "presence_penalty": 0, "best_of": 1}"#);
        let request = request.unwrap();
        assert_eq!(request.prompts(), [""]);
        let options = request.options();
        let sampling = Sampling { seed: options.sampling.seed, ..Sampling::unfiltered() };
        let expected = CompletionOptions { max_tokens: 16, sampling, stop: Vec::new(), chat: false };
        assert_eq!(options, expected);
        assert!(!request.stream && !request.echo && request.n == 1);
    }

    #[test]
    fn what_is_asked_for_is_taken() {
        let body = json!({
            "model": "pipeline", "prompt": ["a", "b"], "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3,
            "repetition_penalty": 1.5, "n": 2, "stop": "\n", "seed": -1, "echo": true, "stream": true,
            "stream_options": {"include_usage": true, "include_obfuscation": false},
        });
        let request = parse(&body.to_string()).unwrap();
        assert_eq!(request.prompts(), ["a", "b"]);
        assert!(request.stream && request.echo && request.include_usage() && request.n == 2);
        let sampling = Sampling { temperature: 0.0, top_k: 3, top_p: 0.5, repetition_penalty: 1.5, seed: u64::MAX };
        let expected = CompletionOptions { max_tokens: 7, sampling, stop: vec!["\n".to_owned()], chat: false };
        assert_eq!(request.options(), expected);
    }
}
