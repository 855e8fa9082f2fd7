//! The table `[serve]`.

use std::path::PathBuf;

use axum::http::HeaderValue;
use model::KvCacheDtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Error;

/// The table `[serve]`: the address, who may use it, limits of connections and requests, and the deployment check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address to listen on; `0.0.0.0` for all networks of this machine. Default: `127.0.0.1`, this machine only.
    pub host: String,
    /// The port to listen on; 0 for any free port. Default: 8080.
    pub port: u16,
    /// The model's name in the API. Default: `pipeline`.
    pub model_name: String,
    /// The maximum number of requests that a model answers at the same time; further ones wait in its queue. Default:
    /// 8.
    pub max_concurrent_requests: usize,
    /// The maximum number of requests in the queue of a model; further requests get status 429. Default: 32.
    pub max_queue: usize,
    /// The size of the KV cache, in tokens of all texts together; when it is full, the latest texts wait and are
    /// computed again. It also keeps the tokens of earlier requests, so that a beginning that prompts have in common is
    /// read once, and takes memory as it fills. Default: four times the model's context, or as much as fits in half of
    /// the memory that is free beside the weights, divided by the number of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_tokens: Option<usize>,
    /// The number type of keys and values in the KV cache: `f32`, `f16`, or `int8` with a scale for each token and
    /// head, about a quarter of the size of `f32`. Only the CPU has others than `f32`. Default: `f32`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_dtype: Option<KvCacheDtype>,
    /// The maximum number of tokens that the model reads at once: long prompts are read in chunks of this many, between
    /// which other texts continue. Fewer make the pauses of those shorter, more let a burst of prompts begin sooner. It
    /// also limits the number of texts generated at the same time. Default: 512.
    pub prefill_chunk_tokens: usize,
    /// The maximum number of tokens that speculative decoding proposes at once, from earlier text or by the
    /// `draft_model`; 0 for none. It makes texts that are easy to predict faster, and never changes them. Default: 0.
    pub draft_tokens: usize,
    /// A smaller model with the same tokenizer that proposes the tokens: a folder in Hugging Face layout, relative to
    /// the folder of the configuration; outside of a run also the name of a run or of an imported model. Default: none,
    /// and tokens come from earlier text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// Models to serve side by side, chosen by a request's `model`, in place of one named on the command line.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelEntry>,
    /// The file of API keys, one JSON object a line, as `pipeline serve --new-key NAME` writes it; relative to the
    /// folder of the configuration. With it, every request but those for the page, `/health`, `/ready` and
    /// `/openapi.json` needs a key. Read again when it changes. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
    /// Whether everybody who can reach an address of other than this machine may use the model without a key. Default:
    /// false.
    pub allow_anonymous: bool,
    /// The certificate chain for TLS, a PEM file, relative to the folder of the configuration; with `tls_key`. Default:
    /// none, HTTP without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file, relative to the folder of the configuration. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Whether the bodies of requests are written to the log. Default: false.
    pub log_prompts: bool,
    /// Whether a run that has an index of its training data is served with it: anyone who may use the model can then
    /// read passages of the training data at `/trace` and on the page. Default: true.
    pub trace: bool,
    /// The maximum number of connections; further ones get status 503. Default: 512.
    pub max_connections: usize,
    /// The maximum length of a request's headers, in bytes; longer ones get status 431. Default: 32,768.
    pub max_header_bytes: usize,
    /// Seconds from the first byte of a request to the end of its headers; then the connection is closed. Default: 10.
    pub header_seconds: u64,
    /// Seconds in which the body of a request must arrive; then it gets status 408. Default: 30.
    pub body_seconds: u64,
    /// Seconds that a connection may wait for a request, or for the client to read its answer; then it is closed.
    /// Default: 75.
    pub idle_seconds: u64,
    /// Seconds from a request's headers to the end of its answer, the queue included; then it gets status 504, or an
    /// error at the end of its stream. Default: 600.
    pub request_seconds: u64,
    /// The maximum length of a request body, in bytes. Default: 1,048,576.
    pub max_body_bytes: usize,
    /// The maximum number of tokens per text. Default: 4096.
    pub max_tokens: usize,
    /// The maximum number of texts per request: `n` times the number of prompts. Default: 16.
    pub max_choices: usize,
    /// The maximum number of inputs of a request for embeddings. Default: 2048.
    pub max_inputs: usize,
    /// The maximum number of tokens of a prompt. Default: the model's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_tokens: Option<usize>,
    /// The maximum number of alternatives whose log probabilities a request may ask for. Default: 20.
    pub max_logprobs: usize,
    /// The maximum number of stop strings of a request, and of its stop tokens. Default: 4.
    pub max_stop: usize,
    /// The maximum length of a stop string, in bytes. Default: 1024.
    pub max_stop_bytes: usize,
    /// The maximum length of a JSON schema, a regular expression or a grammar that a text must obey, in bytes. Default:
    /// 65,536.
    pub max_grammar_bytes: usize,
    /// The maximum depth of such a schema, in nested objects and arrays. Default: 64.
    pub max_schema_depth: usize,
    /// Seconds that in-flight requests may take to finish during shutdown. Default: 10.
    pub shutdown_seconds: u64,
    /// Names allowed in the `Host` header besides `localhost` and `host`; IP addresses are always allowed. `*` allows
    /// every name, and with it DNS rebinding by any web page. Default: none.
    pub allowed_hosts: Vec<String>,
    /// Origins such as `https://example.org` whose web pages may call this server from a browser; `*` for all.
    /// Default: none.
    pub cors_origins: Vec<String>,
    /// Example prompts on the web page. Default: none.
    pub example_prompts: Vec<String>,
    /// A folder of applications for the web page, relative to the folder of the configuration: one TOML file each,
    /// besides those of the program; one with the same file name replaces it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applications: Option<PathBuf>,
    /// The prompt of the deployment check. Default: `Hello`.
    pub check_prompt: String,
    /// The number of streamed requests that the deployment check measures. Default: 3.
    pub check_requests: usize,
    /// `max_tokens` of the deployment check's requests. Default: 64.
    pub check_max_tokens: usize,
}

