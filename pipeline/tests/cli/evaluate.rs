//! `evaluate`, of models in folders and on a server, with tasks in files and on the Hub.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use test_support::server::{Reply, Server};

use crate::project::{Ended, Project};
use crate::tiny::{COMMIT, chatting, hub, use_hub, without_token, write};

/// All characters are in the vocabulary of the tiny models: others have no place in the text that a server repeats.
const TASK: &str = r#"output_type = "multiple_choice"
data = "items.jsonl"
doc_to_text = "the dog "
doc_to_target = "right"
doc_to_choice = "choices"
target_delimiter = ""
"#;

const ITEMS: &str = r#"{"choices": ["is red", "has a tree", "a"], "right": 0}
{"choices": ["eats", "b", "cc"], "right": 2}
"#;

fn project() -> Project {
    let project = Project::new();
    write(&project.path("tiny"), &chatting());
    project.write("tasks/dogs.toml", TASK);
    project.write("tasks/items.jsonl", ITEMS);
    project
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_folder_is_asked_tasks_and_a_text() {
    let project = project();
    project.write("text.txt", "the dog is in the garden");
    let ask = |more: &[&str]| {
        let arguments = ["evaluate", "tiny", "--tasks", "tasks/dogs.toml,english", "--limit", "2", "--device", "cpu"];
        project.succeeds(&[&arguments, more].concat())
    };
    let table = ask(&["--out", "answers.jsonl"]);
    for part in ["dogs", "english", "acc ↑", "acc_norm ↑", "95 % interval"] {
        assert!(table.contains(part), "{table}");
    }
    let answers = std::fs::read_to_string(project.path("answers.jsonl")).unwrap();
    assert_eq!(answers.lines().count(), 4);
    assert_eq!(json(answers.lines().next().unwrap())["responses"].as_array().unwrap().len(), 3);
    let found = json(&ask(&["--json", "--text", "text.txt"]));
    assert_eq!((found["tasks"][0]["items"].as_u64(), found["text"]["bytes"].as_u64()), (Some(2), Some(24)));
    // The answers are kept by model.
    assert_eq!(project.path("experiments/answers").read_dir().unwrap().count(), 1);
    assert_eq!(json(&ask(&["--json", "--force"]))["tasks"], found["tasks"]);

    let error = project.fails(1, &["evaluate", "tiny", "--tasks", "tasks/cats.toml"]);
    assert!(error.contains("tasks/cats.toml"), "{error}");
    let error = project.fails(1, &["evaluate", "tiny", "--tasks", "cats"]);
    assert!(error.contains("one of english, chinese, code, python_functions"), "{error}");
}

#[test]
fn gguf_files_and_models_of_the_hub_are_asked_tasks() {
    let project = project();
    let ask = |model: &str| {
        let arguments = ["evaluate", model, "--tasks", "tasks/dogs.toml", "--json", "--device", "cpu"];
        let asked = without_token(&project, &arguments);
        assert_eq!(asked.code, Some(0), "{}", asked.err);
        json(&asked.out)["tasks"].clone()
    };
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/tests/fixtures/llama.gguf");
    assert_eq!(ask(file.to_str().unwrap())[0]["items"], 2);
    let server = hub(chatting());
    use_hub(&project, &server.url);
    assert_eq!(ask("owner/name"), ask("tiny"));
}

#[test]
fn what_is_no_model_is_named() {
    let project = project();
    let check = |model: &str, expected: &[&str]| {
        let error = project.fails(1, &["evaluate", model]);
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    check(
        "./no-such",
        &["there is no model ./no-such", "GGUF", "experiments", "owner/name", "http://", "pipeline runs"],
    );
    check("no-such.gguf", &["there is no model no-such.gguf"]);
    check("pipeline.toml", &["pipeline.toml is not a GGUF file"]);
    check("tasks", &["tasks has neither config.json (a model) nor run.json (a run)"]);
    check("no-such", &["there is no run no-such"]);
}

#[test]
fn code_of_a_model_is_run_only_if_that_is_allowed() {
    let project = project();
    let arguments = ["evaluate", "tiny", "--tasks", "python_functions", "--device", "cpu", "--limit", "1"];
    let error = project.fails(1, &arguments);
    assert!(error.contains("allow_code_execution = true") && error.contains("--allow-code-execution"), "{error}");
    let allowed = [&arguments[..], &["--allow-code-execution"]].concat();
    let mut command = project.command(&allowed);
    let asked = Ended::from(command.env("PATH", project.path("tasks")).output().unwrap());
    let missing = asked.err.contains("python3 is needed") || !cfg!(target_os = "linux");
    assert!(asked.code == Some(1) && missing, "{}", asked.err);
}

#[test]
fn items_of_a_run_are_divided_by_its_index() {
    let project = Project::new();
    project.succeeds(&[
        "run",
        "--until",
        "evaluate",
        "--set",
        "evaluate.tasks=[\"code\"]",
        "--set",
        "evaluate.task_limit=4",
    ]);
    let table = project.succeeds(&["evaluate", "latest", "--device", "cpu"]);
    assert!(table.contains("clean") && table.contains("overlapping") && table.contains("of 4"), "{table}");
}

/// A server that ends with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_answers_as_its_model_does() {
    let project = project();
    // A port that was just released.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = project.command(&["serve", "tiny", "--port", &port, "--device", "cpu"]);
    let _served = Served(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let address = format!("http://127.0.0.1:{port}");
    let ask =
        |model: &str| project.pipeline(&["evaluate", model, "--tasks", "tasks/dogs.toml", "--json", "--out", "out"]);
    let mut answered = ask(&address);
    for _ in 0..100 {
        if answered.code == Some(0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        answered = ask(&address);
    }
    assert_eq!(answered.code, Some(0), "{}", answered.err);
    let answers = || std::fs::read_to_string(project.path("out")).unwrap();
    let of_server = answers();
    let of_folder = ask("tiny");
    assert_eq!(json(&answered.out)["tasks"], json(&of_folder.out)["tasks"]);
    for (server, folder) in of_server.lines().map(json).zip(answers().lines().map(json)) {
        for (server, folder) in
            server["responses"].as_array().unwrap().iter().zip(folder["responses"].as_array().unwrap())
        {
            let number = |value: &Value| value["log_likelihood"].as_f64().unwrap();
            assert!((number(server) - number(folder)).abs() < 1e-4, "{server} {folder}");
        }
    }
}

/// `items.parquet` was written by `pyarrow.parquet` 26, with the columns `question`, `choices` and `answer`.
#[test]
fn a_dataset_of_the_hub_is_fetched_once() {
    let parquet = include_bytes!("items.parquet");
    let server = Server::start(move |request| match request.path() {
        "/api/datasets/owner/data/revision/refs%2Fconvert%2Fparquet" => {
            Reply::body(format!("{{\"id\": \"owner/data\", \"sha\": \"{COMMIT}\"}}"))
        }
        path if path == format!("/api/datasets/owner/data/tree/{COMMIT}") => {
            let file = |split: &str| {
                format!(r#"{{"type": "file", "path": "en/{split}/0000.parquet", "size": {}}}"#, parquet.len())
            };
            Reply::body(format!("[{}, {}]", file("train"), file("validation")))
        }
        path if path == format!("/datasets/owner/data/resolve/{COMMIT}/en/validation/0000.parquet") => {
            Reply::file(request, parquet, "\"e\"")
        }
        _ => Reply::status(404).with("X-Error-Code", "EntryNotFound"),
    });
    let project = project();
    use_hub(&project, &server.url);
    let task = "dataset_path: owner/data\ndataset_name: en\ntraining_split: train\nvalidation_split: validation\n\
                output_type: multiple_choice\ndoc_to_text: \"{{question}}\"\ndoc_to_target: answer\n\
                doc_to_choice: \"{{choices}}\"\n";
    project.write("letters.yaml", task);
    let ask = |split: &str| {
        project.write(
            "letters.yaml",
            &task.replace("validation_split: validation", &format!("validation_split: {split}")),
        );
        without_token(&project, &["evaluate", "tiny", "--tasks", "letters.yaml", "--json", "--device", "cpu"])
    };
    let asked = ask("validation");
    assert_eq!(asked.code, Some(0), "{}", asked.err);
    assert_eq!(json(&asked.out)["tasks"][0]["items"], 3);
    assert!(std::fs::read_to_string(project.path("tasks.lock")).unwrap().contains(COMMIT));
    let requests = server.requests().len();
    assert_eq!(ask("validation").out, asked.out);
    assert_eq!(server.requests().len(), requests, "what is locked and cached is not asked for again");
    let error = ask("test").err;
    assert!(error.contains("has no split en/test; it has en/train, en/validation"), "{error}");
}

#[test]
fn other_models_are_inputs_of_the_report() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "evaluate"]);
    let guard = "[evaluate.risk.classifier]\nmodel = \"tiny-001\"\nprompt = \"{text}\"\n";
    project.configure("[evaluate]\n", &format!("{guard}\n[evaluate]\nreference_model = \"tiny-001\"\n"));
    let plan = project.succeeds(&["plan", "--until", "evaluate"]);
    assert!(plan.contains("reference  run tiny-001: ") && plan.contains("classifier  run tiny-001: "), "{plan}");
    project.succeeds(&["run", "--until", "evaluate"]);
    let stages = project.stages("tiny-002");
    let reasons = ["evaluate.reference_model is new", "evaluate.risk.classifier"];
    assert!(reasons.iter().all(|reason| stages.last().unwrap().contains(reason)), "{stages:?}");
    let report = std::fs::read(project.artifact("tiny-002", "evaluate").join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["reference"]["name"], "tiny-001");
    assert_eq!(report["risk"]["classifier"]["model"], "tiny-001");
    let again = project.succeeds(&["run", "experiments/runs/tiny-002/pipeline.toml", "--until", "evaluate"]);
    assert!(again.starts_with("Nothing to do"), "{again}");

    project.configure("reference_model = \"tiny-001\"", "reference_model = \"latest\"");
    let error = project.fails(1, &["plan"]);
    assert!(error.contains("evaluate.reference_model = \"latest\" would be another model"), "{error}");
}
