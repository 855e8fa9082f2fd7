//! Requests of `/trace`, and their answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trace::{Index, Occurrence, Options, Passage};
use utoipa::{PartialSchema, ToSchema};

use crate::Config;
use crate::api_error::ApiError;
use crate::json_body::{deserialize, json, refuse_unsupported};

/// The most tokens of a text: heuristic, a long chapter. Its time grows about linearly with them.
pub(crate) const MAX_TOKENS: usize = 16_384;

/// The most passages, and the most documents of each: heuristic; more than anybody reads.
pub(crate) const MAX_LISTED: usize = 100;

/// A text whose passages to look up. A parameter that is null counts as left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceRequest {
    /// The model's name, as listed at `/v1/models`.
    #[expect(dead_code, reason = "the model is chosen before the rest is read")]
    model: Option<String>,
    /// The text. Special tokens in it are ordinary text.
    input: String,
    /// The fewest tokens of a passage, 8 by default.
    #[schema(minimum = 1, maximum = 16_384)]
    min_tokens: Option<i64>,
    /// The most passages, 20 by default: those that are least likely to occur there by chance.
    #[schema(minimum = 0, maximum = 100)]
    max_passages: Option<i64>,
    /// The most documents that are listed for each passage, 3 by default.
    #[schema(minimum = 0, maximum = 100)]
    max_documents: Option<i64>,
}

/// A request whose parameters are valid.
#[derive(Debug, PartialEq)]
pub(crate) struct ValidRequest {
    input: String,
    options: Options,
}

/// The passages of a text that occur verbatim in the training data.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TraceBody {
    /// Always `trace`.
    #[schema(example = "trace")]
    object: &'static str,
    /// The model's name.
    model: String,
    /// The number of tokens of the training data.
    training_tokens: u64,
    /// The number of documents of the training data.
    training_documents: usize,
    /// The passages, the least likely by chance first; one is never a part of another.
    passages: Vec<TracedPassage>,
}

/// A passage.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TracedPassage {
    /// The index in the text of its first character, counted as Unicode code points.
    start: usize,
    /// The index after its last character.
    end: usize,
    /// The passage.
    text: String,
    /// The number of its tokens.
    tokens: usize,
    /// How often it occurs in the training data.
    count: u64,
    /// The natural logarithm of the probability of such tokens if each were drawn by its frequency there.
    log_probability: f64,
    /// Documents that have it, and where.
    documents: Vec<TracedDocument>,
}

/// A document of the training data that has a passage.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TracedDocument {
    /// Its id in the corpus.
    id: String,
    /// The number of the piece if the document was cut, else 0.
    piece: u32,
    /// The source that it came from.
    source: String,
    /// Its path or address within the source.
    path: String,
    /// Its licence.
    licence: String,
    /// The number of tokens before the passage.
    position: usize,
    /// The text before the passage.
    before: String,
    /// The text after it.
    after: String,
}

/// Parses the body of a request.
///
/// # Errors
/// Returns an error that names the first invalid parameter.
pub(crate) fn parse(body: &[u8], config: &Config) -> Result<ValidRequest, ApiError> {
    let mut body = json(body)?;
    refuse_unsupported(&body, &TraceRequest::schema())?;
    if let Value::Object(parameters) = &mut body {
        parameters.retain(|_, value| !value.is_null());
    }
    let TraceRequest { input, min_tokens, max_passages, max_documents, .. } = deserialize(&body, config)?;
    let default = Options::default();
    let options = Options {
        min_tokens: number("min_tokens", min_tokens, (1, MAX_TOKENS))?.unwrap_or(default.min_tokens),
        max_passages: number("max_passages", max_passages, (0, MAX_LISTED))?.unwrap_or(default.max_passages),
        max_occurrences: number("max_documents", max_documents, (0, MAX_LISTED))?.unwrap_or(default.max_occurrences),
        ..default
    };
    Ok(ValidRequest { input, options })
}

