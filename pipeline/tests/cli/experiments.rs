//! Listing, comparing, keeping, moving and repeating runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::project::Project;
use crate::tiny;

/// Returns a project with two runs up to stage train that differ in the learning rate.
fn two_runs() -> Project {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    project.succeeds(&["run", "--until", "train", "--set", "train.learning_rate=3e-4"]);
    project
}

/// Returns the first word of each row of a table: the names of runs.
fn listed(table: &str) -> Vec<&str> {
    let rows = table.lines().filter_map(|line| line.split_whitespace().next());
    rows.filter(|word| word.starts_with("tiny-")).collect()
}

#[test]
fn runs_are_filtered_sorted_and_limited() {
    let project = two_runs();
    project.succeeds(&["run", "--until", "collect", "--force"]);
    let check = |arguments: &[&str], expected: &[&str]| {
        let out = project.succeeds(&[&["runs"], arguments].concat());
        assert_eq!(listed(&out), expected, "{arguments:?}\n{out}");
    };
    check(&[], &["tiny-001", "tiny-002", "tiny-003"]);
    check(&["--limit", "1"], &["tiny-003"]);
    check(&["--filter", "train.learning_rate=3e-4"], &["tiny-002"]);
    check(&["--filter", "train.learning_rate>0.001", "--filter", "status=finished"], &["tiny-001"]);
    check(&["--filter", "train.learning_rate=7"], &[]);
    check(&["--sort", "train.learning_rate"], &["tiny-002", "tiny-001", "tiny-003"]);
    check(&["--sort", "train.learning_rate", "--descending", "--limit", "1"], &["tiny-001"]);
    check(&["--sort", "validation_loss", "--limit", "2"], &["tiny-001", "tiny-002"]);

    let runs: Value = serde_json::from_str(&project.succeeds(&["runs", "--json", "--limit", "2"])).unwrap();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert!(runs[0]["stages"][2]["counts"]["validation_loss"].is_number(), "{}", runs[0]);
    assert!(runs[0]["stages"][2].get("recipe").is_none());
    project.snapshot("error_runs_unknown_key", &project.fails(1, &["runs", "--sort", "validation_los"]));
    project.snapshot("error_runs_no_condition", &project.fails(2, &["runs", "--filter", "status"]));
    let shown: Value = serde_json::from_str(&project.succeeds(&["show", "tiny-002", "--json"])).unwrap();
    assert_eq!(shown["config"]["train"]["learning_rate"], 3e-4);
    assert!(Path::new(shown["stages"][0]["folder"].as_str().unwrap()).is_relative());
}

