//! The recipes of `experiments/`, and preference tuning: from data to a served model, with models of a few thousand
//! parameters.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::project::Project;
use crate::tiny::{COMMIT, answer, chatting, start_from, tiny, without_token, write};
use test_support::server::{Reply, Server};

/// Overrides that make a recipe short: a few steps on a few short rows.
const SHORT: [&str; 15] = [
    "train.steps=4",
    "train.batch_size=4",
    "train.micro_batches=2",
    "train.warmup_steps=1",
    "train.validation_every=2",
    "train.validation_tokens=512",
    "train.model.context_length=64",
    "optimize.parity_tokens=256",
    "evaluate.max_tokens=512",
    "evaluate.samples=2",
    "evaluate.sample_tokens=8",
    "generate.samples_per_prompt=1",
    "generate.max_tokens=8",
    "serve.check_requests=1",
    "serve.check_max_tokens=4",
];

fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments")
}

/// Runs a shortened recipe with this hub and overrides.
fn check_recipe(project: &Project, name: &str, hub: &Server, set: &[&str]) {
    let recipe = fs::read_to_string(experiments().join(format!("{name}.toml"))).unwrap();
    let keys = format!("hub_endpoint = \"{}\"\nallow_private = true\n", hub.url);
    let recipe = if recipe.contains("\n[collect]\n") {
        recipe.replacen("[collect]\n", &format!("[collect]\n{keys}"), 1)
    } else {
        recipe.replacen("[[collect.sources]]", &format!("[collect]\n{keys}\n[[collect.sources]]"), 1)
    };
    project.write("experiments/recipe.toml", &recipe);
    let mut arguments = vec!["run", "experiments/recipe.toml", "--set", "device=cpu"];
    arguments.extend(SHORT.iter().chain(set).flat_map(|set| ["--set", set]));
    let ended = without_token(project, &arguments);
    assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
    assert_eq!(project.stages(&format!("{name}-001")).len(), 8, "{name} goes through every stage");
}

/// Runs a recipe that fine-tunes a model of the Hub, with a tiny one in its place.
fn check_fine_tuning(name: &str, model: &'static str, family: &str) {
    let files = if family == "llama" { chatting() } else { tiny(family) };
    let server = Server::start(move |request| answer(request, model, &files));
    let recipe = fs::read_to_string(experiments().join(format!("{name}.toml"))).unwrap();
    assert!(recipe.contains(&format!("\ninit = \"{model}\"\n")), "{name} starts from {model}");
    check_recipe(&project_with_datasets(), name, &server, &[]);
}

/// Returns a project with the datasets of the recipes.
fn project_with_datasets() -> Project {
    let project = Project::new();
    // The real dataset is downloaded.
    project.write("datasets/shakespeare/dataset.toml", "[[source]]\npath = \"../../texts\"\nlicence = \"CC0-1.0\"\n");
    for name in ["support-chat", "lessons-zh"] {
        for entry in fs::read_dir(experiments().join("../datasets").join(name)).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            project.write(&format!("datasets/{name}/{}", entry.file_name().to_str().unwrap()), &text);
        }
    }
    project
}

#[test]
fn the_pretraining_recipes_run() {
    let project = project_with_datasets();
    let no_hub = Server::start(|_| Reply::status(404));
    for name in ["shakespeare-char", "shakespeare-char-gpu", "lessons-zh", "own-code"] {
        check_recipe(&project, name, &no_hub, &["preprocess.validation=0.15", "preprocess.test=0.15"]);
    }
}

#[test]
fn the_recipes_of_quantised_formats_run() {
    let project = project_with_datasets();
    project.write("datasets/rust-crates/dataset.toml", "[[source]]\npath = \"../../texts\"\nlicence = \"MIT\"\n");
    let no_hub = Server::start(|_| Reply::status(404));
    let split = ["preprocess.validation=0.15", "preprocess.test=0.15"];
    let smaller = [
        "preprocess.tokenizer.vocab_size=300",
        "train.model.n_layer=1",
        "train.model.n_head=2",
        "train.model.d_model=32",
        "train.model.d_ff=64",
    ];
    check_recipe(&project, "formats", &no_hub, &[&split[..], &smaller].concat());
    check_recipe(&project, "int4", &no_hub, &[&split[..], &["train.init=formats-001"]].concat());
}

