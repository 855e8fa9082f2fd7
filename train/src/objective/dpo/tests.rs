use std::path::Path;

use artifact::{Context, Host, Outcome, Sealed, Store};
use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Int};
use model::ActivationCheckpointing;
use test_support::recipe;
use tokenizer::shard::{Split, Writer};
use tokenizer::{Tokenizer, TrainConfig};

use super::*;
use crate::checkpoint::trainable;
use crate::optim::optimizer::Optimizer;
use crate::{Config, Model, OptimizerKind};

const CONTEXT: usize = 24;

/// Pairs of documents in which a digit after the prompt was chosen over a letter; only the answers are learned.
fn tokens(root: &Path) -> Sealed {
    let tokenizer = Tokenizer::train(&TrainConfig { vocab_size: 300, ..TrainConfig::default() }, ["abc 123"].iter());
    let tokenizer = tokenizer.unwrap();
    let out = Store::new(root).begin(recipe("tokens")).unwrap();
    std::fs::write(out.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    let mut writer = Writer::new(out.folder(), "train", &tokenizer, 200);
    for i in 0..20usize {
        let prompt = "abc".repeat(1 + i % 3);
        let document = |answer: String| {
            let mut ids = tokenizer.encode(&prompt).unwrap();
            let before = ids.len();
            ids.extend(tokenizer.encode(&answer).unwrap());
            ids.extend(tokenizer.end_of_text());
            let mask: Vec<bool> = (0..ids.len()).map(|at| at >= before).collect();
            (ids, mask)
        };
        // The last pair is longer than the context.
        let long = if i == 19 { CONTEXT } else { 1 + i % 4 };
        let (chosen, rejected) = (document("1".repeat(long)), document("b".repeat(1 + i % 2)));
        writer.push_pair([(&chosen.0, &chosen.1), (&rejected.0, &rejected.1)], 1).unwrap();
    }
    assert!(writer.finish().unwrap().shards > 1);
    out.seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn config() -> Config {
    let model = Model { context_length: CONTEXT, n_layer: 2, d_model: 32, n_head: 2, ..Model::default() };
    Config { model, optimizer: OptimizerKind::Adamw, weight_decay: 0.0, ..Config::default() }
}

fn start(split: &Split) -> Transformer {
    let config = config().model_config(split.vocab_size(), None).unwrap();
    Transformer::init(&config, 1, &Device::flex().autodiff())
}

fn options(step: u64) -> StepOptions {
    StepOptions { z_loss: 0.0, dropout: 0.0, seed: 1, step, activations: ActivationCheckpointing::Off }
}

/// Returns the log-probability of a document's answer, computed without packing.
fn log_probability(model: &Transformer, split: &Split, document: usize) -> Tensor<1> {
    let range = split.document_range(document);
    let (mut ids, mut mask) = (vec![0; range.len()], vec![false; range.len()]);
    split.copy(range.start, &mut ids);
    split.copy_mask(range.start, &mut mask);
    let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
    let (n, device) = (ids.len() - 1, model.device());
    let row = |ids: &[i64]| Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), vec![1, n]), &device);
    let logits = model.forward(row(&ids[..n]));
    let log_probabilities = burn::tensor::activation::softmax(logits, 2).log(); // [1, n, V]
    let of_targets = log_probabilities.gather(2, row(&ids[1..]).unsqueeze_dim(2)).reshape([n]);
    let mask: Vec<f32> = mask[1..].iter().map(|learned| f32::from(u8::from(*learned))).collect();
    (of_targets * Tensor::from_data(TensorData::new(mask, vec![n]), &device)).sum()
}

fn gradients_of(model: &Transformer, gradients: &GradientsParams) -> Vec<f32> {
    struct Values<'a>(&'a GradientsParams, Vec<f32>);
    impl ModuleVisitor for Values<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).unwrap();
            self.1.extend(gradient.try_into_vec_as::<f32>().unwrap());
        }
    }
    let mut values = Values(gradients, Vec::new());
    model.visit(&mut values);
    values.1
}

