//! Requests of `/v1/completions`, and what a request of either route asks the worker for.
//!
//! A parameter that this server does not know is refused by name, since ignoring it would give a wrong answer. Those
//! that OpenAI's clients send and that change no text are accepted.

mod encoding;

use generate::Conversation;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api_error::ApiError;
use crate::json_body::{deserialize, json, refuse_unsupported};
use crate::parameters::{Ignored, Limits, Parameters, Settings, check_ranges, is_integer, with_common_parameters};
use crate::prompt::{Prompt, Prompts};
use crate::tool_calls::Tools;

/// `max_tokens` of completions that leave it out: OpenAI's default.
const DEFAULT_MAX_TOKENS: usize = 16;

/// The body of a completion request: [`CompletionParameters`] and the parameters of both routes.
pub(crate) enum CompletionRequest {}

/// The parameters that only completions have. One that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
struct CompletionParameters {
    /// The text to continue, or its tokens, or several of them. Special tokens in a text are read as such. An empty or
    /// missing prompt starts a new document.
    prompt: Option<Prompts>,
    /// The maximum number of tokens per text.
    #[schema(default = 16, minimum = 0)]
    max_tokens: Option<i64>,
    /// Whether each text starts with its prompt.
    #[schema(default = false)]
    echo: Option<bool>,
    /// The log probabilities of the tokens of each text, with this many of the most likely tokens in their place; with
    /// `echo` also those of the prompt. They are those of the model, before all settings of sampling.
    #[schema(minimum = 0)]
    logprobs: Option<i64>,
    /// Generates this many texts per prompt and answers with the `n` of the highest mean log probability.
    #[schema(default = 1, minimum = 1)]
    best_of: Option<i64>,
}

impl PartialSchema for CompletionRequest {
    fn schema() -> RefOr<Schema> {
        with_common_parameters(CompletionParameters::schema())
    }
}

impl ToSchema for CompletionRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        CompletionParameters::schemas(schemas);
        Parameters::schemas(schemas);
    }
}

/// A request whose parameters are valid.
#[derive(Debug, PartialEq)]
pub(crate) struct ValidRequest {
    /// What to generate from, at least one.
    pub(crate) inputs: Vec<Input>,
    /// Whether each text starts with its prompt.
    pub(crate) echo: bool,
    /// The maximum number of tokens per text; none for as many as the model's context has room for.
    pub(crate) max_tokens: Option<usize>,
    /// How many alternatives of each token are shown with their log probabilities; none for no log probabilities.
    pub(crate) logprobs: Option<usize>,
    /// The tools that an answer in a conversation may call, if there are some.
    pub(crate) tools: Option<Tools>,
    /// The number of texts per prompt of which the best `n` are shown.
    pub(crate) best_of: usize,
    /// The rest.
    pub(crate) settings: Settings,
}

/// What a text is generated from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// A text or its tokens.
    Prompt(Prompt),
    /// A conversation, and variables of its template.
    Chat(Conversation, Map<String, Value>),
}

