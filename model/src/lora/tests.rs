use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Gradients, Int};

use super::*;
use crate::{checkpoint, named_parameters};

/// Returns one of the tiny models made by transformers.
pub(crate) fn fixture(family: &str, device: &Device) -> Transformer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family);
    checkpoint::load(&folder, device).unwrap()
}

fn tokens(device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(vec![3i64, 17, 42, 7, 12, 4, 4, 21], vec![2, 4]), device)
}

fn logits(model: &Transformer) -> Vec<f32> {
    model.forward(tokens(&model.device())).into_data().try_into_vec().unwrap()
}

fn largest_difference(one: &[f32], two: &[f32]) -> f32 {
    assert_eq!(one.len(), two.len());
    one.iter().zip(two).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Gives the adapters random values, as if trained.
fn trained(model: Transformer, seed: u64) -> Transformer {
    struct Train(ChaCha8Rng);
    impl named_parameters::Mapper for Train {
        fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !name.contains(".lora.") {
                return param;
            }
            let Self(rng) = self;
            param.map(|tensor| {
                let shape = tensor.dims().to_vec();
                let values = uniform(rng, shape.iter().product(), 0.2);
                leaf(Tensor::from_data(TensorData::new(values, shape), &tensor.device()))
            })
        }
    }
    named_parameters::map(model, &mut Train(ChaCha8Rng::seed_from_u64(seed)))
}

fn all(rank: usize) -> LoraConfig {
    LoraConfig { rank, ..LoraConfig::default() }
}

#[test]
fn new_adapters_do_not_change_logits_and_merging_keeps_them() {
    for family in ["qwen3", "gpt2"] {
        let base = fixture(family, &Device::flex());
        let before = logits(&base);
        let model = attach(base, &all(4), 1).unwrap();
        assert_eq!(logits(&model), before, "{family}");
        let model = trained(model, 2);
        let after = logits(&model);
        assert!(largest_difference(&after, &before) > 0.1, "{family}");
        let merged = merged(model);
        assert!(!is_attached(&merged));
        let difference = largest_difference(&logits(&merged), &after);
        assert!(difference < 2e-5, "{family}: merged differs by {difference}");
    }
}

#[test]
fn only_adapters_have_gradients_and_they_match_the_merged_weight() {
    struct Collect<'a>(&'a Gradients, BTreeMap<String, Tensor<2>>);
    impl named_parameters::Visitor for Collect<'_> {
        fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.0) {
                let [rows, columns] = [gradient.dims()[0], gradient.dims().iter().skip(1).product()];
                self.1.insert(name.to_owned(), gradient.reshape([rows, columns]));
            }
        }
    }
    let gradients = |model: &Transformer| {
        let gradients = model.forward(tokens(&model.device())).square().mean().backward();
        let mut collect = Collect(&gradients, BTreeMap::new());
        named_parameters::visit(model, &mut collect);
        collect.1
    };
    for family in ["qwen3", "gpt2"] {
        let device = Device::flex().autodiff();
        let model = trained(attach(fixture(family, &device), &all(3), 1).unwrap(), 5);
        let found = gradients(&model);
        assert!(found.keys().all(|name| name.contains(".lora.")), "{family}: {:?}", found.keys());
        assert_eq!(found.len(), 2 * adapters(&model).len());
        // With W' = W + s B A and G the gradient of W', the gradients of A and B are s Bᵀ G and s G Aᵀ.
        let weights = checkpoint::weights(&merged(model.clone())).unwrap();
        let whole = gradients(&checkpoint::with_weights(model.config(), weights, &device));
        for (layer, role, adapter) in adapters(&model) {
            let path = format!("layers.{layer}.{role}");
            let d_weight = whole[&format!("{path}.weight")].clone().mul_scalar(adapter.scale());
            let d_a = adapter.b.val().inner().transpose().matmul(d_weight.clone());
            let d_b = d_weight.matmul(adapter.a.val().inner().transpose());
            for (name, expected) in [("a", d_a), ("b", d_b)] {
                let found = found[&format!("{path}.lora.{name}")].clone();
                let (found, expected): (Vec<f32>, Vec<f32>) =
                    (found.try_into_vec_as().unwrap(), expected.try_into_vec_as().unwrap());
                let difference = largest_difference(&found, &expected);
                assert!(difference < 1e-4, "{family}: {path}.lora.{name} differs by {difference}");
            }
        }
    }
}