#[test]
fn a_failed_run_says_where_why_and_what_to_do() {
    let project = Project::new();
    let limit = "formats = [\"bf16\", \"gguf-q4_0\"]\n[optimize.gguf-q4_0]\nmax_logit_difference = 0\n[evaluate]";
    project.configure("[evaluate]", limit);
    project.fails(1, &["run"]);
    let record = project.record("tiny-001");
    assert_eq!((&record["status"], &record["unfinished"]["stage"]), (&"failed".into(), &"optimize".into()));
    let shown = project.succeeds(&["show"]);
    for part in
        ["failed in stage optimize", "is too far from the checkpoint", "begins this stage again", "log.txt, which ends"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let shown: Value = serde_json::from_str(&project.succeeds(&["show", "--json"])).unwrap();
    let left = project.path(shown["unfinished_folder"].as_str().unwrap());
    assert!(left.join(".recipe.json").is_file() && !left.join("manifest.json").exists());
    let log = fs::read_to_string(project.path("experiments/runs/tiny-001/log.txt")).unwrap();
    assert!(log.contains("error: stage optimize failed"), "{log}");
    assert!(project.succeeds(&["watch", "--once"]).starts_with("run tiny-001: failed"));
    // The command that `show` names continues.
    project.configure("max_logit_difference = 0\n", "max_logit_difference = 100\nmax_loss_difference = 100\n");
    project.succeeds(&["run", "--until", "optimize"]);
    assert!(project.record("tiny-002").get("unfinished").is_none());
}

#[test]
fn a_tag_names_a_run_everywhere_and_protects_it() {
    let project = two_runs();
    assert_eq!(project.succeeds(&["tag", "latest", "best"]), "tag best is run tiny-002\n");
    assert_eq!(project.succeeds(&["tag", "tiny-001", "best"]), "tag best is run tiny-001 now; it was run tiny-002\n");
    assert!(project.succeeds(&["show", "best"]).starts_with("run tiny-001 (best): finished"));
    assert!(project.succeeds(&["generate", "best", "fn", "--max-tokens", "2"]).starts_with("fn"));
    assert!(project.succeeds(&["export", "best", "--format", "hf"]).contains("to exports/best"));
    assert_eq!(listed(&project.succeeds(&["runs", "--filter", "tag=best"])), ["tiny-001"]);
    assert_eq!(listed(&project.succeeds(&["runs", "--filter", "tag!=best"])), ["tiny-002"], "it has no tag");
    project.snapshot("error_rm_tagged", &project.fails(1, &["rm", "tiny-002", "best"]));
    project.snapshot("error_tag_of_a_run", &project.fails(1, &["tag", "best", "tiny-002"]));
    assert!(project.path("experiments/runs/tiny-002").exists(), "all are checked before one is removed");
    for (name, reason) in
        [("best", "is a tag of a run"), ("tiny-002", "is the name of a run"), ("latest", "newest run")]
    {
        let error = project.fails(1, &["import", "exports/best", "--name", name]);
        assert!(error.contains(reason) && error.contains("give another with --name"), "{error}");
    }
    project.succeeds(&["tag", "tiny-001", "best", "--remove"]);
    project.succeeds(&["rm", "tiny-001"]);
    assert_eq!(listed(&project.succeeds(&["runs"])), ["tiny-002"]);
}

#[test]
fn gc_keeps_what_runs_imports_and_unfinished_work_need() {
    let project = two_runs();
    tiny::write(&project.path("model"), &tiny::tiny("llama"));
    project.succeeds(&["import", "model", "--name", "small"]);
    for model in ["small", "tiny-001", "tiny-002", "model"] {
        project.succeeds(&["evaluate", model, "--tasks", "english", "--limit", "1", "--device", "cpu"]);
    }
    let answers = || fs::read_dir(project.path("experiments/answers")).unwrap().count();
    assert_eq!(answers(), 4);
    assert!(project.succeeds(&["gc"]).starts_with("nothing to remove"), "every artifact is needed");

    project.succeeds(&["rm", "tiny-002"]);
    project.snapshot("gc", &project.succeeds(&["gc"]));
    assert!(project.artifact("tiny-001", "train").exists());
    let left = project.path("experiments/.verify-killed");
    fs::create_dir(&left).unwrap();
    let removed = project.succeeds(&["gc", "--yes"]);
    assert!(!left.exists(), "{removed}");
    assert!(removed.contains("removed 1 artifact, "), "{removed}");
    assert!(removed.contains("removed the answers to tasks of 1 model"), "{removed}");
    assert_eq!(answers(), 3, "those of the two models of the store, and of the one outside");
    assert_eq!(project.succeeds(&["verify", "tiny-001"]).matches("  ok  ").count(), 3);
    project.succeeds(&["generate", "small", "fn", "--max-tokens", "2", "--device", "cpu"]);

    // Unfinished work of no run, as of `run --shard`, keeps the tokens that it was begun from.
    let unfinished = project.artifact("tiny-001", "train");
    let manifest: Value = serde_json::from_slice(&fs::read(unfinished.join("manifest.json")).unwrap()).unwrap();
    fs::write(unfinished.join(".recipe.json"), manifest["recipe"].to_string()).unwrap();
    fs::remove_file(unfinished.join("manifest.json")).unwrap();
    let tokens = project.artifact("tiny-001", "preprocess");
    let corpus = project.artifact("tiny-001", "collect");
    project.succeeds(&["rm", "tiny-001"]);
    let trash = project.path("experiments/artifacts/.trash");
    fs::create_dir(&trash).unwrap();
    let kept = project.succeeds(&["gc", "--yes"]);
    assert!(!trash.exists(), "what a killed collection left is removed, even if there is nothing else: {kept}");
    assert!(kept.contains("1 folder of unfinished work") && !kept.contains("removed 1 artifact"), "{kept}");
    assert!(tokens.exists() && corpus.exists() && unfinished.exists());
    project.succeeds(&["gc", "--unfinished", "--yes"]);
    assert!(!tokens.exists() && !corpus.exists() && !unfinished.exists());
    assert_eq!(answers(), 2);
    project.succeeds(&["generate", "small", "fn", "--max-tokens", "2", "--device", "cpu"]);
}

#[test]
fn gc_removes_nothing_while_a_record_cannot_be_read() {
    let project = two_runs();
    fs::write(project.path("experiments/runs/tiny-002/run.json"), "{").unwrap();
    let error = project.fails(1, &["gc", "--yes"]);
    assert!(error.contains("cannot tell what run tiny-002 needs"), "{error}");
    assert_eq!(project.succeeds(&["verify", "tiny-001"]).matches("  ok  ").count(), 3);
}

#[test]
fn two_runs_are_compared() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "evaluate"]);
    project.succeeds(&["run", "--until", "evaluate", "--set", "train.learning_rate=3e-4"]);
    let out = project.succeeds(&["diff", "tiny-001", "latest", "--html", "diff.html"]);
    let verdict = out.lines().next().unwrap();
    assert!(verdict.contains("bits per byte of the bundle on the test split"), "{verdict}");
    assert!(verdict.contains(" documents of both"), "{verdict}");
    for part in ["train.learning_rate   0.004", "the same", "train.validation_loss", "tiny-002 │"] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    assert!(!out.contains("train.batch_size"), "only what differs\n{out}");
    let page = fs::read_to_string(project.path("diff.html")).unwrap();
    for part in ["<svg", "train.learning_rate", "tiny-002", "</html>"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http") && !page.contains("src="), "the page is self-contained");

    let comparison: Value =
        serde_json::from_str(&project.succeeds(&["diff", "tiny-001", "tiny-002", "--json"])).unwrap();
    let figures = comparison["figures"].as_array().unwrap();
    let loss = figures.iter().find(|figure| figure["name"] == "validation_loss").unwrap();
    let number = |key: &str| loss[key].as_f64().unwrap();
    assert!((number("b") - number("a") - number("difference")).abs() < 1e-12);
    let bits = figures.iter().find(|figure| figure["name"] == "bundle_test_bits_per_byte").unwrap();
    let number = |key: &str| bits[key].as_f64().unwrap();
    assert!((number("b") - number("a") - number("difference")).abs() < 1e-9, "all documents are the same: {bits}");
    let half = (bits["interval"]["high"].as_f64().unwrap() - bits["interval"]["low"].as_f64().unwrap()) / 2.0;
    assert!(bits["documents"].as_u64().unwrap() > 1 && half < number("difference").abs(), "{bits}");
    let same = project.succeeds(&["diff", "tiny-001", "tiny-001"]);
    assert!(same.starts_with("tiny-001 and tiny-001 are the same"), "{same}");
    project.succeeds(&["run", "--until", "evaluate", "--set", "preprocess.test=0.2"]);
    let other = project.succeeds(&["diff", "tiny-001", "latest"]);
    assert!(other.starts_with("tiny-001 and tiny-003 do not compare"), "{other}");
}

