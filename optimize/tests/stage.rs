//! The whole stage on a random model of a few thousand weights.

use std::fs;
use std::path::Path;

use artifact::{Context, Digest, Host, Outcome, Sealed, Unsealed};
use burn::tensor::Device;
use model::{Dtype, Family, ModelConfig, Transformer, checkpoint};
use optimize::{Config, Error};
use serde_json::Value;
use tempfile::TempDir;
use test_support::recipe;
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};

const TEXT: &str = "fn main() { println!(\"hello\"); } // a line, and then another line of the same kind\n";

struct Run {
    root: TempDir,
    checkpoint: Sealed,
    tokens: Sealed,
}

fn unsealed(root: &Path, stage: &str) -> Unsealed {
    let folder = root.join(stage);
    fs::create_dir_all(&folder).unwrap();
    Unsealed::at(folder, recipe(stage))
}

fn seal(unsealed: Unsealed) -> Sealed {
    unsealed.seal(Outcome::default(), 1.0, Host::default()).unwrap()
}

fn write_tokens(out: &Unsealed, tokenizer: &Tokenizer, documents: usize) {
    fs::write(out.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    for split in ["train", "validation", "test"] {
        let mut writer = Writer::new(out.folder(), split, tokenizer, 1 << 20);
        for _ in 0..documents {
            let mut ids = tokenizer.encode(TEXT).unwrap();
            ids.extend(tokenizer.end_of_text());
            writer.push(&ids, TEXT.len() as u64).unwrap();
        }
        writer.finish().unwrap();
    }
}

/// Returns the inputs of the stage; the random weights are multiplied by `scale`.
fn inputs(family: Family, scale: f32) -> Run {
    sharded_inputs(family, scale, checkpoint::MAX_SHARD_BYTES)
}

fn sharded_inputs(family: Family, scale: f32, max_shard_bytes: u64) -> Run {
    let root = tempfile::tempdir().unwrap();
    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, std::iter::once(TEXT)).unwrap();
    let tokens = unsealed(root.path(), "preprocess");
    write_tokens(&tokens, &tokenizer, 20);

    let shape = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 32,
        n_layer: 2,
        n_head: 2,
        n_kv_head: if family == Family::Gpt2 { 2 } else { 1 },
        head_dim: 16,
        d_ff: 48,
        context_length: 32,
        tied_embeddings: true,
        end_of_text: tokenizer.end_of_text(),
        ..ModelConfig::of(family)
    };
    let model = Transformer::init(&shape, 7, &Device::flex());
    let mut weights = checkpoint::weights(&model).unwrap();
    weights.values_mut().flat_map(|weight| &mut weight.values).for_each(|value| *value *= scale);
    let model = checkpoint::with_weights(&shape, weights, &Device::flex());
    let checkpoint = unsealed(root.path(), "train");
    checkpoint::save_sharded(&model, checkpoint.folder(), Dtype::F32, max_shard_bytes).unwrap();
    tokenizer.write_hugging_face(checkpoint.folder(), shape.context_length).unwrap();
    Run { checkpoint: seal(checkpoint), tokens: seal(tokens), root }
}

impl Run {
    fn optimize(&self, name: &str, config: &Config) -> Result<Sealed, Error> {
        let out = unsealed(self.root.path(), name);
        let outcome = optimize::run(config, &self.checkpoint, &self.tokens, &out, &Context::quiet(1))?;
        Ok(out.seal(outcome, 1.0, Host::default()).unwrap())
    }
}

fn json(sealed: &Sealed, name: &str) -> Value {
    serde_json::from_slice(&fs::read(sealed.folder().join(name)).unwrap()).unwrap()
}

