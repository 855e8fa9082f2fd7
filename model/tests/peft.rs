//! Exchange of adapters with PEFT: `fixtures/lora/make.py` makes those of PEFT and their logits, and
//! `fixtures/lora/check.py` loads those of this crate with PEFT.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::lora::{self, LoraConfig};
use model::{Transformer, checkpoint, named_parameters};
use serde_json::{Value, json};

const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn base(family: &str) -> Transformer {
    checkpoint::load(&fixture(family), &Device::flex()).unwrap()
}

fn logits(model: &Transformer, tokens: &Value) -> Vec<f32> {
    let rows: Vec<Vec<i64>> = serde_json::from_value(tokens.clone()).unwrap();
    let shape = vec![rows.len(), rows[0].len()];
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(rows.concat(), shape), &model.device());
    model.forward(tokens).try_into_vec_as().unwrap()
}

fn check_logits(model: &Transformer, folder: &Path) {
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let found = logits(model, &expected["tokens"]);
    let expected: Vec<f32> = serde_json::from_value(expected["logits"].clone()).unwrap();
    assert_eq!(found.len(), expected.len());
    let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{}: logits differ by {difference:.2e}", folder.display());
    assert!(difference < TOLERANCE, "{}: logits differ by {difference}", folder.display());
}

#[test]
fn adapters_of_peft_give_the_logits_of_peft() {
    for family in ["qwen3", "gpt2"] {
        let folder = fixture("lora").join(format!("peft-{family}"));
        let model = lora::load(base(family), &folder).unwrap();
        check_logits(&model, &folder);
        check_logits(&lora::merged(model.clone()), &folder);
        // Written and read again, with the same shapes.
        let saved = tempfile::tempdir().unwrap();
        lora::save(&model, family, saved.path()).unwrap();
        check_logits(&lora::load(base(family), saved.path()).unwrap(), &folder);
        let length = |folder: &Path| fs::metadata(folder.join(lora::WEIGHTS)).unwrap().len();
        assert!(length(saved.path()) < length(&folder) + 256, "{family}: a larger adapter than PEFT's");
    }
}

/// Returns a model with adapters of this crate, whose values are a function of their index and not zero.
fn own(family: &str) -> Transformer {
    struct Fill(f32);
    impl named_parameters::Mapper for Fill {
        fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !name.contains(".lora.") {
                return param;
            }
            self.0 += 1.0;
            let first = self.0;
            param.map(|tensor| {
                let shape = tensor.dims().to_vec();
                let count: usize = shape.iter().product();
                let values: Vec<f32> =
                    (0..count).map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) / (1.0 + first % 3.0)).collect();
                Tensor::from_data(TensorData::new(values, shape), &tensor.device())
            })
        }
    }
    let targets: &[&str] = if family == "gpt2" { &["c_attn", "attn.c_proj", "c_fc"] } else { &["all-linear"] };
    let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
    let config = LoraConfig { rank: 2, alpha: 3.0, dropout: 0.05, target_modules, ..LoraConfig::default() };
    named_parameters::map(lora::attach(base(family), &config, 1).unwrap(), &mut Fill(0.0))
}

#[test]
fn adapters_are_written_as_checked_with_peft() {
    for family in ["qwen3", "gpt2"] {
        let folder = fixture("lora").join(format!("ours-{family}"));
        let model = own(family);
        let saved = tempfile::tempdir().unwrap();
        lora::save(&model, family, saved.path()).unwrap();
        if std::env::var_os("BLESS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            let tokens = json!([[3, 17, 42, 7, 7, 1, 29, 11, 48, 5, 0, 33]]);
            let expected = json!({"tokens": tokens, "logits": logits(&model, &tokens)});
            fs::write(folder.join("expected.json"), format!("{expected}\n")).unwrap();
            for file in [lora::CONFIG, lora::WEIGHTS] {
                fs::copy(saved.path().join(file), folder.join(file)).unwrap();
            }
        }
        check_logits(&model, &folder);
        for file in [lora::CONFIG, lora::WEIGHTS] {
            let same = fs::read(saved.path().join(file)).unwrap() == fs::read(folder.join(file)).unwrap();
            assert!(same, "{family}: {file} has changed; set BLESS=1 and run fixtures/lora/check.py");
        }
    }
}

