//! Imported and exported models, training from them, and the errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::project::Project;
use crate::tiny::{
    COMMIT, Files, VOCAB_SIZE, answer, chatting, hub, project_from, start_from, tiny, tokenizer, use_hub,
    without_token, write,
};
use test_support::server::{Reply, Request, Server};

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
        assert!(out.contains(" in bf16 to exports/tiny\n") && out.contains("not bit-identical"), "{out}");
        assert!(exported.join("notes.txt").is_file() && !exported.join("model-00001-of-00002.safetensors").exists());
        let config: Value = serde_json::from_slice(&read("config.json")).unwrap();
        assert_eq!(config["dtype"], "bfloat16");
    }
}

#[test]
fn an_export_that_fails_leaves_nothing() {
    let project = Project::new();
    let mut files = tiny("gpt2");
    files.insert("tokenizer.json".to_owned(), b"{}".to_vec());
    write(&project.path("models/tiny"), &files);
    for format in ["hf", "gguf"] {
        let error = project.fails(1, &["export", "models/tiny", "--format", format]);
        assert!(error.contains("tokenizer.json"), "{error}");
        assert_eq!(project.path("exports").read_dir().unwrap().count(), 0, "{format}");
    }
}

/// The files are of llama.cpp's converter, see `registry/tests/fixtures`: in f32, and quantised.
#[test]
fn a_gguf_file_is_generated_from_where_it_is() {
    let project = Project::new();
    let entries = || fs::read_dir(project.path(".")).unwrap().count();
    let before = entries();
    for name in ["llama", "qwen2"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../registry/tests/fixtures/{name}.gguf"));
        let file = file.to_str().unwrap();
        let arguments =
            |model| ["generate", model, "pub fn ", "--max-tokens", "8", "--temperature", "0", "--device", "cpu"];
        let text = project.succeeds(&arguments(file));
        assert!(name != "llama" || entries() == before, "nothing is imported");
        project.succeeds(&["import", file]);
        assert_eq!(project.succeeds(&arguments(name)), text, "{name}");
    }
}

#[test]
fn sharded_weights_equal_those_in_one_file() {
    let project = Project::new();
    write(&project.path("one"), &tiny("qwen3"));
    write(&project.path("two"), &sharded(tiny("qwen3")));
    let out = project.succeeds(&["import", "two"]);
    assert!(out.contains("24 tensors bit-identical; largest logit difference 0 "), "{out}");
    let arguments =
        |model| ["generate", model, "pub fn ", "--max-tokens", "8", "--temperature", "0", "--device", "cpu"];
    assert_eq!(project.succeeds(&arguments("two")), project.succeeds(&arguments("one")));
    fs::remove_file(project.path("two/model-00002-of-00002.safetensors")).unwrap();
    project.snapshot("error_import_missing_shard", &project.fails(1, &["import", "two"]));
}

