//! Trains on one text file, to measure a step: `cargo run --release -p train --example train_text -- TEXT [CONFIG]`.
//!
//! TEXT is cut at blank lines into documents, the last tenth of which validates; CONFIG is a `[train]` table, with
//! `vocab_size` beside it. Prints what `pipeline run` would, without its other stages.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use artifact::{Context, Event, Host, Outcome, Progress, Recipe, Store};
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let text = std::fs::read_to_string(arguments.next().ok_or("name a text file")?)?;
    let mut table: serde_json::Value = match arguments.next() {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => serde_json::json!({}),
    };
    let vocab_size =
        table.as_object_mut().and_then(|t| t.remove("vocab_size")).and_then(|v| v.as_u64()).unwrap_or(2048);
    let config: train::Config = serde_json::from_value(table)?;

    let folder = PathBuf::from("target/train_text");
    let store = Store::new(&folder);
    let recipe = |stage: &str| Recipe {
        stage: stage.to_owned(),
        stage_version: 1,
        config: serde_json::Value::Null,
        inputs: std::collections::BTreeMap::new(),
        seed: 1,
        device_class: None,
    };
    let began = Instant::now();
    let documents: Vec<&str> = text.split("\n\n").collect();
    let tokenizer =
        Tokenizer::train(&TrainConfig { vocab_size: vocab_size as usize, ..TrainConfig::default() }, documents.iter())?;
    let tokens = store.begin(recipe("tokens"))?;
    tokens.clear()?;
    std::fs::write(tokens.path("tokenizer.json"), tokenizer.to_json())?;
    let cut = documents.len() * 9 / 10;
    for (split, part) in [("train", &documents[..cut]), ("validation", &documents[cut..])] {
        let mut writer = Writer::new(tokens.folder(), split, &tokenizer, 1 << 26);
        for document in part {
            let mut ids = tokenizer.encode(document)?;
            ids.extend(tokenizer.end_of_text());
            writer.push(&ids, document.len() as u64)?;
        }
        println!("{split}: {:?}", writer.finish()?);
    }
    let tokens = tokens.seal(Outcome::default(), 0.0, Host::default())?;
    println!("tokens in {:.1} s", began.elapsed().as_secs_f64());

    let out = store.begin(recipe("train"))?;
    out.clear()?;
    let progress = Progress::new(|event| match event {
        Event::Figures(text) | Event::Line(text) => println!("{text}"),
        _ => {}
    });
    let began = Instant::now();
    let outcome = train::run(&config, None, &tokens, &out, &Context { progress, ..Context::quiet(1) })?;
    let milliseconds = began.elapsed().as_secs_f64() * 1e3 / config.steps as f64;
    println!("{} in {milliseconds:.0} ms a step", outcome.headline);
    Ok(())
}
