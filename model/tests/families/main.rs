//! The families and options of `fixtures/families.py` against transformers 5.24, which made the numbers: logits, greedy
//! tokens, gradients and files; and their invariance under packing, caching, activation checkpointing and number type.

mod adapters;
mod configurations;
mod gradients;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use model::{Dtype, Family, KvCache, Transformer, checkpoint};
use safetensors::SafeTensors;
use serde_json::Value;

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
fn every_family_has_a_fixture() {
    for family in Family::ALL {
        let fixtures = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path().join("config.json"));
        let mut types = fixtures.filter(|path| path.exists()).map(|path| read_json(&path)["model_type"].clone());
        assert!(types.any(|name| name == family.model_type()), "{family:?}");
    }
}
