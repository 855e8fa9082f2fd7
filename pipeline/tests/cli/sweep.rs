//! Sweeps: trials, their comparison, and that a killed sweep continues.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::Project;

const GRID: &str = "\
until = \"train\"

[parameters]
train.learning_rate = [0.004, 0.002, 0.001, 0.0005]
train.steps = [4, 6, 8]
";

fn results(project: &Project, name: &str) -> Value {
    let path = project.path(&format!("experiments/sweeps/{name}/sweep.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns the records of all runs of a sweep.
fn records(project: &Project) -> Vec<Value> {
    let entries = fs::read_dir(project.path("experiments/runs")).into_iter().flatten().flatten();
    entries.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path().join("run.json")).ok()?).ok()).collect()
}

#[test]
fn a_sweep_that_was_killed_twice_repeats_no_stage() {
    let project = Project::new();
    project.write("lr.toml", GRID);
    let finished = || records(&project).iter().filter(|record| record["status"] == "finished").count();
    for wanted in [3, 7] {
        let mut command = project.command(&["sweep", "lr.toml"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_mins(2);
        while finished() < wanted {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "the sweep does not get on");
            std::thread::sleep(Duration::from_millis(2));
        }
        // Somewhere in the next trial.
        std::thread::sleep(Duration::from_millis(20));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let out = project.succeeds(&["sweep", "lr.toml"]);
    assert!(out.contains(" is the best, with "), "{out}");
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for record in records(&project) {
        for stage in record["stages"].as_array().unwrap().iter().filter(|stage| stage["ran"] == true) {
            *times.entry(format!("{} {}", stage["stage"], stage["fingerprint"])).or_default() += 1;
        }
    }
    assert_eq!(times.len(), 1 + 1 + 12, "the corpus, the tokens and twelve checkpoints: {times:?}");
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    assert_eq!(results(&project, "lr")["trials"].as_array().unwrap().len(), 12);

    let page = fs::read_to_string(project.path("experiments/sweeps/lr/report.html")).unwrap();
    assert!(page.matches("<svg").count() >= 2 && page.contains("train.learning_rate") && !page.contains("http"));
    let count = records(&project).len();
    assert_eq!(project.succeeds(&["sweep", "lr.toml"]), out, "nothing is left to do");
    assert_eq!(records(&project).len(), count);
}

#[test]
fn the_best_trials_continue_and_seeds_give_intervals() {
    let project = Project::new();
    project.write(
        "halving.toml",
        "until = \"train\"\nmethod = \"halving\"\ntrials = 4\n\n[parameters]\n\
         train.learning_rate = { min = 1e-4, max = 1e-2, scale = \"log\" }\n\n\
         [halving]\nkey = \"train.steps\"\nlevels = [4, 8]\nfactor = 2\n",
    );
    project.snapshot("sweep_plan", &project.succeeds(&["sweep", "halving.toml", "--plan", "--seeds", "2"]));
    assert!(!project.path("experiments").exists(), "--plan changes nothing");
    project.succeeds(&["sweep", "halving.toml", "--seeds", "2"]);
    let results = results(&project, "halving");
    let trials = results["trials"].as_array().unwrap();
    let levels: Vec<u64> = trials.iter().map(|trial| trial["level"].as_u64().unwrap()).collect();
    assert_eq!(levels, [0, 0, 0, 0, 1, 1]);
    let mean = |trial: &Value| trial["mean"].as_f64().unwrap();
    let mut first: Vec<&Value> = trials[..4].iter().collect();
    first.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
    let continued: Vec<&Value> = trials[4..].iter().map(|trial| &trial["number"]).collect();
    assert!(first[..2].iter().all(|trial| continued.contains(&&trial["number"])), "{results}");
    assert!(trials.iter().all(|trial| trial["half_width"].as_f64().unwrap() > 0.0), "{results}");
    assert_eq!(trials[4]["values"]["train.steps"], 8);
}

#[test]
fn a_trial_that_fails_is_a_result() {
    let project = Project::new();
    project.write("batch.toml", "until = \"train\"\n[parameters]\ntrain.batch_size = [2, 2000]\n");
    let out = project.succeeds(&["sweep", "batch.toml"]);
    assert!(out.contains("failed: stage train failed"), "{out}");
    assert!(out.contains("Trial 1 is the best"), "{out}");
}

#[test]
fn wrong_sweeps_are_refused_before_the_first_trial() {
    let check = |name: &str, code: i32, text: &str| {
        let project = Project::new();
        project.write("sweep.toml", text);
        let error = project.fails(code, &["sweep"]);
        let from = error.find("error: ").unwrap_or(0);
        project.snapshot(&format!("error_sweep_{name}"), &error[from..]);
    };
    check("unknown_key", 2, "metrics = \"loss\"\n[parameters]\ntrain.steps = [1, 2]\n");
    check("unknown_parameter", 2, "[parameters]\ntrain.stepz = [1, 2]\n");
    check("invalid_value", 2, "[parameters]\ntrain.steps = [1, 0]\n");
    check("no_parameters", 2, "until = \"train\"\n");
    check("unknown_metric", 1, "until = \"train\"\nmetric = \"validation_los\"\n[parameters]\ntrain.steps = [2]\n");
    let project = Project::new();
    project.snapshot("error_sweep_missing", &project.fails(2, &["sweep"]));
}
