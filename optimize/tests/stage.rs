//! The whole stage on a random model of a few thousand weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use artifact::{Context, Digest, Host, Outcome, Sealed, Unsealed};
use burn::tensor::Device;
use inference::Row;
use model::gguf::{self, Quantization, TensorType};
use model::{Dtype, Family, ModelConfig, Transformer, checkpoint};
use optimize::{Config, Error, Format, IntegerLimits, Method};
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
    let shape = ModelConfig {
        d_model: 32,
        n_layer: 2,
        n_head: 2,
        n_kv_head: if family == Family::Gpt2 { 2 } else { 1 },
        head_dim: 16,
        d_ff: 48,
        context_length: 32,
        tied_embeddings: true,
        ..ModelConfig::of(family)
    };
    inputs_of(&shape, scale, max_shard_bytes)
}

/// Returns the inputs of the stage with a model of this shape.
fn inputs_of(shape: &ModelConfig, scale: f32, max_shard_bytes: u64) -> Run {
    let root = tempfile::tempdir().unwrap();
    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, std::iter::once(TEXT)).unwrap();
    let tokens = unsealed(root.path(), "preprocess");
    write_tokens(&tokens, &tokenizer, 20);

    let shape =
        ModelConfig { vocab_size: tokenizer.vocab_size(), end_of_text: tokenizer.end_of_text(), ..shape.clone() };
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
    let check = |family: Family, format: Format, torch_name: &str| {
        let run = inputs(family, 1.0);
        let config = Config { formats: vec![format], parity_tokens: 100, ..Config::default() };
        let bundle = run.optimize("optimize", &config).unwrap();
        let expected = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "parity.json",
            "speed.json",
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
        assert_eq!(parity["formats"].as_array().unwrap().len(), 1);
        let written = &parity["formats"][0];
        let difference = written["max_logit_difference"].as_f64().unwrap();
        let loss = parity["checkpoint"]["loss_nats"].as_f64().unwrap();
        assert!((loss - (json(&run.checkpoint, "config.json")["vocab_size"].as_f64().unwrap()).ln()).abs() < 0.3);
        assert_eq!(difference == 0.0, format == Format::F32, "{parity}");
        assert!(difference < 0.1 && written["kl_divergence_nats"].as_f64().unwrap() < 1e-3, "{parity}");
        assert!(bundle.manifest().files["speed.json"].volatile);
        let speed = json(&bundle, "speed.json");
        assert!(speed["checkpoint"].as_f64().unwrap() > 0.0, "{speed}");
        assert!(speed["formats"][format.name()].as_f64().unwrap() > 0.0, "{speed}");
        let [was, is] = [&run.checkpoint, &bundle].map(|sealed| sealed.manifest().files["model.safetensors"].bytes);
        assert_eq!(is < was, format != Format::F32);

        let again = run.optimize("again", &config).unwrap();
        assert_eq!(again.digest(), bundle.digest(), "the bytes are the same every time");
        checkpoint::load(bundle.folder(), &Device::flex()).unwrap();
    };
    check(Family::Qwen3, Format::Bf16, "bfloat16");
    check(Family::Qwen3, Format::F16, "float16");
    check(Family::Qwen3, Format::F32, "float32");
    check(Family::Gpt2, Format::Bf16, "bfloat16");
    check(Family::Llama, Format::Bf16, "bfloat16");
    check(Family::Qwen2, Format::Bf16, "bfloat16");
}

/// Returns the logits that the engine computes from a folder.
fn logits(folder: &Path, tokens: &[u32]) -> Vec<f32> {
    let mut engine = inference::load(folder, &Device::flex(), None).unwrap();
    let row = |(position, token): (usize, &u32)| Row { sequence: 0, position, token: *token, wants_logits: true };
    let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
    let mut logits = Vec::new();
    engine.forward(&rows, &[&[0]], &mut logits).unwrap();
    logits
}

