//! Losses and gradients, and their invariance under packing, padding, activation checkpointing and number type.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use model::{ActivationCheckpointing, Batch, LossOptions, Precision, Transformer, checkpoint, named_parameters};

use super::{FIXTURES, TOLERANCE, fixture, floats, folder, ints, largest_difference, read_json, rows};

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
