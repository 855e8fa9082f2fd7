//! Runs that learn from a run, make it smaller, or train it for int4.

use std::fs;

use serde_json::Value;

use crate::project::Project;
use crate::tiny::start_from;

#[test]
fn a_run_learns_from_a_run() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    project.configure("[optimize]\n", "[train.distill]\nteacher = \"tiny-001\"\n\n[optimize]\n");
    let plan = project.succeeds(&["plan", "--until", "train"]);
    assert!(plan.contains("teacher  run tiny-001: "), "{plan}");
    project.succeeds(&["run", "--until", "train"]);
    let stages = project.stages("tiny-002");
    assert_eq!(stages[1], "preprocess skipped: nothing changed");
    assert!(stages[2].contains("train.distill.teacher is new"), "{stages:?}");
    let again = project.succeeds(&["run", "experiments/runs/tiny-002/pipeline.toml", "--until", "train"]);
    assert!(again.starts_with("Nothing to do"), "{again}");

    project.configure("vocab_size = 300", "vocab_size = 290");
    let error = project.fails(1, &["run", "--until", "train"]);
    assert!(error.contains("the tokenizer of train.distill.teacher (tiny-001) is "), "{error}");
    project.configure("teacher = \"tiny-001\"", "teacher = \"latest\"");
    let error = project.fails(1, &["plan"]);
    assert!(error.contains("train.distill.teacher = \"latest\" would be another model"), "{error}");
}

#[test]
fn a_run_is_made_smaller_and_trained_for_int4() {
    let project = Project::new();
    project.configure("n_layer = 1", "n_layer = 2");
    project.succeeds(&["run", "--until", "train"]);
    project.configure("n_layer = 2", "n_layer = 1");
    start_from(&project, "tiny-001");
    let keys = "quantization = \"int4\"\nprune = { layers = 1, d_ff = 64 }\n";
    project.configure("[train]\n", &format!("[train]\n{keys}"));
    project.succeeds(&["run", "--until", "optimize"]);
    let config = fs::read(project.artifact("tiny-002", "train").join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((config["num_hidden_layers"].as_u64(), config["intermediate_size"].as_u64()), (Some(1), Some(64)));

    project.configure("layers = 1", "layers = 2");
    let error = project.fails(1, &["plan"]);
    assert!(error.contains("train.prune.layers: 2 leaves none of the model's 2"), "{error}");
}