#[test]
fn several_formats_are_written_and_read_back() {
    let check = |family: Family, max_shard_bytes: u64| {
        let run = sharded_inputs(family, 1.0, max_shard_bytes);
        let formats = vec![Format::Int4, Format::F32, Format::Int8];
        let config = Config { formats, parity_tokens: 100, ..Config::default() };
        let bundle = run.optimize("optimize", &config).unwrap();
        let folder = |name: &str| match name {
            "int4" => bundle.folder().to_owned(),
            name => bundle.folder().join("formats").join(name),
        };
        let parity = json(&bundle, "parity.json");
        let entries = parity["formats"].as_array().unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry["format"].as_str().unwrap()).collect();
        assert_eq!(names, ["int4", "f32", "int8"]);
        let figure = |name: &str, key: &str| {
            entries.iter().find(|entry| entry["format"] == name).unwrap()[key].as_f64().unwrap()
        };
        assert!(figure("int4", "weights_bytes") < figure("int8", "weights_bytes"));
        assert!(figure("int8", "weights_bytes") < figure("f32", "weights_bytes"));
        assert!(figure("f32", "max_logit_difference").abs() < 1e-9);
        assert!(figure("int8", "kl_divergence_nats") > 0.0);
        assert!(figure("int4", "kl_divergence_nats") > 5.0 * figure("int8", "kl_divergence_nats"), "{parity}");

        let tokens: Vec<u32> = (0..24).map(|i| i * 11 % 250).collect();
        for name in ["int8", "int4"] {
            let text = fs::read(folder(name).join("config.json")).unwrap();
            let written: Value = serde_json::from_slice(&text).unwrap();
            let ignored = &written["quantization_config"]["ignore"];
            // The feed-forward layer is 48 wide: the inputs of its last projection are no whole blocks.
            assert!(ignored.to_string().contains("model.layers.1.mlp.down_proj"), "{ignored}");
            assert!(!ignored.to_string().contains("self_attn"), "{ignored}");
            // The model of burn computes in f32 from the same integers; the engine rounds activations as well.
            let model = checkpoint::load(&folder(name), &Device::flex()).unwrap();
            let expected = inference::logits(&model, &tokens).unwrap();
            let found = logits(&folder(name), &tokens);
            let difference = inference::parity::max_logit_difference(&found, &expected);
            let of_weights = figure(name, "max_logit_difference");
            assert!(difference < 0.5 * of_weights.max(0.02), "{name}: {difference}, weights {of_weights}");
        }
    };
    check(Family::Llama, checkpoint::MAX_SHARD_BYTES);
    check(Family::Qwen3, 40_000);
    check(Family::Phi3, checkpoint::MAX_SHARD_BYTES);
}

const GGUF: [(Format, Quantization); 7] = [
    (Format::GgufF32, Quantization::F32),
    (Format::GgufBf16, Quantization::Bf16),
    (Format::GgufF16, Quantization::F16),
    (Format::GgufQ8_0, Quantization::Q8_0),
    (Format::GgufQ4_0, Quantization::Q4_0),
    (Format::GgufQ4_K_M, Quantization::Q4_K_M),
    (Format::GgufQ6_K, Quantization::Q6_K),
];

/// Returns a shape whose rows are whole blocks of every type.
fn wide(family: Family) -> ModelConfig {
    ModelConfig {
        d_model: 256,
        n_layer: 2,
        n_head: 4,
        n_kv_head: if family == Family::Gpt2 { 4 } else { 2 },
        head_dim: 64,
        d_ff: 256,
        context_length: 32,
        tied_embeddings: true,
        ..ModelConfig::of(family)
    }
}