/// A model of `[[serve.models]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Its name in the API.
    pub name: String,
    /// A run's name, its folder, `latest`, an imported model, a folder in the Hugging Face layout, or a GGUF file;
    /// folders and files are relative to the folder of the configuration. With `base`: the folder of an adapter in
    /// PEFT's layout, or a run that trained one.
    pub model: String,
    /// The name of another of these models that this is an adapter of: it uses that model's weights in memory, its
    /// tokenizer and its chat template. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether it is loaded at the start; else a request to `/admin/models/{name}/load` loads it. Default: true.
    #[serde(default = "yes")]
    pub load: bool,
}

fn yes() -> bool {
    true
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            model_name: "pipeline".to_owned(),
            max_concurrent_requests: 8,
            max_queue: 32,
            kv_cache_tokens: None,
            kv_cache_dtype: None,
            prefill_chunk_tokens: 512,
            draft_tokens: 0,
            draft_model: None,
            models: Vec::new(),
            keys: None,
            allow_anonymous: false,
            tls_cert: None,
            tls_key: None,
            log_prompts: false,
            trace: true,
            max_connections: 512,
            max_header_bytes: 32_768,
            header_seconds: 10,
            body_seconds: 30,
            idle_seconds: 75,
            request_seconds: 600,
            max_body_bytes: 1 << 20,
            max_tokens: 4096,
            max_choices: 16,
            max_inputs: 2048,
            max_prompt_tokens: None,
            max_logprobs: 20,
            max_stop: 4,
            max_stop_bytes: 1024,
            max_grammar_bytes: 1 << 16,
            max_schema_depth: 64,
            shutdown_seconds: 10,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            example_prompts: Vec::new(),
            applications: None,
            check_prompt: "Hello".to_owned(),
            check_requests: 3,
            check_max_tokens: 64,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid =
            |key, expected: &str, found: String| Err(Error::Config { key, expected: expected.to_owned(), found });
        let positive = [
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("kv_cache_tokens", self.kv_cache_tokens.unwrap_or(1)),
            ("prefill_chunk_tokens", self.prefill_chunk_tokens),
            ("max_queue", self.max_queue),
            ("max_connections", self.max_connections),
            ("header_seconds", self.header_seconds as usize),
            ("body_seconds", self.body_seconds as usize),
            ("idle_seconds", self.idle_seconds as usize),
            ("request_seconds", self.request_seconds as usize),
            ("max_body_bytes", self.max_body_bytes),
            ("max_tokens", self.max_tokens),
            ("max_choices", self.max_choices),
            ("max_inputs", self.max_inputs),
            ("max_prompt_tokens", self.max_prompt_tokens.unwrap_or(1)),
            ("draft_tokens", if self.draft_model.is_some() { self.draft_tokens } else { 1 }),
            ("check_requests", self.check_requests),
            ("check_max_tokens", self.check_max_tokens),
        ];
        for (key, value) in positive {
            if value == 0 {
                return invalid(key, "at least 1", "0".to_owned());
            }
        }
        if self.max_queue > MAX_QUEUE {
            return invalid("max_queue", &format!("at most {MAX_QUEUE}"), self.max_queue.to_string());
        }
        if let Some(tokens) = self.kv_cache_tokens.filter(|tokens| *tokens > MAX_KV_CACHE_TOKENS) {
            return invalid("kv_cache_tokens", &format!("at most {MAX_KV_CACHE_TOKENS}"), tokens.to_string());
        }
        let seconds = [
            ("header_seconds", self.header_seconds),
            ("body_seconds", self.body_seconds),
            ("idle_seconds", self.idle_seconds),
            ("request_seconds", self.request_seconds),
            ("shutdown_seconds", self.shutdown_seconds),
        ];
        if let Some((key, value)) = seconds.into_iter().find(|(_, value)| *value > MAX_SECONDS) {
            return invalid(key, &format!("at most {MAX_SECONDS}"), value.to_string());
        }
        if self.max_connections > MAX_CONNECTIONS {
            return invalid("max_connections", &format!("at most {MAX_CONNECTIONS}"), self.max_connections.to_string());
        }
        if !HEADER_BYTES.contains(&self.max_header_bytes) {
            let expected = format!("from {} to {}", HEADER_BYTES.start(), HEADER_BYTES.end());
            return invalid("max_header_bytes", &expected, self.max_header_bytes.to_string());
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let (key, other) = if self.tls_cert.is_some() { ("tls_key", "tls_cert") } else { ("tls_cert", "tls_key") };
            return invalid(key, &format!("a file, as serve.{other} is set"), "missing".to_owned());
        }
        if self.models.iter().any(|entry| entry.name.is_empty() || entry.name.contains('/')) {
            return invalid("models", "models whose names are not empty and have no slash", "others".to_owned());
        }
        if self.check_max_tokens > self.max_tokens {
            let expected = format!("at most serve.max_tokens, {}", self.max_tokens);
            return invalid("check_max_tokens", &expected, self.check_max_tokens.to_string());
        }
        if self.host.is_empty() {
            return invalid("host", "an address or a name", "empty".to_owned());
        }
        if self.model_name.is_empty() {
            return invalid("model_name", "a name", "empty".to_owned());
        }
        for origin in self.cors_origins.iter().filter(|origin| *origin != "*") {
            let is_origin = origin
                .split_once("://")
                .is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains('/'));
            if !is_origin || HeaderValue::from_str(origin).is_err() {
                return invalid("cors_origins", "origins such as `https://example.org`, or `*`", format!("`{origin}`"));
            }
        }
        Ok(())
    }

    /// Returns the values that the deployment check depends on, as JSON for the fingerprint.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        json!({
            "model_name": self.model_name,
            "kv_cache_dtype": self.kv_cache_dtype,
            "max_tokens": self.max_tokens,
            "max_body_bytes": self.max_body_bytes,
            "check_prompt": self.check_prompt,
            "check_requests": self.check_requests,
            "check_max_tokens": self.check_max_tokens,
        })
    }
}

