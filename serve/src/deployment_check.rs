//! Stage serve: a deployment check. Starts the real server on a free port, sends requests over HTTP, measures the
//! answers and shuts the server down.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use artifact::{Cancel, Context, Outcome, Sealed, Unsealed, file};
use serde_json::{Value, json};
use ureq::Agent;

use crate::{Config, Error, bind, serve_on};

/// The stage's name.
pub const NAME: &str = "serve";
/// Raised when the check sends other requests or expects other answers.
pub const VERSION: u32 = 4;

const RECORD: &str = "service.json";
/// Timeout of one answer. Heuristic, not measured: because loading and answering take seconds to a minute.
const TIMEOUT: Duration = Duration::from_mins(5);
/// Pause between requests for readiness while the model is loading.
const POLL: Duration = Duration::from_millis(20);
const READY: &str = "GET /ready";
const HEALTH: &str = "GET /health";
const MODELS: &str = "GET /v1/models";
const PAGE: &str = "GET /";
const COMPLETION: &str = "POST /v1/completions";
const STREAM: &str = "POST /v1/completions (stream)";
const INVALID: &str = "POST /v1/completions (invalid)";
const CHAT: &str = "POST /v1/chat/completions";

/// Checks that the model in `bundle` can be served, and writes `service.json`: the requests, the time to the first
/// token and the tokens per second.
///
/// # Errors
/// Returns an error if the bundle differs from its manifest, the server does not start, or an answer is wrong.
pub fn run(config: &Config, bundle: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    model::hub_layout::verify(bundle).map_err(generate::Error::from)?;
    let local = Config {
        host: "127.0.0.1".to_owned(),
        port: 0,
        shutdown_seconds: 1,
        keys: None,
        tls_cert: None,
        tls_key: None,
        ..config.clone()
    };
    let listener = bind(&local)?;
    let cancel = Cancel::default();
    let checked = std::thread::scope(|scope| {
        let client = Client::new(&listener, &local, context)?;
        let server = scope.spawn(|| serve_on(listener, bundle.folder(), &local, &context.device, &cancel));
        let checked = client.check(&|| server.is_finished());
        cancel.request();
        // If the server failed, its error is the cause of the client's.
        match server.join() {
            Ok(served) => served.and(checked),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let mut text = serde_json::to_vec_pretty(&checked.record)?;
    text.push(b'\n');
    file::write_atomically(&out.path(RECORD), &text)?;
    let counts = json!({"requests": checked.requests, "completion_tokens": checked.completion_tokens});
    let Value::Object(counts) = counts else { unreachable!("written as an object above") };
    Ok(Outcome {
        counts,
        headline: checked.headline,
        volatile: vec![RECORD.to_owned()],
        device: model::device::describe(&context.device)?,
        ..Outcome::default()
    })
}

/// The result of the check.
struct Checked {
    record: Value,
    headline: String,
    requests: usize,
    completion_tokens: u64,
}

struct Client<'a> {
    agent: Agent,
    url: String,
    config: &'a Config,
    context: &'a Context,
}

/// A streamed completion, concatenated and timed.
struct Streamed {
    text: String,
    finish_reason: Value,
    completion_tokens: u64,
    first_token_seconds: f64,
    tokens_per_second: f64,
}

impl<'a> Client<'a> {
    fn new(listener: &TcpListener, config: &'a Config, context: &'a Context) -> Result<Self, Error> {
        let address =
            listener.local_addr().map_err(|source| Error::Start { operation: "read the server's address", source })?;
        // No proxy, whatever the environment sets: the server is on this machine.
        let agent = Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(TIMEOUT));
        Ok(Self { agent: agent.build().new_agent(), url: format!("http://{address}"), config, context })
    }

    /// Sends every request; `has_stopped` returns true once the server can no longer answer.
    fn check(&self, has_stopped: &dyn Fn() -> bool) -> Result<Checked, Error> {
        let n_streams = self.config.check_requests;
        self.context.progress.begin("requests", (7 + n_streams) as u64, "requests");
        let mut requests = Vec::new();
        let mut done = |request: &str, status: u16, start: Instant| {
            requests
                .push(json!({"request": request, "status": status, "seconds": rounded(start.elapsed().as_secs_f64())}));
            self.context.progress.position(requests.len() as u64);
        };

        let start = Instant::now();
        self.wait_until_ready(has_stopped)?;
        done(READY, 200, start);

        let start = Instant::now();
        let (_, health) = self.get(HEALTH, "/health")?;
        expect(HEALTH, "status ok", health["status"] == "ok", &health)?;
        done(HEALTH, 200, start);

        let start = Instant::now();
        let (status, models) = self.get(MODELS, "/v1/models")?;
        let name = &self.config.model_name;
        expect(
            MODELS,
            &format!("200 and the model {name}"),
            status == 200 && models["data"][0]["id"] == **name,
            &models,
        )?;
        done(MODELS, status, start);

        let start = Instant::now();
        let (status, page) = self.get(PAGE, "/")?;
        let is_page = page.as_str().is_some_and(|page| page.contains("</html>"));
        expect(PAGE, "200 and the page", status == 200 && is_page, &page)?;
        done(PAGE, status, start);

        let start = Instant::now();
        let (status, whole) = self.post(COMPLETION, "/v1/completions", &self.body(false))?;
        let choice = &whole["choices"][0];
        let usage = &whole["usage"];
        let is_expected = status == 200
            && whole["object"] == "text_completion"
            && choice["text"].is_string()
            && ["stop", "length"].iter().any(|reason| choice["finish_reason"] == *reason)
            && (1..=self.config.check_max_tokens as u64).contains(&usage["completion_tokens"].as_u64().unwrap_or(0));
        expect(COMPLETION, "200 and a text_completion with text and usage", is_expected, &whole)?;
        done(COMPLETION, status, start);

        let mut streams = Vec::new();
        for _ in 0..n_streams {
            if self.context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let start = Instant::now();
            let streamed = self.stream()?;
            let found = json!({"text": streamed.text, "finish_reason": streamed.finish_reason});
            let is_same = found["text"] == choice["text"] && found["finish_reason"] == choice["finish_reason"];
            expect(STREAM, &format!("the same text as {COMPLETION}, {}", choice["text"]), is_same, &found)?;
            done(STREAM, 200, start);
            streams.push(streamed);
        }

        let start = Instant::now();
        let (status, error) = self.post(INVALID, "/v1/completions", &json!({"prompt": "", "temperature": "hot"}))?;
        let is_expected = status == 400 && error["error"]["param"] == "temperature";
        expect(INVALID, "400 and an error that names temperature", is_expected, &error)?;
        done(INVALID, status, start);

        let start = Instant::now();
        let (status, chat) = self.post(CHAT, "/v1/chat/completions", &self.chat_body())?;
        let (code, has_template) = (&chat["error"]["code"], health["model"]["chat"] == true);
        if status == 400 && has_template && *code == "invalid_value" {
            // Published templates may want other conversations than this one: said, and not an error.
            let message = chat["error"]["message"].as_str().unwrap_or_default();
            self.context.progress.line(&format!("{CHAT}: {message}"));
        } else if has_template {
            let choice = &chat["choices"][0];
            let is_message = choice["message"]["role"] == "assistant" && choice["message"]["content"].is_string();
            let is_expected = status == 200 && chat["object"] == "chat.completion" && is_message;
            expect(CHAT, "200 and a chat.completion with the assistant's message", is_expected, &chat)?;
        } else {
            let is_expected = status == 400 && *code == "no_chat_template";
            expect(CHAT, "400 and no_chat_template, as the model has none", is_expected, &chat)?;
        }
        done(CHAT, status, start);

        let first_token = Spread::of(streams.iter().map(|stream| stream.first_token_seconds));
        let tokens_per_second = Spread::of(streams.iter().map(|stream| stream.tokens_per_second));
        Ok(Checked {
            headline: format!(
                "first token {}, {:.0} tokens/s",
                milliseconds(first_token.median),
                tokens_per_second.median
            ),
            completion_tokens: streams.iter().map(|stream| stream.completion_tokens).sum(),
            requests: requests.len(),
            record: json!({
                "url": self.url,
                "model": health["model"],
                "prompt": self.config.check_prompt,
                "max_tokens": self.config.check_max_tokens,
                "text": choice["text"],
                "finish_reason": choice["finish_reason"],
                "usage": usage,
                "chat": chat["choices"][0]["message"]["content"],
                "first_token_seconds": first_token.to_json(),
                "tokens_per_second": tokens_per_second.to_json(),
                "requests": requests,
            }),
        })
    }

    fn body(&self, stream: bool) -> Value {
        let mut body = json!({
            "model": self.config.model_name,
            "prompt": self.config.check_prompt,
            "max_tokens": self.config.check_max_tokens,
            "temperature": 0.8,
            "seed": self.context.seed.cast_signed(),
        });
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }

    fn chat_body(&self) -> Value {
        json!({
            "model": self.config.model_name,
            "messages": [{"role": "user", "content": self.config.check_prompt}],
            "max_completion_tokens": self.config.check_max_tokens,
            "temperature": 0.8,
            "seed": self.context.seed.cast_signed(),
        })
    }

    /// Polls until the model is loaded.
    fn wait_until_ready(&self, has_stopped: &dyn Fn() -> bool) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let answer = self.get(READY, "/ready");
            if self.context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let is_over = has_stopped() || start.elapsed() > TIMEOUT;
            match answer {
                Ok((200, _)) => return Ok(()),
                Err(error) if is_over => return Err(error),
                Ok((_, found)) if is_over => return expect(READY, "status ok", false, &found),
                _ => std::thread::sleep(POLL),
            }
        }
    }

    fn get(&self, request: &'static str, path: &str) -> Result<(u16, Value), Error> {
        let response = self.agent.get(format!("{}{path}", self.url)).call().map_err(unanswered(request))?;
        read(request, response)
    }

    fn post(&self, request: &'static str, path: &str, body: &Value) -> Result<(u16, Value), Error> {
        let url = format!("{}{path}", self.url);
        let response = self.agent.post(url).send_json(body).map_err(unanswered(request))?;
        read(request, response)
    }

    fn stream(&self) -> Result<Streamed, Error> {
        let start = Instant::now();
        let url = format!("{}/v1/completions", self.url);
        let response = self.agent.post(url).send_json(self.body(true)).map_err(unanswered(STREAM))?;
        let status = response.status().as_u16();
        expect(STREAM, "200", status == 200, &Value::from(status))?;
        let mut streamed = Streamed {
            text: String::new(),
            finish_reason: Value::Null,
            completion_tokens: 0,
            first_token_seconds: 0.0,
            tokens_per_second: 0.0,
        };
        let (mut ended, mut last_seconds) = (false, 0.0);
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(unanswered(STREAM))?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                ended = true;
                break;
            }
            let chunk: Value = serde_json::from_str(data)?;
            expect(STREAM, "chunks of a text_completion", chunk["object"] == "text_completion", &chunk)?;
            let choice = &chunk["choices"][0];
            if let Some(text) = choice["text"].as_str() {
                last_seconds = start.elapsed().as_secs_f64();
                if streamed.text.is_empty() {
                    streamed.first_token_seconds = last_seconds;
                }
                streamed.text += text;
            }
            if choice["finish_reason"].is_string() {
                streamed.finish_reason = choice["finish_reason"].clone();
            }
            if let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() {
                streamed.completion_tokens = tokens;
            }
        }
        expect(STREAM, "a stream that ends with [DONE]", ended, &Value::from("one that ended early"))?;
        expect(STREAM, "the usage", streamed.completion_tokens > 0, &Value::from("none"))?;
        let decode_seconds = last_seconds - streamed.first_token_seconds;
        if decode_seconds > 0.0 {
            streamed.tokens_per_second = (streamed.completion_tokens - 1) as f64 / decode_seconds;
        }
        Ok(streamed)
    }
}

/// Returns the status and the body, parsed if it is JSON.
fn read(request: &'static str, response: ureq::http::Response<ureq::Body>) -> Result<(u16, Value), Error> {
    let status = response.status().as_u16();
    let mut body = String::new();
    response.into_body().into_reader().read_to_string(&mut body).map_err(unanswered(request))?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

fn unanswered<E: std::error::Error + Send + Sync + 'static>(request: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Unanswered { request, source: Box::new(source) }
}

fn expect(request: &'static str, expected: &str, is_expected: bool, found: &Value) -> Result<(), Error> {
    if is_expected {
        return Ok(());
    }
    Err(Error::WrongAnswer { request, expected: expected.to_owned(), found: found.to_string() })
}

/// Minimum, median and maximum of a measurement.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    /// Returns the spread of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or_default();
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }

    fn to_json(&self) -> Value {
        json!({"min": rounded(self.min), "median": rounded(self.median), "max": rounded(self.max)})
    }
}

/// Rounds to four decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}
