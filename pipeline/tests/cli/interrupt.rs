//! Interrupted and killed runs resume to the same bytes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Ended, Project};

const MODEL: &str = "model.safetensors";

#[test]
fn serve_prints_its_address_answers_and_stops_on_a_signal() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "optimize", "--set", "train.steps=2"]);
    let arguments = ["serve", "latest", "--port", "0", "--device", "cpu"];
    let mut child = project.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().strip_prefix("serving pipeline at http://").unwrap();
    let address = address.split(';').next().unwrap();
    let mut server = TcpStream::connect(address).unwrap();
    server.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // A path cannot end a line of the log.
    let mut server = TcpStream::connect(address).unwrap();
    server.write_all(b"GET /%0d%0aFORGED HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    server.read_to_string(&mut String::new()).unwrap();
    signal(&child, "-TERM");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("FORGED") && !ended.err.contains("\nFORGED"), "{}", ended.err);
    assert!(ended.err.lines().any(|line| line.contains(" path=\"/%0d%0aFORGED\" status=404 ")), "{}", ended.err);
}

/// Returns a project whose training takes a while, and saves often.
fn slow() -> Project {
    let project = Project::new();
    project.configure("steps = 12", "steps = 240");
    project.configure("validation_every = 6", "validation_every = 60");
    project
}

fn start(project: &Project) -> Child {
    let arguments = ["run", "--until", "train"];
    project.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal, such as `-INT`.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits until training has saved a state after `step`.
fn wait_for_step(project: &Project, step: u64) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while saved_step(&project.path("experiments/artifacts/train")).is_none_or(|saved| saved < step) {
        assert!(Instant::now() < deadline, "training saved no state");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn saved_step(stage: &Path) -> Option<u64> {
    let artifact = fs::read_dir(stage).ok()?.next()?.ok()?.path();
    let states = fs::read_dir(artifact.join(".resume")).ok()?.flatten();
    let finished = states.filter(|state| state.path().join("trainer_state.json").is_file());
    finished.filter_map(|state| state.file_name().to_str()?.strip_prefix("step-")?.parse().ok()).max()
}

fn uninterrupted() -> String {
    let project = slow();
    project.succeeds(&["run", "--until", "train"]);
    project.digest("tiny-001", "train", MODEL)
}

#[test]
fn ctrl_c_saves_and_the_same_command_resumes_to_the_same_bytes() {
    let project = slow();
    let child = start(&project);
    wait_for_step(&project, 30);
    signal(&child, "-INT");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    assert!(ended.err.contains("Stopping at the next safe point"), "{}", ended.err);
    assert!(ended.err.contains("run the same command again to resume"), "{}", ended.err);
    assert_eq!(project.record("tiny-001")["status"], "interrupted");

    let plan = project.succeeds(&["plan", "--until", "train"]);
    assert!(plan.contains("     train  run   an earlier attempt was interrupted"), "{plan}");
    project.succeeds(&["run", "--until", "train"]);
    assert_eq!(project.digest("tiny-002", "train", MODEL), uninterrupted());
}

#[test]
fn kill_9_at_any_moment_of_training_changes_no_bit() {
    let project = slow();
    for step in [3, 60, 150] {
        let mut child = start(&project);
        wait_for_step(&project, step);
        signal(&child, "-KILL");
        child.wait().unwrap();
    }
    let resumed = project.succeeds(&["run", "--until", "train"]);
    assert!(resumed.contains("train"), "{resumed}");
    assert_eq!(project.digest("tiny-004", "train", MODEL), uninterrupted());
}

#[test]
fn kill_9_at_any_moment_of_a_run_changes_no_artifact() {
    let digests = |project: &Project, run: &str| -> Vec<String> {
        let record = project.record(run);
        let stages = record["stages"].as_array().unwrap();
        stages.iter().map(|stage| format!("{} {}", stage["stage"], stage["digest"])).collect()
    };
    let project = slow();
    for milliseconds in (5..420).step_by(15) {
        let mut child = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        // The last attempts may find that everything is done.
        let _ = child.kill();
        child.wait().unwrap();
    }
    project.succeeds(&["run"]);
    let last = project.succeeds(&["runs"]);
    let last =
        last.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with("tiny-"))).next_back();
    let undisturbed = slow();
    undisturbed.succeeds(&["run"]);
    assert_eq!(digests(&project, last.unwrap()), digests(&undisturbed, "tiny-001"));
}

#[test]
fn a_second_ctrl_c_aborts() {
    let project = slow();
    let child = start(&project);
    wait_for_step(&project, 3);
    signal(&child, "-INT");
    signal(&child, "-INT");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.err);
}
