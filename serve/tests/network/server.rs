//! The server of these tests, and a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use artifact::{Cancel, Context, Host, Outcome, Recipe, Unsealed};
use generate::Generator;
use model::Family;
use serde_json::{Value, json};
use serve::{Config, Error, ModelFolder, bind, serve_models};
use tempfile::TempDir;
use tokenizer::shard::Writer;
use ureq::Agent;

pub const TEXT: &str = "/v1/completions";
pub const CHAT: &str = "/v1/chat/completions";

/// The folder of the index of a model's training data, in the model's folder.
const INDEX: &str = "index";

/// Writes the index of some documents into the folder of a tiny model.
pub fn write_index(folder: &Path, documents: &[&str], config: &trace::Config) {
    let tokenizer = test_support::tiny::tokenizer();
    let unsealed = |name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let recipe = Recipe {
            stage: name.to_owned(),
            stage_version: 1,
            config: json!({}),
            inputs: [].into(),
            seed: 0,
            device_class: None,
        };
        Unsealed::at(folder, recipe)
    };
    let (tokens, index) = (unsealed("tokens"), unsealed(INDEX));
    std::fs::write(tokens.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    let mut writer = Writer::new(tokens.folder(), "train", &tokenizer, 1 << 20);
    for text in documents {
        let ids: Vec<u32> = tokenizer.encode(text).unwrap().into_iter().chain(tokenizer.end_of_text()).collect();
        writer.push(&ids, text.len() as u64).unwrap();
    }
    writer.finish().unwrap();
    let tokens = tokens.seal(Outcome::default(), 0.0, Host::default()).unwrap();
    let outcome = trace::run(config, &tokens, &index, &Context::quiet(0)).unwrap();
    index.seal(outcome, 0.0, Host::default()).unwrap();
}

/// A server that stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub agent: Agent,
    cancel: Cancel,
    thread: Option<JoinHandle<Result<(), Error>>>,
    folder: TempDir,
}

impl Server {
    /// Serves one model, `pipeline`, with a context of 128 tokens, and waits until it is loaded.
    pub fn start(config: Config) -> Self {
        Self::with_models(config, &[("pipeline", true)])
    }

    /// The same with another context, in a folder that `change` changes.
    pub fn of_model(config: Config, context_length: usize, change: impl Fn(&Path)) -> Self {
        Self::loaded(config, &[("pipeline", true)], |folder| {
            test_support::tiny::write(folder, Family::Qwen3, context_length);
            change(folder);
        })
    }

    /// Serves models of these names, and waits until those that are to be loaded are.
    pub fn with_models(config: Config, models: &[(&str, bool)]) -> Self {
        let config = Config { max_tokens: 1_000_000, ..config };
        Self::loaded(config, models, |folder| test_support::tiny::write(folder, Family::Qwen3, 128))
    }

    /// Serves the models that `write` writes to a folder, and waits until those that are to be loaded are.
    pub fn serving(config: Config, write: impl FnOnce(&Path) -> Vec<ModelFolder>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = write(folder.path());
        Self::starting(Config { max_tokens: 1_000_000, ..config }, models, folder).ready()
    }

    fn loaded(config: Config, models: &[(&str, bool)], write: impl Fn(&Path)) -> Self {
        Self::loading(config, models, write).ready()
    }

