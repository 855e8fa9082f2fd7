//! Scaffolding for tests of the workspace: a local HTTP server, tiny models, recipes of artifacts,
//! fuzzing. A development
//! dependency only.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    reason = "scaffolding of tests fails by panicking, and its fields speak for themselves"
)]

pub mod fuzz;
pub mod media;
pub mod server;
pub mod tiny;

use std::collections::BTreeMap;

use artifact::Recipe;
use serde_json::Value;

/// Returns the recipe of an artifact whose inputs do not matter.
pub fn recipe(stage: &str) -> Recipe {
    Recipe {
        stage: stage.to_owned(),
        stage_version: 1,
        config: Value::Null,
        inputs: BTreeMap::new(),
        seed: 1,
        device_class: None,
    }
}
