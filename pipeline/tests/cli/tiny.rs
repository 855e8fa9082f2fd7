//! Tiny models, and a hub that has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::project::{Ended, Project};
use test_support::server::{Reply, Request, Server};

/// Tokens of the tiny models.
pub const VOCAB_SIZE: usize = 50;

/// The one commit of the hub.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files of a model, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Returns a tiny model made by transformers, with a tokenizer of single characters.
pub fn tiny(family: &str) -> Files {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(family);
    let names = ["config.json", "generation_config.json", "model.safetensors"];
    let mut files: Files =
        names.iter().map(|name| ((*name).to_owned(), fs::read(folder.join(name)).unwrap())).collect();
    files.insert("tokenizer.json".to_owned(), tokenizer(VOCAB_SIZE));
    files.insert("tokenizer_config.json".to_owned(), b"{\"eos_token\": \"<|endoftext|>\"}\n".to_vec());
    files
}

/// Returns a tiny model whose tokenizer has the special tokens of conversations.
pub fn chatting() -> Files {
    let mut files = tiny("llama");
    let specials = ["<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>"];
    files.insert("tokenizer.json".to_owned(), tokenizer_with(&specials, VOCAB_SIZE));
    files
}

/// Returns a `tokenizer.json` with `count` tokens: `<|endoftext|>`, one for unknown characters, and characters.
pub fn tokenizer(vocab_size: usize) -> Vec<u8> {
    tokenizer_with(&["<|endoftext|>", "<unk>"], vocab_size)
}

/// Returns the same with other special tokens.
pub fn tokenizer_with(specials: &[&str], vocab_size: usize) -> Vec<u8> {
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

/// Writes the files of a model into a folder.
pub fn write(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
}

/// Returns a project with the tiny model `family` in its folder `tiny`, whose configuration starts from `init`.
pub fn project_from(family: &str, init: &str) -> Project {
    let project = Project::new();
    write(&project.path("tiny"), &tiny(family));
    start_from(&project, init);
    project
}

/// Changes the configuration to one that starts from `init`.
pub fn start_from(project: &Project, init: &str) {
    project.configure("[train]\n", &format!("[train]\ninit = \"{init}\"\n"));
    project.configure("n_layer = 1\nd_model = 32\nn_head = 2\n", "");
    project.configure("[preprocess.tokenizer]\nvocab_size = 300\n", "");
}

/// Returns a hub with the model `owner/name`, which has one commit and one branch, `main`.
pub fn hub(files: Files) -> Server {
    Server::start(move |request| answer(request, "owner/name", &files))
}

/// Replies like a hub with one model.
pub fn answer(request: &Request, model: &str, files: &Files) -> Reply {
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
pub fn use_hub(project: &Project, url: &str) {
    let keys = format!("[collect]\nhub_endpoint = \"{url}\"\nallow_private = true\ndownload_attempts = 1\n\n");
    project.configure("[[collect.sources]]", &format!("{keys}[[collect.sources]]"));
}

/// Runs the program without the token that the user of this machine may have.
pub fn without_token(project: &Project, arguments: &[&str]) -> Ended {
    let mut command = project.command(arguments);
    command.env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1").env_remove("HF_ENDPOINT");
    Ended::from(command.output().unwrap())
}
