//! Checkpoints on disk: round trips, and errors that name the file and the tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use model::config::{Architecture, Bias};
use model::{Dtype, Family, ModelConfig, Transformer, checkpoint};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Returns a copy of a fixture that a test may change.
fn copy(name: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Checks that loading fails with a message that contains `expected`, with `<folder>` for the path of the folder.
fn check_rejected(folder: &Path, expected: &str) {
    let mut error: &dyn std::error::Error = &checkpoint::load(folder, &Device::flex()).unwrap_err();
    let mut text = error.to_string();
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    let text = text.replace(&*folder.to_string_lossy(), "<folder>");
    assert!(text.contains(expected), "{text}");
}

fn tiny(family: Family) -> ModelConfig {
    ModelConfig {
        vocab_size: 20,
        d_model: 8,
        n_layer: 2,
        n_head: 2,
        n_kv_head: if family == Family::Gpt2 { 2 } else { 1 },
        head_dim: 4,
        d_ff: 12,
        context_length: 16,
        ..ModelConfig::of(family)
    }
}

#[test]
fn damaged_files_are_named() {
    let copy = copy("qwen3");
    let (weights, config) = (copy.path().join("model.safetensors"), copy.path().join("config.json"));
    let (bytes, text) = (fs::read(&weights).unwrap(), fs::read_to_string(&config).unwrap());
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&weights, &bytes[..length]).unwrap();
        check_rejected(copy.path(), "<folder>/model.safetensors is not a whole safetensors file");
    }
    fs::remove_file(&weights).unwrap();
    check_rejected(copy.path(), "cannot read <folder>/model.safetensors");
    fs::write(copy.path().join("pytorch_model.bin"), b"").unwrap();
    check_rejected(copy.path(), "<folder>/pytorch_model.bin is a pickle, which is never read here");

    fs::write(&weights, &bytes).unwrap();
    fs::write(&config, text.replace("\"hidden_size\": 24", "\"hidden_size\": 32")).unwrap();
    check_rejected(
        copy.path(),
        "/model.safetensors: tensor model.embed_tokens.weight has shape [50, 24], config.json requires [50, 32]",
    );
    fs::write(&config, text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")).unwrap();
    check_rejected(copy.path(), "layer_types: [\"full_attention\",\"full_attention\"] does not describe 3 layers");
    let with_layers = |n: usize| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json["num_hidden_layers"] = n.into();
        json["layer_types"] = Value::Null;
        fs::write(&config, json.to_string()).unwrap();
    };
    with_layers(3);
    check_rejected(copy.path(), "tensor model.layers.2.input_layernorm.weight is missing");
    with_layers(1);
    check_rejected(
        copy.path(),
        "tensor model.layers.1.input_layernorm.weight is not part of a qwen3 with this config.json",
    );
    fs::write(&config, text.replace("\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"")).unwrap();
    check_rejected(
        copy.path(),
        "tensor model.layers.0.self_attn.k_norm.weight is not part of a llama with this config.json",
    );
    fs::write(&config, "{").unwrap();
    check_rejected(copy.path(), "cannot use <folder>/config.json: EOF");
    fs::write(&config, text).unwrap();
    fs::write(copy.path().join("generation_config.json"), "{").unwrap();
    check_rejected(copy.path(), "cannot use <folder>/generation_config.json: EOF");
}

#[test]
fn an_invalid_index_is_named() {
    let copy = copy("qwen2-shards");
    let path = copy.path().join("model.safetensors.index.json");
    let whole = read_json(&path);
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut index = whole.clone();
        change(&mut index);
        fs::write(&path, index.to_string()).unwrap();
        check_rejected(copy.path(), &format!("cannot use <folder>/model.safetensors.index.json: {expected}"));
    };
    for outside in ["../model.safetensors", "/etc/hostname", "a/model.safetensors", "..", ".", "", "..\\x", "C:x"] {
        let expected = format!("it names `{outside}`, which is not a file beside it");
        check(&|index| index["weight_map"]["lm_head.weight"] = outside.into(), &expected);
    }
    let missing = "it names model-00003-of-00002.safetensors, which does not exist";
    check(&|index| index["weight_map"]["lm_head.weight"] = "model-00003-of-00002.safetensors".into(), missing);
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    assert_eq!(whole["weight_map"]["lm_head.weight"], second);
    let elsewhere = format!("it locates lm_head.weight in {first}, which does not contain it");
    check(&|index| index["weight_map"]["lm_head.weight"] = first.into(), &elsewhere);
    check(&|index| index["weight_map"] = Value::Null, "invalid type: null, expected a map");
    check(&|index| *index = json!({}), "missing field `weight_map`");

    fs::write(&path, whole.to_string()).unwrap();
    let shard = copy.path().join(second);
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    check_rejected(copy.path(), "<folder>/model-00002-of-00002.safetensors is not a whole safetensors file");
}

