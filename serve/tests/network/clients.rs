//! Official clients, and Schemathesis: `PIPELINE_PYTHON`, else `python3`, with the packages `openai` and
//! `schemathesis`. Without them the tests say that they are skipped.

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

/// Test cases for each route and kind of data, beside those that Schemathesis derives from the limits: as many as fit
/// into half a minute. The variable `SCHEMATHESIS_CASES` sets another number.
const SCHEMATHESIS_CASES: &str = "20";

#[test]
fn schemathesis_finds_no_contract_violation() {
    let python = std::env::var("PIPELINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_package = Command::new(&python).args(["-c", "import schemathesis"]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} does not have the package schemathesis");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.jsonl");
    let key = NewKey { name: "key".to_owned(), scopes: vec![Scope::Inference], requests_per_minute: None };
    let key = new_key(&keys, key).unwrap();
    // Long prompts fit, and texts are short.
    let config = Config { keys: Some(keys), max_tokens: 16, check_max_tokens: 16, max_choices: 4, ..Config::default() };
    let server = Server::of_model(config, 8192, |_| ());
    let url = format!("http://{}/openapi.json", server.address);
    let arguments = ["-m", "schemathesis.cli", "run", &url, "--checks", "all", "--continue-on-failure", "--seed", "1"];
    let cases = std::env::var("SCHEMATHESIS_CASES").unwrap_or_else(|_| SCHEMATHESIS_CASES.to_owned());
    let mut command = Command::new(python);
    command.args(arguments).args(["-n", &cases, "-H", &format!("Authorization: Bearer {key}")]);
    command.env("SCHEMATHESIS_HOOKS", "openapi_hooks").current_dir(folder.path());
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"));
    let output = command.output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains("Test cases:"), "{printed}{errors}");
    println!("{printed}");
}
