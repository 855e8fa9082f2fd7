//! Rotary positions: their base, their scaling, and the part of a head that they rotate.

use serde_json::{Map, Value, json};

use super::layers::{FULL, SLIDING};
use super::{Defaults, Reader};
use crate::Error;
use crate::config::{Family, RopeScaling};

/// A table of rotary positions and its key.
type Table<'a> = (&'static str, &'a Map<String, Value>);

/// The rotary positions of a model.
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) scaling: Option<RopeScaling>,
    pub(super) local_theta: Option<f64>,
    pub(super) rotary_dim: Option<usize>,
}

impl Rope {
    fn new(theta: f64, scaling: Option<RopeScaling>) -> Self {
        Self { theta, scaling, local_theta: None, rotary_dim: None }
    }

    /// Returns the longest sequence: `max_position_embeddings`, except that it is the context before `dynamic` scaling.
    pub(super) fn context_length(&self, max_position_embeddings: usize) -> usize {
        match self.scaling {
            Some(RopeScaling::Dynamic { factor, .. }) => (max_position_embeddings as f64 * factor) as usize,
            _ => max_position_embeddings,
        }
    }
}

impl Reader<'_> {
    /// Returns the rotary positions. transformers 4 has the scaling in `rope_scaling`, which in transformers 5 takes
    /// precedence over `rope_parameters`; a base inside the table takes precedence over the one outside.
    pub(super) fn rope(&self, family: Family, head_dim: usize) -> Result<Rope, Error> {
        let partial = family == Family::Phi3;
        if !partial {
            self.must_be("partial_rotary_factor", &json!(1.0))?;
            // Only some versions give it precedence over the one in the table; `phi3` needs it for `longrope` alone.
            self.must_be("original_max_position_embeddings", &Value::Null)?;
        }
        let theta = self.float("rope_theta", Some(Defaults::of(family).rope_theta))?;
        let fraction = self.float("partial_rotary_factor", Some(1.0))?;
        if family == Family::Gemma3Text {
            return self.rope_by_layer(theta);
        }
        let (mut rope, fraction) = match self.table()? {
            Some((key, table)) => {
                let (rope, fraction) = self.rope_table(key, table, theta, partial.then_some(fraction))?;
                if partial && rope.scaling.is_some() {
                    let reason = "rope_type: only `default` is supported in phi3".to_owned();
                    return Err(Error::Config { key, reason });
                }
                (rope, fraction)
            }
            None => (Rope::new(theta, None), fraction),
        };
        if fraction < 1.0 {
            rope.rotary_dim = Some((head_dim as f64 * fraction) as usize);
        } else if fraction > 1.0 {
            let reason = format!("{fraction} is more than 1");
            return Err(Error::Config { key: "partial_rotary_factor", reason });
        }
        Ok(rope)
    }

    /// Returns the first of both tables that is not empty, with its key.
    fn table(&self) -> Result<Option<Table<'_>>, Error> {
        for key in ["rope_scaling", "rope_parameters"] {
            match self.0.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Object(table)) if table.is_empty() => {}
                Some(Value::Object(table)) => return Ok(Some((key, table))),
                Some(other) => return Err(Error::Config { key, reason: format!("{other} is not a JSON object") }),
            }
        }
        Ok(None)
    }

    /// Returns the rotary positions of a family whose layers with a sliding window have a base of their own and no
    /// scaling: `rope_parameters` has a table for each kind of layer, and `rope_scaling` adds to that of the others.
    fn rope_by_layer(&self, theta: f64) -> Result<Rope, Error> {
        let local_theta = self.float("rope_local_base_freq", Some(10_000.0))?;
        let mut rope = Rope { local_theta: Some(local_theta), ..Rope::new(theta, None) };
        let key = "rope_parameters";
        match self.0.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(tables)) => {
                let kinds = [FULL, SLIDING];
                if let Some(other) = tables.keys().find(|kind| !kinds.contains(&kind.as_str())) {
                    let reason = format!("`{other}` is not one of {}, which have a table each", kinds.join(", "));
                    return Err(Error::Config { key, reason });
                }
                let table = |kind: &str| tables.get(kind).and_then(Value::as_object);
                if let Some(table) = table(FULL) {
                    rope = Rope { local_theta: rope.local_theta, ..self.rope_table(key, table, theta, None)?.0 };
                }
                if let Some(table) = table(SLIDING) {
                    let local = self.rope_table(key, table, local_theta, None)?.0;
                    if local.scaling.is_some() {
                        let reason = format!("{SLIDING}: only the rope_type `default` is supported");
                        return Err(Error::Config { key, reason });
                    }
                    rope.local_theta = Some(local.theta);
                }
            }
            Some(other) => return Err(Error::Config { key, reason: format!("{other} is not a JSON object") }),
        }
        if let Some(("rope_scaling", table)) = self.table()? {
            let scaled = self.rope_table("rope_scaling", table, rope.theta, None)?.0;
            rope = Rope { local_theta: rope.local_theta, ..scaled };
        }
        Ok(rope)
    }

    /// Returns the positions that a table describes, and the fraction of a head that they rotate, which may differ from
    /// 1 if `fraction`, that outside the table, is given.
    fn rope_table(
        &self,
        key: &'static str,
        table: &Map<String, Value>,
        theta: f64,
        fraction: Option<f64>,
    ) -> Result<(Rope, f64), Error> {
        let context = self.number("max_position_embeddings", None)?;
        Reader(table).rope_in_table(theta, context, fraction).map_err(|e| match e {
            Error::Config { key: inner, reason } => Error::Config { key, reason: format!("{inner}: {reason}") },
            other => other,
        })
    }

    fn rope_in_table(&self, theta: f64, context: usize, fraction: Option<f64>) -> Result<(Rope, f64), Error> {
        let old_name = self.text("type", Some("default"))?;
        let kind = self.text("rope_type", Some(old_name))?;
        let factor = || self.float("factor", None);
        let original = || self.number("original_max_position_embeddings", Some(context));
        let (scaling, keys): (_, &[&str]) = match kind {
            "default" => (None, &[]),
            "linear" => (Some(RopeScaling::Linear { factor: factor()? }), &["factor"]),
            "dynamic" => {
                let original_context_length = context;
                (Some(RopeScaling::Dynamic { factor: factor()?, original_context_length }), &["factor"])
            }
            "llama3" => {
                let scaling = RopeScaling::Llama3 {
                    factor: factor()?,
                    low_freq_factor: self.float("low_freq_factor", None)?,
                    high_freq_factor: self.float("high_freq_factor", None)?,
                    original_context_length: original()?,
                };
                let keys = &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"];
                (Some(scaling), keys)
            }
            "yarn" => (Some(self.yarn(context, original()?)?), &YARN),
            other => {
                let reason = format!("`{other}` is not supported, only default, linear, llama3, yarn and dynamic");
                return Err(Error::Config { key: "rope_type", reason });
            }
        };
        if fraction.is_none() {
            self.must_be("partial_rotary_factor", &json!(1.0))?;
        }
        let known = ["type", "rope_type", "rope_theta", "partial_rotary_factor"];
        for (key, value) in self.0.iter().filter(|(_, value)| !value.is_null()) {
            if !known.contains(&key.as_str()) && !keys.contains(&key.as_str()) {
                let reason = format!("`{key}` = {value} has no meaning in `{kind}`");
                return Err(Error::Config { key: "rope_type", reason });
            }
        }
        let fraction = self.float("partial_rotary_factor", Some(fraction.unwrap_or(1.0)))?;
        Ok((Rope::new(self.float("rope_theta", Some(theta))?, scaling), fraction))
    }

    fn yarn(&self, context: usize, original_context_length: usize) -> Result<RopeScaling, Error> {
        let factor = self.float("factor", Some(context as f64 / original_context_length as f64))?;
        // The paper's recommendation, and that of DeepSeek-V2 with its two keys.
        let scale = |m: f64| if factor <= 1.0 { 1.0 } else { (0.1 * m).mul_add(factor.ln(), 1.0) };
        let [mscale, mscale_all_dim] = [self.float("mscale", Some(0.0))?, self.float("mscale_all_dim", Some(0.0))?];
        let default =
            if mscale == 0.0 || mscale_all_dim == 0.0 { scale(1.0) } else { scale(mscale) / scale(mscale_all_dim) };
        Ok(RopeScaling::Yarn {
            factor,
            original_context_length,
            attention_factor: self.float("attention_factor", Some(default))?,
            beta_fast: self.float("beta_fast", Some(32.0))?,
            beta_slow: self.float("beta_slow", Some(1.0))?,
            truncate: self.flag("truncate", true)?,
        })
    }
}

/// The keys of a table of `YaRN`.
const YARN: [&str; 8] = [
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
];
