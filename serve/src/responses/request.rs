//! The request, and the request of a chat that it becomes.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::input::Messages;
use crate::api_error::{ApiError, TRUNCATE};
use crate::json_body::{refuse_unsupported, shown};

/// The body of a request for a response. A parameter that is null counts as left out; one that is not listed here is
/// refused.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResponsesRequest {
    /// The model's name, as listed at `/v1/models`; without it, the first that is loaded answers.
    model: Option<String>,
    /// A message of the user, or a conversation: messages with `role` and `content` (a string or an array of parts of
    /// type `input_text` or `output_text`), and items of the types `function_call` and `function_call_output`.
    #[schema(value_type = serde_json::Value, required = true)]
    input: Option<Value>,
    /// A system message before the input.
    instructions: Option<String>,
    /// The maximum number of tokens of the answer; by default as many as the model's context has room for.
    #[schema(minimum = 0)]
    max_output_tokens: Option<i64>,
    /// Divides the logits; 0 always picks the most likely token.
    #[schema(default = 1.0, minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this.
    #[schema(default = 1.0, maximum = 1, exclusive_minimum = 0)]
    top_p: Option<f64>,
    /// Functions that the model's template describes to it: objects of type `function` with `name`, `description` and
    /// `parameters`.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    /// `none` leaves the tools out, `auto` lets the model call them, `required` makes it call one, and `{"type":
    /// "function", "name": …}` that one.
    #[schema(value_type = Option<serde_json::Value>)]
    tool_choice: Option<Value>,
    /// Accepted without effect: how many tools are called is up to the model.
    parallel_tool_calls: Option<bool>,
    /// What the text must be.
    text: Option<TextOptions>,
    /// Whether to stream the answer as server-sent events.
    #[schema(default = false)]
    pub(crate) stream: Option<bool>,
    /// Only with `stream`, and without effect.
    #[schema(value_type = Option<Object>)]
    stream_options: Option<Map<String, Value>>,
    /// Repeated in the answer.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Only false: nothing is stored.
    store: Option<bool>,
    /// Only false.
    background: Option<bool>,
    /// Only `disabled`: an input that is too long is refused.
    truncation: Option<String>,
    /// Only an empty array.
    include: Option<Vec<String>>,
    /// Accepted without effect: who asks.
    #[expect(dead_code, reason = "only its type is checked")]
    user: Option<String>,
    /// Accepted without effect: who asks.
    #[expect(dead_code, reason = "only its type is checked")]
    safety_identifier: Option<String>,
    /// Accepted without effect: every beginning that prompts have in common is read once.
    #[expect(dead_code, reason = "only its type is checked")]
    prompt_cache_key: Option<String>,
    /// Accepted without effect: there is one tier.
    #[expect(dead_code, reason = "only its type is checked")]
    service_tier: Option<String>,
}

/// What the text of a response must be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextOptions {
    /// `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "name": …, "schema": …}`.
    #[schema(value_type = Option<Object>)]
    format: Option<Map<String, Value>>,
}

/// What a response repeats of its request.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(super) model: String,
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<i64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) metadata: Map<String, Value>,
    pub(super) tools: Vec<Value>,
    pub(super) tool_choice: Value,
    pub(super) parallel_tool_calls: bool,
    pub(super) format: Value,
}

/// The request of a chat that has the same answer.
#[derive(Debug)]
pub(crate) struct ChatForm {
    /// Its body.
    pub(crate) body: Vec<u8>,
    origins: Vec<Option<usize>>,
}

impl ResponsesRequest {
    /// Refuses parameters that this server does not support.
    pub(crate) fn refuse_unsupported(body: &Value) -> Result<(), ApiError> {
        refuse_unsupported(body, &<Self as PartialSchema>::schema())
    }

    /// Returns the request of a chat that has the same answer, and what the response repeats.
    ///
    /// # Errors
    /// Returns an error that names the parameter, or the item of the input, that this server cannot use.
    pub(crate) fn into_chat(self, model: &str) -> Result<(ChatForm, Echo), ApiError> {
        self.refuse_values()?;
        let input = self.input.unwrap_or_default();
        let Messages { messages, origins } = Messages::read(self.instructions.as_deref(), input)?;
        let tools = self.tools.unwrap_or_default();
        let format = self.text.and_then(|text| text.format).map(Value::Object);
        let body = json!({
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "tools": tools.iter().enumerate().map(|(i, tool)| chat_tool(tool, i)).collect::<Result<Vec<_>, _>>()?,
            "tool_choice": self.tool_choice.as_ref().map(chat_tool_choice),
            "response_format": format.as_ref().map(response_format),
        });
        let echo = Echo {
            model: model.to_owned(),
            instructions: self.instructions,
            max_output_tokens: self.max_output_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            metadata: self.metadata.unwrap_or_default(),
            tools,
            tool_choice: self.tool_choice.unwrap_or_else(|| "auto".into()),
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            format: format.unwrap_or_else(|| json!({"type": "text"})),
        };
        Ok((ChatForm { body: body.to_string().into_bytes(), origins }, echo))
    }

