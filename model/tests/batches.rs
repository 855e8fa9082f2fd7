//! How sequences may be batched without changing what is learned from them: packed, in micro-batches, and with dropout.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use model::{Batch, Dropout, Family, LossOptions, ModelConfig, Transformer};

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

/// A document of `len` tokens and their targets; every fifth target is not learned.
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
        starts: starts.map(ints),
    }
}

fn learned(rows: &[(Vec<i64>, Vec<i64>)]) -> usize {
    rows.iter().flat_map(|row| &row.1).filter(|target| **target >= 0).count()
}

/// Returns the loss, as `loss`, and the gradient of each parameter, added up over the batches.
fn summed(model: &Transformer, batches: Vec<Batch>, options: &LossOptions) -> BTreeMap<String, Vec<f32>> {
    let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for batch in batches {
        let loss = model.loss(batch, options);
        let gradients = loss.backward();
        let mut found = Collect { path: Vec::new(), gradients: &gradients, found: BTreeMap::new() };
        model.visit(&mut found);
        found.found.insert("loss".to_owned(), loss.inner().try_into_vec_as().unwrap());
        for (name, values) in found.found {
            let sum = sums.entry(name).or_insert_with(|| vec![0.0; values.len()]);
            sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
    }
    sums
}

struct Collect<'a> {
    path: Vec<String>,
    gradients: &'a Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("every parameter takes part");
        self.found.insert(self.path.join("."), gradient.try_into_vec_as().unwrap());
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
fn packed_documents_give_the_loss_and_gradients_of_the_documents_one_by_one() {
    for family in [Family::Qwen3, Family::Gpt2] {
        let model = model(family);
        let documents: Vec<_> = [(1, 9), (2, 1), (3, 14), (4, 16), (5, 24)].map(|(s, len)| document(s, len)).to_vec();
        let options = LossOptions { share: 1.0 / learned(&documents) as f64, z_loss: 1e-3, dropout: None };
        // Two rows of 40 places: 9 + 1 + 14 + 16, and 24 with a second copy of the last document that is not learned.
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
fn micro_batches_with_unlike_numbers_of_targets_add_up_to_one_batch() {
    for family in [Family::Qwen3, Family::Gpt2] {
        let model = model(family);
        let mut rows: Vec<_> = (0..4).map(|seed| document(seed, 20)).collect();
        rows[1].1[3..].fill(-1);
        rows[3].1[..15].fill(-1);
        let options = LossOptions { share: 1.0 / learned(&rows) as f64, z_loss: 0.0, dropout: None };
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
        let options = LossOptions { share: 1.0 / learned(&rows) as f64, z_loss: 0.0, dropout };
        summed(&model, vec![batch(&rows, None)], &options)
    };
    let with = |rate, seed| loss(Some(Dropout { rate, seed }));
    assert_eq!(with(0.2, 1), with(0.2, 1));
    assert_ne!(with(0.2, 1), with(0.2, 2));
    assert_ne!(with(0.2, 1), loss(None));
    assert_close(&with(0.0, 1), &loss(None), 1e-6);
}
