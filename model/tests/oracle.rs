//! Logits, loss, gradients and greedy tokens against transformers; `fixtures/make.py` made the numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use model::{Batch, Dtype, KvCache, LossOptions, Transformer, checkpoint, named_parameters};
use serde_json::Value;

/// Allows for two implementations in f32 with different orders of summation.
const TOLERANCE: f32 = 1e-4;

/// The folders of the fixtures: the families and their variants.
const FIXTURES: [&str; 8] =
    ["gpt2", "gpt2-gelu", "llama", "llama-biases", "qwen2", "qwen2-shards", "qwen3", "qwen3-biases"];

fn fixture(family: &str) -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family);
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    (folder, serde_json::from_str(&expected).unwrap())
}

fn tokens(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Int> {
    let shape = vec![rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), device)
}

fn rows(expected: &Value) -> Vec<Vec<i64>> {
    serde_json::from_value(expected["tokens"].clone()).unwrap()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check_logits(model: &Transformer, expected: &Value) {
    let logits: Vec<f32> = model.forward(tokens(&rows(expected), &model.device())).try_into_vec_as().unwrap();
    let expected: Vec<f32> = serde_json::from_value(expected["logits"].clone()).unwrap();
    let difference = largest_difference(&logits, &expected);
    assert!(difference < TOLERANCE, "logits differ by {difference}");
}

#[test]
fn logits_match_transformers_and_survive_a_save() {
    for family in FIXTURES {
        let (folder, expected) = fixture(family);
        let model = checkpoint::load(&folder, &Device::flex()).unwrap();
        check_logits(&model, &expected);
        let saved = tempfile::tempdir().unwrap();
        checkpoint::save(&model, saved.path(), Dtype::F32).unwrap();
        let again = checkpoint::load(saved.path(), &Device::flex()).unwrap();
        check_logits(&again, &expected);
        assert_eq!(checkpoint::weights(&again).unwrap(), checkpoint::weights(&model).unwrap());
        assert_eq!(again.config(), model.config());
    }
}

#[test]
fn fifty_greedy_tokens_match_transformers_with_and_without_a_cache() {
    for family in FIXTURES {
        let (folder, expected) = fixture(family);
        let model = checkpoint::load(&folder, &Device::flex()).unwrap();
        let prompt = rows(&expected)[0].clone();
        let wanted: Vec<i64> = serde_json::from_value(expected["greedy"].clone()).unwrap();
        let argmax = |logits: Tensor<2>| logits.argmax(1).try_into_vec_as::<i64>().unwrap()[0];

        let mut cache = KvCache::new(model.config());
        let mut input = prompt.clone();
        let mut cached = Vec::new();
        let mut text = prompt;
        for _ in 0..wanted.len() {
            let next = argmax(model.forward_cached(tokens(&[input], &Device::flex()), &mut cache));
            let t = text.len();
            let logits = model.forward(tokens(&[text.clone()], &Device::flex())).narrow(1, t - 1, 1);
            assert_eq!(argmax(logits.squeeze_dim(1)), next, "{family}: cached and uncached differ at {t}");
            cached.push(next);
            text.push(next);
            input = vec![next];
        }
        assert_eq!(cached, wanted, "{family}");
    }
}

#[test]
fn loss_and_gradients_match_pytorch() {
    for family in ["qwen3", "gpt2", "llama-biases", "qwen2"] {
        let (folder, expected) = fixture(family);
        let device = Device::flex().autodiff();
        let model = checkpoint::load(&folder, &device).unwrap();
        let rows = rows(&expected);
        let t = rows[0].len();
        let part = |range: std::ops::Range<usize>| {
            tokens(&rows.iter().map(|row| row[range.clone()].to_vec()).collect::<Vec<_>>(), &device)
        };
        let batch = Batch { tokens: part(0..t - 1), targets: part(1..t), segment_starts: None };
        let loss_scale = 1.0 / (rows.len() * (t - 1)) as f64;
        let loss = model.loss(batch, &LossOptions { loss_scale, z_loss: 0.0, dropout: None });
        let gradients = loss.backward();
        let loss: Vec<f32> = loss.inner().try_into_vec_as().unwrap();
        let wanted = expected["loss"].as_f64().unwrap() as f32;
        assert!((loss[0] - wanted).abs() < TOLERANCE, "{family}: loss {} instead of {wanted}", loss[0]);

        let wanted = checkpoint::load_weights(&folder.join("gradients.safetensors"), model.config()).unwrap();
        let mut collect = Collect { gradients: &gradients, found: BTreeMap::new() };
        named_parameters::visit(&model, &mut collect);
        assert_eq!(collect.found.len(), wanted.len());
        for (name, found) in collect.found {
            let difference = largest_difference(&found, &wanted[&name].values);
            assert!(difference < TOLERANCE, "{family}: the gradient of {name} differs by {difference}");
        }
    }
}

struct Collect<'a> {
    gradients: &'a Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl named_parameters::Visitor for Collect<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("every parameter has a gradient");
        self.found.insert(name.to_owned(), gradient.try_into_vec_as().unwrap());
    }
}
