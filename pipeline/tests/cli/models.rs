//! Models from elsewhere: imported, exported, started from; and what is said when they cannot be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::project::{Ended, Project};
use crate::server::{Reply, Request, Server};

/// Tokens of the tiny models.
const VOCAB_SIZE: usize = 50;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files of a model, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Returns a tiny model that transformers made, with a tokenizer that writes a character as a token.
fn tiny(family: &str) -> Files {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(family);
    let names = ["config.json", "generation_config.json", "model.safetensors"];
    let mut files: Files =
        names.iter().map(|name| ((*name).to_owned(), fs::read(folder.join(name)).unwrap())).collect();
    files.insert("tokenizer.json".to_owned(), tokenizer(VOCAB_SIZE));
    files.insert("tokenizer_config.json".to_owned(), b"{\"eos_token\": \"<|endoftext|>\"}\n".to_vec());
    files
}

/// Returns a tiny model whose tokenizer knows the marks of conversations.
fn chatting() -> Files {
    let mut files = tiny("llama");
    let specials = ["<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>"];
    files.insert("tokenizer.json".to_owned(), tokenizer_with(&specials, VOCAB_SIZE));
    files
}

/// Returns a `tokenizer.json` with so many tokens: `<|endoftext|>`, one for what is unknown, and characters.
fn tokenizer(vocab_size: usize) -> Vec<u8> {
    tokenizer_with(&["<|endoftext|>", "<unk>"], vocab_size)
}

/// Returns the same with other special tokens.
fn tokenizer_with(specials: &[&str], vocab_size: usize) -> Vec<u8> {
    let known = " \n/!._():->{}+PRabcdefghilmnoprstuvxz0123456789";
    let others = (0x4e00..).filter_map(char::from_u32);
    let characters = known.chars().chain(others).map(String::from);
    let tokens = specials.iter().map(|token| (*token).to_owned()).chain(characters).take(vocab_size);
    let vocabulary: BTreeMap<String, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let value = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": specials.iter().enumerate().map(|(id, token)| special(id, token)).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": []},
    });
    serde_json::to_vec(&value).unwrap()
}

fn write(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
}

/// Returns a project with the tiny model `family` in its folder `tiny`, whose configuration starts from `init`.
fn project_from(family: &str, init: &str) -> Project {
    let project = Project::new();
    write(&project.path("tiny"), &tiny(family));
    start_from(&project, init);
    project
}

/// Changes the configuration to one that starts from `init`.
fn start_from(project: &Project, init: &str) {
    project.configure("[train]\n", &format!("[train]\ninit = \"{init}\"\n"));
    project.configure("n_layer = 1\nd_model = 32\nn_head = 2\n", "");
    project.configure("[preprocess.tokenizer]\nvocab_size = 300\n", "");
}

/// Changes a JSON file.
fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}

/// Rewrites the header of a safetensors file, whose tensors stay where they are.
fn edit_header(path: &Path, change: impl Fn(&str) -> String) {
    let bytes = fs::read(path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header = change(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
    let parts = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]];
    fs::write(path, parts.concat()).unwrap();
}

/// Returns a model with its weights in two files, each with every other tensor.
fn sharded(mut files: Files) -> Files {
    let bytes = files.remove("model.safetensors").unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut shards = [(serde_json::Map::new(), Vec::new()), (serde_json::Map::new(), Vec::new())];
    let mut weight_map = serde_json::Map::new();
    for (i, (name, tensor)) in header.into_iter().filter(|(name, _)| name != "__metadata__").enumerate() {
        let offset = |i: usize| 8 + length + usize::try_from(tensor["data_offsets"][i].as_u64().unwrap()).unwrap();
        let (tensors, data) = &mut shards[i % 2];
        let start = data.len();
        data.extend(&bytes[offset(0)..offset(1)]);
        let entry = json!({"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": [start, data.len()]});
        weight_map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", i % 2 + 1).into());
        tensors.insert(name, entry);
    }
    for (i, (tensors, data)) in shards.into_iter().enumerate() {
        let header = Value::from(tensors).to_string();
        let content = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        files.insert(format!("model-0000{}-of-00002.safetensors", i + 1), content);
    }
    let index = json!({"metadata": {"total_size": bytes.len() - 8 - length}, "weight_map": weight_map});
    files.insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
    files
}

