//! Measures what HTTP costs: the tokens per second that reach one streaming client, beside those of the engine alone.
//!
//! `cargo run --release -p serve --example http_overhead -- MODEL [PAIRS]`: MODEL is a folder in the Hugging Face
//! layout or a GGUF file. The engine generates the text of each pair in this process, then a server on a free port of
//! this process streams the same text to a client in another thread. Prints medians of the rates and of their ratio.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use artifact::Cancel;
use generate::{CompletionOptions, Generator, Sampling};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The tokens of the prompt.
const PROMPT: [u32; 4] = [11, 12, 13, 14];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = PathBuf::from(arguments.next().ok_or("usage: http_overhead MODEL [PAIRS]")?);
    let pairs: usize = arguments.next().map_or(Ok(20), |pairs| pairs.parse())?;
    let generator = Generator::open(&model, "cpu")?;
    let max_tokens = generator.config().context_length - PROMPT.len();
    let config = serve::Config { port: 0, ..serve::Config::default() };
    let (listener, cancel) = (serve::bind(&config)?, Cancel::default());
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let server = scope.spawn(|| serve::serve_on(listener, &model, &config, "cpu", &cancel));
        let measured = measure(&generator, address, max_tokens, pairs);
        cancel.request();
        server.join().map_err(|_| "the server panicked")??;
        measured
    })
}

fn measure(generator: &Generator, address: SocketAddr, max_tokens: usize, pairs: usize) -> Result<()> {
    while streamed(address, 1).is_err() {
        // The server loads its model.
        thread::sleep(Duration::from_millis(50));
    }
    let sampling = Sampling::greedy();
    let options = CompletionOptions { max_tokens, sampling, ..CompletionOptions::default() };
    let (mut engine, mut client, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..=pairs {
        let completion = generator.complete(&PROMPT, &options, &mut |_| ControlFlow::Continue(()))?;
        let (tokens, rate) = streamed(address, max_tokens)?;
        if tokens != completion.completion_tokens {
            return Err(format!("{tokens} tokens over HTTP, not {}", completion.completion_tokens).into());
        }
        if pair > 0 {
            let alone = tokens as f64 / completion.seconds;
            engine.push(alone);
            client.push(rate);
            ratios.push(rate / alone);
        }
    }
    println!("{:.0} tokens per second alone, medians of {pairs} pairs", median(&mut engine));
    println!("{:.0} tokens per second over HTTP", median(&mut client));
    println!("{:.1} % of the engine's reach the client", 100.0 * median(&mut ratios));
    Ok(())
}

/// Returns the number of tokens that the server streams, and how many a second, from the connection to the last byte.
fn streamed(address: SocketAddr, max_tokens: usize) -> Result<(usize, f64)> {
    let body = format!(
        "{{\"prompt\": {PROMPT:?}, \"max_tokens\": {max_tokens}, \"temperature\": 0, \"stream\": true, \
         \"stream_options\": {{\"include_usage\": true}}}}"
    );
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut tokens = None;
    for line in BufReader::new(stream).lines() {
        if let Some((_, rest)) = line?.split_once("\"completion_tokens\":") {
            tokens = rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|count| count.parse().ok());
        }
    }
    let tokens: usize = tokens.ok_or("an answer without usage")?;
    Ok((tokens, tokens as f64 / start.elapsed().as_secs_f64()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
