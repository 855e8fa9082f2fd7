//! Adapters of projections that the files of a family concatenate.

use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use model::lora::{self, LoraConfig};
use model::{Dtype, Transformer, checkpoint, named_parameters};
use safetensors::SafeTensors;
use serde_json::json;

use super::{TOLERANCE, fixture, floats, ints, largest_difference, read_json, rows};

#[test]
fn adapters_of_concatenated_projections_round_trip() {
    let device = Device::flex();
    for (name, target) in [("phi3", "all-linear"), ("phi3", "qkv_proj"), ("phi3", "gate_up_proj"), ("gemma3", "q_proj")]
    {
        let (base, expected) = fixture(name, &device);
        let config = LoraConfig { rank: 3, target_modules: vec![target.to_owned()], ..LoraConfig::default() };
        let model = lora::attach(base, &config, 5).unwrap();
        let model = named_parameters::map(model, &mut Shift);
        let logits = |model: &Transformer| floats(model.forward(ints(&rows(&expected), &device)));
        let folder = tempfile::tempdir().unwrap();
        lora::save(&model, "base", folder.path()).unwrap();
        let again = lora::load(fixture(name, &device).0, folder.path()).unwrap();
        assert!(largest_difference(&logits(&again), &logits(&model)) < TOLERANCE, "{name}, {target}");
        assert!(
            largest_difference(&logits(&lora::merged(again)), &logits(&model)) < TOLERANCE,
            "{name}, {target}: merged"
        );
        let adapter = read_json(&folder.path().join("adapter_config.json"));
        let expected = match (name, target) {
            ("phi3", "all-linear") => json!(["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
            _ => json!([target]),
        };
        assert_eq!(adapter["target_modules"], expected);
    }
    let config = LoraConfig { target_modules: vec!["q_proj".to_owned()], ..LoraConfig::default() };
    let error = lora::attach(fixture("phi3", &device).0, &config, 5).unwrap_err().to_string();
    let names = "qkv_proj, o_proj, gate_up_proj, down_proj, all-linear";
    assert_eq!(error, format!("target_modules: `q_proj` is not a projection of this model; one of {names}"));
}

/// What PEFT computes from the files: W + alpha / rank × B A, for the concatenated weight.
#[test]
fn adapters_of_concatenated_projections_are_those_of_peft() {
    type Matrix = (Vec<usize>, Vec<f32>);
    fn matrix(path: &Path, name: &str) -> Matrix {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let floats = view.data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
        (view.shape().to_vec(), floats.collect())
    }
    let device = Device::flex();
    let config = LoraConfig { rank: 3, alpha: 6.0, ..LoraConfig::default() };
    let model = lora::attach(fixture("phi3", &device).0, &config, 5).unwrap();
    let model = named_parameters::map(model, &mut Shift);
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [base, adapter, merged] = folders.each_ref().map(tempfile::TempDir::path);
    checkpoint::save(&fixture("phi3", &device).0, base, Dtype::F32).unwrap();
    lora::save(&model, "base", adapter).unwrap();
    checkpoint::save(&lora::merged(model), merged, Dtype::F32).unwrap();
    for module in ["self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj"] {
        let name = format!("model.layers.1.{module}");
        let weight = |folder: &Path| matrix(&folder.join("model.safetensors"), &format!("{name}.weight"));
        let part = |letter: &str| {
            let name = format!("base_model.model.{name}.lora_{letter}.weight");
            matrix(&adapter.join("adapter_model.safetensors"), &name)
        };
        let ((shape, base), (_, merged)) = (weight(base), weight(merged));
        let ((a_shape, a), (b_shape, b)) = (part("A"), part("B"));
        let (rank, inputs) = (a_shape[0], shape[1]);
        assert_eq!((a_shape[1], b_shape), (inputs, vec![shape[0], rank]));
        let found: Vec<f32> = (0..base.len())
            .map(|at| {
                let (row, column) = (at / inputs, at % inputs);
                let product: f32 = (0..rank).map(|r| b[row * rank + r] * a[r * inputs + column]).sum();
                base[at] + 2.0 * product
            })
            .collect();
        assert!(largest_difference(&found, &merged) < 1e-6, "{module}");
        assert!(largest_difference(&base, &merged) > 1e-3, "{module}");
    }
}

/// Makes the B of adapters differ from zero.
struct Shift;

impl named_parameters::Mapper for Shift {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !name.ends_with("lora.b") {
            return param;
        }
        param.map(|b| {
            let shape = b.dims();
            let values = (0..shape.iter().product::<usize>()).map(|i| ((i * 37 % 23) as f32 - 11.0) / 200.0);
            let device = b.device();
            Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), &device)
        })
    }
}
