//! Calls the server from Rust: one completion at once, then the same one streamed.
//!
//! ```console
//! $ pipeline serve latest
//! $ cargo run --release --example client -- http://127.0.0.1:8080 "fn main() {"
//! ```
//!
//! The interface is OpenAI's, so any of its clients works too; this one needs nothing but an HTTP client and JSON.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "Once upon a time".to_owned());
    let url = format!("{server}/v1/completions");

    // At once: the answer is one JSON object.
    let request = json!({ "model": "pipeline", "prompt": prompt, "max_tokens": 48, "temperature": 0.8, "seed": 1 });
    let answer: Value = ureq::post(&url).send_json(&request)?.body_mut().read_json()?;
    let choice = &answer["choices"][0];
    println!("{prompt}{}", choice["text"].as_str().unwrap_or_default());
    println!("-- finished because of {}, {} tokens\n", choice["finish_reason"], answer["usage"]["completion_tokens"]);

    // Streamed: server-sent events, one chunk of text each, and `[DONE]` at the end.
    let mut request = request;
    request["stream"] = true.into();
    print!("{prompt}");
    let response = ureq::post(&url).send_json(&request)?;
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            break;
        }
        let chunk: Value = serde_json::from_str(data)?;
        print!("{}", chunk["choices"][0]["text"].as_str().unwrap_or_default());
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
