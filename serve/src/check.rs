//! Stage `serve`: a deployment check. The very server that users will run is started on a free port, asked real
//! questions over the network, and stopped.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use artifact::{Cancel, Context, Outcome, Sealed, Unsealed, file};
use serde_json::{Value, json};
use ureq::Agent;

use crate::{Config, Error, bind, serve_on};

/// The stage's name.
pub const NAME: &str = "serve";
/// Raised whenever the check would ask or demand something else.
pub const VERSION: u32 = 1;

/// The file that holds the record.
const RECORD: &str = "service.json";
/// The longest that one answer may take.
const TIMEOUT: Duration = Duration::from_mins(5);
const HEALTH: &str = "GET /health";
const MODELS: &str = "GET /v1/models";
const PAGE: &str = "GET /";
const COMPLETION: &str = "POST /v1/completions";
const STREAM: &str = "POST /v1/completions (stream)";
const BAD: &str = "POST /v1/completions (bad)";

/// Checks that the model in `bundle` can be served, and writes `service.json`: the requests sent, the time to the first
/// token and the tokens per second.
///
/// # Errors
/// When the bundle is not what was sealed, the server does not start, or an answer is wrong.
pub fn run(config: &Config, bundle: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    model::hub_layout::verify(bundle).map_err(generate::Error::from)?;
    let local = Config { host: "127.0.0.1".to_owned(), port: 0, shutdown_seconds: 1, ..config.clone() };
    let listener = bind(&local)?;
    let cancel = Cancel::default();
    let checked = std::thread::scope(|scope| {
        let client = Client::new(&listener, &local, context)?;
        let server = scope.spawn(|| serve_on(listener, bundle.folder(), &local, &context.device, &cancel));
        let checked = client.check(&|| server.is_finished());
        cancel.request();
        // When the server could not start, its reason is the one to tell.
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
        device: model::device::describe(&context.device).map_err(generate::Error::from)?,
        ..Outcome::default()
    })
}

/// What the check found.
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

