//! Invariance of loss and gradients under packing, batching, activation checkpointing and number type; and dropout.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use model::lora::{self, LoraConfig};
use model::{
    ActivationCheckpointing, Batch, Dropout, Family, LossOptions, ModelConfig, Precision, Transformer, named_parameters,
};

fn model(family: Family) -> Transformer {
    let gpt2 = family == Family::Gpt2;
    let config = ModelConfig {
        family,
        vocab_size: 40,
        d_model: 24,
        n_layer: 2,
        n_head: 4,
        n_kv_head: if gpt2 { 4 } else { 2 },
        head_dim: 6,
        d_ff: 32,
        context_length: 40,
        tied_embeddings: true,
        ..ModelConfig::of(family)
    };
    Transformer::init(&config, 7, &Device::flex().autodiff())
}

/// Returns a document of `len` tokens and its targets; every fifth target is ignored.
fn document(seed: usize, len: usize) -> (Vec<i64>, Vec<i64>) {
    let id = |i: usize| ((seed * 31 + i * i * 7 + i * 3) % 40) as i64;
    ((0..len).map(id).collect(), (1..=len).map(|i| if i % 5 == 0 { -1 } else { id(i) }).collect())
}

fn batch(rows: &[(Vec<i64>, Vec<i64>)], starts: Option<Vec<i64>>) -> Batch {
    let (b, t) = (rows.len(), rows[0].0.len());
    let ints =
        |ids: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(ids, vec![b, t]), &Device::flex().autodiff());
    Batch {
        tokens: ints(rows.iter().flat_map(|row| row.0.clone()).collect()),
        targets: ints(rows.iter().flat_map(|row| row.1.clone()).collect()),
        segment_starts: starts.map(ints),
    }
}

fn count_targets(rows: &[(Vec<i64>, Vec<i64>)]) -> usize {
    rows.iter().flat_map(|row| &row.1).filter(|target| **target >= 0).count()
}

/// Returns the sums over the batches of the loss, as `loss`, and of the gradient of each parameter.
fn summed(model: &Transformer, batches: Vec<Batch>, options: &LossOptions) -> BTreeMap<String, Vec<f32>> {
    summed_with(ActivationCheckpointing::Off, model, batches, options)
}

fn summed_with(
    checkpointing: ActivationCheckpointing,
    model: &Transformer,
    batches: Vec<Batch>,
    options: &LossOptions,
) -> BTreeMap<String, Vec<f32>> {
    let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for batch in batches {
        let (loss, gradients) = model.gradients(&batch, options.dropout, checkpointing, |hidden| {
            let loss = model.loss_from_hidden(hidden, batch.targets.clone(), options);
            (loss.clone(), loss.inner())
        });
        let mut found = Collect { gradients: &gradients, found: BTreeMap::new() };
        named_parameters::visit(model, &mut found);
        found.found.insert("loss".to_owned(), loss.try_into_vec_as().unwrap());
        for (name, values) in found.found {
            let sum = sums.entry(name).or_insert_with(|| vec![0.0; values.len()]);
            sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
    }
    sums
}

struct Collect<'a> {
    gradients: &'a GradientsParams,
    found: BTreeMap<String, Vec<f32>>,
}

impl named_parameters::Visitor for Collect<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let gradient = self.gradients.get::<D>(param.id);
        assert_eq!(gradient.is_some(), param.is_require_grad(), "every trainable parameter has a gradient");
        let Some(gradient) = gradient else { return };
        assert_eq!(gradient.dtype(), DType::F32);
        self.found.insert(name.to_owned(), gradient.try_into_vec_as().unwrap());
    }
}

fn assert_close(found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>, tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (name, values) in found {
        for (a, b) in values.iter().zip(&expected[name]) {
            assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{name}: {a} instead of {b}");
        }
    }
}

#[test]
fn packing_does_not_change_loss_and_gradients() {
    for family in [Family::Qwen3, Family::Gpt2] {
        let model = model(family);
        let documents: Vec<_> = [(1, 9), (2, 1), (3, 14), (4, 16), (5, 24)].map(|(s, len)| document(s, len)).to_vec();
        let options = LossOptions { loss_scale: 1.0 / count_targets(&documents) as f64, z_loss: 1e-3, dropout: None };
        // Two rows of 40 tokens: 9 + 1 + 14 + 16, and 24 with a second copy of the last document whose targets are
        // ignored.
        let pack = |parts: &[usize]| {
            let (mut row, mut starts) = ((Vec::new(), Vec::new()), Vec::new());
            for part in parts {
                let (tokens, targets) = &documents[*part];
                starts.extend(std::iter::repeat_n(row.0.len() as i64, tokens.len()));
                row.0.extend(tokens);
                row.1.extend(targets);
            }
            (row, starts)
        };
        let (one, mut starts) = pack(&[0, 1, 2, 3]);
        let (mut two, more) = pack(&[4, 3]);
        two.1[24..].fill(-1);
        starts.extend(more);
        let packed = summed(&model, vec![batch(&[one, two], Some(starts))], &options);
        let alone = documents.iter().map(|document| batch(std::slice::from_ref(document), None)).collect();
        assert_close(&packed, &summed(&model, alone, &options), 1e-5);
    }
}

