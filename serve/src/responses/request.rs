//! The request, and the request of a chat that it becomes.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Echo;
use crate::api_error::ApiError;
use crate::json_body::shown;

/// The body of a request for a response. A parameter that is null counts as left out; one that is not listed here is
/// refused.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResponsesRequest {
    /// The model's name, as listed at `/v1/models`; optional.
    model: Option<String>,
    /// A message of the user, or a conversation: messages with `role` and `content` (a string or an array of parts of
    /// type `input_text` or `output_text`).
    #[schema(value_type = serde_json::Value, required = true)]
    input: Option<Value>,
    /// A system message before the input.
    instructions: Option<String>,
    /// The maximum number of tokens of the answer; by default as many as the model's context has room for.
    #[schema(minimum = 0)]
    max_output_tokens: Option<i64>,
    /// Divides the logits; 0 always picks the most likely token.
    #[schema(default = 1.0, minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this.
    #[schema(default = 1.0, maximum = 1, exclusive_minimum = 0)]
    top_p: Option<f32>,
    /// Whether to stream the answer as server-sent events.
    #[schema(default = false)]
    pub(crate) stream: Option<bool>,
    /// Repeated in the answer.
    metadata: Option<Map<String, Value>>,
}

/// Parameters that [`ResponsesRequest`] has.
const SUPPORTED: [&str; 8] =
    ["model", "input", "instructions", "max_output_tokens", "temperature", "top_p", "stream", "metadata"];

impl ResponsesRequest {
    /// Refuses parameters that this server does not support, unless their value has no effect.
    pub(crate) fn refuse_unsupported(body: &Value) -> Result<(), ApiError> {
        let Value::Object(parameters) = body else { return Ok(()) };
        for (name, value) in parameters {
            let has_no_effect = match (name.as_str(), value) {
                (_, Value::Null) | ("user" | "safety_identifier" | "prompt_cache_key" | "service_tier", _) => true,
                ("store" | "background" | "parallel_tool_calls", value) => *value == false,
                ("tools" | "include", Value::Array(values)) => values.is_empty(),
                ("tool_choice", value) => matches!(value.as_str(), Some("auto" | "none")),
                ("truncation", value) => value == "disabled",
                ("text", value) => *value == json!({}) || *value == json!({"format": {"type": "text"}}),
                (name, _) => SUPPORTED.contains(&name),
            };
            if !has_no_effect {
                let message = format!("This server does not support `{name}` with this value; leave it out.");
                return Err(ApiError::parameter(name, "unsupported_parameter", message));
            }
        }
        Ok(())
    }

    /// Returns the body of the chat request that has the same answer, and what the response repeats.
    ///
    /// # Errors
    /// Returns an error that names the part of the input that is not text.
    pub(crate) fn into_chat(self, model: &str) -> Result<(Vec<u8>, Echo), ApiError> {
        let mut messages = Vec::new();
        if let Some(instructions) = &self.instructions {
            messages.push(json!({"role": "system", "content": instructions}));
        }
        match self.input.unwrap_or_default() {
            Value::String(text) => messages.push(json!({"role": "user", "content": text})),
            Value::Array(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    messages.push(message(item, &format!("input[{i}]"))?);
                }
            }
            other => {
                let message = format!("`input` must be a string or an array of messages, not {}.", shown(&other));
                return Err(ApiError::parameter("input", "invalid_type", message));
            }
        }
        let body = json!({
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        });
        let echo = Echo {
            model: model.to_owned(),
            instructions: self.instructions,
            max_output_tokens: self.max_output_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            metadata: self.metadata.unwrap_or_default(),
        };
        Ok((body.to_string().into_bytes(), echo))
    }
}

/// Returns the message of a chat that an item of the input is.
fn message(item: &Value, name: &str) -> Result<Value, ApiError> {
    let invalid = |name: &str, message: String| Err(ApiError::parameter(name, "invalid_value", message));
    if !matches!(item["type"].as_str(), None | Some("message")) || !item["role"].is_string() {
        return invalid(name, format!("`{name}` must be a message with a role: this server reads only text."));
    }
    let content = match &item["content"] {
        Value::Array(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for (i, part) in parts.iter().enumerate() {
                let is_text = matches!(part["type"].as_str(), Some("input_text" | "output_text"));
                let Some(text) = part["text"].as_str().filter(|_| is_text) else {
                    let name = format!("{name}.content[{i}]");
                    return invalid(&name, format!("`{name}` must be an `input_text` or `output_text` with a text."));
                };
                texts.push(json!({"type": "text", "text": text}));
            }
            Value::Array(texts)
        }
        content => content.clone(),
    };
    Ok(json!({"role": item["role"], "content": content}))
}

/// Returns an error of the chat request with the names that the parameters have here.
pub(crate) fn renamed(mut error: ApiError) -> ApiError {
    for (chat, here) in [("max_completion_tokens", "max_output_tokens"), ("messages", "input")] {
        error.detail.message = error.detail.message.replace(&format!("`{chat}"), &format!("`{here}"));
        if let Some(name) = error.detail.param.as_mut()
            && name.starts_with(chat)
        {
            *name = name.replacen(chat, here, 1);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: Value) -> Result<Value, ApiError> {
        ResponsesRequest::refuse_unsupported(&body)?;
        let request: ResponsesRequest = serde_json::from_value(body).unwrap();
        Ok(serde_json::from_slice(&request.into_chat("m")?.0).unwrap())
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
    fn what_is_not_text_is_refused_by_name() {
        for (body, param) in [
            (json!({"input": 1}), "input"),
            (json!({"input": []}), "input"),
            (json!({}), "input"),
            (json!({"input": [{"type": "function_call"}]}), "input[0]"),
            (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "input[0].content[0]"),
            (json!({"input": "Hi", "tools": [{"type": "web_search"}]}), "tools"),
            (json!({"input": "Hi", "store": true}), "store"),
            (json!({"input": "Hi", "previous_response_id": "resp_1"}), "previous_response_id"),
            (json!({"input": "Hi", "text": {"format": {"type": "json_object"}}}), "text"),
            (json!({"input": "Hi", "no_such": 1}), "no_such"),
        ] {
            assert_eq!(chat(body.clone()).unwrap_err().detail.param.as_deref(), Some(param), "{body}");
        }
    }
}
