//! The web page in Chromium: `PIPELINE_PLAYWRIGHT` is the folder of the npm package `playwright-core`,
//! `PIPELINE_CHROMIUM` the browser and `PIPELINE_NODE`, else `node`, runs the script. Without the first two the test
//! says that it is skipped.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use serve::{Config, NewKey, Scope, new_key};

use super::server::{Server, write_index};

/// An application whose texts would be HTML if the page made them so.
const HOSTILE: &str = r#"
name = "<img src=x onerror=ran=1>"
description = "<script>ran = 1</script>"
template = "{text}"
[[fields]]
name = "text"
label = "<b>Text</b>"
kind = "text"
"#;

#[test]
fn page_works_in_chromium() {
    let (Ok(playwright), Ok(chromium)) = (std::env::var("PIPELINE_PLAYWRIGHT"), std::env::var("PIPELINE_CHROMIUM"))
    else {
        println!("skipped: PIPELINE_PLAYWRIGHT and PIPELINE_CHROMIUM do not name playwright-core and Chromium");
        return;
    };
    let node = std::env::var("PIPELINE_NODE").unwrap_or_else(|_| "node".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.jsonl");
    let key = NewKey { name: "page".to_owned(), scopes: vec![Scope::Inference], requests_per_minute: None };
    let key = new_key(&keys, key).unwrap();
    let applications = folder.path().join("applications");
    fs::create_dir(&applications).unwrap();
    fs::write(applications.join("hostile.toml"), HOSTILE).unwrap();

    let config = Config { max_tokens: 1_000_000, ..Config::default() };
    let open = Server::of_model(Config { applications: Some(applications), ..config.clone() }, 8192, |folder| {
        let documents = ["// é → 日本 🦀\nlet mut total = 0;\n// one <b>more</b> time\n", "fn main() {}\n"];
        write_index(folder, &documents, &trace::Config::default());
    });
    let keyed =
        Server::with_models(Config { keys: Some(keys), ..config.clone() }, &[("pipeline", true), ("other", true)]);
    let base = Config { example_prompts: vec!["let mut".to_owned()], ..config };
    let base = Server::of_model(base, 8192, remove_chat_template);

    let url = |server: &Server| format!("http://{}", server.address);
    let servers = json!({"open": url(&open), "keyed": url(&keyed), "base": url(&base), "key": key});
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/page.mjs");
    let output = Command::new(node)
        .arg(script)
        .arg(servers.to_string())
        .env("PIPELINE_PLAYWRIGHT", playwright)
        .env("PIPELINE_CHROMIUM", chromium)
        .output()
        .unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains(" checks in "), "{printed}{errors}");
    println!("{printed}");
}

/// Makes a model one that only continues texts: without a template, and without the tokens that imply one.
fn remove_chat_template(folder: &Path) {
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).unwrap().replace("<|im_start|>", "<|other|>");
        let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
        file.as_object_mut().unwrap().remove("chat_template");
        fs::write(path, file.to_string()).unwrap();
    }
}
