//! The JSON of a request's body: its parameters by their types, and the errors that name them.

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;
use utoipa::openapi::{RefOr, Schema};

use crate::Config;
use crate::api_error::ApiError;

/// Characters of an invalid value repeated in an error. Heuristic, not measured: because longer messages are hard to
/// read.
const SHOWN_CHARACTERS: usize = 40;

/// Parses a body, which must be a JSON object. Numbers such as `16.0` are integers, as in JSON Schema.
pub(crate) fn json(body: &[u8]) -> Result<Value, ApiError> {
    let malformed = |reason: String| ApiError::request(StatusCode::BAD_REQUEST, reason);
    let mut body: Value =
        serde_json::from_slice(body).map_err(|e| malformed(format!("The body of your request is not JSON: {e}.")))?;
    let Value::Object(parameters) = &mut body else {
        return Err(malformed(format!("The body of your request must be a JSON object, not {}.", shown(&body))));
    };
    parameters.values_mut().for_each(write_integers);
    Ok(body)
}

/// Writes whole numbers as integers, but not in objects: those are passed on as the client wrote them.
fn write_integers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(write_integers),
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            // The bounds are those of 64 bits.
            if let Some(float) = float.filter(|float| (-2.0_f64.powi(63)..2.0_f64.powi(63)).contains(float)) {
                *number = (float as i64).into();
            }
        }
        _ => {}
    }
}

/// Reads the parameters of a body by their types.
pub(crate) fn deserialize<T: DeserializeOwned>(body: &Value, config: &Config) -> Result<T, ApiError> {
    // serde would read an array as the struct's fields in order.
    if body["stream_options"].is_array() {
        return Err(invalid("stream_options", "invalid_type", &body["stream_options"], config));
    }
    serde_path_to_error::deserialize(body).map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
        let reason = error.inner().to_string();
        if reason.starts_with("unknown field") {
            return unsupported(&named(error.path(), body).0);
        }
        match reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(name) => ApiError::parameter(name, "missing_required_parameter", format!("`{name}` is missing.")),
            None => invalid_type(error.path(), body, config),
        }
    })
}

fn unsupported(name: &str) -> ApiError {
    let message = format!("This server does not support `{name}`; leave it out.");
    ApiError::parameter(name, "unsupported_parameter", message)
}

/// Refuses parameters that are not in a schema, unless their value has no effect.
pub(crate) fn refuse_unsupported(body: &Value, schema: &RefOr<Schema>) -> Result<(), ApiError> {
    let RefOr::T(Schema::Object(known)) = schema else { return Ok(()) };
    let parameters = body.as_object().into_iter().flatten();
    for (name, value) in parameters.filter(|(name, _)| !known.properties.contains_key(name.as_str())) {
        let has_no_effect = match name.as_str() {
            _ if value.is_null() => true,
            "modalities" => *value == json!(["text"]),
            "suffix" => *value == "",
            "functions" => *value == json!([]),
            _ => false,
        };
        if !has_no_effect {
            return Err(unsupported(&shortened(name)));
        }
    }
    Ok(())
}

/// Returns the name of the parameter at a path, and its value.
fn named<'b>(path: &serde_path_to_error::Path, body: &'b Value) -> (String, &'b Value) {
    let (mut name, mut found) = (String::new(), body);
    for segment in path {
        if let Segment::Map { key } = segment {
            let separator = if name.is_empty() { "" } else { "." };
            name = format!("{name}{separator}{}", shortened(key));
            found = &found[key.as_str()];
        }
    }
    (name, found)
}

/// Returns the error for a value whose type is wrong.
fn invalid_type(path: &serde_path_to_error::Path, body: &Value, config: &Config) -> ApiError {
    let (name, mut found) = named(path, body);
    if matches!(name.as_str(), "prompt" | "stop" | "stop_token_ids") {
        let is_right = |item: &Value| match name.as_str() {
            "stop" => item.is_string(),
            "prompt" => item.is_string() || item.is_u64(),
            _ => item.as_u64().is_some_and(|id| u32::try_from(id).is_ok()),
        };
        found = found.as_array().and_then(|items| items.iter().find(|item| !is_right(item))).unwrap_or(found);
    }
    invalid(&name, "invalid_type", found, config)
}

/// Returns the error for a value that is not valid.
pub(crate) fn invalid(name: &str, code: &'static str, found: &Value, config: &Config) -> ApiError {
    let expected = expected(name, config);
    ApiError::parameter(name, code, format!("`{name}` must be {expected}, not {}.", shown(found)))
}

/// Returns the valid values of a parameter in words.
fn expected(name: &str, config: &Config) -> String {
    match name {
        "prompt" => "a string, an array of strings, or the numbers of tokens".to_owned(),
        "stop" => "a string or an array of strings".to_owned(),
        "stop_token_ids" => "an array of the numbers of tokens".to_owned(),
        "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
            format!("an integer from 0 to {}", config.max_tokens)
        }
        "temperature" => "a number from 0 to 2".to_owned(),
        "top_p" | "typical_p" => "a number above 0 and at most 1".to_owned(),
        "top_k" => format!("an integer from 0 to {}", u32::MAX),
        "min_p" => "a number from 0 to 1".to_owned(),
        "guidance_scale" => "a number from 0 to 100".to_owned(),
        "repetition_penalty" => "a number from 0.01 to 100".to_owned(),
        "frequency_penalty" | "presence_penalty" => "a number from -2 to 2".to_owned(),
        "n" | "best_of" => format!("an integer from 1 to {}", config.max_choices),
        "logprobs" | "top_logprobs" => format!("an integer from 0 to {}", config.max_logprobs),
        "truncate_prompt_tokens" => "an integer from 1, or -1 for the model's context".to_owned(),
        "seed" => "an integer of 64 bits".to_owned(),
        "dimensions" | "layer" | "head" | "min_tokens" | "max_passages" | "max_documents" => "an integer".to_owned(),
        "echo"
        | "stream"
        | "stream_options.include_usage"
        | "stream_options.include_obfuscation"
        | "store"
        | "background"
        | "parallel_tool_calls"
        | "return_token_ids" => "true or false".to_owned(),
        "tools" => "an array of objects".to_owned(),
        "include" => "an array of strings".to_owned(),
        "stream_options"
        | "chat_template_kwargs"
        | "logit_bias"
        | "metadata"
        | "response_format"
        | "text"
        | "text.format" => "an object".to_owned(),
        _ if name.starts_with("logit_bias.") => "a number from -100 to 100".to_owned(),
        _ => "a string".to_owned(),
    }
}

/// Returns a value as it is repeated in an error.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => shortened(&scalar.to_string()),
    }
}

fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let shown: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
    if characters.next().is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_integers() {
        let of = |text: &str| json(text.as_bytes()).unwrap().to_string();
        let body = r#"{"a":16.0,"b":[[1e2,-0.0],2.5],"c":{"d":1.0},"e":1e300,"f":[{"g":1.0}],"h":-1e18}"#;
        let expected =
            r#"{"a":16,"b":[[100,0],2.5],"c":{"d":1.0},"e":1e+300,"f":[{"g":1.0}],"h":-1000000000000000000}"#;
        assert_eq!(of(body), expected);
        assert_eq!(of(r#"{"a":9.3e18,"b":"1.0"}"#), r#"{"a":9.3e+18,"b":"1.0"}"#);
    }
}