#[test]
fn a_run_moves_to_another_store_in_one_archive() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "optimize"]);
    let out = project.succeeds(&["export-run", "latest"]);
    assert!(out.starts_with("wrote run tiny-001 to tiny-001.tar.zst: 4 artifacts, "), "{out}");
    let into = ["--store", "elsewhere"];
    let out = project.succeeds(&[&["import-run", "tiny-001.tar.zst"][..], &into].concat());
    assert_eq!(out, "imported run tiny-001: every file has its digest, 4 artifacts are new to the store\n");
    assert_eq!(project.succeeds(&[&["verify", "tiny-001"][..], &into].concat()).matches("  ok  ").count(), 4);
    let text = project.succeeds(&[&["generate", "tiny-001", "fn", "--max-tokens", "2"][..], &into].concat());
    assert!(text.starts_with("fn"), "{text}");
    let again = project.succeeds(&[&["import-run", "tiny-001.tar.zst"][..], &into].concat());
    assert_eq!(again, "run tiny-001 is in the store already, with every artifact\n");
    project.write("broken.tar.zst", "no archive");
    project.snapshot("error_import_run_broken", &project.fails(1, &["import-run", "broken.tar.zst"]));
}

#[test]
fn a_run_is_reproduced_or_the_reason_is_given() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    let out = project.succeeds(&["reproduce"]);
    assert_eq!(out.matches("  same bits").count(), 3, "{out}");
    assert!(out.ends_with("run tiny-001 is reproduced to the bit: 3 of 3 stages\n"), "{out}");
    project.write("texts/99.rs", "fn another() {}\n");
    let ended = project.pipeline(&["reproduce", "--tolerance", "0"]);
    assert_eq!(ended.code, Some(1));
    for part in ["   collect  DIFFERS", "source texts changed", "corpus changed"] {
        assert!(ended.out.contains(part), "{part} is not in\n{}", ended.out);
    }
    assert!(
        ended.err.contains("error: run tiny-001 is not reproduced: the bits differ from stage collect on"),
        "{}",
        ended.err
    );
    let names: Vec<String> = fs::read_dir(project.path("experiments"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().all(|name| !name.starts_with(".verify")), "{names:?}");
}

#[test]
fn a_finished_run_can_be_watched() {
    let project = two_runs();
    let out = project.succeeds(&["watch"]);
    assert!(out.starts_with("run tiny-002: finished, started "), "{out}");
    assert!(out.contains("     train  "), "{out}");
}

#[test]
fn thousands_of_runs_are_listed_from_the_index() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    let runs = project.path("experiments/runs");
    let record = fs::read_to_string(runs.join("tiny-001/run.json")).unwrap();
    let count = 2000;
    for i in 2..=count {
        let name = format!("tiny-{i:03}");
        fs::create_dir(runs.join(&name)).unwrap();
        fs::write(runs.join(&name).join("run.json"), record.replace("tiny-001", &name)).unwrap();
    }
    let names = |out: &str| -> BTreeSet<String> { listed(out).into_iter().map(str::to_owned).collect() };
    let first = project.succeeds(&["runs"]);
    assert_eq!(names(&first).len(), count);
    // Records are indexed once they are two seconds old.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    project.succeeds(&["runs"]);
    assert!(runs.join(".index.jsonl").is_file());
    let started = Instant::now();
    assert_eq!(project.succeeds(&["runs"]), first);
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < 0.5, "listing {count} runs took {seconds} s");
}
