//! Official clients, each a program in `tests/clients` that checks what it gets. A client that is not installed is
//! skipped with a line that says so; `.ci/run` installs all of them. And Schemathesis, which tests the server by its
//! own description.

use std::path::Path;
use std::process::Command;

use serve::{Config, NewKey, Scope, new_key};

use super::server::Server;

/// Enough for the description of a tool, whose characters are tokens here.
const CONTEXT_LENGTH: usize = 2048;

/// Runs a program with the server's address, a key, and a key for 60 requests a minute. `is_installed` succeeds if the
/// client is there.
fn check(client: &str, mut is_installed: Command, mut program: Command) {
    if !is_installed.output().is_ok_and(|output| output.status.success()) {
        println!("skipped: {client} is not installed");
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
    let config = Config { keys: Some(path), max_tokens: 1_000_000, ..Config::default() };
    let server = Server::of_model(config, CONTEXT_LENGTH, |_| ());
    let output = program.arg(format!("http://{}", server.address)).args([key, limited]).output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let expected = format!(" checks with {client} ");
    assert!(output.status.success() && printed.contains(&expected), "{printed}{errors}");
    println!("{printed}");
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name).display().to_string()
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// `PIPELINE_PYTHON`, else `python3`.
fn python() -> String {
    std::env::var("PIPELINE_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

#[test]
fn openai_python_works_unchanged() {
    let is_installed = command(&python(), &["-c", "import openai"]);
    check("openai", is_installed, command(&python(), &[&script("openai_python.py")]));
}

#[test]
fn langchain_works_unchanged() {
    let is_installed = command(&python(), &["-c", "import langchain_openai"]);
    check("langchain-openai", is_installed, command(&python(), &[&script("langchain_chat.py")]));
}

/// `PIPELINE_NODE`, else `node`; it finds the package in `NODE_PATH`.
#[test]
fn openai_node_works_unchanged() {
    let node = std::env::var("PIPELINE_NODE").unwrap_or_else(|_| "node".to_owned());
    let is_installed = command(&node, &["-e", "require('openai')"]);
    check("openai-node", is_installed, command(&node, &[&script("openai_node.js")]));
}

/// `PIPELINE_ASYNC_OPENAI`, the program that is built from `tests/clients/async-openai`.
#[test]
fn async_openai_works_unchanged() {
    let program = std::env::var("PIPELINE_ASYNC_OPENAI").unwrap_or_else(|_| "async-openai-client".to_owned());
    let is_installed = command(&program, &["--version"]);
    check("async-openai", is_installed, command(&program, &[]));
}

/// Test cases for each route and kind of data, beside those that Schemathesis derives from the limits: as many as fit
/// into half a minute. The variable `SCHEMATHESIS_CASES` sets another number.
const SCHEMATHESIS_CASES: &str = "20";

#[test]
fn schemathesis_finds_no_contract_violation() {
    let python = python();
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
