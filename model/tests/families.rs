//! The families and options of `fixtures/families.py` against transformers 5.24, which made the numbers: logits, greedy
//! tokens, gradients and files; and their invariance under packing, caching, activation checkpointing and number type.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::lora::{self, LoraConfig};
use model::{
    ActivationCheckpointing, Batch, Dtype, Family, KvCache, LossOptions, ModelConfig, Precision, RopeScaling,
    Transformer, checkpoint, named_parameters,
};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Allows for two implementations in f32 with different orders of summation.
const TOLERANCE: f32 = 1e-4;

/// The folders of the fixtures.
const FIXTURES: [&str; 17] = [
    "mistral",
    "mistral-full",
    "qwen2-window",
    "qwen3-window",
    "gemma2",
    "gemma2-biases",
    "gemma3",
    "gemma3-older",
    "phi3",
    "phi3-tied",
    "smollm3",
    "smollm3-window",
    "olmo2",
    "olmo2-biases",
    "llama-yarn",
    "qwen3-yarn",
    "llama-dynamic",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn fixture(name: &str, device: &Device) -> (Transformer, Value) {
    (checkpoint::load(&folder(name), device).unwrap(), read_json(&folder(name).join("expected.json")))
}

fn ids(expected: &Value) -> Vec<i64> {
    serde_json::from_value(expected.clone()).unwrap()
}

fn rows(expected: &Value) -> Vec<Vec<i64>> {
    serde_json::from_value(expected["tokens"].clone()).unwrap()
}

fn ints(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(rows.concat(), vec![rows.len(), rows[0].len()]), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn argmax(logits: Tensor<2>) -> i64 {
    logits.argmax(1).try_into_vec_as::<i64>().unwrap()[0]
}

/// Returns the greedy continuation of a prompt with a cache, read in `pieces`.
fn cached(model: &Transformer, pieces: &[&[i64]], count: usize) -> Vec<i64> {
    let mut cache = KvCache::new(model.config());
    let mut next = 0;
    for piece in pieces {
        next = argmax(model.forward_cached(ints(&[piece.to_vec()], &model.device()), &mut cache));
    }
    let mut text = vec![next];
    while text.len() < count {
        next = argmax(model.forward_cached(ints(&[vec![next]], &model.device()), &mut cache));
        text.push(next);
    }
    text
}

/// Returns the greedy continuation of a prompt without a cache.
fn uncached(model: &Transformer, prompt: &[i64], count: usize) -> Vec<i64> {
    let mut text = prompt.to_vec();
    for _ in 0..count {
        let logits = model.forward(ints(&[text.clone()], &model.device()));
        text.push(argmax(logits.narrow(1, text.len() - 1, 1).squeeze_dim(1)));
    }
    text.split_off(prompt.len())
}

#[test]
fn logits_match_transformers_and_survive_a_save() {
    for name in FIXTURES {
        let (model, expected) = fixture(name, &Device::flex());
        let wanted: Vec<f32> = serde_json::from_value(expected["logits"].clone()).unwrap();
        let check = |model: &Transformer| {
            let logits = floats(model.forward(ints(&rows(&expected), &model.device())));
            let difference = largest_difference(&logits, &wanted);
            assert!(difference < TOLERANCE, "{name}: logits differ by {difference}");
            difference
        };
        println!("{name}: {:.1e}", check(&model));
        let saved = tempfile::tempdir().unwrap();
        checkpoint::save(&model, saved.path(), Dtype::F32).unwrap();
        let again = checkpoint::load(saved.path(), &Device::flex()).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        check(&again);
    }
}

#[test]
fn fifty_greedy_tokens_match_transformers_with_and_without_a_cache() {
    for name in FIXTURES {
        let (model, expected) = fixture(name, &Device::flex());
        let prompt = &rows(&expected)[0];
        let (wanted, wanted_uncached) = (ids(&expected["greedy"]), ids(&expected["greedy_uncached"]));
        assert_eq!(cached(&model, &[prompt], wanted.len()), wanted, "{name}");
        assert_eq!(uncached(&model, prompt, wanted.len()), wanted_uncached, "{name}: without a cache");
        // Keys that `dynamic` scaling has rotated depend on the text that was known then.
        if name != "llama-dynamic" {
            assert_eq!(wanted, wanted_uncached, "{name}");
            let (start, end) = prompt.split_at(7);
            assert_eq!(cached(&model, &[start, end], wanted.len()), wanted, "{name}: a prompt in two pieces");
        }
    }
}

#[test]
fn loss_and_gradients_match_pytorch() {
    for name in ["gemma2", "gemma3", "phi3", "olmo2", "smollm3"] {
        let device = Device::flex().autodiff();
        let (model, expected) = fixture(name, &device);
        let rows = rows(&expected);
        let t = rows[0].len();
        let part = |range: std::ops::Range<usize>| {
            ints(&rows.iter().map(|row| row[range.clone()].to_vec()).collect::<Vec<_>>(), &device)
        };
        let batch = Batch { tokens: part(0..t - 1), targets: part(1..t), segment_starts: None };
        let loss_scale = 1.0 / (rows.len() * (t - 1)) as f64;
        let found = gradients(&model, &batch, loss_scale, ActivationCheckpointing::Off);
        let wanted = expected["loss"].as_f64().unwrap() as f32;
        assert!((found["loss"][0] - wanted).abs() < TOLERANCE, "{name}: {} instead of {wanted}", found["loss"][0]);
        let wanted = checkpoint::load_weights(&folder(name).join("gradients.safetensors"), model.config()).unwrap();
        assert_eq!(found.len(), wanted.len() + 1);
        for (parameter, wanted) in wanted {
            let difference = largest_difference(&found[&parameter], &wanted.values);
            assert!(difference < TOLERANCE, "{name}: the gradient of {parameter} differs by {difference}");
        }
    }
}

/// Returns the gradient of each parameter, and the loss as `loss`.
fn gradients(
    model: &Transformer,
    batch: &Batch,
    loss_scale: f64,
    checkpointing: ActivationCheckpointing,
) -> BTreeMap<String, Vec<f32>> {
    struct Collect<'a> {
        gradients: &'a GradientsParams,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl named_parameters::Visitor for Collect<'_> {
        fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let gradient = self.gradients.get::<D>(param.id);
            assert_eq!(gradient.is_some(), param.is_require_grad(), "every trainable parameter has a gradient");
            if let Some(gradient) = gradient {
                self.found.insert(name.to_owned(), floats(gradient));
            }
        }
    }
    let options = LossOptions { loss_scale, z_loss: 0.0, dropout: None };
    let (loss, gradients) = model.gradients(batch, None, checkpointing, |hidden| {
        let loss = model.loss_from_hidden(hidden, batch.targets.clone(), &options);
        (loss.clone(), loss.inner())
    });
    let mut collect = Collect { gradients: &gradients, found: BTreeMap::from([("loss".to_owned(), floats(loss))]) };
    named_parameters::visit(model, &mut collect);
    collect.found
}

#[test]
fn packing_padding_and_checkpointing_do_not_change_gradients() {
    for name in FIXTURES.into_iter().filter(|name| *name != "llama-dynamic") {
        let device = Device::flex().autodiff();
        let (model, _) = fixture(name, &device);
        let document = |seed: i64, len: i64| -> Vec<i64> { (0..len).map(|i| (seed * 31 + i * i * 7) % 50).collect() };
        let documents = [document(1, 9), document(2, 14), document(3, 17)];
        let targets = |document: &[i64]| document[1..].iter().copied().chain([-1]).collect::<Vec<_>>();
        let count: usize = documents.iter().map(|document| document.len() - 1).sum();
        let loss_scale = 1.0 / count as f64;
        // All in one row; and one to a row, padded with targets that are ignored.
        let starts = [(0, 9), (9, 14), (23, 17)].into_iter().flat_map(|(start, len)| std::iter::repeat_n(start, len));
        let packed = Batch {
            tokens: ints(&[documents.concat()], &device),
            targets: ints(&[documents.iter().flat_map(|document| targets(document)).collect()], &device),
            segment_starts: Some(ints(&[starts.collect()], &device)),
        };
        let pad = |row: Vec<i64>, filler: i64| {
            let padding = 17 - row.len();
            row.into_iter().chain(std::iter::repeat_n(filler, padding)).collect::<Vec<_>>()
        };
        let padded = Batch {
            tokens: ints(&documents.clone().map(|document| pad(document, 0)), &device),
            targets: ints(&documents.map(|document| pad(targets(&document), -1)), &device),
            segment_starts: None,
        };
        let expected = gradients(&model, &padded, loss_scale, ActivationCheckpointing::Off);
        let found = gradients(&model, &packed, loss_scale, ActivationCheckpointing::Off);
        for (parameter, expected) in &expected {
            let difference = largest_difference(&found[parameter], expected);
            let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
            assert!(difference < 2e-5 * largest, "{name}: the gradient of {parameter} differs by {difference}");
        }
        let recomputed = gradients(&model, &packed, loss_scale, ActivationCheckpointing::On);
        assert_eq!(recomputed, found, "{name}: activation checkpointing");
    }
}

#[test]
fn bf16_gradients_are_close_to_those_of_f32() {
    for name in ["gemma2", "gemma3", "phi3", "olmo2-biases", "smollm3-window", "mistral"] {
        let device = Device::flex().autodiff();
        // Small weights, as at the start of training: those of the fixtures amplify rounding.
        let config = checkpoint::load_config(&folder(name)).unwrap();
        let model = Transformer::init(&config, 5, &device);
        let expected = read_json(&folder(name).join("expected.json"));
        let rows = rows(&expected);
        let batch = Batch {
            tokens: ints(&rows, &device),
            targets: ints(&[rows[1].clone(), rows[0].clone()], &device),
            segment_starts: None,
        };
        let exact = gradients(&model, &batch, 1.0 / 36.0, ActivationCheckpointing::Off);
        let short = model.with_precision(Precision::Bf16);
        let short = gradients(&short, &batch, 1.0 / 36.0, ActivationCheckpointing::On);
        for (parameter, exact) in &exact {
            let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
            let error = norm(&mut exact.iter().zip(&short[parameter]).map(|(a, b)| a - b));
            let norm = norm(&mut exact.iter().copied());
            assert!(error <= 0.05 * norm.max(1e-3), "{name}: {parameter} is {error} away, of {norm}");
        }
    }
}

#[test]
fn files_have_the_tensors_and_keys_of_transformers() {
    let tensors = |path: &Path| -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
        let bytes = fs::read(path.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec()))).collect()
    };
    for name in FIXTURES {
        let (model, _) = fixture(name, &Device::flex());
        let saved = tempfile::tempdir().unwrap();
        checkpoint::save(&model, saved.path(), Dtype::Bf16).unwrap();
        assert_eq!(tensors(saved.path()), tensors(&folder(name)), "{name}");
        let (found, wanted) =
            (read_json(&saved.path().join("config.json")), read_json(&folder(name).join("config.json")));
        for key in [
            "model_type",
            "architectures",
            "max_position_embeddings",
            "sliding_window",
            "layer_types",
            "use_sliding_window",
            "query_pre_attn_scalar",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "no_rope_layers",
            "attention_bias",
            "mlp_bias",
            "rms_norm_eps",
            "tie_word_embeddings",
            "hidden_activation",
        ] {
            // Keys that have no effect, or follow from others, may be absent.
            if let (Some(found), Some(wanted)) = (found.get(key), wanted.get(key)) {
                assert_eq!(found, wanted, "{name}: {key}");
            }
        }
    }
}

