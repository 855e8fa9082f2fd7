//! Trains a tiny model from a string, in a few seconds: the shortest way through tokenizer, token shards and training.
//!
//! ```console
//! $ cargo run --release --example train_tiny
//! ```
//!
//! `pipeline run` does the same with files, filters, an evaluation and a server around it.

use std::error::Error;

use artifact::{Context, Host, Outcome, Recipe, Sealed, Store};
use serde_json::json;
use tokenizer::shard::Writer;
use tokenizer::{Kind, Tokenizer, TrainConfig};

const TEXT: &str =
    "The cat sat on the mat. The dog sat on the log. The frog sat on the rock. The bird sat on the wire. ";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::new(folder.path());

    // Token ids of two splits, in the format that every stage reads.
    let text = TEXT.repeat(40);
    let tokens = tokens(&store, &text)?;

    // A model of two layers. What is not given has its default, as in the table `[train]` of a pipeline.toml.
    let config: train::Config = serde_json::from_value(json!({
        "steps": 100, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 10, "validation_every": 25,
        "validation_tokens": 256, "sample_every": 0,
        "model": { "family": "qwen3", "context_length": 32, "n_layer": 2, "d_model": 64, "n_head": 2 },
    }))?;
    let out = store.begin(recipe("train"))?;
    let outcome = train::run(&config, &train::Inputs::of(&tokens), &out, &Context::quiet(1))?;
    println!("{}", outcome.headline);

    // The checkpoint is a folder in Hugging Face layout.
    let checkpoint = out.seal(outcome, 0.0, Host::default())?;
    println!("{}", checkpoint.files("").join(", "));
    Ok(())
}

/// Trains a tokenizer of single characters and writes the text as token shards.
fn tokens(store: &Store, text: &str) -> Result<Sealed, Box<dyn Error>> {
    let (train, validation) = text.split_at(text.len() * 9 / 10);
    let config = TrainConfig { kind: Kind::Character, vocab_size: 256, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, [text].iter())?;
    let tokens = store.begin(recipe("tokens"))?;
    std::fs::write(tokens.path("tokenizer.json"), tokenizer.to_json())?;
    for (split, text) in [("train", train), ("validation", validation)] {
        let mut writer = Writer::new(tokens.folder(), split, &tokenizer, 1 << 20);
        writer.push(&tokenizer.encode(text)?, text.len() as u64)?;
        writer.finish()?;
    }
    Ok(tokens.seal(Outcome::default(), 0.0, Host::default())?)
}

/// Describes an artifact whose inputs do not matter here.
fn recipe(stage: &str) -> Recipe {
    Recipe {
        stage: stage.to_owned(),
        stage_version: 1,
        config: serde_json::Value::Null,
        inputs: std::collections::BTreeMap::new(),
        seed: 1,
        device_class: None,
    }
}
