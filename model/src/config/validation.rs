//! Validation: which configurations this crate builds.

use super::{Activation, Bias, Family, ModelConfig, Softcaps};
use crate::Error;

/// The largest valid size: larger than that of any existing model, and its products are far from overflow.
pub(super) const MAX_SIZE: usize = 1 << 24;

impl ModelConfig {
    /// Checks the values, and that they are consistent.
    ///
    /// # Errors
    /// Names the first field that is not valid.
    pub fn validate(&self) -> Result<(), Error> {
        const MAX_PARAMETERS: u128 = 1 << 40;
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let positive = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head),
            ("head_dim", self.head_dim),
            ("d_ff", self.d_ff),
            ("context_length", self.context_length),
        ];
        for (key, value) in positive {
            if value == 0 || value > MAX_SIZE {
                return wrong(key, format!("{value} is not between 1 and {MAX_SIZE}"));
            }
        }
        let max_width = self.vocab_size.max(self.d_ff).max(self.n_head * self.head_dim).max(self.context_length);
        if (max_width * self.d_model) as u128 * (self.n_layer as u128 + 1) > MAX_PARAMETERS {
            return wrong("d_model", format!("{} gives a model of over {MAX_PARAMETERS} parameters", self.d_model));
        }
        if !self.n_head.is_multiple_of(self.n_kv_head) {
            return wrong("n_kv_head", format!("{} does not divide n_head = {}", self.n_kv_head, self.n_head));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return wrong("norm_epsilon", format!("{} is not between 0 and 1", self.norm_epsilon));
        }
        self.validate_options()?;
        if self.family.is_rotary() { self.validate_rotary() } else { self.validate_learned() }
    }

    /// Checks the options that a family decides or limits.
    fn validate_options(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let (name, architecture) = (self.family.model_type(), self.family.architecture());
        for (key, bias, found) in [
            ("attention_bias", architecture.attention_bias, self.attention_bias),
            ("mlp_bias", architecture.mlp_bias, self.mlp_bias),
        ] {
            if bias != Bias::Optional && found != (bias == Bias::Always) {
                return wrong(key, format!("must be {} in {name}", !found));
            }
        }
        if !architecture.activations.contains(&self.activation) {
            let expected = match architecture.activations[0] {
                Activation::Swiglu => "SwiGLU",
                Activation::Geglu => "GeGLU",
                Activation::GeluTanh | Activation::Gelu => "a GELU",
            };
            return wrong("activation", format!("must be {expected} in {name}"));
        }
        for (key, is_allowed, value) in [
            ("attention_softcap", architecture.softcaps == Softcaps::LogitsAndScores, self.attention_softcap),
            ("logit_softcap", architecture.softcaps != Softcaps::None, self.logit_softcap),
            ("query_pre_attn_scalar", architecture.scaled_embeddings, self.query_pre_attn_scalar),
            ("local_rope_theta", self.family == Family::Gemma3Text, self.local_rope_theta),
        ] {
            let Some(value) = value else { continue };
            if !is_allowed {
                return wrong(key, format!("must be absent in {name}"));
            }
            if !(value > 0.0 && value.is_finite()) {
                return wrong(key, format!("{value} is not a positive number"));
            }
        }
        if self.family == Family::Gemma3Text && self.local_rope_theta.is_none() {
            return wrong("local_rope_theta", format!("is missing in {name}"));
        }
        self.validate_layers()
    }

    fn validate_layers(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let (name, n_layer) = (self.family.model_type(), self.n_layer);
        if !self.layers.is_empty() && self.layers.len() != n_layer {
            return wrong("layers", format!("{} are described, the model has {n_layer}", self.layers.len()));
        }
        let has_sliding = self.layers.iter().any(|layer| layer.sliding);
        if has_sliding && !self.family.architecture().windows {
            return wrong("sliding_window", format!("must be absent in {name}"));
        }
        if self.layers.iter().any(|layer| !layer.rotary) && self.family != Family::SmolLm3 {
            return wrong("layers", format!("all must have positions in {name}"));
        }
        match self.sliding_window {
            Some(0) => wrong("sliding_window", "0 is not a number of tokens".to_owned()),
            Some(window) if !has_sliding => wrong("sliding_window", format!("{window}, but no layer has a window")),
            None if has_sliding => wrong("sliding_window", "is missing".to_owned()),
            _ => Ok(()),
        }
    }

    fn validate_learned(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let name = self.family.model_type();
        if self.n_kv_head != self.n_head {
            wrong("n_kv_head", format!("must equal n_head = {} in {name}", self.n_head))
        } else if self.head_dim * self.n_head != self.d_model {
            wrong("head_dim", format!("must be d_model / n_head = {} in {name}", self.d_model / self.n_head))
        } else if self.rope_scaling.is_some() {
            wrong("rope_scaling", format!("must be absent in {name}, which has learned positions"))
        } else {
            Ok(())
        }
    }

    fn validate_rotary(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let name = self.family.model_type();
        // transformers does not load others.
        let whole_heads = matches!(self.family, Family::Llama | Family::Gemma2 | Family::Gemma3Text);
        let rotary_dim = self.rotary_dim();
        if self.rotary_dim.is_some_and(|_| self.family != Family::Phi3) {
            wrong("rotary_dim", format!("must be absent in {name}"))
        } else if rotary_dim == self.head_dim && !rotary_dim.is_multiple_of(2) {
            wrong("head_dim", format!("{rotary_dim} is odd; rotary positions need pairs"))
        } else if !rotary_dim.is_multiple_of(2) || rotary_dim == 0 || rotary_dim > self.head_dim {
            wrong("rotary_dim", format!("{rotary_dim} is not an even number up to head_dim = {}", self.head_dim))
        } else if whole_heads && !self.d_model.is_multiple_of(self.n_head) {
            wrong("n_head", format!("{} must divide d_model = {} in {name}", self.n_head, self.d_model))
        } else if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            wrong("rope_theta", format!("{} is not a positive number", self.rope_theta))
        } else if let Some(problem) = self.rope_scaling.and_then(|scaling| scaling.problem(rotary_dim)) {
            wrong("rope_scaling", problem)
        } else if self.rope_scaling.is_some() && self.family == Family::Phi3 {
            wrong("rope_scaling", format!("must be absent in {name}"))
        } else {
            Ok(())
        }
    }

    /// Checks that the model can read `tokens` tokens at once.
    ///
    /// # Errors
    /// Returns an error with both numbers if it cannot.
    pub fn check_context(&self, tokens: usize) -> Result<(), Error> {
        if (1..=self.context_length).contains(&tokens) {
            return Ok(());
        }
        let n = self.context_length;
        let unit = if self.family.is_rotary() { "tokens of the model's context" } else { "learned positions" };
        let reason = format!("{tokens} is not between 1 and the {n} {unit}");
        Err(Error::Config { key: "context_length", reason })
    }
}
