//! Uses a server through the crate `async-openai`.
//!
//! `async-openai-client http://127.0.0.1:8080 KEY LIMITED_KEY`
//!
//! LIMITED_KEY may make 60 requests a minute. Fails at the first difference from what OpenAI's own server would do;
//! prints how many checks there were. Run by serve/tests/network/clients.rs.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::{ApiErrorResponse, OpenAIError};
use async_openai::types::chat::{
    ChatCompletionMessageToolCalls, CreateChatCompletionRequest, CreateChatCompletionResponse, FinishReason,
};
use async_openai::types::completions::CreateCompletionRequest;
use futures::StreamExt;
use serde_json::{Value, json};

/// That of the crate, which its Cargo.toml pins.
const VERSION: &str = "0.43.0";

static CHECKS: AtomicUsize = AtomicUsize::new(0);

#[track_caller]
fn check(condition: bool, what: &str) {
    CHECKS.fetch_add(1, Ordering::Relaxed);
    assert!(condition, "failed: {what}");
}

/// Returns a request of the crate's type with these fields.
fn chat(base: &Value, more: Value) -> Result<CreateChatCompletionRequest, serde_json::Error> {
    serde_json::from_value(merged(base, more))
}

fn text(base: &Value, more: Value) -> Result<CreateCompletionRequest, serde_json::Error> {
    serde_json::from_value(merged(base, more))
}

fn merged(base: &Value, more: Value) -> Value {
    let mut merged = base.clone();
    if let (Value::Object(merged), Value::Object(more)) = (&mut merged, more) {
        merged.extend(more);
    }
    merged
}

fn content(answer: &CreateChatCompletionResponse) -> &str {
    answer.choices[0].message.content.as_deref().unwrap_or_default()
}