    /// Refuses values of parameters that have only one.
    fn refuse_values(&self) -> Result<(), ApiError> {
        let refused = |name: &str, valid: &str| {
            let message = format!("This server supports only {valid} for `{name}`; leave it out.");
            Err(ApiError::parameter(name, "unsupported_parameter", message))
        };
        if self.store == Some(true) {
            return refused("store", "false");
        }
        if self.background == Some(true) {
            return refused("background", "false");
        }
        if self.truncation.as_ref().is_some_and(|truncation| truncation != "disabled") {
            return refused("truncation", "\"disabled\"");
        }
        if self.include.as_ref().is_some_and(|include| !include.is_empty()) {
            return refused("include", "an empty array");
        }
        let has_stream_options = self.stream_options.is_some() && self.stream != Some(true);
        if has_stream_options {
            let message = "`stream_options` is only for requests with `stream`: true.".to_owned();
            return Err(ApiError::parameter("stream_options", "invalid_value", message));
        }
        let options = self.stream_options.iter().flatten();
        if let Some((key, _)) = options.into_iter().find(|(key, _)| *key != "include_obfuscation") {
            let name = format!("stream_options.{key}");
            let message = format!("This server does not support `{name}`; leave it out.");
            return Err(ApiError::parameter(&name, "unsupported_parameter", message));
        }
        Ok(())
    }
}

impl ChatForm {
    /// Returns an error of the chat request with the names that the parameters have here, without advice to use one
    /// that is not here.
    pub(crate) fn renamed(&self, mut error: ApiError) -> ApiError {
        error.detail.message = error.detail.message.replace(TRUNCATE, "");
        for (i, origin) in self.origins.iter().enumerate().rev() {
            let here = origin.map_or_else(|| "input".to_owned(), |origin| format!("input[{origin}]"));
            rename(&mut error, &format!("messages[{i}]"), &here);
        }
        for (chat, here) in [
            ("max_completion_tokens", "max_output_tokens"),
            ("response_format.json_schema", "text.format"),
            ("response_format", "text.format"),
            ("messages", "input"),
        ] {
            rename(&mut error, chat, here);
        }
        error
    }
}

fn rename(error: &mut ApiError, chat: &str, here: &str) {
    error.detail.message = error.detail.message.replace(&format!("`{chat}"), &format!("`{here}"));
    if let Some(name) = error.detail.param.as_mut()
        && name.starts_with(chat)
    {
        *name = name.replacen(chat, here, 1);
    }
}

/// Returns a tool in the shape of a chat, where its function has an object of its own.
fn chat_tool(tool: &Value, i: usize) -> Result<Value, ApiError> {
    let name = format!("tools[{i}]");
    if tool["type"] != "function" {
        let message = format!("`{name}` must be of type \"function\", not {}.", shown(&tool["type"]));
        return Err(ApiError::parameter(&name, "unsupported_parameter", message));
    }
    if !tool["name"].is_string() {
        let name = format!("{name}.name");
        let message = format!("`{name}` must be a string, not {}.", shown(&tool["name"]));
        return Err(ApiError::parameter(&name, "invalid_type", message));
    }
    let mut function = tool.as_object().cloned().unwrap_or_default();
    function.remove("type");
    function.retain(|_, value| !value.is_null());
    Ok(json!({"type": "function", "function": function}))
}

fn chat_tool_choice(choice: &Value) -> Value {
    match choice.get("name") {
        Some(name) => json!({"type": choice["type"], "function": {"name": name}}),
        None => choice.clone(),
    }
}