    /// Waits until the models that are to be loaded are.
    fn ready(self) -> Self {
        while self.get("/ready").0 != 200 {
            assert!(!self.thread.as_ref().unwrap().is_finished(), "the server has stopped");
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Serves models of these names, each written by `write`, without waiting for them.
    pub fn loading(config: Config, models: &[(&str, bool)], write: impl Fn(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models: Vec<ModelFolder> = models
            .iter()
            .map(|(name, load)| {
                let folder = folder.path().join(name);
                std::fs::create_dir(&folder).unwrap();
                write(&folder);
                let index = Some(folder.join(INDEX)).filter(|index| index.is_dir());
                ModelFolder { name: (*name).to_owned(), folder, base: None, index, load: *load }
            })
            .collect();
        Self::starting(config, models, folder)
    }

    fn starting(config: Config, models: Vec<ModelFolder>, folder: TempDir) -> Self {
        let config = Config { port: 0, ..config };
        let listener = bind(&config).unwrap();
        let (address, cancel) = (listener.local_addr().unwrap(), Cancel::default());
        let requested = cancel.clone();
        let thread = std::thread::spawn(move || serve_models(listener, models, &config, "cpu", &requested));
        let agent = Agent::config_builder().proxy(None).http_status_as_error(false);
        let agent = agent.timeout_global(Some(Duration::from_mins(1))).build().new_agent();
        Self { address, agent, cancel, thread: Some(thread), folder }
    }

    /// Requests a graceful shutdown, without waiting for it.
    pub fn begin_to_stop(&self) {
        self.cancel.request();
    }

    /// Waits until the server has stopped, and returns how long that took.
    pub fn stop(&mut self) -> (Result<(), Error>, Duration) {
        let start = Instant::now();
        self.cancel.request();
        let served = self.thread.take().unwrap().join().unwrap();
        (served, start.elapsed())
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("http://{}{path}", self.address)).call().unwrap())
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        read(self.agent.post(format!("http://{}{path}", self.address)).send_json(body).unwrap())
    }

    /// Returns the answer to a request that must succeed.
    pub fn answer(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Returns the choices of an answer.
    pub fn choices(&self, path: &str, body: &Value) -> Vec<Value> {
        self.answer(path, body)["choices"].as_array().unwrap().clone()
    }

    /// Returns the error of a request that must fail with status 400.
    pub fn error(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 400, "{answer}");
        answer["error"].clone()
    }

    /// Returns the data of every event of a streamed answer.
    pub fn stream(&self, path: &str, body: &Value) -> Vec<String> {
        let response = self.agent.post(format!("http://{}{path}", self.address)).send_json(body).unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        events(response.into_body().into_reader())
    }

    /// Returns the model that is served as `pipeline`.
    pub fn generator(&self) -> Generator {
        Generator::open(&self.folder.path().join("pipeline"), "cpu").unwrap()
    }

    /// Sends raw bytes and returns the status and the whole answer.
    pub fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    /// Sends a request, with a key if there is one, and returns the status, the body and the header `Retry-After`.
    pub fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, Value, Option<String>) {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let response = match method {
            "GET" => self.agent.run(request.body(()).unwrap()).unwrap(),
            _ => self.agent.run(request.body(body.to_owned()).unwrap()).unwrap(),
        };
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let (status, body) = read(response);
        (status, body, retry_after)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    /// Sends a request for a completion and leaves the answer in the socket.
    pub fn send(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(head(body.to_string().len()).as_bytes()).unwrap();
        stream.write_all(body.to_string().as_bytes()).unwrap();
        stream
    }

    /// Returns the status of a completion request whose body is these bytes.
    pub fn status_of(&self, body: &[u8]) -> u16 {
        let mut stream = self.connect();
        stream.write_all(head(body.len()).as_bytes()).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(body);
        status(stream)
    }

    pub fn wait_for_load(&self, running: u64, waiting: u64) {
        let start = Instant::now();
        loop {
            let load = self.get("/health").1["requests"].clone();
            if (load["running"].as_u64(), load["waiting"].as_u64()) == (Some(running), Some(waiting)) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "still {load}, not {running} and {waiting}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop().0.unwrap();
        }
    }
}

/// Returns the head of a request for a completion.
pub fn head(length: usize) -> String {
    format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
         {length}\r\nConnection: close\r\n\r\n"
    )
}

/// Returns the status of an answer.
pub fn status(stream: TcpStream) -> u16 {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.get(9..12).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap()
}

/// Returns the data of every event of a streamed answer, up to its end.
pub fn events(stream: impl Read) -> Vec<String> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect()
}

/// Returns the names of an object's fields, in order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Returns a request whose text never ends early: a random model always predicts the same most likely token.
pub fn long(max_tokens: u64, stream: bool) -> Value {
    json!({"prompt": "fn", "max_tokens": max_tokens, "temperature": 0, "stream": stream})
}

/// Returns the status and the body of an answer, parsed if it is JSON.
pub fn read(response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let mut text = String::new();
    response.into_body().into_reader().read_to_string(&mut text).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