#[test]
fn gguf_files_are_written_and_read_back() {
    let check = |family: Family| {
        let run = inputs_of(&wide(family), 1.0, checkpoint::MAX_SHARD_BYTES);
        let formats = [Format::F32].into_iter().chain(GGUF.map(|(format, _)| format)).collect();
        let config = Config { formats, calibration_tokens: Some(200), parity_tokens: 60, ..Config::default() };
        let bundle = run.optimize("optimize", &config).unwrap();
        let parity = json(&bundle, "parity.json");
        let speed = json(&bundle, "speed.json");
        let mut bytes = Vec::new();
        for ((format, quantization), entry) in GGUF.iter().zip(&parity["formats"].as_array().unwrap()[1..]) {
            let name = format.name();
            assert_eq!(entry["format"], name);
            let file = format!("formats/{name}/model.gguf");
            let config = json(&bundle, &format!("formats/{name}/config.json"));
            let dtype = if name.contains("bf16") {
                "bfloat16"
            } else if name.contains("f16") {
                "float16"
            } else {
                "float32"
            };
            assert_eq!(config["dtype"], dtype);
            assert!(bundle.manifest().files.contains_key(&format!("formats/{name}/tokenizer.json")));
            bytes.push(entry["weights_bytes"].as_u64().unwrap());
            assert_eq!(bundle.manifest().files[&file].bytes, bytes[bytes.len() - 1]);
            assert_eq!(entry["method"] == "gptq", !name.ends_with("f32") && !name.ends_with("16"), "{entry}");
            let kl = entry["kl_divergence_nats"].as_f64().unwrap();
            assert!(kl < if name.contains("q4") { 0.02 } else { 1e-4 }, "{family:?} {name}: {kl}");
            assert_eq!(entry["max_logit_difference"].as_f64().unwrap() < 1e-9, *format == Format::GgufF32, "{entry}");
            assert!(speed["formats"][name].as_f64().unwrap() > 0.0, "{speed}");
            // The file has what `pipeline export` writes, but for the rounding of projections.
            let path = bundle.folder().join(&file);
            let exported = run.root.path().join("exported.gguf");
            registry::export_gguf(run.checkpoint.folder(), &exported, "", Some(*quantization), true).unwrap();
            let [found, expected] = [&path, &exported].map(|path| gguf::File::open(path).unwrap());
            let types = |file: &gguf::File| {
                let types =
                    file.tensors().iter().map(|(name, info)| (name.clone(), (info.shape.clone(), info.tensor_type)));
                types.collect::<BTreeMap<_, _>>()
            };
            assert_eq!(types(&found), types(&expected));
            for (tensor, (info, bytes)) in
                expected.tensors().keys().map(|tensor| (tensor, expected.tensor(tensor).unwrap()))
            {
                let is_rounded = tensor.starts_with("blk.") && matches!(info.tensor_type, TensorType::Blocks(_));
                assert!(found.tensor(tensor).unwrap().1 == bytes || is_rounded, "{name} {tensor}");
            }
            for key in found.metadata().entries().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
                assert!(expected.metadata().entries().contains(key), "{}", key.0);
            }
        }
        let [f32, bf16, f16, q8_0, q4_0, q4_k_m, q6_k] = *bytes.as_slice() else { panic!("{bytes:?}") };
        assert!(f32 > bf16 && bf16 == f16 && f16 > q8_0 && q8_0 > q6_k && q6_k > q4_k_m && q4_k_m > q4_0, "{bytes:?}");
        assert_eq!(run.optimize("again", &config).unwrap().digest(), bundle.digest(), "the same bytes every time");
    };
    // Llama's queries and keys have another order in the file, GPT-2's and Phi-3's are one tensor with the values.
    check(Family::Llama);
    check(Family::Gpt2);
    check(Family::Phi3);
}

