//! The stage: the deployment check of a sealed bundle.

use std::fs;
use std::path::Path;

use artifact::{Context, Host, Outcome, Sealed, Store, Unsealed};
use model::{Dtype, Family, ModelConfig, Transformer};
use serde_json::Value;
use serve::{Config, Error};
use test_support::recipe;
use tokenizer::{Tokenizer, TrainConfig};

/// Seals a random model in one file; `weight` changes its weights.
fn bundle(root: &Path, weight: impl Fn(&mut Vec<u8>)) -> Sealed {
    let out = unsealed_bundle(root, model::checkpoint::MAX_SHARD_BYTES);
    let path = out.path("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    weight(&mut bytes);
    fs::write(path, bytes).unwrap();
    out.seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn unsealed_bundle(root: &Path, max_shard_bytes: u64) -> Unsealed {
    let out = Store::new(root).begin(recipe("optimize")).unwrap();
    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, std::iter::repeat_n("fn main() { let total = 0; }\n", 4)).unwrap();
    tokenizer.write_hugging_face(out.folder(), 64).unwrap();
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 16,
        n_layer: 1,
        n_head: 2,
        n_kv_head: 2,
        head_dim: 8,
        d_ff: 32,
        context_length: 64,
        tied_embeddings: true,
        end_of_text: tokenizer.end_of_text(),
        ..ModelConfig::of(Family::Gpt2)
    };
    let model = Transformer::init(&config, 7, &model::device::resolve("cpu").unwrap());
    model::checkpoint::save_sharded(&model, out.folder(), Dtype::F32, max_shard_bytes).unwrap();
    out
}

#[test]
fn sharded_bundle_is_served() {
    let root = tempfile::tempdir().unwrap();
    let bundle = unsealed_bundle(root.path(), 4_000).seal(Outcome::default(), 0.0, Host::default()).unwrap();
    assert!(bundle.folder().join(model::hub_layout::INDEX).exists());
    let out = Store::new(root.path()).begin(recipe("serve")).unwrap();
    let outcome = serve::run(&Config::default(), &bundle, &out, &Context::quiet(3)).unwrap();
    assert_eq!(outcome.counts["requests"], 10);
}

#[test]
fn working_server_is_measured_and_recorded() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path(), |_| ());
    let out = Store::new(root.path()).begin(recipe("serve")).unwrap();
    let outcome = serve::run(&Config::default(), &bundle, &out, &Context::quiet(3)).unwrap();
    assert!(
        outcome.headline.starts_with("first token ") && outcome.headline.ends_with(" tokens/s"),
        "{}",
        outcome.headline
    );
    assert_eq!(outcome.volatile, ["service.json"]);
    assert_eq!(outcome.counts["requests"], 10);
    let record: Value = serde_json::from_slice(&fs::read(out.path("service.json")).unwrap()).unwrap();
    let requests = record["requests"].as_array().unwrap();
    let statuses: Vec<u64> = requests.iter().map(|request| request["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 400, 200]);
    assert!(record["first_token_seconds"]["median"].as_f64().unwrap() > 0.0);
    assert!(record["tokens_per_second"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn wrong_answer_fails_the_stage() {
    let root = tempfile::tempdir().unwrap();
    // The last weight of the last tensor becomes NaN.
    let bundle = bundle(root.path(), |bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let out = Store::new(root.path()).begin(recipe("serve")).unwrap();
    let error = serve::run(&Config::default(), &bundle, &out, &Context::quiet(3)).unwrap_err();
    assert!(matches!(error, Error::WrongAnswer { .. }), "{error}");
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn cancelling_stops_the_check() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path(), |_| ());
    let out = Store::new(root.path()).begin(recipe("serve")).unwrap();
    let context = Context::quiet(3);
    context.cancel.request();
    let error = serve::run(&Config::default(), &bundle, &out, &context).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
}
