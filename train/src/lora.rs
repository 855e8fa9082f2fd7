//! What of a model is trained: all of it, all but frozen parts, or adapters beside it; and how each is saved.

use std::path::Path;

use model::lora::{self, LoraConfig};
use model::{Dtype, Transformer, checkpoint, freeze};

use crate::Error;

/// The folder of the finished checkpoint that has the adapters in PEFT's layout, beside the merged model.
pub const FOLDER: &str = "adapter";

/// Returns the model made ready for training: with the parts frozen whose paths begin with the names of `train.freeze`, or
/// with the adapters of `[train.lora]`. The same seed gives the same adapters.
///
/// # Errors
/// Names the key that makes no sense, or that names no part of this model.
pub fn attach(
    model: Transformer,
    frozen: &[String],
    adapters: Option<&LoraConfig>,
    seed: u64,
) -> Result<Transformer, Error> {
    if let Some(config) = adapters {
        if !frozen.is_empty() {
            let reason = "has no use beside train.lora, which freezes all but its adapters".to_owned();
            return Err(Error::Config { key: "train.freeze".to_owned(), reason });
        }
        return lora::attach(model, config, seed).map_err(|e| keyed("train.lora.", e));
    }
    freeze(model, frozen).map_err(|e| keyed("train.", e))
}

/// Checks that the values of `[train.lora]` make sense by themselves.
///
/// # Errors
/// Names the first key that does not.
pub fn validate(config: &LoraConfig) -> Result<(), Error> {
    config.validate().map_err(|e| keyed("train.lora.", e))
}

/// Writes what is trained of a model: its adapters where it has some, with the name of their base, else all of it.
///
/// # Errors
/// When the disk refuses.
pub fn save(model: &Transformer, base: &str, folder: &Path) -> Result<(), Error> {
    if lora::is_attached(model) {
        return Ok(lora::save(model, base, folder)?);
    }
    Ok(checkpoint::save(model, folder, Dtype::F32)?)
}

/// Reads what [`save`] wrote into a model that [`attach`] made ready the same way; it is as ready then.
///
/// # Errors
/// When a file is missing, damaged, or of another model.
pub fn load(model: &Transformer, frozen: &[String], folder: &Path) -> Result<Transformer, Error> {
    if lora::is_attached(model) {
        return Ok(lora::load(model.clone(), folder)?);
    }
    let model = checkpoint::load_with_config(folder, model.config(), &model.device())?;
    freeze(model, frozen).map_err(|e| keyed("train.", e))
}

/// Returns the model with its adapters merged in, itself where it has none.
pub fn whole(model: &Transformer) -> Transformer {
    if lora::is_attached(model) { lora::merged(model.clone()) } else { model.clone() }
}

/// Puts the configuration's path before a key.
fn keyed(table: &str, error: model::Error) -> Error {
    match error {
        model::Error::Config { key, reason } => Error::Config { key: format!("{table}{key}"), reason },
        other => Error::Model(other),
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, Tensor};
    use model::named_parameters;
    use proptest::prelude::*;

    use super::*;
    use crate::batches::MicroBatch;
    use crate::gradients::{Loss, Workers};
    use crate::optimizer::{self, Optimizer};
    use crate::{Config, Model, OptimizerKind};

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
                starts: None,
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
            let loss =
                Loss { z_loss: 0.0, dropout: 0.0, seed: 3, step, activations: model::ActivationCheckpointing::Off };
            let (loss, gradients) = workers.gradients(&model, &batches(step), &loss).unwrap();
            losses.push(loss);
            model = optimizer.step(0.01, model, gradients, 1.0);
        }
        (model, optimizer, losses)
    }

    /// Every value of a model, adapters too, with its path.
    fn values(model: &Transformer) -> Vec<(String, Vec<u32>)> {
        struct Values(Vec<(String, Vec<u32>)>);
        impl named_parameters::Visitor for Values {
            fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
                let values: Vec<f32> = param.val().inner().try_into_vec_as().unwrap();
                self.0.push((path.to_owned(), values.into_iter().map(f32::to_bits).collect()));
            }
        }
        let mut values = Values(Vec::new());
        named_parameters::visit(model, &mut values);
        values.0
    }

    fn changed(before: &Transformer, after: &Transformer) -> Vec<String> {
        let pairs = values(before).into_iter().zip(values(after));
        pairs.filter(|(one, two)| one != two).map(|((path, _), _)| path).collect()
    }

    #[test]
    fn training_moves_what_is_not_frozen_and_nothing_else() {
        let check = |frozen: &[&str], adapters: Option<&LoraConfig>, moves: &dyn Fn(&str) -> bool| {
            let frozen: Vec<String> = frozen.iter().map(|name| (*name).to_owned()).collect();
            let before = attach(start(1), &frozen, adapters, 2).unwrap();
            let (after, optimizer, losses) = train(before.clone(), Optimizer::new(&config()), 0..30);
            assert!(losses[29] < losses[0] - 0.1, "{frozen:?}: {} after {}", losses[29], losses[0]);
            let expected: Vec<String> =
                values(&before).into_iter().map(|(path, _)| path).filter(|path| moves(path)).collect();
            assert_eq!(changed(&before, &after), expected, "{frozen:?}");
            // Nor has anything else a state.
            let folder = tempfile::tempdir().unwrap();
            optimizer.save(&after, &folder.path().join(optimizer::FILE)).unwrap();
            let bytes = std::fs::read(folder.path().join(optimizer::FILE)).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let of = |name: &str| expected.iter().any(|path| name.starts_with(path.as_str()));
            assert!(file.names().into_iter().all(of), "{frozen:?}: {:?}", file.names());
        };
        check(&[], None, &|_| true);
        check(&["embed_tokens", "layers.0"], None, &|path| !path.starts_with("embed") && !path.starts_with("layers.0"));
        check(&[], Some(&adapters()), &|path| path.contains(".lora."));
    }

    #[test]
    fn frozen_parts_and_adapters_exclude_each_other() {
        let error = attach(start(1), &["norm".to_owned()], Some(&adapters()), 2).unwrap_err().to_string();
        assert_eq!(error, "train.freeze: has no use beside train.lora, which freezes all but its adapters");
        let error = attach(start(1), &["head".to_owned()], None, 2).unwrap_err().to_string();
        assert_eq!(error, "train.freeze: `head` is not a part of this model; its parts are embed_tokens, layers, norm");
        let error = validate(&LoraConfig { rank: 0, ..adapters() }).unwrap_err().to_string();
        assert_eq!(error, "train.lora.rank: must be at least 1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn a_resumed_training_reaches_the_same_bits(stop in 1..7u64, with_adapters: bool) {
            let (adapters, frozen) = (adapters(), ["layers.1".to_owned()]);
            let (adapters, frozen): (_, &[String]) = if with_adapters { (Some(&adapters), &[]) } else { (None, &frozen) };
            let ready = || attach(start(1), frozen, adapters, 2).unwrap();
            let (whole, ..) = train(ready(), Optimizer::new(&config()), 0..8);

            let folder = tempfile::tempdir().unwrap();
            let state = folder.path().join(optimizer::FILE);
            let (model, optimizer, _) = train(ready(), Optimizer::new(&config()), 0..stop);
            save(&model, "base", folder.path()).unwrap();
            optimizer.save(&model, &state).unwrap();
            let model = load(&ready(), frozen, folder.path()).unwrap();
            let optimizer = Optimizer::load(&config(), &model, &state).unwrap();
            let (resumed, ..) = train(model, optimizer, stop..8);
            prop_assert_eq!(values(&whole), values(&resumed));
        }
    }
}