#[test]
fn integers_in_gguf_are_those_of_the_other_layout() {
    let run = inputs(Family::Llama, 2.0);
    let formats = vec![Format::Int4, Format::GgufQ4_0];
    let config = Config { formats, int4: loose(), gguf_q4_0: loose(), parity_tokens: 60, ..Config::default() };
    let bundle = run.optimize("optimize", &config).unwrap();
    let in_folder = checkpoint::weights(&checkpoint::load(bundle.folder(), &Device::flex()).unwrap()).unwrap();
    let folder = bundle.folder().join("formats/gguf-q4_0");
    let in_file = checkpoint::weights(&checkpoint::load(&folder, &Device::flex()).unwrap()).unwrap();
    let mut compared = 0;
    for (name, weight) in &in_folder {
        // The last projection is 48 wide: no whole blocks, and f16 in both.
        if name.ends_with("_proj.weight") {
            assert_eq!(*weight, in_file[name], "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * 7);
    assert_ne!(in_folder["embed_tokens"], in_file["embed_tokens"], "8 bits in the file, f16 in the folder");
}

fn loose() -> IntegerLimits {
    IntegerLimits { max_logit_difference: Some(100.0), max_loss_difference: Some(10.0) }
}

#[test]
fn methods_of_rounding_act_on_every_gguf_type() {
    let run = inputs_of(&wide(Family::Qwen3), 3.0, checkpoint::MAX_SHARD_BYTES);
    let formats = vec![Format::F32, Format::GgufQ8_0, Format::GgufQ6_K, Format::GgufQ4_K_M, Format::GgufQ4_0];
    let measured = |method: Method| {
        let config = Config {
            formats: formats.clone(),
            method: Some(method),
            calibration_tokens: (method != Method::Nearest).then_some(800),
            gguf_q8_0: loose(),
            gguf_q6_k: loose(),
            gguf_q4_k_m: loose(),
            gguf_q4_0: loose(),
            ..Config::default()
        };
        let bundle = run.optimize(&format!("{method:?}"), &config).unwrap();
        let parity = json(&bundle, "parity.json");
        let of_format = |i: usize| {
            let digest = bundle.manifest().files[&format!("formats/{}/model.gguf", formats[i].name())].sha256;
            (parity["formats"][i]["kl_divergence_nats"].as_f64().unwrap(), digest)
        };
        (1..formats.len()).map(of_format).collect::<Vec<_>>()
    };
    let [nearest, importance, gptq] = [Method::Nearest, Method::Importance, Method::Gptq].map(measured);
    assert_eq!(nearest[0].1, importance[0].1, "8 bits have no other scales");
    for (i, format) in formats[1..].iter().enumerate() {
        assert!(gptq[i].1 != nearest[i].1, "{format:?}");
        assert!(i == 0 || (importance[i].1 != nearest[i].1 && importance[i].1 != gptq[i].1), "{format:?}");
        // With more bits, the engine's rounding of activations is the larger error.
        let has_four_bits = matches!(format, Format::GgufQ4_0 | Format::GgufQ4_K_M);
        assert!(!has_four_bits || gptq[i].0 < nearest[i].0, "{format:?}: {gptq:?} {nearest:?}");
    }
}

#[test]
fn methods_of_rounding_are_recorded_and_differ() {
    let run = inputs(Family::Qwen3, 3.0);
    let of = |method: Option<Method>, name: &str| {
        let limits = IntegerLimits { max_logit_difference: Some(100.0), max_loss_difference: Some(10.0) };
        let calibration_tokens = method.filter(|method| *method != Method::Nearest).map(|_| 500);
        let formats = vec![Format::Int4];
        let config = Config { formats, method, calibration_tokens, int4: limits, ..Config::default() };
        let bundle = run.optimize(name, &config).unwrap();
        let parity = json(&bundle, "parity.json");
        let entry = &parity["formats"][0];
        let weights = bundle.manifest().files["model.safetensors"].clone();
        (entry["method"].as_str().unwrap().to_owned(), entry["kl_divergence_nats"].as_f64().unwrap(), weights)
    };
    let (nearest, importance) = (of(Some(Method::Nearest), "nearest"), of(Some(Method::Importance), "importance"));
    let gptq = of(Some(Method::Gptq), "gptq");
    assert_eq!([&*nearest.0, &*importance.0, &*gptq.0], ["nearest", "importance", "gptq"]);
    assert!(nearest.2 != importance.2 && importance.2 != gptq.2 && nearest.2.bytes == gptq.2.bytes);
    assert!(gptq.1 < nearest.1, "{gptq:?} {nearest:?}");
    assert_eq!(of(None, "default").0, "gptq");
    assert_eq!(of(Some(Method::Gptq), "again"), gptq, "the bytes are the same every time");
}

#[test]
fn a_format_that_a_model_cannot_have_is_named() {
    let run = inputs(Family::Gpt2, 1.0);
    let config = Config { formats: vec![Format::Bf16, Format::Int8], ..Config::default() };
    let error = run.optimize("optimize", &config).unwrap_err().to_string();
    assert!(error.starts_with("int8 cannot be written, because no matrix of this checkpoint"), "{error}");
    assert!(error.contains("write gguf-q8_0 or gguf-q4_0 in its place"), "{error}");
    let odd = ModelConfig { d_model: 24, head_dim: 12, n_head: 2, n_kv_head: 2, d_ff: 40, ..wide(Family::Qwen3) };
    let run = inputs_of(&odd, 1.0, checkpoint::MAX_SHARD_BYTES);
    let config = Config { formats: vec![Format::Bf16, Format::GgufQ4_K_M], ..Config::default() };
    let error = run.optimize("optimize", &config).unwrap_err().to_string();
    assert!(error.ends_with("the inputs of its projections are no multiples of 32; remove it from optimize.formats"));
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
    let limits = IntegerLimits { max_loss_difference: Some(0.0), ..IntegerLimits::default() };
    check(
        Config { formats: vec![Format::Bf16, Format::GgufQ4_0], gguf_q4_0: limits.clone(), ..Config::default() },
        &["format gguf-q4_0 is too far", "optimize.gguf-q4_0.max_loss_difference allows 0 "],
    );
    check(
        Config { formats: vec![Format::Bf16, Format::Int4], int4: limits, ..Config::default() },
        &["format int4 is too far", "optimize.int4.max_loss_difference allows 0 "],
    );
    check(Config { max_loss_difference: f64::NAN, ..Config::default() }, &["optimize.max_loss_difference", "NaN"]);
    check(Config { parity_tokens: 0, ..Config::default() }, &["optimize.parity_tokens must be at least 1"]);
}

#[test]
fn weight_beyond_f16_is_named() {
    let run = inputs(Family::Qwen3, 1e7);
    let error =
        run.optimize("optimize", &Config { formats: vec![Format::F16], ..Config::default() }).unwrap_err().to_string();
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