fn number(name: &str, number: Option<i64>, (least, most): (usize, usize)) -> Result<Option<usize>, ApiError> {
    let Some(found) = number else { return Ok(None) };
    let number = usize::try_from(found).ok().filter(|number| (least..=most).contains(number));
    number.map(Some).ok_or_else(|| {
        let message = format!("`{name}` must be an integer from {least} to {most}, not {found}.");
        ApiError::parameter(name, "invalid_value", message)
    })
}

impl ValidRequest {
    /// Looks the text up in the index of the training data of `model`.
    ///
    /// # Errors
    /// Returns an error if the text cannot be encoded or is too long, or a file of the index is invalid.
    pub(crate) fn answer(&self, index: &Index, model: &str) -> Result<TraceBody, ApiError> {
        let invalid = |code, message| ApiError::parameter("input", code, message);
        let encoded = index.tokenizer().encode(&self.input);
        let tokens = encoded.map_err(|error| invalid("invalid_value", format!("{error}.")))?.len();
        if tokens > MAX_TOKENS {
            let message = format!("`input` has {tokens} tokens, and at most {MAX_TOKENS} can be traced; shorten it.");
            return Err(invalid("context_length_exceeded", message));
        }
        let passages = index.trace(&self.input, &self.options);
        let passages = passages.map_err(|error| ApiError::server(format!("The text could not be traced: {error}.")))?;
        Ok(TraceBody {
            object: "trace",
            model: model.to_owned(),
            training_tokens: index.tokens(),
            training_documents: index.n_documents(),
            passages: passages.into_iter().map(TracedPassage::of).collect(),
        })
    }
}

impl TracedPassage {
    fn of(passage: Passage) -> Self {
        let Passage { characters, text, tokens, count, log_probability, occurrences, .. } = passage;
        let documents = occurrences.into_iter().map(TracedDocument::of).collect();
        Self { start: characters.start, end: characters.end, text, tokens, count, log_probability, documents }
    }
}

impl TracedDocument {
    fn of(occurrence: Occurrence) -> Self {
        let Occurrence { document, position, before, after } = occurrence;
        let trace::Document { id, piece, source, path, licence } = document;
        Self { id, piece, source, path, licence, position, before, after }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<ValidRequest, ApiError> {
        super::parse(body.to_string().as_bytes(), &Config::default())
    }

    #[test]
    fn parameters_have_defaults() {
        let check = |body: Value, options: Options| {
            assert_eq!(parse(&body).unwrap(), ValidRequest { input: "a".to_owned(), options });
        };
        check(json!({"input": "a", "model": "m", "min_tokens": null}), Options::default());
        check(
            json!({"input": "a", "min_tokens": 1, "max_passages": 0, "max_documents": 100.0}),
            Options { min_tokens: 1, max_passages: 0, max_occurrences: 100, ..Options::default() },
        );
    }

    #[test]
    fn invalid_parameters_are_named() {
        for (body, param, code, message) in [
            (json!({}), "input", "missing_required_parameter", "`input` is missing."),
            (json!({"input": null}), "input", "missing_required_parameter", "`input` is missing."),
            (json!({"input": 1}), "input", "invalid_type", "`input` must be a string, not 1."),
            (json!({"input": "a", "min_tokens": 0}), "min_tokens", "invalid_value", "from 1 to 16384, not 0."),
            (json!({"input": "a", "min_tokens": "b"}), "min_tokens", "invalid_type", "must be an integer, not \"b\"."),
            (json!({"input": "a", "max_passages": 101}), "max_passages", "invalid_value", "from 0 to 100, not 101."),
            (json!({"input": "a", "max_documents": -1}), "max_documents", "invalid_value", "from 0 to 100, not -1."),
            (json!({"input": "a", "text": 1}), "text", "unsupported_parameter", "does not support `text`"),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!((error.detail.param.as_deref(), error.detail.code), (Some(param), Some(code)), "{body}");
            assert!(error.detail.message.contains(message), "{body}: {}", error.detail.message);
        }
    }
}