/// Upper limit of `max_queue`. Heuristic, not measured: because it is far more requests than a client would wait for,
/// and keeps the queue's memory small.
const MAX_QUEUE: usize = 65_536;
/// Upper limit of `kv_cache_tokens`: 16 times the longest context of a model that is read. The counts of the cache's
/// blocks take memory at once, 1 GB for as many.
const MAX_KV_CACHE_TOKENS: usize = 1 << 28;
/// Upper limit of time limits: a year.
const MAX_SECONDS: u64 = 365 * 24 * 60 * 60;
/// Upper limit of `max_connections`: systems allow a process fewer open files than this.
const MAX_CONNECTIONS: usize = 1 << 20;
/// Limits of `max_header_bytes`: what browsers send fits, and hyper's buffer is no larger.
const HEADER_BYTES: std::ops::RangeInclusive<usize> = 1024..=400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
        let default = Config::default;
        let origin = |origin: &str| Config { cors_origins: vec![origin.to_owned()], ..default() };
        let cases = [
            (Config { max_queue: 0, ..default() }, "serve.max_queue must be at least 1, not 0"),
            (Config { max_queue: 1 << 40, ..default() }, "serve.max_queue must be at most 65536, not 1099511627776"),
            (
                Config { max_concurrent_requests: 0, ..default() },
                "serve.max_concurrent_requests must be at least 1, not 0",
            ),
            (Config { kv_cache_tokens: Some(0), ..default() }, "serve.kv_cache_tokens must be at least 1, not 0"),
            (
                Config { kv_cache_tokens: Some(1 << 50), ..default() },
                "serve.kv_cache_tokens must be at most 268435456, not 1125899906842624",
            ),
            (Config { prefill_chunk_tokens: 0, ..default() }, "serve.prefill_chunk_tokens must be at least 1, not 0"),
            (
                Config { check_max_tokens: 5000, ..default() },
                "serve.check_max_tokens must be at most serve.max_tokens, 4096, not 5000",
            ),
            (Config { idle_seconds: 0, ..default() }, "serve.idle_seconds must be at least 1, not 0"),
            (
                Config { request_seconds: u64::MAX, ..default() },
                "serve.request_seconds must be at most 31536000, not 18446744073709551615",
            ),
            (
                Config { max_header_bytes: 10, ..default() },
                "serve.max_header_bytes must be from 1024 to 400000, not 10",
            ),
            (
                Config { tls_cert: Some("a.pem".into()), ..default() },
                "serve.tls_key must be a file, as serve.tls_cert is set, not missing",
            ),
            (Config { host: String::new(), ..default() }, "serve.host must be an address or a name, not empty"),
            (
                origin("example.org"),
                "serve.cors_origins must be origins such as `https://example.org`, or `*`, not `example.org`",
            ),
            (
                origin("https://example.org/"),
                "serve.cors_origins must be origins such as `https://example.org`, or `*`, not `https://example.org/`",
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
        for config in [default(), origin("*"), origin("http://localhost:3000")] {
            config.validate().unwrap();
        }
    }
}