#[test]
fn shards_are_read_by_every_stage() {
    let project = Project::new();
    write(&project.path("tiny"), &sharded(tiny("qwen3")));
    project.succeeds(&["import", "tiny"]);
    start_from(&project, "tiny");
    project.configure("save_every = 3\n", "save_every = 3\nmax_shard_bytes = 10_000\n");
    project.succeeds(&["run"]);
    assert_eq!(project.stages("tiny-001").len(), 8);
    let shards = |folder: &Path| -> Vec<String> {
        assert!(folder.join("model.safetensors.index.json").is_file(), "{}", folder.display());
        assert!(!folder.join("model.safetensors").exists(), "{}", folder.display());
        let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut shards: Vec<String> = names.filter(|name| name.starts_with("model-0")).collect();
        shards.sort_unstable();
        shards
    };
    let trained = shards(&project.artifact("tiny-001", "train"));
    assert!(trained.len() > 2, "{trained:?}");
    assert_eq!(shards(&project.artifact("tiny-001", "optimize")), trained);

    // Another configuration trains to the same weights in one file, and has the same figures and texts.
    let samples = |run| fs::read_to_string(project.artifact(run, "generate").join("samples.jsonl")).unwrap();
    let report = |run| {
        let text = fs::read(project.artifact(run, "evaluate").join("report.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    project.configure("max_shard_bytes = 10_000\n", "");
    project.succeeds(&["run"]);
    assert_eq!(samples("tiny-001"), samples("tiny-002"));
    assert_eq!(report("tiny-001")["test"], report("tiny-002")["test"]);

    // The shards start a training too, and are exported.
    for run in ["tiny-001", "tiny-002"] {
        project.succeeds(&["export", run, "--format", "hf"]);
    }
    let exported = |run: &str| fs::read(project.path("exports").join(run).join("model.safetensors")).unwrap();
    assert_eq!(exported("tiny-001"), exported("tiny-002"));
    project.configure("init = \"tiny\"", "init = \"tiny-001\"");
    project.succeeds(&["run", "--until", "train"]);
}

#[test]
fn conversations_have_a_system_prompt_and_come_from_files() {
    let project = Project::new();
    write(&project.path("tiny"), &chatting());
    let generate = |arguments: &[&str]| -> Vec<Value> {
        let options = ["--max-tokens", "4", "--temperature", "0", "--device", "cpu", "--out", "samples.jsonl"];
        project.succeeds(&[&["generate", "tiny"], arguments, &options].concat());
        let lines = fs::read_to_string(project.path("samples.jsonl")).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let plain = &generate(&["a", "--chat"])[0];
    assert!(plain["prompt"] == "a" && plain.get("messages").is_none(), "{plain}");
    let with_system = &generate(&["a", "--system", "bcd"])[0];
    let messages = json!([{"role": "system", "content": "bcd"}, {"role": "user", "content": "a"}]);
    assert_eq!((&with_system["prompt"], &with_system["messages"]), (&json!("a"), &messages));
    let tokens = |sample: &Value| sample["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(with_system) > tokens(plain) + 3, "{with_system}");

    let lines = [json!({ "messages": messages }), json!({"prompt": "a"}), json!({"prompt": "<|im_start|>"})];
    project.write("prompts.jsonl", &lines.map(|line| line.to_string()).join("\n"));
    let found = generate(&["--prompts", "prompts.jsonl"]);
    assert_eq!(found[0]["text"], with_system["text"]);
    assert_eq!([&found[1], &found[2]].map(tokens), [1, 1], "special tokens are read in a prompt");
    assert_eq!(generate(&["--prompts", "prompts.jsonl", "--chat"])[1]["prompt_tokens"], plain["prompt_tokens"]);
}

#[test]
fn a_run_starts_from_a_folder_anywhere() {
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
    let passed_on: Value = serde_json::from_slice(&passed_on).unwrap();
    assert_eq!(passed_on["eos_token"], "<|endoftext|>");

    let again = project.succeeds(&["run", "experiments/runs/tiny-001/pipeline.toml", "--until", "optimize"]);
    assert!(again.starts_with("Nothing to do: all 4 stages"), "{again}");
    fs::rename(project.path("tiny"), project.path("moved")).unwrap();
    project.configure("init = \"tiny\"", "init = \"moved\"");
    let again = project.succeeds(&["run", "--until", "optimize"]);
    assert!(again.starts_with("Nothing to do: all 4 stages"), "{again}");

    // With other weights, training reruns; the tokens are unchanged.
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
    // A trained tokenizer and the same one from the model are two recipes with the same result.
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
    assert!(server.requests().is_empty(), "plan sends no request");
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
    assert!(imported.out.contains("imported owner/name of the Hub, commit 0123456789ab as name\n"), "{}", imported.err);
    let asked_again = server.requests().split_off(asked.len());
    assert!(asked_again.iter().all(|request| request.path().contains(COMMIT)), "the lock says which commit it is");
}

#[test]
fn an_interrupted_download_resumes() {
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

/// Checks the reviewed error of importing a damaged folder.
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
fn folders_that_are_not_models() {
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

/// Checks the reviewed error of importing a model from a hub that replies `answer`.
fn check_hub(name: &str, model: &str, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
    let server = Server::start(answer);
    let project = Project::new();
    use_hub(&project, &server.url);
    let ended = without_token(&project, &["import", model]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    project.snapshot(&format!("error_hub_{name}"), &ended.err.replace(&server.url, "HUB"));
}

#[test]
fn models_that_the_hub_refuses() {
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
    // No server listens on a port that was just released.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    use_hub(&project, &format!("http://{closed}"));
    let ended = without_token(&project, &["import", "owner/name"]);
    project.snapshot("error_hub_unreachable", &ended.err.replace(&closed.to_string(), "CLOSED"));
}

/// Checks the reviewed error of a configuration with `train.init`, changed by `spoil`.
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