/// Parses and validates the body of a completion request.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], limits: &Limits<'_>) -> Result<ValidRequest, ApiError> {
    let (body, config) = (json(body)?, limits.config);
    let own: CompletionParameters = deserialize(&body, config)?;
    let parameters: Parameters = deserialize(&body, config)?;
    let _: Ignored = deserialize(&body, config)?;
    let ranges = [
        ("max_tokens", is_integer(own.max_tokens, 0, config.max_tokens)),
        ("best_of", is_integer(own.best_of, 1, config.max_choices)),
        ("logprobs", is_integer(own.logprobs, 0, config.max_logprobs)),
    ];
    check_ranges(&ranges, &body, config)?;
    refuse_unsupported(&body, &CompletionRequest::schema())?;
    let settings = parameters.validate(&body, limits)?;
    let invalid = |name, message: String| Err(ApiError::parameter(name, "invalid_value", message));
    let prompts = own.prompt.map_or_else(|| vec![Prompt::Text(String::new())], Prompts::into_vec);
    if prompts.is_empty() || prompts.contains(&Prompt::Tokens(Vec::new())) {
        return invalid("prompt", "`prompt` must hold at least one string or token.".to_owned());
    }
    let echo = own.echo.unwrap_or(false);
    if settings.guidance.is_some() && echo && own.logprobs.is_some() {
        let message =
            "`guidance_scale` and the log probabilities of a prompt (`echo` and `logprobs`) exclude each other.";
        return invalid("guidance_scale", message.to_owned());
    }
    let inputs: Vec<Input> = prompts.into_iter().map(Input::Prompt).collect();
    let best_of = own.best_of.map_or(settings.n, |texts| texts as usize);
    if best_of < settings.n {
        return invalid("best_of", format!("`best_of` must be at least `n`, {}, not {best_of}.", settings.n));
    }
    if best_of > settings.n && settings.streaming.is_some() {
        return invalid("best_of", "`best_of` above `n` cannot be streamed.".to_owned());
    }
    let (choices, limit) = (inputs.len().saturating_mul(best_of), config.max_choices);
    if choices > limit {
        let name = if best_of > settings.n { "best_of" } else { "n" };
        let message = format!("`prompt` and `{name}` ask for {choices} texts; one request may ask for {limit}.");
        return invalid("prompt", message);
    }
    Ok(ValidRequest {
        inputs,
        echo,
        max_tokens: Some(own.max_tokens.map_or(DEFAULT_MAX_TOKENS.min(config.max_tokens), |tokens| tokens as usize)),
        logprobs: own.logprobs.map(|alternatives| alternatives as usize),
        tools: None,
        best_of,
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::answer::Streaming;
    use crate::parameters::Truncation;
    use crate::tool_calls::Notation;
    use generate::{Grammar, Sampling, SamplingChoice};
    use serde_json::json;

    fn limits(config: &Config, declared: SamplingChoice) -> Limits<'_> {
        Limits { config, declared, notation: Notation::Hermes }
    }

    fn parse(body: &str) -> Result<ValidRequest, ApiError> {
        let config = Config { max_tokens: 100, max_choices: 4, ..Config::default() };
        super::parse(body.as_bytes(), &limits(&config, SamplingChoice::default()))
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
                "`repetition_penalty` must be a number from 0.01 to 100, not 0.",
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
                r#"{"stream": true, "stream_options": {"other": 1}}"#,
                "stream_options.other",
                "This server does not support `stream_options.other`; leave it out.",
            ),
            (
                r#"{"stream": true, "stream_options": [true]}"#,
                "stream_options",
                "`stream_options` must be an object, not an array.",
            ),
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
    fn invalid_values_of_more_parameters_are_named() {
        let cases = [
            (r#"{"typical_p": 0}"#, "typical_p", "`typical_p` must be a number above 0 and at most 1, not 0."),
            (
                r#"{"presence_penalty": 2.5}"#,
                "presence_penalty",
                "`presence_penalty` must be a number from -2 to 2, not 2.5.",
            ),
            (r#"{"logprobs": 21}"#, "logprobs", "`logprobs` must be an integer from 0 to 20, not 21."),
            (r#"{"logprobs": true}"#, "logprobs", "`logprobs` must be an integer from 0 to 20, not true."),
            (
                r#"{"logit_bias": {"a": 1}}"#,
                "logit_bias",
                "`logit_bias` must have the ids of tokens as keys, not \"a\".",
            ),
            (
                r#"{"logit_bias": {"01": 1}}"#,
                "logit_bias",
                "`logit_bias` must have the ids of tokens as keys, not \"01\".",
            ),
            (
                r#"{"logit_bias": {"1": -101}}"#,
                "logit_bias",
                "`logit_bias` must hold numbers from -100 to 100, not -101.",
            ),
            (
                r#"{"logit_bias": {"1": "x"}}"#,
                "logit_bias.1",
                "`logit_bias.1` must be a number from -100 to 100, not \"x\".",
            ),
            (r#"{"logit_bias": []}"#, "logit_bias", "`logit_bias` must be an object, not an array."),
            (
                r#"{"stop_token_ids": [1, -1]}"#,
                "stop_token_ids",
                "`stop_token_ids` must be an array of the numbers of tokens, not -1.",
            ),
            (
                r#"{"truncate_prompt_tokens": 0}"#,
                "truncate_prompt_tokens",
                "`truncate_prompt_tokens` must be an integer from 1, or -1 for the model's context, not 0.",
            ),
            (r#"{"n": 2, "best_of": 1}"#, "best_of", "`best_of` must be at least `n`, 2, not 1."),
            (r#"{"best_of": 2, "stream": true}"#, "best_of", "`best_of` above `n` cannot be streamed."),
            (
                r#"{"prompt": ["", ""], "best_of": 3}"#,
                "prompt",
                "`prompt` and `best_of` ask for 6 texts; one request may ask for 4.",
            ),
            (r#"{"user": 1}"#, "user", "`user` must be a string, not 1."),
            (r#"{"store": "yes"}"#, "store", "`store` must be true or false, not \"yes\"."),
            (r#"{"ignore_eos": true}"#, "ignore_eos", "This server does not support `ignore_eos`; leave it out."),
            (r#"{"suffix": "}"}"#, "suffix", "This server does not support `suffix`; leave it out."),
        ];
        for (body, param, message) in cases {
            check_refused(body, 400, Some(param), message);
        }
    }

    /// Returns the settings of a request without parameters, but with a seed.
    fn defaults(seed: u64) -> Settings {
        Settings {
            n: 1,
            sampling: Sampling { seed, ..Sampling::unfiltered() },
            guidance: None,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            truncation: None,
            grammar: None,
            token_ids: false,
            streaming: None,
        }
    }

    #[test]
    fn missing_parameters_have_openais_defaults() {
        let body = json!({
            "model": null, "user": "me", "logprobs": null, "presence_penalty": 0, "best_of": 1, "store": true,
            "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k", "safety_identifier": "s",
            "suffix": "", "unknown": null,
        });
        let request = parse(&body.to_string()).unwrap();
        let settings = defaults(request.settings.sampling.seed);
        let inputs = vec![Input::Prompt(Prompt::Text(String::new()))];
        let expected = ValidRequest {
            inputs,
            echo: false,
            max_tokens: Some(16),
            logprobs: None,
            tools: None,
            best_of: 1,
            settings,
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn the_model_comes_before_openais_defaults() {
        let config = Config::default();
        let declared = SamplingChoice { temperature: Some(0.5), top_k: Some(20), ..SamplingChoice::default() };
        let parsed = |body: &str| super::parse(body.as_bytes(), &limits(&config, declared)).unwrap();
        let found = parsed(r#"{"top_k": 3, "seed": 7}"#).settings.sampling;
        assert_eq!(found, Sampling { temperature: 0.5, top_k: 3, seed: 7, ..Sampling::unfiltered() });
    }

    #[test]
    fn guidance_has_a_scale_and_may_have_a_negative_prompt() {
        let guidance = |body: &str| parse(body).unwrap().settings.guidance;
        assert_eq!(guidance(r#"{"guidance_scale": 2, "echo": true}"#), Some((2.0, None)));
        let found = guidance(r#"{"guidance_scale": 1.5, "negative_prompt": "", "logprobs": 1}"#);
        assert_eq!(found, Some((1.5, Some(String::new()))));
        for (body, name, message) in [
            (r#"{"guidance_scale": -1}"#, "guidance_scale", "`guidance_scale` must be a number from 0 to 100, not -1."),
            (
                r#"{"negative_prompt": "x"}"#,
                "negative_prompt",
                "`negative_prompt` is only for requests with `guidance_scale`.",
            ),
            (
                r#"{"guidance_scale": 2, "negative_prompt": ["x"]}"#,
                "negative_prompt",
                "`negative_prompt` must be a string, not an array.",
            ),
            (
                r#"{"guidance_scale": 2, "echo": true, "logprobs": 0}"#,
                "guidance_scale",
                "`guidance_scale` and the log probabilities of a prompt (`echo` and `logprobs`) exclude each other.",
            ),
        ] {
            check_refused(body, 400, Some(name), message);
        }
    }

    #[test]
    fn prompts_may_be_tokens() {
        let inputs = |prompt: Value| parse(&json!({ "prompt": prompt }).to_string()).unwrap().inputs;
        let tokens = |tokens: &[u32]| Input::Prompt(Prompt::Tokens(tokens.to_vec()));
        assert_eq!(inputs(json!([1.0, 2e0])), [tokens(&[1, 2])]);
        assert_eq!(inputs(json!([1, 2])), [tokens(&[1, 2])]);
        assert_eq!(inputs(json!([[1], [2, 3]])), [tokens(&[1]), tokens(&[2, 3])]);
    }

    #[test]
    fn parameters_are_read() {
        let body = json!({
            "model": "pipeline", "prompt": ["a", "b"], "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3,
            "min_p": 0.25, "typical_p": 0.75, "repetition_penalty": 1.5, "frequency_penalty": 0.5,
            "presence_penalty": -0.5, "logit_bias": {"3": -100, "12": 2.5}, "n": 2, "stop": "\n",
            "stop_token_ids": [5], "seed": -1, "truncate_prompt_tokens": -1, "echo": true, "logprobs": 3,
            "guided_regex": "a*", "return_token_ids": true, "stream": true,
            "stream_options": {"include_usage": true, "include_obfuscation": false},
        });
        let request = parse(&body.to_string()).unwrap();
        let sampling = Sampling {
            temperature: 0.0,
            top_k: 3,
            top_p: 0.5,
            min_p: 0.25,
            typical_p: 0.75,
            repetition_penalty: 1.5,
            frequency_penalty: 0.5,
            presence_penalty: -0.5,
            seed: u64::MAX,
        };
        let settings = Settings {
            n: 2,
            sampling,
            guidance: None,
            logit_bias: vec![(12, 2.5), (3, -100.0)],
            stop: vec!["\n".to_owned()],
            stop_token_ids: vec![5],
            truncation: Some(Truncation::Context),
            grammar: Some(("guided_regex", Grammar::Regex("a*".to_owned()))),
            token_ids: true,
            streaming: Some(Streaming { include_usage: true }),
        };
        let inputs = vec![Input::Prompt(Prompt::Text("a".to_owned())), Input::Prompt(Prompt::Text("b".to_owned()))];
        let expected = ValidRequest {
            inputs,
            echo: true,
            max_tokens: Some(7),
            logprobs: Some(3),
            tools: None,
            best_of: 2,
            settings,
        };
        assert_eq!(request, expected);
    }
}