#[test]
fn adapters_are_attached_to_the_named_projections() {
    let check = |family: &str, targets: &[&str], expected: &[&str]| {
        let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
        let config = LoraConfig { target_modules, ..all(2) };
        let model = attach(fixture(family, &Device::flex()), &config, 1).unwrap();
        let found: Vec<_> = adapters(&model).iter().filter(|(i, ..)| *i == 0).map(|(_, role, _)| *role).collect();
        assert_eq!(found, expected, "{family} {targets:?}");
    };
    let attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
    check("qwen3", &["all-linear"], &ROLES);
    check("qwen3", &["v_proj", "self_attn.q_proj"], &["self_attn.q_proj", "self_attn.v_proj"]);
    check("qwen3", &["gate_proj", "down_proj"], &["mlp.gate_proj", "mlp.down_proj"]);
    check("gpt2", &["c_attn"], &attention);
    check("gpt2", &["c_proj"], &["self_attn.o_proj", "mlp.down_proj"]);
    check("gpt2", &["mlp.c_proj", "c_fc"], &["mlp.up_proj", "mlp.down_proj"]);
}

#[test]
fn invalid_values_are_named() {
    let check = |family: &str, change: fn(&mut LoraConfig), expected: &str| {
        let mut config = all(2);
        change(&mut config);
        let error = attach(fixture(family, &Device::flex()), &config, 1).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    check("qwen3", |c| c.rank = 0, "rank: must be at least 1");
    check("qwen3", |c| c.alpha = f64::NAN, "alpha: NaN is not between 0 and 1000000");
    check("qwen3", |c| c.dropout = 1.0, "dropout: 1 is not between 0 and 1");
    check("qwen3", |c| c.target_modules.clear(), "target_modules: is empty");
    let names = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, all-linear";
    let unknown = format!("target_modules: `c_attn` is not a projection of this model; one of {names}");
    check("qwen3", |c| c.target_modules = vec!["c_attn".to_owned()], &unknown);
    let names = "c_attn, c_proj, attn.c_proj, mlp.c_proj, c_fc, all-linear";
    let unknown = format!("target_modules: `q_proj` is not a projection of this model; one of {names}");
    check("gpt2", |c| c.target_modules = vec!["c_attn".to_owned(), "q_proj".to_owned()], &unknown);
}

#[test]
fn dropout_is_a_function_of_its_seed() {
    let config = LoraConfig { dropout: 0.3, ..all(4) };
    let model = trained(attach(fixture("qwen3", &Device::flex()), &config, 1).unwrap(), 2);
    let without = logits(&model);
    let one = logits(&with_dropout(model.clone(), 1));
    assert_eq!(one, logits(&with_dropout(model.clone(), 1)));
    assert_ne!(one, logits(&with_dropout(model.clone(), 2)));
    assert_ne!(one, without);
    let none = trained(attach(fixture("qwen3", &Device::flex()), &all(4), 1).unwrap(), 2);
    assert_eq!(logits(&with_dropout(none, 1)), without);
}

#[test]
fn a_saved_adapter_loads_to_the_same_bits() {
    for family in ["qwen3", "gpt2"] {
        for targets in [&["all-linear"][..], &["c_attn", "q_proj"], &["mlp.c_proj", "mlp.down_proj"]] {
            let own = |target: &&&str| {
                **target == ALL
                    || ROLES.iter().any(|r| matches(target, fixture(family, &Device::flex()).config().family, 0, r))
            };
            let target_modules = targets.iter().filter(own).map(|target| (*target).to_owned()).collect();
            let config = LoraConfig { alpha: 6.5, dropout: 0.1, target_modules, ..all(3) };
            // Untrained adapters have B = 0; the blocks of c_attn must be recognised regardless.
            for seed in [None, Some(3)] {
                let model = attach(fixture(family, &Device::flex()), &config, 1).unwrap();
                let model = seed.map_or(model.clone(), |seed| trained(model, seed));
                let folder = tempfile::tempdir().unwrap();
                save(&model, "a/base", folder.path()).unwrap();
                let again = load(fixture(family, &Device::flex()), folder.path()).unwrap();
                let (before, after) = (adapters(&model), adapters(&again));
                assert_eq!(before.len(), after.len());
                for ((_, role, one), (_, other, two)) in before.iter().zip(&after) {
                    assert_eq!((role, one.alpha, one.dropout, one.a.id), (other, two.alpha, two.dropout, two.a.id));
                    for (one, two) in [(&one.a, &two.a), (&one.b, &two.b)] {
                        one.val().into_data().assert_eq(&two.val().into_data(), true);
                    }
                }
                assert_eq!(logits(&again), logits(&model));
            }
        }
    }
}

#[test]
fn an_adapter_of_a_different_base_is_rejected_with_both_digests() {
    let folder = tempfile::tempdir().unwrap();
    let base = fixture("qwen3", &Device::flex());
    let expected = base_digest(&base).unwrap();
    let model = attach(base, &all(2), 1).unwrap();
    assert_eq!(base_digest(&model).unwrap(), expected, "adapters are not part of the base");
    save(&model, "a/base", folder.path()).unwrap();
    let other = Transformer::init(model.config(), 9, &Device::flex());
    let found = base_digest(&other).unwrap();
    let error = load(other, folder.path()).unwrap_err().to_string();
    let digests =
        format!("it was trained on weights with the digest {}, these have {}", expected.short(), found.short());
    assert!(error.ends_with(&digests), "{error}");
}
