//! The `[train.prune]` table.

use model::ModelConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How much smaller the model of `train.init` becomes before it is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneConfig {
    /// The number of layers to remove: one after the other, each time the one without which the validation loss is
    /// lowest. Default 0.
    pub layers: usize,
    /// The width of the feed-forward layers; the neurons stay that contribute most to their layer's output on the
    /// validation split. Default: that of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
}

impl PruneConfig {
    /// Checks that the table asks for something.
    ///
    /// # Errors
    /// Returns an error that names the table if it has no effect.
    pub fn validate(&self) -> Result<(), Error> {
        if *self == Self::default() {
            let reason = "removes nothing; give the number of layers to remove, or d_ff".to_owned();
            return Err(Error::Config { key: "train.prune".to_owned(), reason });
        }
        Ok(())
    }

    /// Returns the shape of a model after pruning.
    ///
    /// # Errors
    /// Returns an error that names the key that the model is too small for.
    pub fn shape(&self, model: &ModelConfig) -> Result<ModelConfig, Error> {
        let invalid = |key: &str, reason| Err(Error::Config { key: format!("train.prune.{key}"), reason });
        if self.layers >= model.n_layer {
            return invalid("layers", format!("{} leaves none of the model's {}", self.layers, model.n_layer));
        }
        let d_ff = self.d_ff.unwrap_or(model.d_ff);
        if d_ff == 0 || d_ff > model.d_ff {
            return invalid("d_ff", format!("{d_ff} is not between 1 and the model's {}", model.d_ff));
        }
        let n_layer = model.n_layer - self.layers;
        let layers = model.layers.iter().take(n_layer).copied().collect();
        Ok(ModelConfig { n_layer, layers, d_ff, ..model.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn what_cannot_be_removed_is_named() {
        let model = Config::default().model_config(256, None).unwrap();
        let (n_layer, d_ff) = (model.n_layer, model.d_ff);
        let check = |prune: PruneConfig, expected: &str| {
            let error = prune.validate().and_then(|()| prune.shape(&model)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(PruneConfig::default(), "train.prune: removes nothing; give the number of layers to remove, or d_ff");
        let all = format!("train.prune.layers: {n_layer} leaves none of the model's {n_layer}");
        check(PruneConfig { layers: n_layer, d_ff: None }, &all);
        let wide = format!("train.prune.d_ff: {} is not between 1 and the model's {d_ff}", d_ff + 1);
        check(PruneConfig { layers: 0, d_ff: Some(d_ff + 1) }, &wide);
        let pruned = PruneConfig { layers: 1, d_ff: Some(8) }.shape(&model).unwrap();
        assert_eq!((pruned.n_layer, pruned.d_ff), (n_layer - 1, 8));
        let config = Config { prune: Some(PruneConfig { layers: 1, d_ff: None }), ..Config::default() };
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "train.prune: has an effect only with train.init, whose model it makes smaller");
    }
}
