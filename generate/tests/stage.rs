//! The stage on a sealed bundle of a tiny random model.

use std::fs;
use std::path::Path;

use artifact::{Context, Host, Outcome, Sealed, Store};
use generate::{Config, Error};
use model::{Dtype, Family};
use serde_json::Value;
use test_support::tiny;

fn bundle(root: &Path) -> Sealed {
    sharded_bundle(root, model::checkpoint::MAX_SHARD_BYTES)
}

fn sharded_bundle(root: &Path, max_shard_bytes: u64) -> Sealed {
    let out = Store::new(root).begin(test_support::recipe("optimize")).unwrap();
    let tokenizer = tiny::tokenizer();
    let model = tiny::model(Family::Qwen3, 32, &tokenizer);
    model::checkpoint::save_sharded(&model, out.folder(), Dtype::Bf16, max_shard_bytes).unwrap();
    tokenizer.write_hugging_face(out.folder(), 32).unwrap();
    out.seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn run(config: &Config, bundle: &Sealed, root: &Path, context: &Context) -> Result<(Outcome, String), Error> {
    let out = Store::new(root).begin(test_support::recipe("generate")).unwrap();
    fs::write(out.path("left-over.txt"), "from a killed attempt").unwrap();
    let outcome = generate::run(config, bundle, &out, context)?;
    assert!(!out.path("left-over.txt").exists());
    Ok((outcome, fs::read_to_string(out.path("samples.jsonl")).unwrap()))
}

#[test]
fn samples_are_reproducible() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path());
    let prompts = ["fn main() {", "/// Returns", "impl<T>", "pub struct", "use std::"].map(str::to_owned);
    let config = Config { prompts: Some(prompts.to_vec()), max_tokens: 12, ..Config::default() };
    let (outcome, samples) = run(&config, &bundle, root.path(), &Context::quiet(5)).unwrap();
    let lines: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 10);
    let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["prompt", "text", "prompt_tokens", "completion_tokens", "finish_reason", "seed"]);
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<Value>>();
    assert_eq!(of("prompt")[..3], ["fn main() {", "fn main() {", "/// Returns"]);
    assert_eq!(of("seed"), (5..15).map(Value::from).collect::<Vec<_>>());
    let tokens: u64 = of("completion_tokens").iter().map(|tokens| tokens.as_u64().unwrap()).sum();
    assert_eq!(outcome.headline, format!("10 samples, {tokens} tokens"));
    assert_eq!(outcome.counts["completion_tokens"], tokens);
    assert!(outcome.volatile.is_empty() && !outcome.device.is_empty());

    let again = run(&config, &bundle, root.path(), &Context::quiet(5)).unwrap();
    assert_eq!(again, (outcome, samples.clone()));
    let other = run(&config, &bundle, root.path(), &Context::quiet(6)).unwrap();
    assert_ne!(other.1, samples);
}

#[test]
fn guided_samples_have_room_for_both_sequences() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path());
    let long = "let total = 0; let total = 1; ".to_owned();
    let config = Config { prompts: Some(vec![long.clone()]), max_tokens: 40, ..Config::default() };
    let plain = run(&config, &bundle, root.path(), &Context::quiet(5)).unwrap();
    let guided = Config { guidance_scale: Some(30.0), negative_prompt: Some(long + "fn"), ..config };
    let samples = run(&guided, &bundle, root.path(), &Context::quiet(5)).unwrap();
    assert_ne!(samples.1, plain.1);
    let none = Config { guidance_scale: Some(1.0), ..guided };
    assert_eq!(run(&none, &bundle, root.path(), &Context::quiet(5)).unwrap(), plain);
}

#[test]
fn sharded_bundle_gives_the_same_samples() {
    let [one, several] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = Config { max_tokens: 8, ..Config::default() };
    let expected = run(&config, &bundle(one.path()), one.path(), &Context::quiet(5)).unwrap();
    let sharded = sharded_bundle(several.path(), 8_000);
    assert!(sharded.folder().join(model::hub_layout::INDEX).exists());
    assert_eq!(run(&config, &sharded, several.path(), &Context::quiet(5)).unwrap(), expected);

    let shard = sharded.folder().join(model::hub_layout::shard_name(1, sharded.files("model-").len()));
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let error = run(&config, &sharded, several.path(), &Context::quiet(5)).unwrap_err();
    assert!(error.to_string().contains("is corrupt"), "{error}");
}

#[test]
fn content_of_the_prompts_file_is_an_input() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path());
    fs::write(root.path().join("prompts.jsonl"), "{\"prompt\": \"a\\nb\"}\n").unwrap();
    let context = Context { base: root.path().to_owned(), ..Context::quiet(5) };
    let config = Config {
        prompts_file: Some("prompts.jsonl".to_owned()),
        samples_per_prompt: 1,
        max_tokens: 2,
        ..Config::default()
    };
    let (_, samples) = run(&config, &bundle, root.path(), &context).unwrap();
    assert_eq!(samples.lines().count(), 1);
    assert!(samples.starts_with(r#"{"prompt":"a\nb","text":"#), "{samples}");
    let before = generate::inputs(&config, &context).unwrap();
    assert_eq!(before.keys().collect::<Vec<_>>(), ["prompts file"]);
    fs::write(root.path().join("prompts.jsonl"), "{\"prompt\": \"c\"}\n").unwrap();
    assert_ne!(generate::inputs(&config, &context).unwrap(), before);
    assert!(generate::inputs(&Config::default(), &context).unwrap().is_empty());
}

#[test]
fn cancelling_and_a_corrupt_bundle_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path());
    let context = Context::quiet(5);
    context.cancel.request();
    let error = run(&Config::default(), &bundle, root.path(), &context).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    let weights = bundle.folder().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let error = run(&Config::default(), &bundle, root.path(), &Context::quiet(5)).unwrap_err();
    assert!(error.to_string().contains("model.safetensors is corrupt"), "{error}");
}
