//! Trainable parameters of a Transformer: all, all but frozen ones, or adapters; and how they are saved.

use std::path::Path;

use model::compressed_tensors::Integers;
use model::lora::{self, LoraConfig};
use model::{Dtype, Transformer, checkpoint, freeze, rounding};
use tokenizer::Tokenizer;

use super::ModelFiles;
use crate::{Config, Error};

/// Returns the model with the parameters frozen whose names start with a prefix in `frozen`, or with new adapters. The
/// same seed gives the same adapters.
///
/// # Errors
/// Returns an error that names the invalid key, or the prefix that matches no parameter of the model.
pub fn attach(
    model: Transformer,
    frozen: &[String],
    adapters: Option<&LoraConfig>,
    seed: u64,
) -> Result<Transformer, Error> {
    if let Some(config) = adapters {
        if !frozen.is_empty() {
            let reason = "has no effect with train.lora, which freezes all but its adapters".to_owned();
            return Err(Error::Config { key: "train.freeze".to_owned(), reason });
        }
        return lora::attach(model, config, seed).map_err(|e| Error::in_table("train.lora.", e));
    }
    freeze(model, frozen).map_err(|e| Error::in_table("train.", e))
}

/// Returns the model with its adapters merged into the weights, if it has any.
fn merged(model: &Transformer) -> Transformer {
    if lora::is_attached(model) { lora::merged(model.clone()) } else { model.clone() }
}

/// Returns the model as the checkpoint has it: without adapters, and rounded if it was trained so.
///
/// # Errors
/// Returns an error if the device fails.
pub fn finished(model: &Transformer, integers: Option<Integers>) -> Result<Transformer, Error> {
    let model = merged(model);
    Ok(match integers {
        Some(integers) => rounding::rounded(&model, integers)?,
        None => model,
    })
}

/// Saves a Transformer as a folder that can be loaded as a model; with adapters, the adapters alone in PEFT's layout.
pub struct TransformerFiles<'a> {
    /// The configuration: what is frozen, the name of the model that adapters belong to, the precision.
    pub config: &'a Config,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
}

impl TransformerFiles<'_> {
    /// Returns the name of the model that adapters belong to.
    pub fn base(&self) -> &str {
        self.config.init.as_deref().unwrap_or_default()
    }
}

