//! Parsing and validation of the requests of `/v1/chat/completions`.

use generate::{Conversation, Grammar, Message};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api_error::ApiError;
use crate::json_body::{deserialize, json, refuse_unsupported, shown};
use crate::parameters::{Ignored, Limits, Parameters, check_ranges, is_integer, with_common_parameters};
use crate::request::{Input, ValidRequest};
use crate::tool_calls::{Notation, Tools};

/// The roles of OpenAI's API. Which of them a model knows is up to its template.
pub(crate) const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Variables of a template that are not the client's.
pub(crate) const OWN_VARIABLES: [&str; 4] = ["messages", "tools", "add_generation_prompt", "strftime_now"];

/// The body of a request for an answer in a conversation: [`ChatParameters`] and the parameters of both routes.
pub(crate) enum ChatRequest {}

/// The parameters that only conversations have. One that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
struct ChatParameters {
    /// The conversation, rendered by the model's own chat template: objects with `role` (system, developer, user,
    /// assistant, tool or function), `content` (a string or an array of text parts), and what else the template reads.
    #[schema(value_type = Vec<Object>, required = true)]
    messages: Option<Value>,
    /// Tools that the template describes to the model.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `none` leaves the tools out, `auto` lets the model call them, `required` makes it call one, and `{"type":
    /// "function", "function": {"name": …}}` that one.
    #[schema(value_type = Option<Object>)]
    tool_choice: Option<Value>,
    /// Accepted without effect: how many tools are called is up to the model.
    #[expect(dead_code, reason = "only its type is checked")]
    parallel_tool_calls: Option<bool>,
    /// Variables for the template, such as `{"enable_thinking": false}`. An extension, as in vLLM.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// The maximum number of tokens of an answer; by default as many as the model's context has room for.
    #[schema(minimum = 0)]
    max_completion_tokens: Option<i64>,
    /// The old name of `max_completion_tokens`.
    #[schema(minimum = 0)]
    max_tokens: Option<i64>,
    /// Whether to return the log probabilities of an answer's tokens. They are those of the model, before all settings
    /// of sampling.
    #[schema(default = false)]
    logprobs: Option<bool>,
    /// How many of the most likely tokens to return with each token; only with `logprobs`.
    #[schema(minimum = 0)]
    top_logprobs: Option<i64>,
}

impl PartialSchema for ChatRequest {
    fn schema() -> RefOr<Schema> {
        with_common_parameters(ChatParameters::schema())
    }
}

impl ToSchema for ChatRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ChatParameters::schemas(schemas);
        Parameters::schemas(schemas);
    }
}

/// Parses and validates a request's body.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], limits: &Limits<'_>) -> Result<ValidRequest, ApiError> {
    let (body, config) = (json(body)?, limits.config);
    if !matches!(body["logprobs"], Value::Null | Value::Bool(_)) {
        let message = format!("`logprobs` must be true or false, not {}.", shown(&body["logprobs"]));
        return Err(ApiError::parameter("logprobs", "invalid_type", message));
    }
    let own: ChatParameters = deserialize(&body, config)?;
    let parameters: Parameters = deserialize(&body, config)?;
    let _: Ignored = deserialize(&body, config)?;
    let invalid = |name: &str, message: String| ApiError::parameter(name, "invalid_value", message);
    let (name, max_tokens) = match (own.max_completion_tokens, own.max_tokens) {
        (Some(_), Some(_)) => {
            let message = "`max_tokens` is the old name of `max_completion_tokens`; give one of them.".to_owned();
            return Err(invalid("max_tokens", message));
        }
        (tokens @ Some(_), None) => ("max_completion_tokens", tokens),
        (None, tokens) => ("max_tokens", tokens),
    };
    let ranges = [
        (name, is_integer(max_tokens, 0, config.max_tokens)),
        ("top_logprobs", is_integer(own.top_logprobs, 0, config.max_logprobs)),
    ];
    check_ranges(&ranges, &body, config)?;
    refuse_unsupported(&body, &ChatRequest::schema())?;
    let has_logprobs = own.logprobs.unwrap_or(false);
    if own.top_logprobs.is_some() && !has_logprobs {
        return Err(invalid("top_logprobs", "`top_logprobs` is only for requests with `logprobs`: true.".to_owned()));
    }
    let mut settings = parameters.validate(&body, limits)?;
    let messages = messages(own.messages.unwrap_or_default(), limits.notation)?;
    let tools = tools(own.tools.unwrap_or_default())?;
    let choice = tool_choice(own.tool_choice.as_ref(), tools.as_ref(), limits.notation)?;
    let tools = tools.filter(|_| choice != ToolChoice::None);
    if let ToolChoice::Grammar(grammar) = choice {
        if let Some((name, _)) = settings.grammar {
            let message = format!("`{name}` and a `tool_choice` that requires a call exclude each other.");
            return Err(invalid("tool_choice", message));
        }
        settings.grammar = Some(("tools", grammar));
    }
    let variables = own.chat_template_kwargs.unwrap_or_default();
    if let Some(name) = OWN_VARIABLES.into_iter().find(|name| variables.contains_key(*name)) {
        let message = format!("`chat_template_kwargs` must not hold `{name}`, which the server sets.");
        return Err(invalid("chat_template_kwargs", message));
    }
    let called = tools.as_ref().map(|tools| Tools::new(limits.notation, tools));
    let conversation = Conversation { tools, ..messages.into() };
    Ok(ValidRequest {
        inputs: vec![Input::Chat(conversation, variables)],
        echo: false,
        max_tokens: max_tokens.map(|tokens| tokens as usize),
        logprobs: has_logprobs.then_some(own.top_logprobs.unwrap_or_default() as usize),
        tools: called,
        best_of: settings.n,
        settings,
    })
}

