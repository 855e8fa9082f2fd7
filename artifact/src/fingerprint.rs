//! The fingerprint of a stage: the digest of everything that determines its output.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;

/// Everything that determines the output of a stage. Its digest is the fingerprint, the name of the artifact's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The stage's name: `collect`, `preprocess`, ….
    pub stage: String,
    /// A constant of the stage's crate, raised when its output changes for the same inputs.
    pub stage_version: u32,
    /// The stage's resolved configuration, without values that cannot change the output.
    pub config: Value,
    /// Digests of the inputs, by name: upstream artifacts and sources of the data.
    pub inputs: BTreeMap<String, Digest>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// `cpu` or the kind of GPU backend; `None` if the output does not depend on it.
    pub device_class: Option<String>,
}

impl Recipe {
    /// Returns the fingerprint.
    pub fn fingerprint(&self) -> Digest {
        Digest::of_json(&serde_json::json!({
            "stage": self.stage,
            "stage_version": self.stage_version,
            "config": self.config,
            "inputs": self.inputs,
            "seed": self.seed,
            "device_class": self.device_class,
        }))
    }

    /// Returns the differences from an earlier recipe of the same stage, the most important ones first.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, digest) in &self.inputs {
            match earlier.inputs.get(name) {
                None => changes.push(Change::InputAdded(name.clone())),
                Some(old) if old != digest => {
                    changes.push(Change::Input { name: name.clone(), from: *old, to: *digest });
                }
                Some(_) => {}
            }
        }
        for name in earlier.inputs.keys().filter(|name| !self.inputs.contains_key(*name)) {
            changes.push(Change::InputRemoved(name.clone()));
        }
        compare(&self.stage, &earlier.config, &self.config, &mut changes);
        if self.seed != earlier.seed {
            changes.push(Change::Value { key: "seed".to_owned(), from: earlier.seed.into(), to: self.seed.into() });
        }
        if self.device_class != earlier.device_class {
            changes.push(Change::Value {
                key: "device".to_owned(),
                from: earlier.device_class.clone().into(),
                to: self.device_class.clone().into(),
            });
        }
        if self.stage_version != earlier.stage_version {
            changes.push(Change::Value {
                key: format!("version of stage {}", self.stage),
                from: earlier.stage_version.into(),
                to: self.stage_version.into(),
            });
        }
        changes
    }
}

fn compare(key: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                compare(&format!("{key}.{name}"), old.get(name).unwrap_or(&Value::Null), value, changes);
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                compare(&format!("{key}.{name}"), value, &Value::Null, changes);
            }
        }
        _ if from == to => {}
        _ => changes.push(Change::Value { key: key.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

/// One difference between two recipes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The content of an input changed.
    Input {
        /// Its name.
        name: String,
        /// Its old digest.
        from: Digest,
        /// Its new digest.
        to: Digest,
    },
    /// A new input.
    InputAdded(String),
    /// An input that was removed.
    InputRemoved(String),
    /// A configured value changed.
    Value {
        /// Its dotted key.
        key: String,
        /// The old value.
        from: Value,
        /// The new value.
        to: Value,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { name, from, to } => write!(f, "{name} changed ({} → {})", from.short(), to.short()),
            Self::InputAdded(name) => write!(f, "{name} is new"),
            Self::InputRemoved(name) => write!(f, "{name} was removed"),
            Self::Value { key, from, to } => write!(f, "{key} was {from}, is {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recipe(config: Value) -> Recipe {
        Recipe {
            stage: "train".to_owned(),
            stage_version: 1,
            config,
            inputs: [("tokens".to_owned(), Digest::of(b"tokens"))].into(),
            seed: 1,
            device_class: Some("cpu".to_owned()),
        }
    }

    fn check(now: &Recipe, expected: &[&str]) {
        let then = recipe(json!({"steps": 10, "model": {"n_layer": 2}}));
        let changes: Vec<String> = now.changes_since(&then).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert_eq!(now.fingerprint() == then.fingerprint(), expected.is_empty());
    }

    #[test]
    fn every_difference_is_named() {
        let same = recipe(json!({"model": {"n_layer": 2}, "steps": 10}));
        check(&same, &[]);
        check(&recipe(json!({"steps": 20, "model": {"n_layer": 2}})), &["train.steps was 10, is 20"]);
        check(&recipe(json!({"steps": 10, "model": {}})), &["train.model.n_layer was 2, is null"]);
        check(&Recipe { seed: 2, ..same.clone() }, &["seed was 1, is 2"]);
        check(&Recipe { device_class: Some("wgpu".to_owned()), ..same.clone() }, &["device was \"cpu\", is \"wgpu\""]);
        check(&Recipe { stage_version: 2, ..same.clone() }, &["version of stage train was 1, is 2"]);
        check(
            &Recipe { inputs: [("tokens".to_owned(), Digest::of(b"other"))].into(), ..same.clone() },
            &[&format!("tokens changed ({} → {})", Digest::of(b"tokens").short(), Digest::of(b"other").short())],
        );
        check(&Recipe { inputs: BTreeMap::new(), ..same }, &["tokens was removed"]);
    }
}