#[test]
fn bundle_is_a_smaller_checkpoint_with_its_parity() {
    let check = |family: Family, dtype: Dtype, torch_name: &str| {
        let run = inputs(family, 1.0);
        let config = Config { dtype, parity_tokens: 100, ..Config::default() };
        let bundle = run.optimize("optimize", &config).unwrap();
        let expected = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "parity.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(bundle.files(""), expected);
        for same in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            assert_eq!(bundle.manifest().files[same], run.checkpoint.manifest().files[same]);
        }
        let mut before = json(&run.checkpoint, "config.json");
        before["torch_dtype"] = torch_name.into();
        before["dtype"] = torch_name.into();
        assert_eq!(json(&bundle, "config.json"), before);

        let parity = json(&bundle, "parity.json");
        assert_eq!(parity["tokens"], 100);
        let difference = parity["max_logit_difference"].as_f64().unwrap();
        let loss = parity["checkpoint_loss_nats"].as_f64().unwrap();
        assert!((loss - (json(&run.checkpoint, "config.json")["vocab_size"].as_f64().unwrap()).ln()).abs() < 0.3);
        assert_eq!(difference == 0.0, dtype == Dtype::F32, "{parity}");
        assert!(difference < 0.1 && parity["kl_divergence_nats"].as_f64().unwrap() < 1e-3, "{parity}");
        let [was, is] = [&run.checkpoint, &bundle].map(|sealed| sealed.manifest().files["model.safetensors"].bytes);
        assert_eq!(is < was, dtype != Dtype::F32);

        let again = run.optimize("again", &config).unwrap();
        assert_eq!(again.digest(), bundle.digest(), "the bytes are the same every time");
        checkpoint::load(bundle.folder(), &Device::flex()).unwrap();
    };
    check(Family::Qwen3, Dtype::Bf16, "bfloat16");
    check(Family::Qwen3, Dtype::F16, "float16");
    check(Family::Qwen3, Dtype::F32, "float32");
    check(Family::Gpt2, Dtype::Bf16, "bfloat16");
    check(Family::Llama, Dtype::Bf16, "bfloat16");
    check(Family::Qwen2, Dtype::Bf16, "bfloat16");
}

#[test]
fn shards_keep_their_names() {
    let run = sharded_inputs(Family::Llama, 1.0, 40_000);
    let bundle = run.optimize("optimize", &Config { parity_tokens: 100, ..Config::default() }).unwrap();
    let [before, after] = [&run.checkpoint, &bundle].map(|sealed| json(sealed, "model.safetensors.index.json"));
    assert_eq!(after["weight_map"], before["weight_map"]);
    let shards = bundle.files("model-0");
    assert_eq!(shards, run.checkpoint.files("model-0"));
    assert!(shards.len() > 1);
    let sum = |sealed: &Sealed| shards.iter().map(|name| sealed.manifest().files[name].bytes).sum::<u64>();
    assert!(sum(&bundle) < sum(&run.checkpoint));
    assert_eq!(bundle.manifest().counts["weights_bytes"], sum(&bundle));
    assert_eq!(after["metadata"]["total_size"], before["metadata"]["total_size"].as_u64().unwrap() / 2);
}

#[test]
fn bundle_beyond_a_limit_is_refused() {
    let run = inputs(Family::Qwen3, 1.0);
    let check = |config: Config, expected: &[&str]| {
        let error = run.optimize("optimize", &config).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
    };
    check(
        Config { max_logit_difference: 0.0, ..Config::default() },
        &["largest logit difference 0.00", "optimize.max_logit_difference allows 0 ", "bf16"],
    );
    check(
        Config { max_loss_difference: 0.0, ..Config::default() },
        &["loss difference", "optimize.max_loss_difference allows 0 "],
    );
    check(Config { max_loss_difference: f64::NAN, ..Config::default() }, &["optimize.max_loss_difference", "NaN"]);
    check(Config { parity_tokens: 0, ..Config::default() }, &["optimize.parity_tokens must be at least 1"]);
}

#[test]
fn weight_beyond_f16_is_named() {
    let run = inputs(Family::Qwen3, 1e7);
    let error = run.optimize("optimize", &Config { dtype: Dtype::F16, ..Config::default() }).unwrap_err().to_string();
    assert!(error.contains("tensor model.") && error.contains("beyond the 65504 that f16 can hold"), "{error}");
}

#[test]
fn changed_files_are_named() {
    let run = inputs(Family::Qwen3, 1.0);
    let weights = run.checkpoint.folder().join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let error = run.optimize("optimize", &Config::default()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors should have"), "{error}");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&weights, flipped).unwrap();
    let error = run.optimize("optimize", &Config::default()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors is corrupt"), "{error}");
}

#[test]
fn tokens_of_another_tokenizer_are_refused() {
    let run = inputs(Family::Qwen3, 1.0);
    let other = Tokenizer::train(&TrainConfig::default(), std::iter::once("another text, another text")).unwrap();
    let tokens = unsealed(run.root.path(), "other");
    write_tokens(&tokens, &other, 3);
    let run = Run { tokens: seal(tokens), ..run };
    let error = run.optimize("optimize", &Config::default()).unwrap_err().to_string();
    let digests = [Digest::of(other.to_json().as_bytes()), run.checkpoint.manifest().files["tokenizer.json"].sha256];
    assert!(digests.iter().all(|digest| error.contains(&digest.to_string())), "{error}");
}

#[test]
fn stage_can_be_interrupted() {
    let run = inputs(Family::Qwen3, 1.0);
    let context = Context::quiet(1);
    context.cancel.request();
    let out = unsealed(run.root.path(), "optimize");
    let stopped = optimize::run(&Config::default(), &run.checkpoint, &run.tokens, &out, &context);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