/// What the model may do with the tools.
#[derive(Debug, PartialEq)]
enum ToolChoice {
    /// It is not told of them.
    None,
    /// It may call them.
    Auto,
    /// It must write a call.
    Grammar(Grammar),
}

fn tool_choice(choice: Option<&Value>, tools: Option<&Value>, notation: Notation) -> Result<ToolChoice, ApiError> {
    let invalid = |message: String| Err(ApiError::parameter("tool_choice", "invalid_value", message));
    let tools = tools.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let called: Vec<&Value> = match choice {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(choice)) if choice == "auto" => return Ok(ToolChoice::Auto),
        Some(Value::String(choice)) if choice == "none" => return Ok(ToolChoice::None),
        Some(Value::String(choice)) if choice == "required" => tools.iter().collect(),
        Some(Value::Object(choice)) if choice.get("type").is_some_and(|kind| kind == "function") => {
            let name = &choice.get("function").unwrap_or(&Value::Null)["name"];
            tools.iter().filter(|tool| tool["function"]["name"] == *name).collect()
        }
        Some(other) => {
            let found = shown(other);
            return invalid(format!("`tool_choice` must be none, auto, required or a function, not {found}."));
        }
    };
    if called.is_empty() || called.iter().any(|tool| !tool["function"]["name"].is_string()) {
        return invalid("`tool_choice` needs a function of `tools` with a name.".to_owned());
    }
    Ok(ToolChoice::Grammar(notation.grammar(called)))
}

/// Checks the messages as far as no template is needed.
fn messages(value: Value, notation: Notation) -> Result<Vec<Message>, ApiError> {
    let invalid = |name: &str, message: String| Err(ApiError::parameter(name, "invalid_value", message));
    let Value::Array(values) = value else {
        let message = format!("`messages` must be an array of messages, not {}.", shown(&value));
        return Err(ApiError::parameter("messages", "invalid_type", message));
    };
    if values.is_empty() {
        return invalid("messages", "`messages` must hold at least one message.".to_owned());
    }
    let mut messages = Vec::with_capacity(values.len());
    for (i, mut value) in values.into_iter().enumerate() {
        let name = format!("messages[{i}]");
        if !value.is_object() {
            return invalid(&name, format!("`{name}` must be an object, not {}.", shown(&value)));
        }
        if !value["role"].as_str().is_some_and(|role| ROLES.contains(&role)) {
            let (name, roles) = (format!("{name}.role"), ROLES.join(", "));
            return invalid(&name, format!("`{name}` must be one of {roles}, not {}.", shown(&value["role"])));
        }
        check_content(&value, &format!("{name}.content"))?;
        check_calls(&value["tool_calls"], &format!("{name}.tool_calls"))?;
        if !notation.reads_arguments_as_text() {
            read_arguments(&mut value);
        }
        match serde_json::from_value(value) {
            Ok(message) => messages.push(message),
            Err(error) => return invalid(&name, format!("`{name}` is not a message: {error}.")),
        }
    }
    Ok(messages)
}

/// Replaces the arguments of tool calls, which clients send as JSON in a string, by their value, which templates write.
fn read_arguments(message: &mut Value) {
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        let arguments = call.get_mut("function").and_then(|function| function.get_mut("arguments"));
        if let Some(arguments) = arguments
            && let Some(value) = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok())
            && value.is_object()
        {
            *arguments = value;
        }
    }
}