/// Tables that are trained in full: GPT-2's has another name in its files, and Llama's output projection is its own.
#[test]
fn embeddings_that_are_saved_are_read_again() {
    struct Shift;
    impl named_parameters::Mapper for Shift {
        fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let is_table = name.contains("embed_tokens") || name.contains("lm_head");
            if !is_table {
                return param;
            }
            param.map(|tensor| {
                let device = tensor.device();
                Tensor::from_data((tensor + 0.25).into_data(), &device).require_grad()
            })
        }
    }
    let check = |family: &str, tables: &[&str], expected: &[&str]| {
        let modules_to_save = tables.iter().map(|table| (*table).to_owned()).collect();
        let config = LoraConfig { rank: 2, modules_to_save, ..LoraConfig::default() };
        // Parameters are trained on a device with autodiff alone.
        let trained = checkpoint::load(&fixture(family), &Device::flex().autodiff()).unwrap();
        let model = named_parameters::map(lora::attach(trained, &config, 1).unwrap(), &mut Shift);
        let saved = tempfile::tempdir().unwrap();
        lora::save(&model, family, saved.path()).unwrap();
        let config: Value = serde_json::from_slice(&fs::read(saved.path().join(lora::CONFIG)).unwrap()).unwrap();
        assert_eq!(config["modules_to_save"], json!(expected), "{family}");
        let read = lora::load(base(family), saved.path()).unwrap();
        let [before, after] = [model, read].map(|model| checkpoint::weights(&lora::merged(model)).unwrap());
        assert_eq!(before, after, "{family}");
        let original = checkpoint::weights(&base(family)).unwrap();
        assert!(tables.iter().all(|table| original[*table] != after[*table]), "{family}");
    };
    check("gpt2", &["embed_tokens"], &["wte"]);
    check("llama", &["embed_tokens", "lm_head"], &["embed_tokens", "lm_head"]);
}

#[test]
fn unsupported_adapters_are_named() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let from = fixture("lora/peft-qwen3");
        let folder = tempfile::tempdir().unwrap();
        fs::copy(from.join(lora::WEIGHTS), folder.path().join(lora::WEIGHTS)).unwrap();
        let mut config: Value = serde_json::from_slice(&fs::read(from.join(lora::CONFIG)).unwrap()).unwrap();
        change(&mut config);
        fs::write(folder.path().join(lora::CONFIG), config.to_string()).unwrap();
        lora::load(base("qwen3"), folder.path()).unwrap_err()
    };
    let check_tensor = |change: &dyn Fn(&mut Value), tensor: &str, reason: &str| {
        let error = refused(change).to_string();
        assert!(error.contains(&format!("tensor {tensor} {reason}")), "{error}");
    };
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let error = refused(change);
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        assert_eq!(reason, expected);
    };
    check(&|c| c["peft_type"] = json!("IA3"), "peft_type: \"IA3\" is not supported, only LORA");
    check(&|c| c["use_dora"] = json!(true), "use_dora: true is not supported");
    check(
        &|c| c["modules_to_save"] = json!(["k_norm"]),
        "modules_to_save: `k_norm` is not supported, only the embeddings",
    );
    check(&|c| c["alpha_pattern"] = json!({".*_proj": 3}), "alpha_pattern: `.*_proj` is not supported");
    check(&|c| drop(c.as_object_mut().unwrap().remove("lora_alpha")), "lora_alpha: null is not a number");

    check(&|c| c["bias"] = json!("lora_only"), "bias: \"lora_only\" is not supported, only \"none\"");
    check(&|c| c["target_modules"] = json!(["c_fc"]), "target_modules: `c_fc` is not a projection of this model");
    let tensor = |name: &str| format!("base_model.model.model.layers.{name}.weight");
    check_tensor(&|c| c["r"] = json!(4), &tensor("0.self_attn.q_proj.lora_A"), "has shape [3, 24], the model");
    check_tensor(&|c| c["rank_pattern"] = json!({}), &tensor("1.mlp.up_proj.lora_A"), "has shape [2, 24], the model");

    let error = lora::load(base("gpt2"), &fixture("lora/peft-qwen3")).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, "target_modules: `down_proj` is not a projection of this model");
}
