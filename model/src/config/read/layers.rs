//! Which layers have a sliding window, and which have no rotary positions.

use serde_json::{Value, json};

use super::Reader;
use crate::Error;
use crate::config::{Family, LayerAttention};

/// The values of `layer_types`.
pub(in crate::config) const FULL: &str = "full_attention";
pub(in crate::config) const SLIDING: &str = "sliding_attention";

impl Reader<'_> {
    /// Returns the attention of each layer, and the window of those that have one.
    pub(super) fn layers(&self, family: Family, n_layer: usize) -> Result<(Vec<LayerAttention>, Option<usize>), Error> {
        let mut layers = self.published_layers(family, n_layer)?;
        let window = self.window(family)?;
        if window.is_none() {
            for layer in &mut layers {
                layer.sliding = false;
            }
        }
        let Some(types) = self.layer_types(n_layer)? else { return Ok((layers, window)) };
        for (layer, sliding) in layers.iter_mut().zip(types) {
            // Their classes do not read the key: all layers have the window.
            let is_fixed = matches!(family, Family::Llama | Family::Mistral | Family::Phi3 | Family::Olmo2);
            if (is_fixed && sliding != layer.sliding) || (sliding && window.is_none()) {
                let kind = if sliding { SLIDING } else { FULL };
                let reason = if family.architecture().windows {
                    format!("\"{kind}\" does not agree with the sliding window of this model")
                } else {
                    format!("\"{kind}\" is not supported")
                };
                return Err(Error::Config { key: "layer_types", reason });
            }
            layer.sliding = sliding;
        }
        Ok((layers, window))
    }

    /// Returns the window of the layers that have one; None if the configuration switches it off.
    fn window(&self, family: Family) -> Result<Option<usize>, Error> {
        let number = |default| match self.0.get("sliding_window") {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(_) => self.number("sliding_window", None).map(Some),
        };
        match family {
            Family::Gpt2 | Family::Llama | Family::Olmo2 => {
                self.must_be("use_sliding_window", &json!(false))?;
                self.must_be("sliding_window", &Value::Null).map(|()| None)
            }
            Family::Mistral | Family::Gemma2 | Family::Gemma3Text => number(Some(4096)),
            Family::Phi3 => number(None),
            Family::Qwen2 | Family::Qwen3 | Family::SmolLm3 => {
                // A number without the switch has no effect.
                let is_on = self.flag("use_sliding_window", false)?;
                let default = (family != Family::SmolLm3).then_some(4096);
                if is_on { number(default) } else { Ok(None) }
            }
        }
    }

    /// Returns the layers that a family's class describes without `layer_types`.
    fn published_layers(&self, family: Family, n_layer: usize) -> Result<Vec<LayerAttention>, Error> {
        let default = LayerAttention::default();
        Ok(match family {
            Family::Qwen2 | Family::Qwen3 => {
                let first = self.number("max_window_layers", Some(28))?;
                (0..n_layer).map(|i| LayerAttention { sliding: i >= first, ..default }).collect()
            }
            Family::Gemma3Text => {
                let pattern = self.number("sliding_window_pattern", Some(6))?;
                if pattern == 0 {
                    let reason = "0 is not a number of layers".to_owned();
                    return Err(Error::Config { key: "sliding_window_pattern", reason });
                }
                (0..n_layer).map(|i| LayerAttention { sliding: (i + 1) % pattern != 0, ..default }).collect()
            }
            Family::SmolLm3 => {
                let rotary = self.rotary_layers(n_layer)?;
                rotary.into_iter().map(|rotary| LayerAttention { sliding: !rotary, rotary }).collect()
            }
            _ => family.layers(n_layer),
        })
    }

    /// Returns which layers have rotary positions: those with 1 in `no_rope_layers`, or all but every n-th.
    fn rotary_layers(&self, n_layer: usize) -> Result<Vec<bool>, Error> {
        let wrong = |key, reason: String| Err(Error::Config { key, reason });
        match self.0.get("no_rope_layers") {
            None | Some(Value::Null) => match self.number("no_rope_layer_interval", Some(4))? {
                0 => wrong("no_rope_layer_interval", "0 is not a number of layers".to_owned()),
                n => Ok((0..n_layer).map(|i| !(i + 1).is_multiple_of(n)).collect()),
            },
            Some(Value::Array(values)) if values.len() >= n_layer => {
                let other = values.iter().find(|value| !matches!(value.as_u64(), Some(0 | 1)));
                match other {
                    Some(other) => wrong("no_rope_layers", format!("{other} is neither 0 nor 1")),
                    None => Ok(values.iter().take(n_layer).map(|value| *value == 1).collect()),
                }
            }
            Some(other) => wrong("no_rope_layers", format!("{other} does not describe {n_layer} layers")),
        }
    }

    /// Returns which layers have a sliding window according to `layer_types`, if it is there.
    fn layer_types(&self, n_layer: usize) -> Result<Option<Vec<bool>>, Error> {
        let wrong = |reason: String| Err(Error::Config { key: "layer_types", reason });
        let types = match self.0.get("layer_types") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(types)) if types.len() == n_layer => types,
            Some(other) => return wrong(format!("{other} does not describe {n_layer} layers")),
        };
        match types.iter().find(|kind| *kind != FULL && *kind != SLIDING) {
            Some(other) => wrong(format!("{other} is not supported, only {FULL} and {SLIDING}")),
            None => Ok(Some(types.iter().map(|kind| *kind == SLIDING).collect())),
        }
    }
}