/// A streamed completion, put together and timed.
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
        // No proxy: the server is on this machine, whatever the environment says about the way to others.
        let agent = Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(TIMEOUT));
        Ok(Self { agent: agent.build().new_agent(), url: format!("http://{address}"), config, context })
    }

    /// Sends every request. `gone` tells that there will never be an answer.
    fn check(&self, gone: &dyn Fn() -> bool) -> Result<Checked, Error> {
        let n_streams = self.config.check_requests;
        self.context.progress.begin("requests", (5 + n_streams) as u64, "requests");
        let mut requests = Vec::new();
        let mut done = |request: &str, status: u16, start: Instant| {
            requests
                .push(json!({"request": request, "status": status, "seconds": rounded(start.elapsed().as_secs_f64())}));
            self.context.progress.position(requests.len() as u64);
        };

        let start = Instant::now();
        let health = self.wait_for_health(gone)?;
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
        let (status, plain) = self.post(COMPLETION, &self.question(false))?;
        let choice = &plain["choices"][0];
        let used = &plain["usage"];
        let right = status == 200
            && plain["object"] == "text_completion"
            && choice["text"].is_string()
            && ["stop", "length"].iter().any(|reason| choice["finish_reason"] == *reason)
            && (1..=self.config.check_max_tokens as u64).contains(&used["completion_tokens"].as_u64().unwrap_or(0));
        expect(COMPLETION, "200 and a text_completion with a text and its usage", right, &plain)?;
        done(COMPLETION, status, start);

        let mut streams = Vec::new();
        for _ in 0..n_streams {
            if self.context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let start = Instant::now();
            let streamed = self.stream()?;
            let found = json!({"text": streamed.text, "finish_reason": streamed.finish_reason});
            let same = found["text"] == choice["text"] && found["finish_reason"] == choice["finish_reason"];
            expect(STREAM, &format!("the same text as {COMPLETION}, {}", choice["text"]), same, &found)?;
            done(STREAM, 200, start);
            streams.push(streamed);
        }

        let start = Instant::now();
        let (status, problem) = self.post(BAD, &json!({"prompt": "", "temperature": "hot"}))?;
        let right = status == 400 && problem["error"]["param"] == "temperature";
        expect(BAD, "400 and an error that names temperature", right, &problem)?;
        done(BAD, status, start);

        let first_token = Spread::of(streams.iter().map(|stream| stream.first_token_seconds));
        let speed = Spread::of(streams.iter().map(|stream| stream.tokens_per_second));
        Ok(Checked {
            headline: format!("first token {}, {:.0} tokens/s", milliseconds(first_token.median), speed.median),
            completion_tokens: streams.iter().map(|stream| stream.completion_tokens).sum(),
            requests: requests.len(),
            record: json!({
                "url": self.url,
                "model": health["model"],
                "prompt": self.config.check_prompt,
                "max_tokens": self.config.check_max_tokens,
                "text": choice["text"],
                "finish_reason": choice["finish_reason"],
                "usage": used,
                "first_token_seconds": first_token.to_json(),
                "tokens_per_second": speed.to_json(),
                "requests": requests,
            }),
        })
    }

    fn question(&self, stream: bool) -> Value {
        let mut question = json!({
            "model": self.config.model_name,
            "prompt": self.config.check_prompt,
            "max_tokens": self.config.check_max_tokens,
            "temperature": 0.8,
            "seed": self.context.seed.cast_signed(),
        });
        if stream {
            question["stream"] = true.into();
            question["stream_options"] = json!({"include_usage": true});
        }
        question
    }

    /// Asks until the model is loaded. The address is taken already, so a request waits for it and none is refused.
    fn wait_for_health(&self, gone: &dyn Fn() -> bool) -> Result<Value, Error> {
        let start = Instant::now();
        loop {
            let request = self.agent.get(format!("{}/health", self.url)).config().timeout_global(Some(POLL)).build();
            let error = match request.call() {
                Ok(response) => return Ok(read(HEALTH, response)?.1),
                Err(error) => error,
            };
            if self.context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            if gone() || start.elapsed() > TIMEOUT {
                return Err(unanswered(HEALTH)(error));
            }
        }
    }

    fn get(&self, request: &'static str, path: &str) -> Result<(u16, Value), Error> {
        let response = self.agent.get(format!("{}{path}", self.url)).call().map_err(unanswered(request))?;
        read(request, response)
    }

    fn post(&self, request: &'static str, body: &Value) -> Result<(u16, Value), Error> {
        let url = format!("{}/v1/completions", self.url);
        let response = self.agent.post(url).send_json(body).map_err(unanswered(request))?;
        read(request, response)
    }

    fn stream(&self) -> Result<Streamed, Error> {
        let start = Instant::now();
        let url = format!("{}/v1/completions", self.url);
        let response = self.agent.post(url).send_json(self.question(true)).map_err(unanswered(STREAM))?;
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
            let piece: Value = serde_json::from_str(data)?;
            expect(STREAM, "pieces of a text_completion", piece["object"] == "text_completion", &piece)?;
            let choice = &piece["choices"][0];
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
            if let Some(tokens) = piece["usage"]["completion_tokens"].as_u64() {
                streamed.completion_tokens = tokens;
            }
        }
        expect(STREAM, "a stream that ends with [DONE]", ended, &Value::from("one that broke off"))?;
        expect(STREAM, "the usage", streamed.completion_tokens > 0, &Value::from("none"))?;
        let rest = last_seconds - streamed.first_token_seconds;
        if rest > 0.0 {
            streamed.tokens_per_second = (streamed.completion_tokens - 1) as f64 / rest;
        }
        Ok(streamed)
    }
}

/// How long a server that is loading its model is waited for at a time.
const POLL: Duration = Duration::from_millis(500);

/// Returns the status and the body: JSON where it is some, else text.
fn read(request: &'static str, response: ureq::http::Response<ureq::Body>) -> Result<(u16, Value), Error> {
    let status = response.status().as_u16();
    let mut body = String::new();
    response.into_body().into_reader().read_to_string(&mut body).map_err(unanswered(request))?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

fn unanswered<E: std::error::Error + Send + Sync + 'static>(request: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Unanswered { request, source: Box::new(source) }
}

fn expect(request: &'static str, expected: &str, right: bool, found: &Value) -> Result<(), Error> {
    if right {
        return Ok(());
    }
    Err(Error::WrongAnswer { request, expected: expected.to_owned(), found: found.to_string() })
}

/// The least, the median and the most of some figures.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Returns the spread of at least one figure.
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_unstable_by(f64::total_cmp);
        let at = |i: usize| figures.get(i).copied().unwrap_or_default();
        Self { least: at(0), median: at(figures.len() / 2), most: at(figures.len().saturating_sub(1)) }
    }

    fn to_json(&self) -> Value {
        json!({"least": rounded(self.least), "median": rounded(self.median), "most": rounded(self.most)})
    }
}

/// Returns a figure with as many digits as it deserves: four after the point.
fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}
