//! Trains on one text file, to measure a step: `cargo run --release -p train --example train_text -- TEXT CONFIG
//! [NAME]`.
//!
//! CONFIG is a JSON file with the keys of `[train]`, and beside them `tokenizer`: `bpe` (the default) splits TEXT at
//! blank lines into documents and takes a `vocab_size`; with `character`, characters are tokens and TEXT is one
//! document. The last tenth is the validation split. Prints the progress of the training, then the median milliseconds
//! of a step without the first twenty logged lines. The output goes to `target/NAME`, by default `target/train_text`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use artifact::{Context, Event, Host, Outcome, Progress, Recipe, Store};
use tokenizer::shard::Writer;
use tokenizer::{Kind, Tokenizer, TrainConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let text = std::fs::read_to_string(arguments.next().ok_or("name a text file")?)?;
    let mut table: serde_json::Value = match arguments.next() {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => serde_json::json!({}),
    };
    let mut take = |key: &str| table.as_object_mut().and_then(|table| table.remove(key));
    let vocab_size = take("vocab_size").and_then(|v| v.as_u64()).unwrap_or(2048) as usize;
    let kind: Kind = serde_json::from_value(take("tokenizer").unwrap_or("bpe".into()))?;
    let config: train::Config = serde_json::from_value(table)?;

    let folder = PathBuf::from("target").join(arguments.next().unwrap_or_else(|| "train_text".to_owned()));
    let store = Store::new(&folder);
    let recipe = |stage: &str| Recipe {
        stage: stage.to_owned(),
        stage_version: 1,
        config: serde_json::Value::Null,
        inputs: std::collections::BTreeMap::new(),
        seed: 1,
        device_class: None,
    };
    let start = Instant::now();
    let is_one_document = kind == Kind::Character;
    let split_at = text.char_indices().nth(text.chars().count() * 9 / 10).map_or(0, |(at, _)| at);
    let (first, last) = text.split_at(split_at);
    let documents: Vec<&str> = if is_one_document { vec![first, last] } else { text.split("\n\n").collect() };
    let tokenizer = Tokenizer::train(&TrainConfig { kind, vocab_size, ..TrainConfig::default() }, documents.iter())?;
    let tokens = store.begin(recipe("tokens"))?;
    tokens.clear()?;
    std::fs::write(tokens.path("tokenizer.json"), tokenizer.to_json())?;
    let n_train = if is_one_document { 1 } else { documents.len() * 9 / 10 };
    for (split, part) in [("train", &documents[..n_train]), ("validation", &documents[n_train..])] {
        let mut writer = Writer::new(tokens.folder(), split, &tokenizer, 1 << 26);
        for document in part {
            let mut ids = tokenizer.encode(document)?;
            ids.extend(tokenizer.end_of_text().filter(|_| !is_one_document));
            writer.push(&ids, document.len() as u64)?;
        }
        println!("{split}: {:?}", writer.finish()?);
    }
    let tokens = tokens.seal(Outcome::default(), 0.0, Host::default())?;
    println!("tokens in {:.1} s", start.elapsed().as_secs_f64());

    let out = store.begin(recipe("train"))?;
    out.clear()?;
    let progress = Progress::new(|event| match event {
        Event::Figures(text) | Event::Line(text) => println!("{text}"),
        _ => {}
    });
    let start = Instant::now();
    let outcome = train::run(&config, &train::Inputs::of(&tokens), &out, &Context { progress, ..Context::quiet(1) })?;
    println!("{} in {:.1} s", outcome.headline, start.elapsed().as_secs_f64());
    let (tokens_per_step, log) = (config.tokens_per_step() as f64, std::fs::read_to_string(out.path("metrics.jsonl"))?);
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut milliseconds: Vec<f64> =
        lines.filter_map(|line| Some(tokens_per_step / line["tokens_per_second"].as_f64()? * 1e3)).skip(20).collect();
    milliseconds.sort_by(f64::total_cmp);
    if let Some(median) = milliseconds.get(milliseconds.len() / 2) {
        println!("median {median:.2} ms/step, {:.0} tokens/s", tokens_per_step / median * 1e3);
    }
    Ok(())
}
