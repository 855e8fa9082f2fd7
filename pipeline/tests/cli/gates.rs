//! Gates: a model that does not pass them fails the run and is not served.

use std::fs;

use serde_json::Value;

use crate::project::Project;

fn report(project: &Project, run: &str) -> Value {
    let path = project.artifact(run, "evaluate").join("report.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_failed_gate_fails_the_run_after_the_report() {
    let project = Project::new();
    let run = |more: &[&'static str]| {
        [&["run", "--set", "train.steps=6", "--set", "evaluate.gates.bits_per_byte=<= 0.1"][..], more].concat()
    };
    let error = project.fails(1, &run(&[]));
    for part in ["the model does not pass its gates: bits_per_byte is ", ", and must be <= 0.1", "report.html"] {
        assert!(error.contains(part), "{part} is not in\n{error}");
    }
    assert_eq!(report(&project, "tiny-001")["verdict"]["passed"], false);
    let page = fs::read_to_string(project.path("experiments/runs/tiny-001/report.html")).unwrap();
    assert!(page.contains("1 of 1 gates failed"));
    let stages = project.stages("tiny-001");
    assert!(stages.last().unwrap().starts_with("evaluate ran: "), "{stages:?}");
    assert!(project.succeeds(&["show", "tiny-001"]).contains("failed"));

    // Again nothing runs, and the gate still fails.
    let error = project.fails(1, &run(&[]));
    assert!(error.contains("bits_per_byte is ") && !error.contains("evaluate  runs"), "{error}");

    let error = project.fails(1, &["serve", "tiny-001", "--port", "0"]);
    assert!(error.contains("the model of run tiny-001 does not pass its gates: bits_per_byte is "), "{error}");
    assert!(error.contains("--force"), "{error}");
    // It gets further: to an address that no machine has.
    let error = project.fails(1, &["serve", "tiny-001", "--force", "--host", "256.0.0.1"]);
    assert!(!error.contains("gates") && error.contains("256.0.0.1"), "{error}");
    // Generating is no shipping.
    project.succeeds(&["generate", "tiny-001", "fn", "--max-tokens", "2"]);
    project.succeeds(&run(&["--from", "generate", "--force"]));
}

#[test]
fn a_run_is_compared_with_the_last_one_of_another_model() {
    let project = Project::new();
    let gate = "evaluate.gates.regression_vs=last";
    let run = |steps: &'static str| ["run", "--until", "evaluate", "--set", steps, "--set", gate];
    project.succeeds(&run("train.steps=40"));
    assert_eq!(report(&project, "tiny-001")["verdict"]["comparison"], Value::Null);
    // The same model is no baseline.
    assert!(project.succeeds(&run("train.steps=40")).starts_with("Nothing to do"));

    let error = project.fails(1, &run("train.steps=1"));
    assert!(error.contains("regression_vs: bits per byte differ by +"), "{error}");
    let comparison = &report(&project, "tiny-002")["verdict"]["comparison"];
    assert_eq!((&comparison["run"], &comparison["is_worse"]), (&"tiny-001".into(), &true.into()));

    // A run that failed is no baseline either.
    project.succeeds(&run("train.steps=41"));
    assert_eq!(report(&project, "tiny-003")["verdict"]["comparison"]["run"], "tiny-001");
    // Repeated, it is compared with the same run, although there are newer ones.
    let repeated = project.succeeds(&["verify", "tiny-003", "--rerun"]);
    assert!(repeated.contains("evaluate  same"), "{repeated}");
    let error = project.fails(1, &["plan", "--set", "evaluate.gates.regression_vs=tiny-009"]);
    assert!(error.contains("there is no run tiny-009"), "{error}");
    let error = project.fails(2, &["plan", "--set", "evaluate.gates.perplexity=about 30"]);
    assert!(error.contains("is not a condition such as"), "{error}");
    let error = project.fails(2, &["plan", "--set", "evaluate.gates.perplexty=< 30"]);
    assert!(error.contains("did you mean `evaluate.gates.perplexity`?"), "{error}");
}
