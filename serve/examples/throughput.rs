//! Measures a server from another process: clients that stream completions of a fixed length, one after the other.
//!
//! Usage: `throughput ADDRESS [NAME=NUMBER]…`, such as `throughput 127.0.0.1:8080 clients=16 requests=2`. The settings
//! and their defaults are those of [`Settings`]. Prompts are random tokens, the same for the same `seed`, so that
//! servers of one model do the same work; none begins as another does unless `shared_tokens` says so. It sends only
//! what llama.cpp's server understands as well: `serve/tests/beside_llama_cpp.py` runs it on both. It prints a JSON
//! object.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A client that gets nothing for this long gives up.
const TIMEOUT: Duration = Duration::from_mins(5);

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// Clients at the same time.
    clients: u64,
    /// Requests of each client; the next follows the end of the one before.
    requests: u64,
    /// The least length of a prompt, in tokens.
    min_prompt_tokens: u64,
    /// The greatest length of a prompt, in tokens.
    max_prompt_tokens: u64,
    /// The length of every text, in tokens.
    max_tokens: u64,
    /// The number of tokens that all prompts begin with, part of their length.
    shared_tokens: u64,
    /// Random tokens are below this.
    vocab_size: u64,
    /// The token that would end a text, which is excluded.
    end_token: u64,
    /// Another number gives other prompts.
    seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clients: 1,
            requests: 1,
            min_prompt_tokens: 200,
            max_prompt_tokens: 500,
            max_tokens: 128,
            shared_tokens: 0,
            vocab_size: 2000,
            end_token: 0,
            seed: 1,
        }
    }
}

/// An answer.
#[derive(Debug)]
struct Measurement {
    prompt_tokens: u64,
    completion_tokens: u64,
    /// From the request to its first text, in seconds.
    first_token: f64,
    /// Tokens per second after the first text.
    tokens_per_second: f64,
}

/// A linear congruential generator (Knuth's MMIX) is random enough here.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn tokens(&mut self, count: u64, settings: &Settings) -> String {
        let tokens = (0..count).map(|_| (1 + self.below(settings.vocab_size - 1)).to_string());
        tokens.collect::<Vec<_>>().join(",")
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("usage: throughput ADDRESS [NAME=NUMBER]…")?.parse()?;
    let settings = settings(arguments)?;
    let start = Instant::now();
    let measurements = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..settings.clients)
            .map(|client| {
                scope.spawn(move || (0..settings.requests).map(|i| ask(address, &settings, client, i)).collect())
            })
            .collect();
        let joined =
            clients.into_iter().map(|client| client.join().map_err(|_| io::Error::other("a client panicked"))?);
        joined.collect::<io::Result<Vec<Vec<Measurement>>>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let measurements: Vec<Measurement> = measurements.into_iter().flatten().collect();
    let sum = |of: fn(&Measurement) -> u64| measurements.iter().map(of).sum::<u64>();
    let sorted = |of: fn(&Measurement) -> f64| {
        let mut values: Vec<f64> = measurements.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (first, rates) = (sorted(|m| m.first_token), sorted(|m| m.tokens_per_second));
    let (prompt_tokens, completion_tokens) = (sum(|m| m.prompt_tokens), sum(|m| m.completion_tokens));
    println!(
        "{{\"seconds\": {seconds:.3}, \"prompt_tokens\": {prompt_tokens}, \"completion_tokens\": {completion_tokens}, \
         \"tokens_per_second\": {:.2}, \"completion_tokens_per_second\": {:.2}, \"decode_tokens_per_second\": {:.2}, \
         \"first_token_p50\": {:.4}, \"first_token_p95\": {:.4}}}",
        (prompt_tokens + completion_tokens) as f64 / seconds,
        completion_tokens as f64 / seconds,
        percentile(&rates, 50),
        percentile(&first, 50),
        percentile(&first, 95),
    );
    Ok(())
}

