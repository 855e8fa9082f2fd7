//! Error messages, as reviewed.

use std::fs;
use std::net::TcpListener;

use crate::project::{Ended, Project};

/// Checks that a command in a project changed by `spoil` fails with `code` and the reviewed text.
fn check(name: &str, code: i32, spoil: impl Fn(&Project), arguments: &[&str]) {
    let project = Project::new();
    spoil(&project);
    let error = project.fails(code, arguments);
    // Progress lines are printed before it.
    let from = error.find("error: ").unwrap_or(0);
    project.snapshot(&format!("error_{name}"), &error[from..]);
}

fn unchanged(_: &Project) {}

#[test]
fn wrong_configurations() {
    check("no_config", 2, unchanged, &["run", "other.toml"]);
    check("unknown_key", 2, |p| p.configure("steps = 12", "setps = 12"), &["run"]);
    check("unknown_key_of_another_table", 2, |p| p.configure("seed = 7", "learning_rate = 1e-3"), &["plan"]);
    check("unknown_table", 2, |p| p.configure("[optimize]", "[optimise]"), &["run"]);
    check("wrong_type", 2, |p| p.configure("steps = 12", "steps = \"twelve\""), &["run"]);
    check("wrong_value", 2, |p| p.configure("batch_size = 2", "batch_size = 0"), &["run"]);
    check("wrong_choice", 2, |p| p.configure("n_layer = 1", "n_layer = 1\nfamily = \"qwen\""), &["run"]);
    check("no_toml", 2, |p| p.configure("[train]", "[train"), &["run"]);
    check("set_unknown_key", 2, unchanged, &["run", "--set", "train.learning_rat=3e-4"]);
    check("set_wrong_type", 2, unchanged, &["run", "--set", "train.steps=many"]);
    check("set_wrong_value", 2, unchanged, &["run", "--set", "train.steps=0"]);
    check("set_without_value", 2, unchanged, &["run", "--set", "train.steps"]);
    check("unknown_device", 2, |p| p.configure("\"cpu\"", "\"gpu\""), &["run"]);
    check("unknown_option", 2, unchanged, &["run", "--untli", "train"]);
    check("unknown_stage", 2, unchanged, &["run", "--until", "trian"]);
}

#[test]
fn formats_that_cannot_be_written() {
    let optimize = |text: &str| {
        let text = format!("[optimize]\n{text}");
        move |p: &Project| p.configure("[optimize]", &text)
    };
    check("formats_unknown", 2, optimize("formats = [\"bf16\", \"int5\"]"), &["run"]);
    check("formats_empty", 2, optimize("formats = []"), &["run"]);
    check("formats_twice", 2, optimize("formats = [\"int8\", \"bf16\", \"int8\"]"), &["run"]);
    check("formats_method_unknown", 2, optimize("formats = \"int4\"\nmethod = \"awq\""), &["run"]);
    check("formats_method_of_floats", 2, optimize("formats = [\"bf16\", \"gguf-f16\"]\nmethod = \"gptq\""), &["run"]);
    check("formats_method_of_int8", 2, optimize("formats = \"int8\"\nmethod = \"importance\""), &["run"]);
    let tokens = "formats = \"int4\"\nmethod = \"nearest\"\ncalibration_tokens = 100";
    check("formats_calibration_of_nearest", 2, optimize(tokens), &["run"]);
    check("formats_negative_limit", 2, unchanged, &["run", "--set", "optimize.gguf-q6_k.max_loss_difference=-1"]);
    check("formats_old_key", 2, optimize("dtype = \"bf16\"\nformats = \"bf16\""), &["run"]);
    let gpt2 = |p: &Project| {
        p.configure("n_layer = 1", "n_layer = 1\nfamily = \"gpt2\"");
        p.configure("[optimize]", "[optimize]\nformats = [\"bf16\", \"int8\"]");
    };
    check("formats_int8_of_gpt2", 2, gpt2, &["run"]);
}

#[test]
fn a_format_beyond_its_limit() {
    let limit = |p: &Project| {
        let limit = "formats = [\"bf16\", \"gguf-q4_0\"]\n[optimize.gguf-q4_0]\nmax_logit_difference = 0\n[evaluate]";
        p.configure("[evaluate]", limit);
    };
    let project = Project::new();
    limit(&project);
    let error = project.fails(1, &["run", "--until", "optimize"]);
    assert!(error.contains("format gguf-q4_0 is too far from the checkpoint: largest logit difference"), "{error}");
    assert!(error.contains("optimize.gguf-q4_0.max_logit_difference allows 0 "), "{error}");
    // Nothing was sealed, and a looser limit continues from the checkpoint.
    let plan = project.succeeds(&["plan", "--until", "optimize"]);
    assert!(plan.contains("     train  skip") && plan.contains("  optimize  run"), "{plan}");
    project.configure("max_logit_difference = 0\n", "max_logit_difference = 100\nmax_loss_difference = 100\n");
    project.succeeds(&["run", "--until", "optimize"]);
    let file = "formats/gguf-q4_0/model.gguf";
    assert!(project.artifact("tiny-002", "optimize").join(file).is_file());
    // The file is a model of its own.
    let path = project.artifact("tiny-002", "optimize").join(file);
    project.succeeds(&["generate", path.to_str().unwrap(), "fn", "--max-tokens", "4", "--device", "cpu"]);
}

