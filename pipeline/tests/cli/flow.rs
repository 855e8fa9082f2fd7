//! Which stages run, which are skipped, and why.

use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;

use crate::project::Project;

const ALL: [&str; 8] = ["collect", "preprocess", "train", "optimize", "index", "evaluate", "generate", "serve"];

fn ran(project: &Project, run: &str) -> Vec<String> {
    let stages = project.stages(run);
    stages.iter().filter_map(|stage| stage.split_once(" ran: ").map(|(name, _)| name.to_owned())).collect()
}

#[test]
fn all_stages_then_none_then_only_changed_ones() {
    let project = Project::new();
    let plan = project.succeeds(&["plan"]);
    project.snapshot("plan_before_the_first_run", without_training(&plan));
    assert!(plan.contains("\ntraining: "), "{plan}");

    let out = project.succeeds(&["run"]);
    assert_eq!(ran(&project, "tiny-001"), ALL);
    for shown in ["stage", "bits per byte", "gzip -9", "generate tiny-001", "serve tiny-001", "report.html"] {
        assert!(out.contains(shown), "{shown} is not in\n{out}");
    }
    let run = project.path("experiments/runs/tiny-001");
    for file in ["run.json", "pipeline.toml", "report.html", "log.txt"] {
        assert!(run.join(file).is_file(), "{file}");
    }

    let started = Instant::now();
    let out = project.succeeds(&["run"]);
    let seconds = started.elapsed().as_secs_f64();
    assert!(out.starts_with("Nothing to do: all 8 stages are as run tiny-001 left them"), "{out}");
    assert!(seconds < 0.5, "doing nothing took {seconds} s");
    assert!(!project.path("experiments/runs/tiny-002").exists(), "a run that does nothing leaves nothing");
    project.snapshot("plan_when_nothing_changed", without_training(&project.succeeds(&["plan"])));

    project.succeeds(&["run", "--set", "train.learning_rate=3e-4"]);
    let of_tokens = |stage: &&str| !["collect", "preprocess", "index"].contains(stage);
    assert_eq!(ran(&project, "tiny-002"), ALL.into_iter().filter(of_tokens).collect::<Vec<_>>());
    assert_eq!(project.stages("tiny-002")[2], "train ran: train.learning_rate was 0.004, is 0.0003");

    let mut touched = File::options().append(true).open(project.path("texts/07.rs")).unwrap();
    touched.write_all(b"\n").unwrap();
    let plan = project.succeeds(&["plan"]);
    assert!(plan.starts_with("   collect  run   source texts changed ("), "{plan}");
    project.snapshot("plan_after_a_touched_byte", without_training(&plan));
    project.succeeds(&["run", "--until", "preprocess"]);
    assert_eq!(ran(&project, "tiny-003"), ["collect", "preprocess"]);
    assert!(project.stages("tiny-003")[0].starts_with("collect ran: source texts changed ("));
    let runs = project.succeeds(&["runs"]);
    for shown in ["tiny-001", "8 of 8", "tiny-002", "5 of 8", "tiny-003", "2 of 2", "finished"] {
        assert!(runs.contains(shown), "{shown} is not in\n{runs}");
    }
}