#[test]
fn unsupported_values_are_named() {
    let check = |name: &str, key: &str, value: Value, expected: &str| {
        let mut config = read_json(&folder(name).join("config.json"));
        config[key] = value;
        let found = ModelConfig::from_hugging_face(&config).unwrap_err().to_string();
        assert_eq!(found, expected, "{name}");
    };
    let longrope = json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]});
    let only = "is not supported, only default, linear, llama3, yarn and dynamic";
    check("phi3", "rope_parameters", longrope, &format!("rope_parameters: rope_type: `longrope` {only}"));
    let su = json!({"type": "su", "short_factor": [1.0], "long_factor": [1.0]});
    check("phi3", "rope_scaling", su, &format!("rope_scaling: rope_type: `su` {only}"));
    let yarn = json!({"rope_type": "yarn", "factor": 2.0});
    check("phi3", "rope_scaling", yarn, "rope_scaling: rope_type: only `default` is supported in phi3");
    let partial = json!({"rope_type": "default", "partial_rotary_factor": 0.1});
    check("mistral-full", "partial_rotary_factor", json!(0.5), "partial_rotary_factor: 0.5 is not supported, only 1.0");
    check("phi3", "rope_parameters", partial, "rotary_dim: 0 is not an even number up to head_dim = 8");
    check("mistral", "attention_bias", json!(true), "attention_bias: true is not supported, only false");
    check("mistral", "sliding_window", json!(0), "sliding_window: 0 is not a number of tokens");
    let full = json!(["sliding_attention", "full_attention"]);
    let disagrees = "does not agree with the sliding window of this model";
    check("mistral", "layer_types", full, &format!("layer_types: \"full_attention\" {disagrees}"));
    check(
        "qwen2-window",
        "use_sliding_window",
        json!(false),
        &format!("layer_types: \"sliding_attention\" {disagrees}"),
    );
    let chunked = json!(["chunked_attention", "full_attention"]);
    let unknown = "layer_types: \"chunked_attention\" is not supported, only full_attention and sliding_attention";
    check("qwen2-window", "layer_types", chunked, unknown);
    let short = json!(["full_attention"]);
    check("gemma2-biases", "layer_types", short, "layer_types: [\"full_attention\"] does not describe 2 layers");
    let relu = "hidden_activation: \"relu\" is not supported, only \"gelu_pytorch_tanh\"";
    check("gemma2", "hidden_activation", json!("relu"), relu);
    check("gemma2", "final_logit_softcapping", json!(-1.0), "logit_softcap: -1 is not a positive number");
    check(
        "gemma2",
        "use_bidirectional_attention",
        json!(true),
        "use_bidirectional_attention: true is not supported, only false",
    );
    check("gemma3", "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping: 50.0 is not supported, only null");
    let flat = "rope_parameters: `rope_type` is not one of full_attention, sliding_attention, which have a table each";
    check("gemma3", "rope_parameters", json!({"rope_type": "default"}), flat);
    let local = json!({"sliding_attention": {"rope_type": "linear", "factor": 2.0}});
    let scaled = "rope_parameters: sliding_attention: only the rope_type `default` is supported";
    check("gemma3", "rope_parameters", local, scaled);
    check("smollm3", "no_rope_layers", json!([1, 2, 1]), "no_rope_layers: 2 is neither 0 nor 1");
    check("smollm3", "no_rope_layers", json!([1]), "no_rope_layers: [1] does not describe 3 layers");
    check("olmo2", "sliding_window", json!(8), "sliding_window: 8 is not supported, only null");
    check("olmo2", "hidden_act", json!("gelu"), "hidden_act: \"gelu\" is not supported, only \"silu\"");
    check(
        "llama-yarn",
        "layer_types",
        json!(["sliding_attention", "full_attention"]),
        "layer_types: \"sliding_attention\" is not supported",
    );
    let factor = json!({"rope_type": "dynamic", "factor": 0.5});
    check("llama-dynamic", "rope_parameters", factor, "rope_scaling: factor 0.5 is below 1");
    let beta = json!({"rope_type": "dynamic", "factor": 2.0, "beta_fast": 3});
    let surplus = "rope_parameters: rope_type: `beta_fast` = 3 has no meaning in `dynamic`";
    check("llama-dynamic", "rope_parameters", beta, surplus);
}

