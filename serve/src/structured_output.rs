//! What a text must obey: a JSON schema, a regular expression or a grammar.

use generate::Grammar;
use serde_json::Value;

use crate::api_error::ApiError;
use crate::json_body::shown;

/// The parameters that restrict a text, of which a request has at most one.
pub(crate) struct Parameters {
    pub(crate) response_format: Option<Value>,
    pub(crate) guided_json: Option<Value>,
    pub(crate) guided_regex: Option<String>,
    pub(crate) guided_grammar: Option<String>,
}

impl Parameters {
    /// Returns the grammar and the name of its parameter, if there is one. It is compiled later, with the model's
    /// tokens.
    ///
    /// # Errors
    /// Returns an error if there are several, or one is not valid.
    pub(crate) fn validate(self) -> Result<Option<(&'static str, Grammar)>, ApiError> {
        let format = self.response_format.map(response_format).transpose()?.flatten();
        let schema = self.guided_json.map(|schema| match schema {
            // vLLM accepts a schema in a string.
            Value::String(text) => serde_json::from_str(&text)
                .map_err(|error| invalid("guided_json", format!("`guided_json` is not JSON: {error}."))),
            schema => Ok(schema),
        });
        let given = [
            ("response_format", format),
            ("guided_json", schema.transpose()?.map(Grammar::JsonSchema)),
            ("guided_regex", self.guided_regex.map(Grammar::Regex)),
            ("guided_grammar", self.guided_grammar.map(Grammar::Lark)),
        ];
        let mut given = given.into_iter().filter_map(|(name, grammar)| Some((name, grammar?)));
        let first = given.next();
        match (&first, given.next()) {
            (Some((first, _)), Some((second, _))) => {
                Err(invalid(second, format!("`{second}` and `{first}` exclude each other; give one of them.")))
            }
            _ => Ok(first),
        }
    }
}

/// Returns the error for a grammar that cannot be compiled.
pub(crate) fn not_compiled(name: &'static str, reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::parameter(name, "invalid_grammar", format!("`{name}` cannot be used: {reason}."))
}

/// Reads OpenAI's `response_format`.
fn response_format(format: Value) -> Result<Option<Grammar>, ApiError> {
    let Value::Object(mut format) = format else {
        let message = format!("`response_format` must be an object, not {}.", shown(&format));
        return Err(ApiError::parameter("response_format", "invalid_type", message));
    };
    let kind = format.remove("type").unwrap_or_default();
    let grammar = match kind.as_str() {
        Some("text") => None,
        Some("json_object") => Some(Grammar::JsonObject),
        Some("json_schema") => match format.remove("json_schema") {
            Some(Value::Object(mut named)) => {
                let Some(schema) = named.remove("schema") else {
                    let name = "response_format.json_schema.schema";
                    return Err(invalid(name, format!("`{name}` is missing.")));
                };
                for (about, is_valid) in [
                    ("name", Value::is_string as fn(&Value) -> bool),
                    ("description", Value::is_string),
                    ("strict", Value::is_boolean),
                ] {
                    if let Some(found) = named.remove(about).filter(|value| !(value.is_null() || is_valid(value))) {
                        let name = format!("response_format.json_schema.{about}");
                        let expected = if about == "strict" { "true or false" } else { "a string" };
                        let message = format!("`{name}` must be {expected}, not {}.", shown(&found));
                        return Err(ApiError::parameter(&name, "invalid_type", message));
                    }
                }
                refuse_rest("response_format.json_schema", &named)?;
                Some(Grammar::JsonSchema(schema))
            }
            other => {
                let (name, found) = ("response_format.json_schema", shown(&other.unwrap_or_default()));
                return Err(invalid(name, format!("`{name}` must be an object, not {found}.")));
            }
        },
        _ => {
            let name = "response_format.type";
            let found = shown(&kind);
            return Err(invalid(name, format!("`{name}` must be text, json_object or json_schema, not {found}.")));
        }
    };
    refuse_rest("response_format", &format)?;
    Ok(grammar)
}

fn refuse_rest(name: &str, rest: &serde_json::Map<String, Value>) -> Result<(), ApiError> {
    match rest.keys().next() {
        Some(key) => {
            let name = format!("{name}.{key}");
            let message = format!("This server does not support `{name}`; leave it out.");
            Err(ApiError::parameter(&name, "unsupported_parameter", message))
        }
        None => Ok(()),
    }
}

fn invalid(name: &str, message: String) -> ApiError {
    ApiError::parameter(name, "invalid_value", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn validate(format: Value, guided_regex: Option<&str>) -> Result<Option<(&'static str, Grammar)>, String> {
        let guided_regex = guided_regex.map(str::to_owned);
        let parameters =
            Parameters { response_format: Some(format), guided_json: None, guided_regex, guided_grammar: None };
        parameters.validate().map_err(|error| format!("{}: {}", error.detail.param.unwrap(), error.detail.message))
    }

    #[test]
    fn formats_are_read_and_invalid_ones_are_named() {
        let schema = json!({"type": "integer"});
        let strict = json!({
            "type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema, "description": "d"},
        });
        assert_eq!(validate(strict.clone(), None), Ok(Some(("response_format", Grammar::JsonSchema(schema)))));
        assert_eq!(validate(json!({"type": "json_object"}), None), Ok(Some(("response_format", Grammar::JsonObject))));
        let regex = Grammar::Regex("a+".to_owned());
        assert_eq!(validate(json!({"type": "text"}), Some("a+")), Ok(Some(("guided_regex", regex))));
        let refused = |format: Value, regex, expected: &str| assert_eq!(validate(format, regex).unwrap_err(), expected);
        refused(
            strict,
            Some("a"),
            "guided_regex: `guided_regex` and `response_format` exclude each other; give one of them.",
        );
        refused(json!("json"), None, "response_format: `response_format` must be an object, not \"json\".");
        refused(
            json!({"type": "xml"}),
            None,
            "response_format.type: `response_format.type` must be text, json_object or json_schema, not \"xml\".",
        );
        refused(
            json!({"type": "json_schema"}),
            None,
            "response_format.json_schema: `response_format.json_schema` must be an object, not null.",
        );
        refused(
            json!({"type": "json_object", "schema": {}}),
            None,
            "response_format.schema: This server does not support `response_format.schema`; leave it out.",
        );
    }
}