/// Returns a hub with the model `owner/name`, which has one commit and one branch, `main`.
fn hub(files: Files) -> Server {
    Server::start(move |request| answer(request, "owner/name", &files))
}

fn answer(request: &Request, model: &str, files: &Files) -> Reply {
    let path = request.path();
    if path == format!("/api/models/{model}/revision/main") {
        return Reply::body(format!("{{\"id\": \"{model}\", \"sha\": \"{COMMIT}\"}}"));
    }
    if path == format!("/api/models/{model}/tree/{COMMIT}") {
        let entry = |(name, content): (&String, &Vec<u8>)| json!({"type": "file", "path": name, "size": content.len()});
        return Reply::body(Value::from(files.iter().map(entry).collect::<Vec<_>>()).to_string());
    }
    if path.starts_with(&format!("/api/models/{model}/revision/")) {
        return Reply::status(404).with("X-Error-Code", "RevisionNotFound");
    }
    match path.strip_prefix(&format!("/{model}/resolve/{COMMIT}/")).and_then(|name| files.get(name)) {
        Some(content) => Reply::file(request, content, "\"e\""),
        None => Reply::status(404).with("X-Error-Code", "RepoNotFound"),
    }
}

/// Points the configuration of a project at a hub.
fn use_hub(project: &Project, url: &str) {
    let keys = format!("[collect]\nhub_endpoint = \"{url}\"\nallow_private = true\ndownload_attempts = 1\n\n");
    project.configure("[[collect.sources]]", &format!("{keys}[[collect.sources]]"));
}

/// Runs the program without the token that the user of this machine may have.
fn without_token(project: &Project, arguments: &[&str]) -> Ended {
    let mut command = project.command(arguments);
    command.env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1").env_remove("HF_ENDPOINT");
    Ended::from(command.output().unwrap())
}

#[test]
fn a_folder_is_imported_generated_from_and_exported() {
    for family in ["gpt2", "qwen3"] {
        let project = Project::new();
        write(&project.path("models/tiny"), &tiny(family));
        let out = project.succeeds(&["import", "models/tiny"]);
        project.snapshot(&format!("import_{family}"), &out);
        let arguments = ["generate", "tiny", "pub fn ", "--max-tokens", "8", "--temperature", "0", "--device", "cpu"];
        let text = project.succeeds(&arguments);
        let from_folder = ["generate", "models/tiny"].into_iter().chain(arguments[2..].iter().copied());
        assert_eq!(project.succeeds(&from_folder.collect::<Vec<_>>()), text);

        let out = project.succeeds(&["export", "tiny", "--format", "hf"]);
        project.snapshot(&format!("export_{family}"), &out);
        let exported = project.path("exports/tiny");
        let read = |name: &str| fs::read(exported.join(name)).unwrap();
        assert_eq!(read("tokenizer.json"), tokenizer(VOCAB_SIZE));
        assert!(project.path("exports").read_dir().unwrap().count() == 1, "nothing unfinished is left");

        let error = project.fails(1, &["export", "tiny", "--format", "hf"]);
        project.snapshot("error_export_to_a_full_folder", &error);
        project.write("exports/tiny/notes.txt", "mine");
        project.write("exports/tiny/model-00001-of-00002.safetensors", "of an export before");
        let out = project.succeeds(&["export", "tiny", "--format", "hf", "--dtype", "bf16", "--force"]);
        assert!(out.contains(" in bf16 to exports/tiny\n") && out.contains("not equal to the bit"), "{out}");
        assert!(exported.join("notes.txt").is_file() && !exported.join("model-00001-of-00002.safetensors").exists());
        let config: Value = serde_json::from_slice(&read("config.json")).unwrap();
        assert_eq!(config["dtype"], "bfloat16");
    }
}

