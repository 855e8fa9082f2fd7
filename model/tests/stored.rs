//! Parameters read row by row from mapped files: the same numbers as the loaded model's.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use model::checkpoint::{self, StoredModel};
use model::gguf::{self, Metadata, Quantization, TensorType};
use model::{Dtype, hub_layout};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Checks every row of every parameter at `path` against the loaded model, before and after its memory is released, and
/// returns the types of the matrices.
fn check(path: &Path) -> Vec<TensorType> {
    let stored = StoredModel::open(path).unwrap();
    let weights = stored.weights().unwrap();
    let mut types = Vec::new();
    for (name, expected) in checkpoint::weights(&checkpoint::load(path, &Device::flex()).unwrap()).unwrap() {
        let parameter = weights.get(&name).unwrap();
        let [rows, columns] = parameter.shape();
        assert_eq!([rows, columns], [expected.shape[0], expected.shape[1..].iter().product()], "{name}");
        let tensor_type = parameter.tensor_type();
        let mut row_in_file = vec![0; tensor_type.bytes(columns).unwrap()];
        for _ in 0..2 {
            assert_eq!(parameter.values(), expected.values, "{name}");
            for (row, expected) in expected.values.chunks(columns).enumerate() {
                let mut values = vec![f32::NAN; columns];
                parameter.read_row(row, &mut values);
                assert_eq!(values, expected, "{name}, row {row}");
                parameter.read_stored_row(row, &mut row_in_file);
                assert_eq!(tensor_type.decode(&row_in_file), expected, "{name}, row {row} as {tensor_type}");
            }
            parameter.release(0..rows / 2);
            parameter.release(rows / 2..rows);
        }
        if columns > 1 {
            types.push(tensor_type);
        }
    }
    assert!(!types.is_empty());
    types
}

#[test]
fn rows_are_those_of_the_loaded_model() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["gpt2", "llama", "phi3", "gemma2", "olmo2"] {
        let model = checkpoint::load(&fixture(name), &Device::flex()).unwrap();
        for dtype in Dtype::ALL {
            checkpoint::save(&model, folder.path(), dtype).unwrap();
            let types = check(folder.path());
            assert!(types.iter().all(|found| *found == TensorType::Float(dtype)), "{name} in {dtype:?}: {types:?}");
        }
    }
    for name in ["gpt2", "llama", "llama-biases", "mistral-full", "qwen3"] {
        let model = checkpoint::load(&fixture(name), &Device::flex()).unwrap();
        let file = folder.path().join("model.gguf");
        for quantization in [Quantization::F32, Quantization::Bf16, Quantization::Q8_0] {
            gguf::save(&model, &file, quantization, &Metadata::default()).unwrap();
            check(&file);
        }
    }
}

#[test]
fn a_folder_may_have_its_weights_in_a_gguf_file() {
    let source = fixture("llama");
    let model = checkpoint::load(&source, &Device::flex()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(source.join(hub_layout::CONFIG), folder.path().join(hub_layout::CONFIG)).unwrap();
    let file = folder.path().join(hub_layout::GGUF);
    gguf::save(&model, &file, Quantization::Q8_0, &Metadata::default()).unwrap();
    check(folder.path());
    assert_eq!(hub_layout::weights_files(folder.path()).unwrap(), [hub_layout::GGUF]);
    assert_eq!(hub_layout::weights_bytes(folder.path()).unwrap(), std::fs::metadata(&file).unwrap().len());
    // Safetensors come first.
    checkpoint::save(&model, folder.path(), Dtype::F32).unwrap();
    assert_eq!(hub_layout::weights_files(folder.path()).unwrap(), [hub_layout::WEIGHTS]);
}