fn settings(arguments: impl Iterator<Item = String>) -> Result<Settings, Box<dyn std::error::Error>> {
    let mut settings = Settings::default();
    for argument in arguments {
        let (name, number) = argument.split_once('=').ok_or_else(|| format!("not NAME=NUMBER: {argument}"))?;
        let setting = match name {
            "clients" => &mut settings.clients,
            "requests" => &mut settings.requests,
            "min_prompt_tokens" => &mut settings.min_prompt_tokens,
            "max_prompt_tokens" => &mut settings.max_prompt_tokens,
            "max_tokens" => &mut settings.max_tokens,
            "shared_tokens" => &mut settings.shared_tokens,
            "vocab_size" => &mut settings.vocab_size,
            "end_token" => &mut settings.end_token,
            "seed" => &mut settings.seed,
            _ => return Err(format!("there is no setting {name}").into()),
        };
        *setting = number.parse().map_err(|error| format!("{argument}: {error}"))?;
    }
    let Settings { min_prompt_tokens, max_prompt_tokens, shared_tokens, vocab_size, .. } = settings;
    if shared_tokens >= min_prompt_tokens || min_prompt_tokens > max_prompt_tokens || vocab_size < 2 {
        return Err("shared_tokens < min_prompt_tokens <= max_prompt_tokens and vocab_size >= 2 must hold".into());
    }
    Ok(settings)
}

/// Sends request `number` of a client and reads its answer to the end.
fn ask(address: SocketAddr, settings: &Settings, client: u64, number: u64) -> io::Result<Measurement> {
    let mut random = Random(settings.seed << 32 | client << 16 | number);
    // Consecutive numbers differ little in what they give first.
    random.below(2);
    let prompt_tokens =
        settings.min_prompt_tokens + random.below(settings.max_prompt_tokens - settings.min_prompt_tokens + 1);
    let mut prompt = random.tokens(prompt_tokens - settings.shared_tokens, settings);
    if settings.shared_tokens > 0 {
        prompt = Random(settings.seed).tokens(settings.shared_tokens, settings) + "," + &prompt;
    }
    let body = format!(
        "{{\"prompt\": [{prompt}], \"max_tokens\": {}, \"temperature\": 0, \"logit_bias\": {{\"{}\": -100}}, \
         \"stream\": true, \"stream_options\": {{\"include_usage\": true}}}}",
        settings.max_tokens, settings.end_token,
    );
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    stream.write_all((head + &body).as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().transpose()?.unwrap_or_default();
    if status.get(9..12) != Some("200") {
        let rest: Vec<String> = lines.collect::<io::Result<_>>()?;
        return Err(io::Error::other(format!("{status}: {}", rest.join(" "))));
    }
    let (mut first, mut last, mut completion_tokens) = (None, start, 0);
    for line in lines {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data.starts_with("{\"error\"") {
            return Err(io::Error::other(data));
        }
        if let Some(count) = number_after(data, "\"completion_tokens\":") {
            completion_tokens = count;
        } else if data.contains("\"text\":\"") && !data.contains("\"text\":\"\"") {
            last = Instant::now();
            first.get_or_insert(last);
        }
    }
    let Some(first) = first.filter(|_| completion_tokens == settings.max_tokens) else {
        return Err(io::Error::other(format!("{completion_tokens} tokens instead of {}", settings.max_tokens)));
    };
    Ok(Measurement {
        prompt_tokens,
        completion_tokens,
        first_token: (first - start).as_secs_f64(),
        tokens_per_second: (completion_tokens - 1) as f64 / (last - first).as_secs_f64(),
    })
}

/// Returns the number that follows `name` in a JSON object.
fn number_after(json: &str, name: &str) -> Option<u64> {
    let rest = &json[json.find(name)? + name.len()..];
    rest.chars()
        .skip_while(|c| *c == ' ')
        .map_while(|c| c.to_digit(10))
        .map(u64::from)
        .reduce(|n, digit| n * 10 + digit)
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