#[test]
fn weights_in_several_files_are_those_in_one() {
    let project = Project::new();
    write(&project.path("one"), &tiny("qwen3"));
    write(&project.path("two"), &sharded(tiny("qwen3")));
    let out = project.succeeds(&["import", "two"]);
    assert!(out.contains("24 tensors equal to the bit; largest logit difference 0 "), "{out}");
    let arguments =
        |model| ["generate", model, "pub fn ", "--max-tokens", "8", "--temperature", "0", "--device", "cpu"];
    assert_eq!(project.succeeds(&arguments("two")), project.succeeds(&arguments("one")));
    fs::remove_file(project.path("two/model-00002-of-00002.safetensors")).unwrap();
    project.snapshot("error_import_missing_shard", &project.fails(1, &["import", "two"]));
}

#[test]
fn a_run_starts_from_a_folder_wherever_it_lies() {
    let project = project_from("gpt2", "tiny");
    let plan = project.succeeds(&["plan", "--until", "train"]);
    project.snapshot("plan_with_init", plan.split("\ntraining: ").next().unwrap());
    project.succeeds(&["run", "--until", "optimize"]);
    let repeated = project.succeeds(&["verify", "--rerun"]);
    assert_eq!(repeated.matches("  same  ").count(), 4, "{repeated}");
    let config: Value =
        serde_json::from_slice(&fs::read(project.artifact("tiny-001", "train").join("config.json")).unwrap()).unwrap();
    assert_eq!((config["model_type"].as_str(), config["n_positions"].as_u64()), (Some("gpt2"), Some(64)));
    let passed_on = fs::read(project.artifact("tiny-001", "train").join("tokenizer_config.json")).unwrap();
    assert_eq!(passed_on, tiny("gpt2")["tokenizer_config.json"]);

    let again = project.succeeds(&["run", "experiments/runs/tiny-001/pipeline.toml", "--until", "optimize"]);
    assert!(again.starts_with("Nothing to do: all 4 stages"), "{again}");
    fs::rename(project.path("tiny"), project.path("moved")).unwrap();
    project.configure("init = \"tiny\"", "init = \"moved\"");
    let again = project.succeeds(&["run", "--until", "optimize"]);
    assert!(again.starts_with("Nothing to do: all 4 stages"), "{again}");

    // Other weights train again; the tokens are as they were.
    let other = project.path("exports/other");
    project.succeeds(&["export", "tiny-001", "--format", "hf", "--output", "exports/other"]);
    fs::copy(project.path("moved/tokenizer.json"), other.join("tokenizer.json")).unwrap();
    project.configure("init = \"moved\"", "init = \"exports/other\"");
    project.succeeds(&["run", "--until", "train"]);
    let stages = project.stages("tiny-002");
    assert_eq!(stages[1], "preprocess skipped: nothing changed");
    assert!(stages[2].starts_with("train ran: train.init changed ("), "{stages:?}");
}

#[test]
fn a_run_starts_from_a_run() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    start_from(&project, "tiny-001");
    project.succeeds(&["run", "--until", "evaluate"]);
    let stages = project.stages("tiny-002");
    // A trained tokenizer and the same one taken are two recipes; what comes of them is the same.
    assert!(stages[1].starts_with("preprocess ran: tokenizer of train.init is new"), "{stages:?}");
    assert!(stages[2].contains("train.init is new"), "{stages:?}");
    let digest = |run: &str| project.digest(run, "preprocess", "tokenizer.json");
    assert_eq!(digest("tiny-001"), digest("tiny-002"));

    project.configure("init = \"tiny-001\"", "init = \"latest\"");
    project.snapshot("error_init_latest", &project.fails(1, &["plan"]));
    project.configure("init = \"latest\"", "init = \"tiny-01\"");
    project.snapshot("error_init_unknown", &project.fails(1, &["plan"]));
}

