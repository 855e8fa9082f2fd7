//! Fine-tunes with LoRA: trains a tiny model on one string, then adapters beside its frozen weights on another.
//!
//! ```console
//! $ cargo run --release --example finetune_lora
//! ```
//!
//! In a pipeline.toml the same is `init = "…"` in `[train]` and a table `[train.lora]`.

use std::error::Error;

use artifact::{Context, Host, Outcome, Recipe, Sealed, Store};
use serde_json::{Value, json};
use tokenizer::shard::Writer;
use tokenizer::{Kind, Tokenizer, TrainConfig};

const BASE: &str =
    "The cat sat on the mat. The dog sat on the log. The frog sat on the rock. The bird sat on the wire. ";
const NEW: &str =
    "The cat ran to the door. The dog ran to the park. The frog ran to the pond. The bird flew to the tree. ";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::new(folder.path());
    // One tokenizer for both: adapters do not change the vocabulary.
    let config = TrainConfig { kind: Kind::Character, vocab_size: 256, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, [BASE, NEW].iter())?;

    let base = train(&store, "base", None, &tokenizer, BASE, &json!({ "learning_rate": 0.01 }))?;
    let lora = json!({ "learning_rate": 0.01, "optimizer": "adamw", "lora": { "rank": 8, "alpha": 16.0 } });
    let tuned = train(&store, "tuned", Some(&base), &tokenizer, NEW, &lora)?;

    // The weights with the adapters merged in, and the adapters alone in PEFT's layout.
    println!("{}", tuned.files("").join(", "));
    Ok(())
}

/// Trains on a text and returns the checkpoint.
fn train(
    store: &Store,
    name: &str,
    init: Option<&Sealed>,
    tokenizer: &Tokenizer,
    text: &str,
    table: &Value,
) -> Result<Sealed, Box<dyn Error>> {
    let text = text.repeat(40);
    let (train, validation) = text.split_at(text.len() * 9 / 10);
    let tokens = store.begin(recipe(&format!("{name}-tokens")))?;
    std::fs::write(tokens.path("tokenizer.json"), tokenizer.to_json())?;
    for (split, text) in [("train", train), ("validation", validation)] {
        let mut writer = Writer::new(tokens.folder(), split, tokenizer, 1 << 20);
        writer.push(&tokenizer.encode(text)?, text.len() as u64)?;
        writer.finish()?;
    }
    let tokens = tokens.seal(Outcome::default(), 0.0, Host::default())?;

    let mut config = json!({
        "steps": 60, "batch_size": 8, "warmup_steps": 5, "validation_every": 20, "validation_tokens": 256,
        "sample_every": 0,
        "model": { "context_length": 32 },
    });
    if init.is_none() {
        config["model"] = json!({ "context_length": 32, "n_layer": 2, "d_model": 64, "n_head": 2 });
    }
    config.as_object_mut().ok_or("a table")?.extend(table.as_object().cloned().unwrap_or_default());
    let out = store.begin(recipe(name))?;
    let outcome = train::run(
        &serde_json::from_value(config)?,
        &train::Inputs { init, ..train::Inputs::of(&tokens) },
        &out,
        &Context::quiet(1),
    )?;
    println!("{name}: {}", outcome.headline);
    Ok(out.seal(outcome, 0.0, Host::default())?)
}

/// Describes an artifact whose inputs do not matter here.
fn recipe(stage: &str) -> Recipe {
    Recipe {
        stage: stage.to_owned(),
        stage_version: 1,
        config: Value::Null,
        inputs: std::collections::BTreeMap::new(),
        seed: 1,
        device_class: None,
    }
}