#[test]
fn a_run_can_be_shown_verified_generated_from_and_repeated_from_its_own_folder() {
    let project = Project::new();
    project.succeeds(&["run", "--set", "train.steps=6"]);
    let shown = project.succeeds(&["show", "latest"]);
    for line in ["run tiny-001: finished", "checkpoint", "configuration  experiments/runs/tiny-001/pipeline.toml"] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }

    let verified = project.succeeds(&["verify"]);
    assert_eq!(verified.matches("  ok  ").count(), 8, "{verified}");
    let repeated = project.succeeds(&["verify", "--rerun"]);
    assert_eq!(repeated.matches("  same  ").count(), 8, "{repeated}");

    let again = project.succeeds(&["run", "experiments/runs/tiny-001/pipeline.toml"]);
    assert!(again.starts_with("Nothing to do: all 8 stages are as run tiny-001 left them"), "{again}");

    let arguments = ["generate", "latest", "fn main() {", "--max-tokens", "5", "--seed", "3"];
    let text = project.succeeds(&arguments);
    assert!(text.starts_with("fn main() {"), "{text}");
    assert_eq!(project.succeeds(&arguments), text, "the same seed gives the same text");
    project.write("prompts.txt", "one\ntwo\n");
    project.succeeds(&["generate", "tiny-001", "--prompts", "prompts.txt", "--out", "samples.jsonl"]);
    let samples = fs::read_to_string(project.path("samples.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), 2);
    assert!(samples.starts_with("{\"prompt\":\"one\",\"text\":"), "{samples}");

    let shard = project.artifact("tiny-001", "preprocess").join("train-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let ended = project.pipeline(&["verify", "latest"]);
    assert_eq!(ended.code, Some(1));
    project.snapshot("verify_after_a_flipped_bit", &format!("{}{}", ended.out, ended.err));
    let error = project.fails(1, &["run", "--set", "train.steps=7"]);
    project.snapshot("run_with_a_corrupted_shard", last_lines(&error, 4));
}

#[test]
fn latest_is_the_newest_run_with_the_needed_artifact() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    project.write("texts/99.rs", "fn another() {}\n");
    project.succeeds(&["run", "--until", "collect"]);
    let text = project.succeeds(&["generate", "latest", "fn main() {", "--max-tokens", "2"]);
    assert!(text.starts_with("fn main() {"), "{text}");
    assert!(project.succeeds(&["export", "latest", "--format", "hf"]).contains("tiny-001"));
    assert!(project.succeeds(&["verify"]).contains("collect  ok"), "of tiny-002");
    assert!(project.succeeds(&["show", "latest"]).contains("run tiny-002"));
}

#[test]
fn a_repeated_run_keeps_its_budget_plan() {
    let project = Project::new();
    project.configure("steps = 12\nbatch_size = 2\nlearning_rate = 0.004\nvalidation_every = 6\n", "budget = \"3s\"\n");
    project.configure("n_layer = 1\nd_model = 32\nn_head = 2\n", "");
    project.succeeds(&["run", "--until", "train"]);
    let chosen = fs::read_to_string(project.artifact("tiny-001", "train").join("budget.json")).unwrap();
    assert!(chosen.contains("\"why\""), "{chosen}");
    let repeated = project.succeeds(&["verify", "--rerun"]);
    assert_eq!(repeated.matches("  same  ").count(), 3, "{repeated}");
}

#[test]
fn stages_can_be_selected_and_forced() {
    let project = Project::new();
    let error = project.fails(1, &["run", "--from", "train"]);
    project.snapshot("from_a_stage_whose_inputs_are_not_made", &error);
    project.succeeds(&["run", "--until", "train"]);
    assert_eq!(ran(&project, "tiny-001"), ALL[..3]);
    let model = project.digest("tiny-001", "train", "model.safetensors");
    project.succeeds(&["run", "--from", "train", "--until", "optimize", "--force"]);
    assert_eq!(ran(&project, "tiny-002"), ["train", "optimize"]);
    assert_eq!(project.stages("tiny-002")[2], "train ran: --force");
    assert_eq!(project.digest("tiny-002", "train", "model.safetensors"), model, "the same run gives the same model");
    project.succeeds(&["run", "--until", "preprocess"]);
    assert!(!project.path("experiments/runs/tiny-003").exists());

    fs::remove_dir_all(project.artifact("tiny-002", "optimize")).unwrap();
    let plan = project.succeeds(&["plan", "--until", "optimize"]);
    assert!(plan.contains("  optimize  run   its artifact was deleted"), "{plan}");
}

#[test]
fn one_run_at_a_time_uses_a_store() {
    let project = Project::new();
    let artifacts = project.path("experiments/artifacts");
    fs::create_dir_all(&artifacts).unwrap();
    let mut holder = File::options().write(true).create(true).truncate(true).open(artifacts.join(".lock")).unwrap();
    holder.lock().unwrap();
    write!(holder, "4711").unwrap();
    let error = project.fails(1, &["run"]);
    project.snapshot("a_store_that_is_in_use", &error);
    drop(holder);
    project.succeeds(&["run", "--until", "collect"]);
}

#[test]
fn init_writes_a_configuration_that_plans_and_never_overwrites_one() {
    let project = Project::new();
    fs::remove_file(project.path("pipeline.toml")).unwrap();
    project.snapshot("init", &project.succeeds(&["init"]));
    let plan = project.succeeds(&["plan"]);
    assert!(plan.contains("   collect  run   never run before"), "{plan}");
    let error = project.fails(1, &["init"]);
    project.snapshot("init_where_there_is_one", &error);
}

#[test]
fn doctor_lists_the_machine() {
    let project = Project::new();
    let out = project.succeeds(&["doctor"]);
    for line in
        ["cores", "memory", "device  cpu: CPU (burn-flex)", "auto takes", "disk", "data  the one source is available"]
    {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }
    fs::remove_dir_all(project.path("texts")).unwrap();
    let out = project.succeeds(&["doctor"]);
    assert!(!out.contains("source is available"), "{out}");
}

#[test]
fn help_is_as_reviewed() {
    let project = Project::new();
    project.snapshot("help", &project.succeeds(&["--help"]));
    let commands = [
        "run",
        "plan",
        "runs",
        "show",
        "watch",
        "ui",
        "diff",
        "judge",
        "sweep",
        "tag",
        "rm",
        "gc",
        "export-run",
        "import-run",
        "verify",
        "reproduce",
        "generate",
        "chat",
        "serve",
        "trace",
        "import",
        "export",
        "init",
        "doctor",
    ];
    for command in commands {
        project.snapshot(&format!("help_{command}"), &project.succeeds(&[command, "--help"]));
    }
}

/// Removes the cost of training, which depends on the machine.
fn without_training(plan: &str) -> &str {
    plan.split("\ntraining: ").next().unwrap()
}

fn last_lines(text: &str, n: usize) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(n - 1).map_or(0, |(at, _)| at + 1);
    &text[start..]
}