#[test]
fn a_model_of_the_hub_is_pinned_cached_and_found_again_without_the_network() {
    let mut files = tiny("qwen3");
    files.insert("pytorch_model.bin".to_owned(), b"a pickle".to_vec());
    files.insert("README.md".to_owned(), b"---\nlicense: mit\n---\n".to_vec());
    let server = hub(files);
    let project = Project::new();
    start_from(&project, "owner/name");
    use_hub(&project, &server.url);
    let plan = project.succeeds(&["plan", "--until", "train"]);
    project.snapshot("plan_with_init_not_fetched", &plan);
    assert!(server.requests().is_empty(), "plan asks nobody");
    let ended = without_token(&project, &["run", "--until", "train", "--locked"]);
    project.snapshot("error_init_not_locked", &ended.err);
    let ended = without_token(&project, &["run", "--until", "train", "--offline"]);
    project.snapshot("error_init_offline", &ended.err.replace(&server.url, "HUB"));

    let ended = without_token(&project, &["run", "--until", "train"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lock = fs::read_to_string(project.path("model.lock")).unwrap();
    assert!(lock.contains(&format!("commit = \"{COMMIT}\"")) && !lock.contains("pytorch_model.bin"), "{lock}");
    let asked: Vec<String> = server.requests().iter().map(|request| request.target.clone()).collect();
    assert!(!asked.iter().any(|target| target.contains("pytorch_model")), "{asked:?}");
    let again = without_token(&project, &["run", "--until", "train", "--locked", "--offline"]);
    assert!(again.out.starts_with("Nothing to do: all 3 stages"), "{}{}", again.out, again.err);
    fs::remove_dir_all(project.path("experiments/cache")).unwrap();
    let again = without_token(&project, &["run", "--until", "train", "--offline", "--set", "train.steps=6"]);
    assert_eq!(again.code, Some(0), "what is in the store needs no cache: {}", again.err);
    let imported = without_token(&project, &["import", "owner/name"]);
    assert!(imported.out.contains("imported owner/name of the hub, commit 0123456789ab as name\n"), "{}", imported.err);
    let asked_again = server.requests().split_off(asked.len());
    assert!(asked_again.iter().all(|request| request.path().contains(COMMIT)), "the lock says which commit it is");
}

#[test]
fn a_download_that_was_cut_off_goes_on() {
    let files = tiny("gpt2");
    let is_cut = Arc::new(Mutex::new(true));
    let cut = Arc::clone(&is_cut);
    let server = Server::start(move |request| {
        let reply = answer(request, "owner/name", &files);
        if request.path().ends_with("model.safetensors") && *cut.lock().unwrap() { reply.cut(1000) } else { reply }
    });
    let project = Project::new();
    use_hub(&project, &server.url);
    assert_eq!(without_token(&project, &["import", "owner/name"]).code, Some(1));
    assert!(!project.path("model.lock").exists());
    *is_cut.lock().unwrap() = false;
    let ended = without_token(&project, &["import", "owner/name", "--name", "tiny"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let ranges = server.headers_of(&format!("/owner/name/resolve/{COMMIT}/model.safetensors"), "range");
    assert_eq!(ranges, [None, Some("bytes=1000-".to_owned())]);
}

/// Runs a recipe of the hub as it stands, but for a few steps on a few short rows, from a tiny model in place of the real one.
fn check_recipe(name: &str, model: &'static str, family: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = if family == "llama" { chatting() } else { tiny(family) };
    let server = Server::start(move |request| answer(request, model, &files));
    let project = Project::new();
    let recipe = fs::read_to_string(root.join(format!("experiments/{name}.toml"))).unwrap();
    assert!(recipe.contains(&format!("\ninit = \"{model}\"\n")), "{name} starts from {model}");
    let keys = format!("[collect]\nhub_endpoint = \"{}\"\nallow_private = true\n", server.url);
    fs::create_dir_all(project.path("experiments")).unwrap();
    project.write("experiments/recipe.toml", &recipe.replacen("[collect]\n", &keys, 1));
    // The real one is downloaded.
    fs::create_dir_all(project.path("datasets/shakespeare")).unwrap();
    project.write("datasets/shakespeare/dataset.toml", "[[source]]\npath = \"../../texts\"\nlicence = \"CC0-1.0\"\n");
    fs::create_dir_all(project.path("datasets/support-chat")).unwrap();
    for entry in fs::read_dir(root.join("datasets/support-chat")).unwrap().flatten() {
        fs::copy(entry.path(), project.path("datasets/support-chat").join(entry.file_name())).unwrap();
    }
    let smaller = [
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
    let smaller = smaller.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["run", "experiments/recipe.toml", "--set", "device=cpu"].into_iter().chain(smaller).collect();
    let ended = without_token(&project, &arguments);
    assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
    assert_eq!(project.stages(&format!("{name}-001")).len(), 7, "{name} goes through every stage");
}

#[test]
fn the_recipes_of_the_hub_run_from_tiny_models() {
    check_recipe("gpt2-finetune", "openai-community/gpt2", "gpt2");
    check_recipe("smollm-finetune", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama");
    check_recipe("support-chat", "HuggingFaceTB/SmolLM2-135M", "llama");
}

#[test]
fn preferences_go_from_a_file_to_a_served_model() {
    let project = Project::new();
    write(&project.path("tiny"), &chatting());
    start_from(&project, "tiny");
    let pair = |i: usize| -> Value {
        json!({"prompt": format!("is {i} even"), "chosen": format!("{i} is {}", if i.is_multiple_of(2) { "even" } else { "odd" }),
               "rejected": "no idea at all"})
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
    // Before the first step a pair costs ln 2: the model is its own reference.
    assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-4 && losses.last() < Some(&0.6), "{losses:?}");
    assert!(accuracies.last() > Some(&0.9), "{accuracies:?}");
    let answer = project.succeeds(&["generate", "tiny-001", "is 4 even", "--temperature", "0", "--max-tokens", "8"]);
    assert!(!answer.contains("is 4 even"), "an answer without its question: {answer}");
    // What is measured is how well the chosen answers are written, not the rejected ones.
    let report = fs::read(project.artifact("tiny-001", "evaluate").join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let (bytes, tokens) = (&report["validation"]["bytes"], &report["validation"]["checkpoint"]["tokens"]);
    let (bytes, tokens) = (bytes.as_u64().unwrap(), tokens.as_u64().unwrap());
    // A character is a token here, and `<|im_end|>` and the line end after it are two more of each answer.
    assert!(bytes < tokens && tokens < 2 * bytes, "{bytes} bytes of {tokens} tokens");
}

/// Checks the reviewed text of the error when a spoiled folder is imported.
fn check_folder(name: &str, spoil: impl Fn(&Path)) {
    let project = Project::new();
    write(&project.path("tiny"), &tiny("qwen3"));
    spoil(&project.path("tiny"));
    project.snapshot(&format!("error_import_{name}"), &project.fails(1, &["import", "tiny"]));
    let left = project.path("experiments/artifacts/import").read_dir().into_iter().flatten().flatten();
    for folder in left {
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "what cannot be used is not kept");
    }
    assert!(!project.path("experiments/models").exists());
}

fn remove(folder: &Path, name: &str) {
    fs::remove_file(folder.join(name)).unwrap();
}

#[test]
fn folders_that_are_no_models() {
    check_folder("no_config", |folder| remove(folder, "config.json"));
    check_folder("no_tokenizer", |folder| remove(folder, "tokenizer.json"));
    check_folder("only_a_pickle", |folder| {
        fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    });
    check_folder("unsupported_family", |folder| {
        edit(&folder.join("config.json"), |config| config["model_type"] = "mamba".into());
    });
    check_folder("unsupported_option", |folder| {
        edit(&folder.join("config.json"), |config| config["hidden_act"] = "relu".into());
    });
    check_folder("missing_tensor", |folder| {
        let weights = folder.join("model.safetensors");
        edit_header(&weights, |header| header.replace("layers.1.mlp.up_proj.weight", "layers.1.mlp.up_prox.weight"));
    });
    check_folder("wrong_shape", |folder| {
        edit(&folder.join("config.json"), |config| config["intermediate_size"] = 48.into());
    });
    check_folder("cut_off_weights", |folder| {
        let path: PathBuf = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    check_folder("tokenizer_of_another", |folder| fs::write(folder.join("tokenizer.json"), tokenizer(60)).unwrap());
}

/// Checks the reviewed text of the error when a model of a hub that answers `answer` is imported.
fn check_hub(name: &str, model: &str, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
    let server = Server::start(answer);
    let project = Project::new();
    use_hub(&project, &server.url);
    let ended = without_token(&project, &["import", model]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    project.snapshot(&format!("error_hub_{name}"), &ended.err.replace(&server.url, "HUB"));
}

#[test]
fn models_that_the_hub_does_not_give() {
    let files = tiny("gpt2");
    check_hub("revision_gone", "owner/name@v2", move |request| answer(request, "owner/name", &files));
    check_hub("no_such_model", "owner/name", |_| Reply::status(404).with("X-Error-Code", "RepoNotFound"));
    check_hub("gated", "owner/name", |_| Reply::status(401).with("X-Error-Code", "GatedRepo"));
    check_hub("forbidden", "owner/name", |_| Reply::status(403).with("X-Error-Code", "GatedRepo"));
    let mut pickles = tiny("gpt2");
    let weights = pickles.remove("model.safetensors").unwrap();
    pickles.insert("pytorch_model.bin".to_owned(), weights);
    check_hub("only_a_pickle", "owner/name", move |request| answer(request, "owner/name", &pickles));
    check_hub("not_a_hub", "owner/name", |_| Reply::body("<html>"));

    let project = Project::new();
    // Nobody listens on a port that was just let go of.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    use_hub(&project, &format!("http://{closed}"));
    let ended = without_token(&project, &["import", "owner/name"]);
    project.snapshot("error_hub_unreachable", &ended.err.replace(&closed.to_string(), "CLOSED"));
}

/// Checks the reviewed text of the error of a configuration that starts from a model, changed by `spoil`.
fn check_init(name: &str, code: i32, spoil: impl Fn(&Project)) {
    let project = project_from("qwen3", "tiny");
    spoil(&project);
    project.snapshot(&format!("error_init_{name}"), &project.fails(code, &["plan"]));
}

#[test]
fn configurations_that_do_not_fit_their_model() {
    check_init("with_a_shape", 2, |p| p.configure("context_length = 32", "context_length = 32\nn_layer = 2"));
    check_init("context_too_long", 1, |p| p.configure("context_length = 32", "context_length = 65"));
    check_init("larger_tokenizer", 1, |p| {
        p.configure("[train]", "[preprocess.tokenizer]\nvocab_size = 300\n\n[train]");
    });
    check_init("other_tokenizer", 1, |p| {
        fs::write(p.path("other.json"), tokenizer(60)).unwrap();
        p.configure("[train]", "[preprocess.tokenizer]\nfile = \"other.json\"\n\n[train]");
    });
    check_init("nowhere", 1, |p| p.configure("init = \"tiny\"", "init = \"models/of/mine\""));
    check_init("empty", 2, |p| p.configure("init = \"tiny\"", "init = \"\""));
    check_init("tokenizer_without_it", 2, |p| {
        p.configure("init = \"tiny\"\n", "");
        p.configure("[train]", "[preprocess.tokenizer]\nfrom_init = true\n\n[train]");
    });
}