/// The type, shape and bytes of a tensor.
type Raw = (safetensors::Dtype, Vec<usize>, Vec<u8>);

/// Changes the tensors of a file.
fn rewrite(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Raw>)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |view: &TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let mut tensors = file.iter().map(|(name, view)| (name.to_owned(), raw(&view))).collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn an_unknown_tensor_is_named_unless_it_is_an_ignored_buffer() {
    let check = |family: &str, name: &str, tensor: &dyn Fn(&BTreeMap<String, Raw>) -> Raw, expected: Option<&str>| {
        let copy = copy(family);
        rewrite(&copy.path().join("model.safetensors"), |tensors| {
            let tensor = tensor(tensors);
            tensors.insert(name.to_owned(), tensor);
        });
        match expected {
            None => drop(checkpoint::load(copy.path(), &Device::flex()).unwrap()),
            Some(reason) => check_rejected(copy.path(), &format!("<folder>/model.safetensors: tensor {name} {reason}")),
        }
    };
    let buffer = |_: &BTreeMap<String, Raw>| (safetensors::Dtype::F32, vec![2], vec![0; 8]);
    check("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", &buffer, None);
    check("gpt2", "transformer.h.1.attn.masked_bias", &buffer, None);
    check("gpt2", "transformer.h.1.attn.bias", &buffer, None);
    let extra = Some("is not part of a llama with this config.json");
    check("llama", "model.layers.0.self_attn.q_proj.bias", &buffer, extra);
    check("llama", "model.layers.0.self_attn.q_proj.lora_A.weight", &buffer, extra);
    check("llama", "score.weight", &buffer, extra);
    // The output projection beside the embedding it is tied to.
    check("qwen3", "lm_head.weight", &|tensors| tensors["model.embed_tokens.weight"].clone(), None);
    let differs = Some("differs from the token embedding, though config.json sets tie_word_embeddings");
    let negated = |tensors: &BTreeMap<String, Raw>| {
        let mut head = tensors["model.embed_tokens.weight"].clone();
        head.2[3] ^= 0x80;
        head
    };
    check("qwen3", "lm_head.weight", &negated, differs);
    check("qwen3", "lm_head.weight", &buffer, differs);
    // A type that is not a float.
    let integers = |tensors: &BTreeMap<String, Raw>| {
        let (_, shape, data) = tensors["model.norm.weight"].clone();
        (safetensors::Dtype::I32, shape, data)
    };
    check("qwen3", "model.norm.weight", &integers, Some("has type I32, not F64, F32, F16 or BF16"));
}

/// Checks that a fixture with other tensors in its file has the same weights.
fn check_same(name: &str, change: impl FnOnce(BTreeMap<String, Raw>) -> BTreeMap<String, Raw>) {
    let copy = copy(name);
    rewrite(&copy.path().join("model.safetensors"), |tensors| *tensors = change(std::mem::take(tensors)));
    let [found, expected] = [copy.path(), &fixture(name)]
        .map(|folder| checkpoint::weights(&checkpoint::load(folder, &Device::flex()).unwrap()).unwrap());
    assert_eq!(found, expected, "{name}");
}

#[test]
fn names_with_the_prefix_missing_or_twice_are_read() {
    for (family, prefix) in [("llama", "model."), ("gpt2", "transformer."), ("qwen3", "model.")] {
        let renamed = |tensors: BTreeMap<String, Raw>, name: &dyn Fn(&str) -> String| {
            tensors.into_iter().map(|(old, tensor)| (name(&old), tensor)).collect()
        };
        check_same(family, |tensors| renamed(tensors, &|name| name.trim_start_matches(prefix).to_owned()));
        check_same(family, |tensors| renamed(tensors, &|name| format!("{prefix}{name}")));
    }
}

#[test]
fn tied_weights_are_read_from_the_output_projection_alone() {
    for head in ["lm_head.weight", "model.lm_head.weight"] {
        check_same("qwen3", |mut tensors| {
            let embedding = tensors.remove("model.embed_tokens.weight").unwrap();
            tensors.insert(head.to_owned(), embedding);
            tensors
        });
    }
    check_same("gpt2", |mut tensors| {
        let embedding = tensors.remove("transformer.wte.weight").unwrap();
        tensors.insert("lm_head.weight".to_owned(), embedding);
        tensors
    });
    // Two matrices that are not tied are never one for the other.
    let untied = copy("llama");
    rewrite(&untied.path().join("model.safetensors"), |tensors| drop(tensors.remove("model.embed_tokens.weight")));
    check_rejected(untied.path(), "tensor model.embed_tokens.weight is missing");
}

#[test]
fn double_precision_is_rounded() {
    check_same("gpt2", |tensors| {
        let widened = |(name, (dtype, shape, data)): (String, Raw)| {
            assert_eq!(dtype, safetensors::Dtype::F32);
            let values = data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            (name, (safetensors::Dtype::F64, shape, values.flat_map(f64::to_le_bytes).collect()))
        };
        tensors.into_iter().map(widened).collect()
    });
}