#[test]
fn wrong_data() {
    let remove_texts = |p: &Project| fs::remove_dir_all(p.path("texts")).unwrap();
    check("missing_source", 1, remove_texts, &["run"]);
    let empty = |p: &Project| {
        remove_texts(p);
        fs::create_dir(p.path("texts")).unwrap();
    };
    check("empty_dataset", 1, empty, &["run"]);
    let one_text = |p: &Project| {
        empty(p);
        p.write("texts/one.rs", &"fn main() {}\n".repeat(10));
    };
    check("too_few_documents", 1, one_text, &["run"]);
    check("less_than_one_batch", 1, |p| p.configure("batch_size = 2", "batch_size = 2000"), &["run"]);
    let long = |p: &Project| p.configure("context_length = 32", "context_length = 1000000");
    check("context_longer_than_the_data", 1, long, &["run"]);
    let folder = |p: &Project| {
        remove_texts(p);
        p.write("texts", "");
    };
    check("empty_file", 1, folder, &["run"]);
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new();
    let path = project.path("texts/07.rs");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        // Even root, who may read every file, cannot follow a link to itself.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        project.configure("path = \"texts\"", "path = \"texts/07.rs\"");
    }
    let error = project.fails(1, &["run"]);
    assert!(error.starts_with("error: ") && error.contains("texts/07.rs"), "{error}");
}

#[test]
fn wrong_names() {
    check("no_runs", 1, unchanged, &["show"]);
    check("no_model", 1, unchanged, &["generate", "texts", "fn"]);
    let project = Project::new();
    project.succeeds(&["run", "--until", "collect"]);
    project.snapshot("error_unknown_run", &project.fails(1, &["show", "tiny-01"]));
    project.snapshot("error_run_without_a_model", &project.fails(1, &["serve", "tiny-001"]));
}

#[test]
fn a_missing_gpu() {
    let project = Project::new();
    project.configure("\"cpu\"", "\"wgpu\"");
    let without_drivers = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES", "LIBGL_DRIVERS_PATH"]
        {
            command.env(variable, "/nowhere");
        }
        Ended::from(command.output().unwrap())
    };
    if without_drivers(&["doctor"]).out.contains("device  wgpu:") {
        eprintln!("skipped: the drivers of this system cannot be hidden");
        return;
    }
    let ended = without_drivers(&["run"]);
    assert_eq!(ended.code, Some(1));
    project.snapshot("error_no_gpu", &ended.err);
    assert!(!project.path("experiments/runs").exists(), "it is said before anything is done");
}

#[test]
fn text_that_is_not_utf_8_is_decoded_and_counted() {
    let project = Project::new();
    fs::write(project.path("texts/latin.txt"), [b"caf\xe9 ".repeat(30), b"\n".to_vec()].concat()).unwrap();
    project.succeeds(&["run", "--until", "preprocess"]);
    let manifest = fs::read_to_string(project.artifact("tiny-001", "collect").join("manifest.json")).unwrap();
    assert!(manifest.contains("\"decoded_files\": 1"), "{manifest}");
}

#[test]
fn a_truncated_checkpoint() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    let weights = project.artifact("tiny-001", "train").join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let error = project.fails(1, &["generate", "latest", "fn", "--device", "cpu"]);
    project.snapshot("error_truncated_checkpoint", &error);
    let plan = project.succeeds(&["plan", "--until", "train"]);
    assert!(plan.contains("     train  run   files of its artifact are missing or truncated"), "{plan}");
}

#[test]
fn a_port_in_use() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "optimize", "--set", "train.steps=2"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = project.fails(1, &["serve", "latest", "--port", &port, "--device", "cpu"]);
    project.snapshot("error_port_in_use", &error.replace(&port, "PORT"));
}

#[test]
fn keys_are_made_once_for_each_name() {
    let project = Project::new();
    let secret = project.succeeds(&["serve", "--new-key", "alice", "--scope", "inference,admin"]);
    assert!(secret.starts_with("sk-pipeline-"), "{secret}");
    let keys = fs::read_to_string(project.path("keys.jsonl")).unwrap();
    assert!(keys.contains("\"alice\"") && !keys.contains(secret.trim()), "{keys}");
    let error = project.fails(1, &["serve", "--new-key", "alice"]);
    assert!(error.contains("keys.jsonl: the name `alice` is there already"), "{error}");
}

#[test]
fn paths_of_serve_are_relative_to_the_configuration() {
    let project = Project::new();
    project.write("server/pipeline.toml", "[serve]\nkeys = \"own.jsonl\"\n");
    project.succeeds(&["serve", "--new-key", "alice", "--config", "server/pipeline.toml"]);
    assert!(project.path("server/own.jsonl").is_file() && !project.path("own.jsonl").exists());
}

#[test]
fn a_server_needs_no_data() {
    let project = Project::new();
    project.write("pipeline.toml", "[serve]\nport = 0\n[[serve.models]]\nname = \"a\"\nmodel = \"nowhere\"\n");
    for arguments in [&["serve"][..], &["serve", "--config", "pipeline.toml"]] {
        let error = project.fails(1, arguments);
        assert!(error.contains("nowhere") && !error.contains("collect"), "{error}");
    }
    let error = project.fails(2, &["run"]);
    assert!(error.contains("collect.dataset: missing"), "{error}");
}

#[test]
fn serve_without_a_model() {
    let project = Project::new();
    let error = project.fails(1, &["serve"]);
    assert!(error.contains("no model is named") && error.contains("[[serve.models]]"), "{error}");
    project.fails(2, &["serve", "latest", "--new-key", "alice"]);
    project.fails(2, &["serve", "latest", "--tls-cert", "cert.pem"]);
}
