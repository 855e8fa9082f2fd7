//! Official clients: `PIPELINE_PYTHON`, else `python3`, with the package `openai`. Without it the test says that it is
//! skipped.

use std::path::Path;
use std::process::Command;

use serve::{Config, NewKey, Scope, new_key};

use super::server::Server;

#[test]
fn openai_python_works_unchanged() {
    let python = std::env::var("PIPELINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_package = Command::new(&python).args(["-c", "import openai"]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} does not have the package openai");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let key = |name: &str, requests_per_minute: Option<u32>| {
        let requests_per_minute = requests_per_minute.map(|limit| limit.try_into().unwrap());
        let key = NewKey { name: name.to_owned(), scopes: vec![Scope::Inference], requests_per_minute };
        new_key(&path, key).unwrap()
    };
    let (key, limited) = (key("key", None), key("limited", Some(60)));
    let server = Server::start(Config { keys: Some(path), ..Config::default() });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openai_python.py");
    let url = format!("http://{}", server.address);
    let output = Command::new(python).arg(script).args([&url, &key, &limited]).output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains(" checks with openai "), "{printed}{errors}");
    println!("{printed}");
}