#[test]
fn loss_and_gradients_match_the_formula() {
    let root = tempfile::tempdir().unwrap();
    let split = Split::open(&tokens(root.path()), "train").unwrap();
    let mut pairs = Pairs::new(&split, CONTEXT, 7).unwrap();
    assert_eq!((pairs.total(), pairs.len()), (20, 19), "one does not fit");
    let reference = Reference::of(&start(&split), &pairs, &root.path().join("r"), &Context::quiet(1)).unwrap();
    let workers = Workers::new(true, 2);
    // Another model than the reference, so that margins are not zero.
    let other = config().model_config(split.vocab_size(), None).unwrap();
    let model = Transformer::init(&other, 2, &Device::flex().autodiff());
    for label_smoothing in [0.0, 0.2] {
        let config = DpoConfig { beta: 0.7, label_smoothing };
        let batches = pairs.step(3, 6, 2);
        assert_eq!(batches.len(), 2);
        let (found, gradients) = gradients(&workers, &model, &batches, &reference, &config, &options(0)).unwrap();

        let initial = start(&split);
        let mut sum = Tensor::<1>::zeros([1], &model.device());
        for place in batches.iter().flat_map(|batch| &batch.places) {
            let margin = |model: &Transformer| {
                log_probability(model, &split, 2 * place.pair) - log_probability(model, &split, 2 * place.pair + 1)
            };
            let h = (margin(&model) - margin(&initial).detach()).mul_scalar(0.7);
            let sigmoid = |h: Tensor<1>| (h.neg().exp() + 1.0).recip();
            sum = sum
                - sigmoid(h.clone()).log().mul_scalar(1.0 - label_smoothing)
                - sigmoid(h.neg()).log().mul_scalar(label_smoothing);
        }
        let loss = sum.div_scalar(6.0);
        let expected = GradientsParams::from_grads(loss.backward(), &model);
        let loss: Vec<f32> = loss.inner().try_into_vec_as().unwrap();
        assert!((found.loss - f64::from(loss[0])).abs() < 1e-5, "loss {}, expected {}", found.loss, loss[0]);
        let (found, expected) = (gradients_of(&model, &gradients), gradients_of(&model, &expected));
        let largest = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest > 1e-3 && difference < 1e-5, "gradients up to {largest} differ by {difference}");
    }
}

#[test]
fn loss_starts_at_ln_2_and_falls_as_the_chosen_answer_wins() {
    let root = tempfile::tempdir().unwrap();
    let split = Split::open(&tokens(root.path()), "train").unwrap();
    let mut pairs = Pairs::new(&split, CONTEXT, 7).unwrap();
    let workers = Workers::new(true, 2);
    let dpo = DpoConfig::default();
    for adapters in [None, Some(lora::LoraConfig { rank: 4, dropout: 0.1, ..lora::LoraConfig::default() })] {
        let mut model = trainable::attach(start(&split), &[], adapters.as_ref(), 1).unwrap();
        let path = root.path().join("reference.safetensors");
        let reference = Reference::of(&model, &pairs, &path, &Context::quiet(1)).unwrap();
        let before = validate(&model.valid(), &pairs, &reference, &dpo).unwrap();
        assert!((before.loss - std::f64::consts::LN_2).abs() < 1e-5, "{before:?}");
        let mut optimizer = Optimizer::new(&config());
        for step in 0..40 {
            let batches = pairs.step(step, 8, 2);
            let (_, gradients) = gradients(&workers, &model, &batches, &reference, &dpo, &options(step)).unwrap();
            model = optimizer.step(0.003, model, gradients, 1.0);
        }
        let after = validate(&model.valid(), &pairs, &reference, &dpo).unwrap();
        assert!(after.loss < 0.65 && after.margin > 0.1, "{adapters:?}: {after:?}");
        assert!((after.accuracy - 1.0).abs() < 1e-9, "{adapters:?}: {after:?}");
    }
}

#[test]
fn reference_is_computed_once_per_model() {
    let root = tempfile::tempdir().unwrap();
    let split = Split::open(&tokens(root.path()), "train").unwrap();
    let pairs = Pairs::new(&split, CONTEXT, 7).unwrap();
    let path = root.path().join("reference.safetensors");
    let model = start(&split);
    let first = Reference::of(&model, &pairs, &path, &Context::quiet(1)).unwrap();
    assert!(first.margin(0).abs() > 0.1);

    // A complete file of the same model is read.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 8;
    bytes[at..].copy_from_slice(&[0; 8]);
    std::fs::write(&path, &bytes).unwrap();
    let second = Reference::of(&model, &pairs, &path, &Context::quiet(1)).unwrap();
    assert_eq!(second.margin(0).to_bits(), first.margin(0).to_bits());
    // A damaged file, or one of another model, is computed again.
    std::fs::write(&path, &bytes[..at]).unwrap();
    assert_eq!(Reference::of(&model, &pairs, &path, &Context::quiet(1)).unwrap(), first);
    let other = Transformer::init(model.config(), 5, &Device::flex().autodiff());
    assert_ne!(Reference::of(&other, &pairs, &path, &Context::quiet(1)).unwrap(), first);
    assert_eq!(Reference::of(&model, &pairs, &path, &Context::quiet(1)).unwrap(), first);
}

#[test]
fn epochs_have_every_pair_once() {
    let root = tempfile::tempdir().unwrap();
    let split = Split::open(&tokens(root.path()), "train").unwrap();
    let mut pairs = Pairs::new(&split, CONTEXT, 7).unwrap();
    let mut seen: Vec<usize> = (0..19)
        .flat_map(|step| pairs.step(step, 3, 2))
        .flat_map(|batch| batch.places)
        .map(|place| place.pair)
        .collect();
    assert_eq!(seen.len(), 57);
    for epoch in seen.chunks_mut(19) {
        assert!(!epoch.is_sorted());
        epoch.sort_unstable();
        assert_eq!(epoch, (0..19).collect::<Vec<usize>>());
    }
}