#[test]
fn the_fine_tuning_recipes_run_from_tiny_models() {
    check_fine_tuning("gpt2-finetune", "openai-community/gpt2", "gpt2");
    check_fine_tuning("smollm-finetune", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama");
    check_fine_tuning("support-chat", "HuggingFaceTB/SmolLM2-135M", "llama");
}

#[test]
fn the_recipe_of_gpt_2_runs_on_a_tiny_dataset_of_the_hub() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "collect"]);
    let rows = fs::read(project.artifact("tiny-001", "collect").join("documents-00000.parquet")).unwrap();
    let page = "/HuggingFaceFW/fineweb-edu";
    let server = Server::start(move |request| {
        let file = "sample/10BT/000_00000.parquet";
        match request.path() {
            path if path == format!("/api/datasets{page}/revision/main") => {
                Reply::body(json!({"id": &page[1..], "sha": COMMIT}).to_string())
            }
            path if path == format!("/api/datasets{page}/tree/{COMMIT}") => Reply::body(
                json!([{"type": "file", "path": file, "size": rows.len()},
                       {"type": "file", "path": "data/CC-MAIN-2013-20/train-00000-of-00014.parquet", "size": 1}])
                .to_string(),
            ),
            path if path == format!("/datasets{page}/resolve/{COMMIT}/{file}") => Reply::file(request, &rows, "\"e\""),
            _ => Reply::status(404).with("X-Error-Code", "EntryNotFound"),
        }
    });
    let smaller = [
        "preprocess.validation=0.15",
        "preprocess.test=0.15",
        "preprocess.tokenizer.vocab_size=300",
        "train.model.n_layer=1",
        "train.model.n_head=2",
        "train.model.d_model=32",
    ];
    check_recipe(&project, "gpt2-124m", &server, &smaller);
}

#[test]
fn preferences_go_from_a_file_to_a_served_model() {
    let project = Project::new();
    write(&project.path("tiny"), &chatting());
    start_from(&project, "tiny");
    let pair = |i: usize| -> Value {
        let parity = if i.is_multiple_of(2) { "even" } else { "odd" };
        json!({"prompt": format!("is {i} even"), "chosen": format!("{i} is {parity}"), "rejected": "no idea at all"})
    };
    let lines: Vec<String> = (0..80).map(|i| pair(i).to_string()).collect();
    project.write("pairs.jsonl", &lines.join("\n"));
    project.configure("path = \"texts\"", "path = \"pairs.jsonl\"\nchat = \"preference\"");
    project.configure("[preprocess]\n", "[preprocess]\nsteps = []\n");
    project.configure("context_length = 32", "context_length = 64");
    project.configure("[optimize]", "[train.dpo]\nbeta = 0.5\n\n[optimize]");
    project.configure("[generate]\n", "[generate]\nchat = true\n");
    project.succeeds(&["run"]);
    let metrics = fs::read_to_string(project.artifact("tiny-001", "train").join("metrics.jsonl")).unwrap();
    let measured: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| measured.iter().filter_map(|line| line[key].as_f64()).collect::<Vec<_>>();
    let (losses, accuracies) = (of("validation_loss"), of("validation_accuracy"));
    // Before the first step the loss of a pair is ln 2: the model is its own reference.
    assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-4 && losses.last() < Some(&0.6), "{losses:?}");
    assert!(accuracies.last() > Some(&0.9), "{accuracies:?}");
    let answer = project.succeeds(&["generate", "tiny-001", "is 4 even", "--temperature", "0", "--max-tokens", "8"]);
    assert!(!answer.contains("is 4 even"), "an answer without its question: {answer}");
    // Bits per byte are measured on the chosen answers, not on the rejected ones.
    let report = fs::read(project.artifact("tiny-001", "evaluate").join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let (bytes, tokens) = (&report["validation"]["bytes"], &report["validation"]["checkpoint"]["tokens"]);
    let (bytes, tokens) = (bytes.as_u64().unwrap(), tokens.as_u64().unwrap());
    // Each character is a token here; `<|im_end|>` and the line end after it are two more per answer.
    assert!(bytes < tokens && tokens < 2 * bytes, "{bytes} bytes of {tokens} tokens");
}