/// Returns a format in the shape of a chat, where a schema has an object of its own.
fn response_format(format: &Value) -> Value {
    match format.as_object() {
        Some(fields) if format["type"] == "json_schema" => {
            let mut named = fields.clone();
            named.remove("type");
            json!({"type": "json_schema", "json_schema": named})
        }
        _ => format.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: Value) -> Result<(ChatForm, Echo), ApiError> {
        ResponsesRequest::refuse_unsupported(&body)?;
        let request: ResponsesRequest = serde_json::from_value(body).unwrap();
        request.into_chat("m")
    }

    fn chat(body: Value) -> Result<Value, ApiError> {
        Ok(serde_json::from_slice(&form(body)?.0.body).unwrap())
    }

    #[test]
    fn input_becomes_a_conversation() {
        let user = |content: &str| json!({"role": "user", "content": content});
        assert_eq!(chat(json!({"input": "Hi"})).unwrap()["messages"], json!([user("Hi")]));
        let body = json!({
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": "Hi"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ho"}]},
            ],
            "max_output_tokens": 5,
            "store": false,
            "tools": [],
        });
        let chat = chat(body).unwrap();
        let expected = json!([
            {"role": "system", "content": "Be brief."},
            user("Hi"),
            {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]},
        ]);
        assert_eq!((&chat["messages"], &chat["max_completion_tokens"]), (&expected, &json!(5)));
    }

    #[test]
    fn calls_and_their_outputs_become_messages() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "add", "arguments": "{}"});
        let output = |id: &str, output: Value| json!({"type": "function_call_output", "call_id": id, "output": output});
        let input = json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Let me."},
            call("a"), call("b"),
            output("a", json!("1")), output("b", json!([{"type": "input_text", "text": "2"}])),
            call("c"),
        ]);
        let tools = json!([{"type": "function", "name": "add", "parameters": {}, "strict": true, "description": null}]);
        let choice = json!({"type": "function", "name": "add"});
        let (form, echo) =
            form(json!({"instructions": "i", "input": input, "tools": tools, "tool_choice": choice})).unwrap();
        let chat: Value = serde_json::from_slice(&form.body).unwrap();
        let called = |id: &str| json!({"id": id, "type": "function", "function": {"name": "add", "arguments": "{}"}});
        let expected = json!([
            {"role": "system", "content": "i"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Let me.", "tool_calls": [called("a"), called("b")]},
            {"role": "tool", "tool_call_id": "a", "name": "add", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "name": "add", "content": [{"type": "text", "text": "2"}]},
            {"role": "assistant", "content": null, "tool_calls": [called("c")]},
        ]);
        assert_eq!(chat["messages"], expected);
        let function = json!({"name": "add", "parameters": {}, "strict": true});
        assert_eq!(chat["tools"], json!([{"type": "function", "function": function}]));
        assert_eq!(chat["tool_choice"], json!({"type": "function", "function": {"name": "add"}}));
        assert_eq!((Value::from(echo.tools), echo.tool_choice), (tools, choice));
        // Errors name the items of the input.
        let renamed = |name: &str| {
            let error = ApiError::parameter(name, "invalid_value", format!("`{name}` is wrong."));
            let error = form.renamed(error);
            (error.detail.param.unwrap(), error.detail.message)
        };
        let named = |name: &str| (name.to_owned(), format!("`{name}` is wrong."));
        assert_eq!(renamed("messages[1].role"), named("input[0].role"));
        assert_eq!(renamed("messages[5]"), named("input[6]"));
        assert_eq!(renamed("messages[0].content"), named("input.content"));
        assert_eq!(renamed("messages"), named("input"));
        assert_eq!(renamed("response_format.json_schema.schema"), named("text.format.schema"));
        assert_eq!(renamed("max_completion_tokens"), named("max_output_tokens"));
        let too_long = form.renamed(ApiError::context_length_exceeded("messages", 9, 8)).detail.message;
        assert_eq!(too_long, "`input` has 9 tokens, and this model reads at most 8; shorten it.");
    }

    #[test]
    fn a_format_becomes_a_response_format() {
        let format = |format: Value| chat(json!({"input": "Hi", "text": {"format": format}})).unwrap();
        let schema = json!({"type": "object"});
        let strict = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
        let expected = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
        assert_eq!(format(strict)["response_format"], expected);
        assert_eq!(format(json!({"type": "json_object"}))["response_format"], json!({"type": "json_object"}));
        assert_eq!(format(Value::Null)["response_format"], Value::Null);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (body, param) in [
            (json!({"input": 1}), "input"),
            (json!({"input": []}), "input"),
            (json!({}), "input"),
            (json!({"input": [{"type": "reasoning"}]}), "input[0]"),
            (json!({"input": [{"type": "function_call", "call_id": "a"}]}), "input[0].name"),
            (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "input[0].content[0]"),
            (json!({"input": [{"role": "assistant", "content": null}]}), "input[0].content"),
            (json!({"input": "Hi", "tools": [{"type": "web_search"}]}), "tools[0]"),
            (json!({"input": "Hi", "tools": [{"type": "function"}]}), "tools[0].name"),
            (json!({"input": "Hi", "store": true}), "store"),
            (json!({"input": "Hi", "background": true}), "background"),
            (json!({"input": "Hi", "truncation": "auto"}), "truncation"),
            (json!({"input": "Hi", "include": ["reasoning.encrypted_content"]}), "include"),
            (json!({"input": "Hi", "stream_options": {}}), "stream_options"),
            (json!({"input": "Hi", "stream": true, "stream_options": {"a": 1}}), "stream_options.a"),
            (json!({"input": "Hi", "previous_response_id": "resp_1"}), "previous_response_id"),
            (json!({"input": "Hi", "reasoning": {"effort": "low"}}), "reasoning"),
            (json!({"input": "Hi", "no_such": 1}), "no_such"),
        ] {
            assert_eq!(chat(body.clone()).unwrap_err().detail.param.as_deref(), Some(param), "{body}");
        }
        let without_effect = json!({
            "input": "Hi", "previous_response_id": null, "store": false, "background": false, "truncation": "disabled",
            "include": [], "user": "me", "stream": true, "stream_options": {"include_obfuscation": false},
            "parallel_tool_calls": true,
        });
        chat(without_effect).unwrap();
    }
}