#[test]
fn micro_batches_of_different_target_counts_add_up_to_one_batch() {
    for family in [Family::Qwen3, Family::Gpt2] {
        let model = model(family);
        let mut rows: Vec<_> = (0..4).map(|seed| document(seed, 20)).collect();
        rows[1].1[3..].fill(-1);
        rows[3].1[..15].fill(-1);
        let options = LossOptions { loss_scale: 1.0 / count_targets(&rows) as f64, z_loss: 0.0, dropout: None };
        let whole = summed(&model, vec![batch(&rows, None)], &options);
        let parts = summed(&model, vec![batch(&rows[..1], None), batch(&rows[1..], None)], &options);
        assert_close(&parts, &whole, 1e-6);
    }
}

#[test]
fn dropout_is_a_function_of_its_seed() {
    let model = model(Family::Gpt2);
    let rows = [document(1, 40), document(2, 40)];
    let loss = |dropout| {
        let options = LossOptions { loss_scale: 1.0 / count_targets(&rows) as f64, z_loss: 0.0, dropout };
        summed(&model, vec![batch(&rows, None)], &options)
    };
    let with = |rate, seed| loss(Some(Dropout { rate, seed }));
    assert_eq!(with(0.2, 1), with(0.2, 1));
    assert_ne!(with(0.2, 1), with(0.2, 2));
    assert_ne!(with(0.2, 1), loss(None));
    assert_close(&with(0.0, 1), &loss(None), 1e-6);
}

#[test]
fn activation_checkpointing_gives_the_same_bits() {
    let rows = [document(1, 40), document(2, 40)];
    let starts = (0..80).map(|i| if i % 40 < 13 { 0 } else { 13 }).collect::<Vec<i64>>();
    for family in [Family::Qwen3, Family::Gpt2] {
        for (dropout, adapters) in [(0.0, false), (0.1, false), (0.1, true)] {
            let mut model = model(family);
            if adapters {
                model = lora::attach(model, &LoraConfig { rank: 3, dropout: 0.2, ..LoraConfig::default() }, 5).unwrap();
                model = lora::with_dropout(model, 9);
            }
            let dropout = (dropout > 0.0).then_some(Dropout { rate: dropout, seed: 4 });
            let options = LossOptions { loss_scale: 1.0 / count_targets(&rows) as f64, z_loss: 1e-3, dropout };
            let of =
                |checkpointing| summed_with(checkpointing, &model, vec![batch(&rows, Some(starts.clone()))], &options);
            assert_eq!(
                of(ActivationCheckpointing::Off),
                of(ActivationCheckpointing::On),
                "{family:?}, adapters: {adapters}"
            );
        }
    }
}

#[test]
fn bf16_gradients_are_close_to_those_of_f32() {
    let rows = [document(1, 40), document(2, 40)];
    for family in [Family::Qwen3, Family::Gpt2] {
        let options = LossOptions { loss_scale: 1.0 / count_targets(&rows) as f64, z_loss: 0.0, dropout: None };
        let of = |precision, checkpointing| {
            let model = model(family).with_precision(precision);
            summed_with(checkpointing, &model, vec![batch(&rows, None)], &options)
        };
        let (exact, short) =
            (of(Precision::F32, ActivationCheckpointing::Off), of(Precision::Bf16, ActivationCheckpointing::Off));
        assert_ne!(exact, short);
        assert_eq!(short, of(Precision::Bf16, ActivationCheckpointing::On));
        // bf16 has 8 bits of precision: each of several operations has a relative error of up to 1 / 256.
        for (name, exact) in &exact {
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
            let error = square(&mut exact.iter().zip(&short[name]).map(|(a, b)| a - b));
            let norm = square(&mut exact.iter().copied());
            assert!(error <= 0.03 * norm.max(1e-4), "{family:?}: {name} is {error} away, of {norm}");
        }
    }
}