impl ModelFiles<Transformer> for TransformerFiles<'_> {
    fn save(&self, model: &Transformer, folder: &Path) -> Result<(), Error> {
        if lora::is_attached(model) {
            lora::save(model, self.base(), folder)?;
        } else {
            checkpoint::save(model, folder, Dtype::F32)?;
        }
        self.tokenizer.write_hugging_face(folder, model.config().context_length)?;
        Ok(())
    }

    fn load(&self, model: &Transformer, folder: &Path) -> Result<Transformer, Error> {
        let loaded = if lora::is_attached(model) {
            lora::load(model.clone(), folder)?
        } else {
            let loaded = checkpoint::load_with_config(folder, model.config(), &model.device())?;
            freeze(loaded, &self.config.freeze).map_err(|e| Error::in_table("train.", e))?
        };
        Ok(loaded.with_precision(self.config.precision))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, Tensor};
    use model::{ActivationCheckpointing, named_parameters};
    use proptest::prelude::*;

    use super::*;
    use crate::data::batches::MicroBatch;
    use crate::objective::StepOptions;
    use crate::objective::cross_entropy::gradients;
    use crate::optim::gradients::Workers;
    use crate::optim::optimizer::{self, Optimizer};
    use crate::{Model, OptimizerKind};

    fn config() -> Config {
        let model = Model { context_length: 16, n_layer: 2, d_model: 32, n_head: 2, ..Model::default() };
        Config { model, optimizer: OptimizerKind::Muon, learning_rate: 0.01, ..Config::default() }
    }

    fn start(seed: u64) -> Transformer {
        Transformer::init(&config().model_config(40, None).unwrap(), seed, &Device::flex().autodiff())
    }

    fn adapters() -> LoraConfig {
        LoraConfig { rank: 4, dropout: 0.1, ..LoraConfig::default() }
    }

    fn batches(step: u64) -> Vec<MicroBatch> {
        let row = |part: u64| {
            let tokens: Vec<i64> = (0..33).map(|i| ((i * i + step * 7 + part * 5) % 13) as i64).collect();
            MicroBatch {
                width: 16,
                tokens: tokens[..32].to_vec(),
                targets: tokens[1..].to_vec(),
                segment_starts: None,
                n_tokens: 32,
            }
        };
        vec![row(0), row(1)]
    }

    fn train(
        mut model: Transformer,
        mut optimizer: Optimizer,
        steps: std::ops::Range<u64>,
    ) -> (Transformer, Optimizer, Vec<f64>) {
        let workers = Workers::new(true, 2);
        let mut losses = Vec::new();
        for step in steps {
            let activations = ActivationCheckpointing::Off;
            let options = StepOptions { z_loss: 0.0, dropout: 0.0, seed: 3, step, activations };
            let (loss, gradients) = gradients(&workers, &model, &batches(step), &options).unwrap();
            losses.push(loss);
            model = optimizer.step(0.01, model, gradients, 1.0);
        }
        (model, optimizer, losses)
    }

    /// Returns the name and the values of every parameter of a model, with its adapters.
    fn values(model: &Transformer) -> Vec<(String, Vec<u32>)> {
        struct Values(Vec<(String, Vec<u32>)>);
        impl named_parameters::Visitor for Values {
            fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                let values: Vec<f32> = param.val().inner().try_into_vec_as().unwrap();
                self.0.push((name.to_owned(), values.into_iter().map(f32::to_bits).collect()));
            }
        }
        let mut values = Values(Vec::new());
        named_parameters::visit(model, &mut values);
        values.0
    }

    fn changed(before: &Transformer, after: &Transformer) -> Vec<String> {
        let pairs = values(before).into_iter().zip(values(after));
        pairs.filter(|(one, two)| one != two).map(|((name, _), _)| name).collect()
    }

    #[test]
    fn training_changes_exactly_the_trainable_parameters() {
        let check = |frozen: &[&str], adapters: Option<&LoraConfig>, is_trainable: &dyn Fn(&str) -> bool| {
            let frozen: Vec<String> = frozen.iter().map(|name| (*name).to_owned()).collect();
            let before = attach(start(1), &frozen, adapters, 2).unwrap();
            let (after, optimizer, losses) = train(before.clone(), Optimizer::new(&config()), 0..30);
            assert!(losses[29] < losses[0] - 0.1, "{frozen:?}: {} after {}", losses[29], losses[0]);
            let expected: Vec<String> =
                values(&before).into_iter().map(|(name, _)| name).filter(|name| is_trainable(name)).collect();
            assert_eq!(changed(&before, &after), expected, "{frozen:?}");
            // Only these parameters have a state.
            let folder = tempfile::tempdir().unwrap();
            optimizer.save(&after, &folder.path().join(optimizer::FILE)).unwrap();
            let bytes = std::fs::read(folder.path().join(optimizer::FILE)).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let belongs = |name: &str| expected.iter().any(|parameter| name.starts_with(parameter.as_str()));
            assert!(file.names().into_iter().all(belongs), "{frozen:?}: {:?}", file.names());
        };
        check(&[], None, &|_| true);
        check(&["embed_tokens", "layers.0"], None, &|name| !name.starts_with("embed") && !name.starts_with("layers.0"));
        check(&[], Some(&adapters()), &|name| name.contains(".lora."));
    }

    #[test]
    fn frozen_parts_and_adapters_exclude_each_other() {
        let error = attach(start(1), &["norm".to_owned()], Some(&adapters()), 2).unwrap_err().to_string();
        assert_eq!(error, "train.freeze: has no effect with train.lora, which freezes all but its adapters");
        let error = attach(start(1), &["head".to_owned()], None, 2).unwrap_err().to_string();
        assert_eq!(error, "train.freeze: `head` is not a part of this model; its parts are embed_tokens, layers, norm");
        let error = attach(start(1), &[], Some(&LoraConfig { rank: 0, ..adapters() }), 2).unwrap_err().to_string();
        assert_eq!(error, "train.lora.rank: must be at least 1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn resumed_training_reaches_the_same_bits(stop in 1..7u64, with_adapters: bool) {
            let (adapters, frozen) = (adapters(), ["layers.1".to_owned()]);
            let (adapters, frozen): (_, &[String]) =
                if with_adapters { (Some(&adapters), &[]) } else { (None, &frozen) };
            let initial = || attach(start(1), frozen, adapters, 2).unwrap();
            let (uninterrupted, ..) = train(initial(), Optimizer::new(&config()), 0..8);
            let config = Config { freeze: frozen.to_vec(), init: Some("base".to_owned()), ..config() };
            let tokenizer = test_support::tiny::tokenizer();
            let files = TransformerFiles { config: &config, tokenizer: &tokenizer };

            let folder = tempfile::tempdir().unwrap();
            let state = folder.path().join(optimizer::FILE);
            let (model, optimizer, _) = train(initial(), Optimizer::new(&config), 0..stop);
            files.save(&model, folder.path()).unwrap();
            optimizer.save(&model, &state).unwrap();
            let model = files.load(&initial(), folder.path()).unwrap();
            let optimizer = Optimizer::load(&config, &model, &state).unwrap();
            let (resumed, ..) = train(model, optimizer, stop..8);
            prop_assert_eq!(values(&uninterrupted), values(&resumed));
        }
    }
}