#[test]
fn published_configurations_are_read() {
    let check = |config: Value, expected: &str| {
        let config = ModelConfig::from_hugging_face(&config).unwrap();
        let windows: String = (0..config.n_layer).map(|i| if config.layer(i).sliding { 's' } else { 'f' }).collect();
        let rotary: String = (0..config.n_layer).map(|i| if config.layer(i).rotary { 'r' } else { 'n' }).collect();
        let head = (config.n_kv_head, config.head_dim, config.rotary_dim());
        let found = format!(
            "{:?} {windows} {rotary} {head:?} {:?} {:?} {:?} tied {}",
            config.sliding_window,
            config.attention_softcap,
            config.logit_softcap,
            config.local_rope_theta,
            config.tied_embeddings
        );
        assert_eq!(found, expected);
    };
    let sizes = |model_type: &str, more: Value| {
        let mut config = json!({
            "model_type": model_type, "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 4, "num_attention_heads": 8, "max_position_embeddings": 64,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    check(sizes("mistral", json!({})), "Some(4096) ssss rrrr (8, 8, 8) None None None tied false");
    check(sizes("mistral", json!({"sliding_window": null})), "None ffff rrrr (8, 8, 8) None None None tied false");
    check(
        sizes("gemma2", json!({"hidden_act": "gelu"})),
        "Some(4096) sfsf rrrr (4, 256, 256) Some(50.0) Some(30.0) None tied true",
    );
    let linear = json!({"factor": 8.0, "rope_type": "linear"});
    let gemma3 = json!({"sliding_window": 512, "sliding_window_pattern": 3, "rope_scaling": linear});
    check(sizes("gemma3_text", gemma3), "Some(512) ssfs rrrr (4, 256, 256) None None Some(10000.0) tied true");
    let phi = json!({"partial_rotary_factor": 0.5, "original_max_position_embeddings": 64, "rope_scaling": null});
    check(sizes("phi3", phi), "None ffff rrrr (8, 8, 4) None None None tied false");
    check(sizes("smollm3", json!({})), "None ffff rrrn (4, 8, 8) None None None tied true");
    let window = json!({"use_sliding_window": true, "sliding_window": 16, "no_rope_layer_interval": 2});
    check(sizes("smollm3", window), "Some(16) fsfs rnrn (4, 8, 8) None None None tied true");
    let qwen =
        json!({"num_key_value_heads": 2, "use_sliding_window": false, "sliding_window": 16, "max_window_layers": 2});
    check(sizes("qwen2", qwen), "None ffff rrrr (2, 8, 8) None None None tied false");
    check(sizes("olmo2", json!({})), "None ffff rrrr (8, 8, 8) None None None tied false");
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    let yarn = json!({"num_key_value_heads": 2, "rope_scaling": yarn});
    let yarn = ModelConfig::from_hugging_face(&sizes("qwen2", yarn)).unwrap();
    let Some(RopeScaling::Yarn { attention_factor, .. }) = yarn.rope_scaling else { panic!("{:?}", yarn.rope_scaling) };
    assert!((attention_factor - 1.138_629_436_111_989).abs() < 1e-12, "{attention_factor}");
}

#[test]
fn adapters_of_concatenated_projections_round_trip() {
    let device = Device::flex();
    for (name, target) in [("phi3", "all-linear"), ("phi3", "qkv_proj"), ("phi3", "gate_up_proj"), ("gemma3", "q_proj")]
    {
        let (base, expected) = fixture(name, &device);
        let config = LoraConfig { rank: 3, target_modules: vec![target.to_owned()], ..LoraConfig::default() };
        let model = lora::attach(base, &config, 5).unwrap();
        let model = named_parameters::map(model, &mut Shift);
        let logits = |model: &Transformer| floats(model.forward(ints(&rows(&expected), &device)));
        let folder = tempfile::tempdir().unwrap();
        lora::save(&model, "base", folder.path()).unwrap();
        let again = lora::load(fixture(name, &device).0, folder.path()).unwrap();
        assert!(largest_difference(&logits(&again), &logits(&model)) < TOLERANCE, "{name}, {target}");
        assert!(
            largest_difference(&logits(&lora::merged(again)), &logits(&model)) < TOLERANCE,
            "{name}, {target}: merged"
        );
        let adapter = read_json(&folder.path().join("adapter_config.json"));
        let expected = match (name, target) {
            ("phi3", "all-linear") => json!(["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
            _ => json!([target]),
        };
        assert_eq!(adapter["target_modules"], expected);
    }
    let config = LoraConfig { target_modules: vec!["q_proj".to_owned()], ..LoraConfig::default() };
    let error = lora::attach(fixture("phi3", &device).0, &config, 5).unwrap_err().to_string();
    let names = "qkv_proj, o_proj, gate_up_proj, down_proj, all-linear";
    assert_eq!(error, format!("target_modules: `q_proj` is not a projection of this model; one of {names}"));
}

/// What PEFT computes from the files: W + alpha / rank × B A, for the concatenated weight.
#[test]
fn adapters_of_concatenated_projections_are_those_of_peft() {
    type Matrix = (Vec<usize>, Vec<f32>);
    fn matrix(path: &Path, name: &str) -> Matrix {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let floats = view.data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
        (view.shape().to_vec(), floats.collect())
    }
    let device = Device::flex();
    let config = LoraConfig { rank: 3, alpha: 6.0, ..LoraConfig::default() };
    let model = lora::attach(fixture("phi3", &device).0, &config, 5).unwrap();
    let model = named_parameters::map(model, &mut Shift);
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [base, adapter, merged] = folders.each_ref().map(tempfile::TempDir::path);
    checkpoint::save(&fixture("phi3", &device).0, base, Dtype::F32).unwrap();
    lora::save(&model, "base", adapter).unwrap();
    checkpoint::save(&lora::merged(model), merged, Dtype::F32).unwrap();
    for module in ["self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj"] {
        let name = format!("model.layers.1.{module}");
        let weight = |folder: &Path| matrix(&folder.join("model.safetensors"), &format!("{name}.weight"));
        let part = |letter: &str| {
            let name = format!("base_model.model.{name}.lora_{letter}.weight");
            matrix(&adapter.join("adapter_model.safetensors"), &name)
        };
        let ((shape, base), (_, merged)) = (weight(base), weight(merged));
        let ((a_shape, a), (b_shape, b)) = (part("A"), part("B"));
        let (rank, inputs) = (a_shape[0], shape[1]);
        assert_eq!((a_shape[1], b_shape), (inputs, vec![shape[0], rank]));
        let found: Vec<f32> = (0..base.len())
            .map(|at| {
                let (row, column) = (at / inputs, at % inputs);
                let product: f32 = (0..rank).map(|r| b[row * rank + r] * a[r * inputs + column]).sum();
                base[at] + 2.0 * product
            })
            .collect();
        assert!(largest_difference(&found, &merged) < 1e-6, "{module}");
        assert!(largest_difference(&base, &merged) > 1e-3, "{module}");
    }
}

/// Makes the B of adapters differ from zero.
struct Shift;

impl named_parameters::Mapper for Shift {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !name.ends_with("lora.b") {
            return param;
        }
        param.map(|b| {
            let shape = b.dims();
            let values = (0..shape.iter().product::<usize>()).map(|i| ((i * 37 % 23) as f32 - 11.0) / 200.0);
            let device = b.device();
            Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), &device)
        })
    }
}

#[test]
fn every_family_has_a_fixture() {
    for family in Family::ALL {
        let fixtures = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path().join("config.json"));
        let mut types = fixtures.filter(|path| path.exists()).map(|path| read_json(&path)["model_type"].clone());
        assert!(types.any(|name| name == family.model_type()), "{family:?}");
    }
}