#[test]
fn a_prefix_of_another_program_is_named() {
    for prefix in ["_orig_mod.", "module."] {
        let copy = copy("llama");
        rewrite(&copy.path().join("model.safetensors"), |tensors| {
            *tensors =
                std::mem::take(tensors).into_iter().map(|(k, tensor)| (format!("{prefix}{k}"), tensor)).collect();
        });
        check_rejected(copy.path(), &format!("remove the prefix `{prefix}` from its names"));
    }
}

#[test]
fn numbers_of_python_in_config_json_matter_only_where_they_are_read() {
    let copy = copy("llama");
    let path = copy.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let with = |keys: &str| fs::write(&path, text.replacen('{', &format!("{{{keys}, "), 1)).unwrap();
    with(r#""router_jitter": NaN, "caps": [Infinity, -Infinity]"#);
    checkpoint::load(copy.path(), &Device::flex()).unwrap();
    with(r#""rope_scaling": {"type": "linear", "factor": Infinity}"#);
    check_rejected(copy.path(), r#"factor: "Infinity" is not a number"#);
}

#[test]
fn saving_leaves_one_layout_and_no_partial_file() {
    let model = Transformer::init(&tiny(Family::Llama), 1, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let names = || -> BTreeSet<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let both = ["config.json", "generation_config.json"];
    checkpoint::save(&model, folder.path(), Dtype::F32).unwrap();
    assert_eq!(names(), [&both[..], &["model.safetensors"]].concat().into_iter().map(str::to_owned).collect());
    let limit = fs::metadata(folder.path().join("model.safetensors")).unwrap().len() / 2;
    checkpoint::save_sharded(&model, folder.path(), Dtype::F32, limit).unwrap();
    let shards = [1, 2].map(|i| format!("model-0000{i}-of-00002.safetensors"));
    let index = ["model.safetensors.index.json".to_owned()];
    let expected = both.map(str::to_owned).into_iter().chain(shards).chain(index).collect();
    assert_eq!(names(), expected);
    // Fewer shards, then one file, replace more shards.
    checkpoint::save_sharded(&model, folder.path(), Dtype::F32, 1).unwrap();
    assert!(names().len() > expected.len());
    checkpoint::save_sharded(&model, folder.path(), Dtype::F32, limit).unwrap();
    assert_eq!(names(), expected);
    checkpoint::save(&model, folder.path(), Dtype::F32).unwrap();
    assert_eq!(names().len(), 3, "{:?}", names());

    // A value out of range stops the second save; the file of the first is still whole.
    let whole = tempfile::tempdir().unwrap();
    checkpoint::save(&model, whole.path(), Dtype::F16).unwrap();
    let before = fs::read(whole.path().join("model.safetensors")).unwrap();
    let mut weights = checkpoint::weights(&model).unwrap();
    weights.get_mut("norm.weight").unwrap().values[3] = 70_000.0;
    let wide = checkpoint::with_weights(model.config(), weights, &Device::flex());
    let error = checkpoint::save(&wide, whole.path(), Dtype::F16).unwrap_err().to_string();
    assert!(error.contains("tensor model.norm.weight has the value 70000, above the maximum of f16, 65504"), "{error}");
    assert_eq!(fs::read(whole.path().join("model.safetensors")).unwrap(), before);
    assert_eq!(fs::read_dir(whole.path()).unwrap().count(), 3, "no temporary file remains");
    checkpoint::save(&wide, whole.path(), Dtype::Bf16).unwrap();
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn saving_and_loading_round_trips(
        family in family(), seed: u64, tied: bool, biases: bool, max_shard_bytes in 1_u64..12_000,
    ) {
        let defaults = tiny(family).with_published_layers((!tied).then_some(4));
        let Architecture { attention_bias, mlp_bias, .. } = family.architecture();
        let config = ModelConfig {
            tied_embeddings: tied,
            attention_bias: if attention_bias == Bias::Optional { biases } else { defaults.attention_bias },
            mlp_bias: if mlp_bias == Bias::Optional { biases } else { defaults.mlp_bias },
            ..defaults
        };
        let model = Transformer::init(&config, seed, &Device::flex());
        let folder = tempfile::tempdir().unwrap();
        checkpoint::save_sharded(&model, folder.path(), Dtype::F32, max_shard_bytes).unwrap();
        let again = checkpoint::load(folder.path(), &Device::flex()).unwrap();
        prop_assert_eq!(again.config(), &config);
        prop_assert_eq!(checkpoint::weights(&again).unwrap(), checkpoint::weights(&model).unwrap());

        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                let bytes = fs::read(&path).unwrap();
                let file = SafeTensors::deserialize(&bytes).unwrap();
                let weights: usize = file.iter().map(|(_, view)| view.data().len()).sum();
                prop_assert!(weights as u64 <= max_shard_bytes || file.len() == 1);
            }
        }
    }
}
