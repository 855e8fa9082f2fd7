//! Parsing and validation of the requests of `/v1/chat/completions`.

use generate::{Conversation, Message};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::request::{
    Input, Limits, OneOrMany, Parameters, StreamOptions, ValidRequest, deserialize, json, refuse_unsupported, shown,
};

/// The roles of OpenAI's API. Which of them a model knows is up to its template.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Parameters of OpenAI's that would change the answer and are not supported.
const UNSUPPORTED: [&str; 12] = [
    "logprobs",
    "top_logprobs",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "response_format",
    "tool_choice",
    "functions",
    "function_call",
    "modalities",
    "reasoning_effort",
    "web_search_options",
];

/// Variables of a template that are not the client's.
const OWN_VARIABLES: [&str; 4] = ["messages", "tools", "add_generation_prompt", "strftime_now"];

/// The body of a request for an answer in a conversation. A parameter that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The model's name, as listed at `/v1/models`; optional, since there is only one.
    model: Option<String>,
    /// The conversation, rendered by the model's own chat template: objects with `role` (system, developer, user,
    /// assistant, tool or function), `content` (a string or an array of text parts), and what else the template reads.
    #[schema(value_type = Vec<Object>, required = true)]
    messages: Option<Value>,
    /// Tools that the template describes to the model.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `none` leaves the tools out.
    #[schema(value_type = Option<String>)]
    tool_choice: Option<Value>,
    /// Variables for the template, such as `{"enable_thinking": false}`. An extension, as in vLLM.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// The maximum number of tokens of an answer; by default as many as the model's context has room for.
    #[schema(minimum = 0)]
    max_completion_tokens: Option<i64>,
    /// The old name of `max_completion_tokens`.
    #[schema(minimum = 0)]
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
    /// Repetition penalty of tokens in the conversation or the answer so far; 1 disables it. An extension.
    #[schema(default = 1.0, exclusive_minimum = 0)]
    repetition_penalty: Option<f32>,
    /// The number of answers.
    #[schema(default = 1, minimum = 1)]
    n: Option<i64>,
    /// An answer ends before the first of these: up to four strings. It ends with the model's turn in any case.
    stop: Option<OneOrMany>,
    /// The same seed gives the same answer. Answer `i` of a request is sampled with `seed + i`.
    seed: Option<i64>,
    /// Whether to stream the answers as server-sent events that end with `data: [DONE]`.
    #[schema(default = false)]
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
}

/// Parses and validates a request's body.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], limits: &Limits<'_>) -> Result<ValidRequest, ApiError> {
    let body = json(body)?;
    let request: ChatRequest = deserialize(&body, limits.config)?;
    let invalid = |name: &str, message: String| ApiError::parameter(name, "invalid_value", message);
    let max_tokens = match (request.max_completion_tokens, request.max_tokens) {
        (Some(_), Some(_)) => {
            let message = "`max_tokens` is the old name of `max_completion_tokens`; give one of them.".to_owned();
            return Err(invalid("max_tokens", message));
        }
        (tokens @ Some(_), None) => ("max_completion_tokens", tokens),
        (None, tokens) => ("max_tokens", tokens),
    };
    let parameters = Parameters {
        model: request.model,
        max_tokens,
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
    refuse_unsupported(&body, &UNSUPPORTED)?;
    let settings = parameters.validate(limits)?;
    let messages = messages(request.messages.unwrap_or_default())?;
    let wants_tools = request.tool_choice.is_none_or(|choice| choice != "none");
    let tools = tools(request.tools.unwrap_or_default())?.filter(|_| wants_tools);
    let variables = request.chat_template_kwargs.unwrap_or_default();
    if let Some(name) = OWN_VARIABLES.into_iter().find(|name| variables.contains_key(*name)) {
        let message = format!("`chat_template_kwargs` must not hold `{name}`, which the server sets.");
        return Err(invalid("chat_template_kwargs", message));
    }
    let conversation = Conversation { tools, ..messages.into() };
    Ok(ValidRequest { inputs: vec![Input::Chat(conversation, variables)], echo: false, settings })
}

/// Checks the messages as far as no template is needed.
fn messages(value: Value) -> Result<Vec<Message>, ApiError> {
    let invalid = |name: &str, message: String| Err(ApiError::parameter(name, "invalid_value", message));
    let Value::Array(values) = value else {
        let message = format!("`messages` must be an array of messages, not {}.", shown(&value));
        return Err(ApiError::parameter("messages", "invalid_type", message));
    };
    if values.is_empty() {
        return invalid("messages", "`messages` must hold at least one message.".to_owned());
    }
    let mut messages = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let name = format!("messages[{i}]");
        if !value.is_object() {
            return invalid(&name, format!("`{name}` must be an object, not {}.", shown(&value)));
        }
        if !value["role"].as_str().is_some_and(|role| ROLES.contains(&role)) {
            let (name, roles) = (format!("{name}.role"), ROLES.join(", "));
            return invalid(&name, format!("`{name}` must be one of {roles}, not {}.", shown(&value["role"])));
        }
        check_content(&value, &format!("{name}.content"))?;
        match serde_json::from_value(value) {
            Ok(message) => messages.push(message),
            Err(error) => return invalid(&name, format!("`{name}` is not a message: {error}.")),
        }
    }
    Ok(messages)
}