fn api_error<T>(result: Result<T, OpenAIError>) -> Result<ApiErrorResponse, String> {
    match result {
        Err(OpenAIError::ApiError(error)) => Ok(error),
        Err(error) => Err(format!("another error: {error}")),
        Ok(_) => Err("no error".to_owned()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        println!("async-openai {VERSION}");
        return Ok(());
    }
    let [url, key, limited] = &arguments[..] else { return Err("usage: URL KEY LIMITED_KEY".into()) };
    let with_key =
        |key: &str| Client::with_config(OpenAIConfig::new().with_api_base(format!("{url}/v1")).with_api_key(key));
    let client = with_key(key);
    let running = async || -> Result<u64, Box<dyn Error>> {
        let health: Value = reqwest::get(format!("{url}/health")).await?.json().await?;
        Ok(health["requests"]["running"].as_u64().unwrap_or_default())
    };

    // Models.
    let models = client.models().list().await?.data;
    check(models.len() == 1 && models[0].id == "pipeline", "the models");
    check(client.models().retrieve("pipeline").await?.owned_by == "pipeline", "a model is described");

    // Completions.
    let base = json!({
        "model": "pipeline", "prompt": "fn main() {", "max_tokens": 20, "temperature": 0.7, "seed": 3, "logprobs": 2,
    });
    let whole = client.completions().create(text(&base, json!({}))?).await?;
    let scores = whole.choices[0].logprobs.as_ref().ok_or("no log probabilities")?;
    check(scores.tokens.len() == scores.token_logprobs.len() && !scores.tokens.is_empty(), "log probabilities");
    let mut stream = client.completions().create_stream(text(&base, json!({"stream": true}))?).await?;
    let mut streamed = String::new();
    while let Some(chunk) = stream.next().await {
        streamed += chunk?.choices.first().map_or("", |choice| &choice.text);
    }
    check(streamed == whole.choices[0].text, "the stream is the whole text");

    // Chat.
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "let x"}]);
    let base = json!({
        "model": "pipeline", "messages": messages, "max_completion_tokens": 20, "temperature": 0.7, "seed": 3,
        "logprobs": true, "top_logprobs": 2,
    });
    let whole = client.chat().create(chat(&base, json!({}))?).await?;
    let tokens = whole.choices[0].logprobs.as_ref().and_then(|scores| scores.content.clone()).unwrap_or_default();
    check(tokens.iter().all(|token| token.logprob <= 0.0 && token.top_logprobs.len() == 2), "alternatives");
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let mut stream = client.chat().create_stream(chat(&base, options)?).await?;
    let (mut streamed, mut scored, mut usage) = (String::new(), Vec::new(), None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        usage = chunk.usage.or(usage);
        for choice in chunk.choices {
            streamed += &choice.delta.content.unwrap_or_default();
            scored.extend(choice.logprobs.and_then(|scores| scores.content).unwrap_or_default());
        }
    }
    check(streamed == content(&whole), "the stream is the whole answer");
    check(!tokens.is_empty() && scored == tokens, "streamed log probabilities");
    check(usage == whole.usage, "the usage of the stream");

    // Structured output.
    let schema = json!({
        "type": "object", "properties": {"kind": {"enum": ["sum", "product"]}}, "required": ["kind"],
        "additionalProperties": false,
    });
    let format = json!({
        "max_completion_tokens": 300,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "operation", "strict": true, "schema": schema},
        },
    });
    let structured = client.chat().create(chat(&base, format)?).await?;
    let object: Value = serde_json::from_str(content(&structured))?;
    check(["sum", "product"].iter().any(|kind| object["kind"] == *kind), "an object of the schema");

    // Tools: a call, its result, and a streamed call.
    let parameters = json!({
        "type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false,
    });
    let tools = json!({
        "tools": [{"type": "function", "function": {"name": "add", "parameters": parameters}}],
        "tool_choice": "required", "max_completion_tokens": 300,
    });
    let called = client.chat().create(chat(&base, tools.clone())?).await?;
    check(called.choices[0].finish_reason == Some(FinishReason::ToolCalls), "it ends with a call");
    let calls = called.choices[0].message.tool_calls.clone().unwrap_or_default();
    let Some(ChatCompletionMessageToolCalls::Function(call)) = calls.first() else { return Err("no call".into()) };
    let arguments: Value = serde_json::from_str(&call.function.arguments)?;
    check(call.function.name == "add" && (arguments["a"] == 1 || arguments["a"] == 2), "arguments of the schema");
    let mut answered = messages.as_array().cloned().unwrap_or_default();
    answered.push(serde_json::to_value(&called.choices[0].message)?);
    answered.push(json!({"role": "tool", "tool_call_id": call.id, "content": "3"}));
    let request = merged(&tools, json!({"messages": answered, "tool_choice": "auto"}));
    check(!client.chat().create(chat(&base, request)?).await?.choices.is_empty(), "a result of a tool");
    let mut stream = client.chat().create_stream(chat(&base, tools)?).await?;
    let mut streamed = String::new();
    while let Some(chunk) = stream.next().await {
        for choice in chunk?.choices {
            for call in choice.delta.tool_calls.unwrap_or_default() {
                streamed += &call.function.and_then(|function| function.arguments).unwrap_or_default();
            }
        }
    }
    check(streamed == call.function.arguments, "a streamed call");

    // Cancellation: leaving a stream frees its place.
    let endless = json!({"model": "pipeline", "prompt": "fn", "max_tokens": 900_000, "temperature": 0, "stream": true});
    let mut stream = client.completions().create_stream(text(&endless, json!({}))?).await?;
    stream.next().await.ok_or("no text")??;
    check(running().await? == 1, "a text is being generated");
    drop(stream);
    let start = Instant::now();
    while running().await? > 0 && start.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    check(running().await? == 0, "the place is free");

    // Errors.
    let error = api_error(with_key("wrong").models().list().await)?;
    check(error.api_error.code.as_deref() == Some("invalid_api_key") && error.status_code == 401, "a wrong key");
    let error = api_error(client.chat().create(chat(&base, json!({"temperature": 9}))?).await)?;
    check(error.api_error.param.as_deref() == Some("temperature") && error.status_code == 400, "an invalid value");
    let error = api_error(client.chat().create(chat(&base, json!({"model": "gpt-9"}))?).await)?;
    check(error.api_error.code.as_deref() == Some("model_not_found") && error.status_code == 404, "an unknown model");

    // The limit of a key: the client waits as long as it is told, and then gets its answer.
    let patient = with_key(limited);
    let one = text(&json!({"model": "pipeline", "prompt": "a", "max_tokens": 1}), json!({}))?;
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let start = Instant::now();
        check(!patient.completions().create(one.clone()).await?.choices.is_empty(), "an answer");
        longest = longest.max(start.elapsed());
        if longest > Duration::from_millis(500) {
            break;
        }
    }
    let expected = Duration::from_millis(500)..Duration::from_secs(10);
    check(expected.contains(&longest), &format!("the longest of up to 200 requests took {longest:?}"));

    println!("{} checks with async-openai {VERSION}", CHECKS.load(Ordering::Relaxed));
    Ok(())
}