/// Checks that the calls of a message have functions, as far as there are some.
fn check_calls(calls: &Value, name: &str) -> Result<(), ApiError> {
    let is_call = |call: &Value| {
        let function = &call["function"];
        function["name"].is_string() && matches!(function["arguments"], Value::String(_) | Value::Object(_))
    };
    match calls {
        Value::Null => Ok(()),
        Value::Array(calls) if calls.iter().all(is_call) => Ok(()),
        _ => {
            let message =
                format!("`{name}` must be an array of calls, each with a `function` that has a name and arguments.");
            Err(ApiError::parameter(name, "invalid_value", message))
        }
    }
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
        Value::Array(tools) if tools.iter().all(Value::is_object) => {
            for (i, tool) in tools.iter().enumerate() {
                if tool["type"] != "function" {
                    let (name, found) = (format!("tools[{i}].type"), shown(&tool["type"]));
                    let message = format!("`{name}` must be \"function\", not {found}.");
                    return Err(ApiError::parameter(&name, "unsupported_parameter", message));
                }
                if !tool["function"]["name"].is_string() {
                    let (name, found) = (format!("tools[{i}].function.name"), shown(&tool["function"]["name"]));
                    let message = format!("`{name}` must be a string, not {found}.");
                    return Err(ApiError::parameter(&name, "invalid_type", message));
                }
            }
            Ok(Some(Value::Array(tools)))
        }
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
        let (declared, notation) = (SamplingChoice::default(), Notation::Hermes);
        super::parse(body.to_string().as_bytes(), &Limits { config: &config, declared, notation })
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
        let calls = "`messages[1].tool_calls` must be an array of calls, each with a `function` that has a name and \
                     arguments.";
        let calling = |calls: Value| of(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        check_refused(&calling(json!("x")), "messages[1].tool_calls", calls);
        check_refused(&calling(json!([{"function": {"name": "f"}}])), "messages[1].tool_calls", calls);
        let search = json!({"tools": [{"type": "web_search"}]});
        check_refused(&search, "tools[0].type", "`tools[0].type` must be \"function\", not \"web_search\".");
        let unnamed = json!({"tools": [{"type": "function"}]});
        check_refused(&unnamed, "tools[0].function.name", "`tools[0].function.name` must be a string, not null.");
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
        let logprobs = "`top_logprobs` is only for requests with `logprobs`: true.";
        check_refused(&json!({"top_logprobs": 2}), "top_logprobs", logprobs);
        let many = json!({"logprobs": true, "top_logprobs": 21});
        check_refused(&many, "top_logprobs", "`top_logprobs` must be an integer from 0 to 20, not 21.");
        check_refused(&json!({"logprobs": 1}), "logprobs", "`logprobs` must be true or false, not 1.");
        let choice = "`tool_choice` must be none, auto, required or a function, not 1.";
        check_refused(&json!({"tool_choice": 1}), "tool_choice", choice);
        let required = "`tool_choice` needs a function of `tools` with a name.";
        check_refused(&json!({"tool_choice": "required"}), "tool_choice", required);
        let add = json!([{"type": "function", "function": {"name": "add"}}]);
        let other = json!({"tool_choice": {"type": "function", "function": {"name": "sub"}}, "tools": add});
        check_refused(&other, "tool_choice", required);
        let both = json!({"tool_choice": "required", "tools": add, "guided_regex": "a"});
        let message = "`guided_regex` and a `tool_choice` that requires a call exclude each other.";
        check_refused(&both, "tool_choice", message);
        for (name, value) in [
            ("functions", json!([{"name": "f"}])),
            ("function_call", json!("auto")),
            ("reasoning_effort", json!("low")),
            ("modalities", json!(["audio"])),
            ("prompt", json!("x")),
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
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
            ]},
            {"role": "tool", "content": "4", "tool_call_id": "1"},
        ]);
        let mut sent = messages.clone();
        sent[2]["tool_calls"][0]["function"]["arguments"] = json!(r#"{"a": 1}"#);
        let body = json!({
            "messages": sent, "tools": [{"type": "function", "function": {"name": "add"}}],
            "max_completion_tokens": 7, "temperature": 0,
            "chat_template_kwargs": {"enable_thinking": false}, "logprobs": false, "response_format": {"type": "text"},
            "tool_choice": "auto", "user": "me", "store": true, "parallel_tool_calls": true, "modalities": ["text"],
        });
        let request = parse(&body).unwrap();
        assert_eq!((request.max_tokens, request.logprobs), (Some(7), None));
        let [Input::Chat(conversation, variables)] = &request.inputs[..] else { panic!("{:?}", request.inputs) };
        assert_eq!(conversation.messages, serde_json::from_value::<Vec<Message>>(messages).unwrap());
        assert_eq!(conversation.messages[3].fields["tool_call_id"], "1");
        assert_eq!(variables["enable_thinking"], false);
        assert_eq!(conversation.tools, Some(json!([{"type": "function", "function": {"name": "add"}}])));
        let mut without = body;
        without["tool_choice"] = json!("none");
        let [Input::Chat(conversation, _)] = &parse(&without).unwrap().inputs[..] else { panic!() };
        assert_eq!(conversation.tools, None);
        let brief = parse(&json!({"messages": [{"role": "user", "content": "Hi"}]})).unwrap();
        assert_eq!(brief.max_tokens, None);
        let mut scored = json!({"messages": [{"role": "user", "content": "Hi"}], "logprobs": true});
        assert_eq!(parse(&scored).unwrap().logprobs, Some(0));
        scored["top_logprobs"] = json!(4);
        assert_eq!(parse(&scored).unwrap().logprobs, Some(4));
    }
}