/// Checks that a message's content is text.
fn check_content(message: &Value, name: &str) -> Result<(), ApiError> {
    let invalid = |name: &str, message: String| Err(ApiError::parameter(name, "invalid_value", message));
    match &message["content"] {
        Value::String(_) => Ok(()),
        Value::Null if message["role"] == "assistant" => Ok(()),
        Value::Array(parts) => {
            for (i, part) in parts.iter().enumerate() {
                let name = format!("{name}[{i}]");
                if part["type"] != "text" {
                    return invalid(
                        &name,
                        format!("`{name}` must be a part of type \"text\": this server reads only text."),
                    );
                }
                if !part["text"].is_string() {
                    return invalid(&name, format!("`{name}.text` must be a string, not {}.", shown(&part["text"])));
                }
            }
            Ok(())
        }
        other => invalid(name, format!("`{name}` must be a string or an array of text parts, not {}.", shown(other))),
    }
}

/// Checks the tools as far as no template is needed; none where there are none.
fn tools(value: Value) -> Result<Option<Value>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::Array(tools) if tools.is_empty() => Ok(None),
        Value::Array(tools) if tools.iter().all(Value::is_object) => Ok(Some(Value::Array(tools))),
        other => {
            let message = format!("`tools` must be an array of objects, not {}.", shown(&other));
            Err(ApiError::parameter("tools", "invalid_type", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use generate::SamplingChoice;
    use serde_json::json;

    fn parse(body: &Value) -> Result<ValidRequest, ApiError> {
        let config = Config { max_tokens: 100, max_choices: 4, ..Config::default() };
        super::parse(body.to_string().as_bytes(), &Limits { config: &config, declared: SamplingChoice::default() })
    }

    #[track_caller]
    fn check_refused(changes: &Value, param: &str, message: &str) {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let error = parse(&body).unwrap_err();
        let found = (error.status.as_u16(), error.detail.param.as_deref(), error.detail.message.as_str());
        assert_eq!(found, (400, Some(param), message), "{body}");
    }

    #[test]
    fn invalid_conversations_are_named() {
        let of = |message: Value| json!({"messages": [{"role": "user", "content": "Hi"}, message]});
        check_refused(&json!({"messages": []}), "messages", "`messages` must hold at least one message.");
        check_refused(&json!({"messages": null}), "messages", "`messages` must be an array of messages, not null.");
        check_refused(&json!({"messages": "Hi"}), "messages", "`messages` must be an array of messages, not \"Hi\".");
        check_refused(&of(json!("Hi")), "messages[1]", "`messages[1]` must be an object, not \"Hi\".");
        let roles = "must be one of system, developer, user, assistant, tool, function, not";
        let role = format!("`messages[1].role` {roles} \"boss\".");
        check_refused(&of(json!({"role": "boss", "content": "Hi"})), "messages[1].role", &role);
        check_refused(&of(json!({"content": "Hi"})), "messages[1].role", &format!("`messages[1].role` {roles} null."));
        let content = "`messages[1].content` must be a string or an array of text parts, not";
        let null = format!("{content} null.");
        check_refused(&of(json!({"role": "user", "content": null})), "messages[1].content", &null);
        check_refused(&of(json!({"role": "user", "content": 1})), "messages[1].content", &format!("{content} 1."));
        let image = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]});
        let only_text = "`messages[1].content[1]` must be a part of type \"text\": this server reads only text.";
        check_refused(&of(image), "messages[1].content[1]", only_text);
        check_refused(&json!({"tools": {}}), "tools", "`tools` must be an array of objects, not an object.");
    }

    #[test]
    fn invalid_parameters_are_named() {
        let both = "`max_tokens` is the old name of `max_completion_tokens`; give one of them.";
        check_refused(&json!({"max_tokens": 1, "max_completion_tokens": 1}), "max_tokens", both);
        let range = "`max_completion_tokens` must be an integer from 0 to 100, not 101.";
        check_refused(&json!({"max_completion_tokens": 101}), "max_completion_tokens", range);
        let own = "`chat_template_kwargs` must not hold `messages`, which the server sets.";
        check_refused(&json!({"chat_template_kwargs": {"messages": []}}), "chat_template_kwargs", own);
        for (name, value) in [
            ("logprobs", json!(true)),
            ("top_logprobs", json!(2)),
            ("response_format", json!({"type": "json_object"})),
            ("tool_choice", json!("required")),
            ("functions", json!([])),
            ("presence_penalty", json!(0.5)),
        ] {
            let message = format!("This server does not support `{name}`; leave it out.");
            check_refused(&json!({ name: value }), name, &message);
        }
    }

    #[test]
    fn conversations_and_parameters_are_read() {
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "4", "tool_call_id": "1"},
        ]);
        let body = json!({
            "messages": messages, "tools": [{"type": "function"}], "max_completion_tokens": 7, "temperature": 0,
            "chat_template_kwargs": {"enable_thinking": false}, "logprobs": false, "response_format": {"type": "text"},
            "tool_choice": "auto", "user": "me", "store": true,
        });
        let request = parse(&body).unwrap();
        assert_eq!(request.settings.max_tokens, Some(7));
        let [Input::Chat(conversation, variables)] = &request.inputs[..] else { panic!("{:?}", request.inputs) };
        assert_eq!(conversation.messages, serde_json::from_value::<Vec<Message>>(messages).unwrap());
        assert_eq!(conversation.messages[3].fields["tool_call_id"], "1");
        assert_eq!(variables["enable_thinking"], false);
        assert_eq!(conversation.tools, Some(json!([{"type": "function"}])));
        let mut without = body;
        without["tool_choice"] = json!("none");
        let [Input::Chat(conversation, _)] = &parse(&without).unwrap().inputs[..] else { panic!() };
        assert_eq!(conversation.tools, None);
        let brief = parse(&json!({"messages": [{"role": "user", "content": "Hi"}]})).unwrap();
        assert_eq!(brief.settings.max_tokens, None);
    }
}
