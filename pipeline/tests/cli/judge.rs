//! Judging answers: a session in the terminal, one that is killed, and one in the browser.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Ended, Project};

const PROMPTS: &str = "fn main\npub fn\n/// Returns\nlet x\nuse\n";

/// Options that make answers short and, between the models, different.
const SHORT: [&str; 6] = ["--prompts", "prompts.txt", "--max-tokens", "8", "--temperature", "1.5"];

/// Returns a project with three models.
fn three_models() -> Project {
    let project = Project::new();
    for rate in ["4e-3", "3e-4", "1e-4"] {
        let rate = format!("train.learning_rate={rate}");
        project.succeeds(&["run", "--until", "train", "--set", &rate]);
    }
    project.write("prompts.txt", PROMPTS);
    project
}

fn votes(project: &Project) -> Vec<Value> {
    let text = fs::read_to_string(project.path("experiments/votes.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `judge` with `typed` on standard input.
fn judge(project: &Project, arguments: &[&str], typed: &str) -> Ended {
    let mut command = project.command(&[&["judge"], arguments, &SHORT].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    Ended::from(child.wait_with_output().unwrap())
}

#[test]
fn votes_are_kept_and_rate_all_models() {
    let project = three_models();
    let ended = judge(&project, &["tiny-001", "tiny-002"], "left\nwhat\nT\nskip\nquit\n");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    for part in ["1 of 5", "4 of 5", "← left", "right →", "(l)eft, (r)ight", "3 of 5 pairs", "95 % interval"] {
        assert!(ended.out.contains(part), "{part} is not in\n{}", ended.out);
    }
    let (asked, _) = ended.out.split_once("all votes of this store").unwrap();
    assert!(!asked.contains("tiny-00"), "the models have no names\n{asked}");
    let first = votes(&project);
    let better: Vec<&Value> = first.iter().map(|vote| &vote["better"]).collect();
    assert_eq!(better, ["left", "neither"]);

    // The rest of the session: the skipped pair and those that were not asked.
    let ended = judge(&project, &["tiny-002", "tiny-001"], "r\nr\nr\n");
    assert!(ended.out.contains("1 of 3") && ended.out.contains("3 of 3 pairs"), "{}", ended.out);
    let all = votes(&project);
    assert_eq!((all.len(), &all[..2]), (5, &first[..]));
    let again = judge(&project, &["tiny-001", "tiny-002"], "");
    assert!(again.out.starts_with("0 of 0 pairs"), "{}", again.out);

    // The same seed asks the same; another one does not.
    fs::remove_file(project.path("experiments/votes.jsonl")).unwrap();
    judge(&project, &["tiny-001", "tiny-002"], "left\nT\n");
    let same = votes(&project);
    for (one, other) in first.iter().zip(&same) {
        assert_eq!((&one["prompt"], &one["left"], &one["right"]), (&other["prompt"], &other["left"], &other["right"]));
    }
    judge(&project, &["tiny-001", "tiny-002", "--seed", "1"], "l\nl\n");
    judge(&project, &["tiny-002", "tiny-003"], "l\nr\n");
    let table: Value = serde_json::from_str(&project.succeeds(&["judge", "--table", "--json"])).unwrap();
    assert_eq!(table["votes"], 6);
    let models = table["models"].as_array().unwrap();
    assert_eq!(models.len(), 3);
    let mean = models.iter().map(|model| model["rating"].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((mean - 1000.0).abs() < 1e-6, "{table}");
    assert!(project.succeeds(&["judge", "--table"]).contains("tiny-003"));
}

#[test]
fn a_killed_session_loses_no_vote() {
    let project = three_models();
    let mut command = project.command(&[&["judge", "tiny-001", "tiny-002"][..], &SHORT].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"l\nr\n").unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while votes(&project).len() < 2 {
        assert!(Instant::now() < deadline, "no vote was kept");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = judge(&project, &["tiny-001", "tiny-002"], "s\ns\ns\n");
    assert!(ended.out.contains("3 of 3 pairs"), "{}", ended.out);
    assert_eq!(votes(&project).len(), 2);
}

#[test]
fn wrong_sessions_are_refused() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "train"]);
    project.snapshot("error_judge_same_model", &project.fails(1, &["judge", "tiny-001", "latest"]));
    project.snapshot("error_judge_one_model", &project.fails(2, &["judge", "tiny-001"]));
    assert!(project.succeeds(&["judge", "--table"]).starts_with("no model was judged yet"));
    project.write("experiments/votes.jsonl", "{}\n");
    let error = project.fails(1, &["judge", "--table"]);
    assert!(error.contains("votes.jsonl:1: this is not a vote; remove the line"), "{error}");
}

#[cfg(unix)]
#[test]
fn pairs_are_judged_on_a_page() {
    let project = three_models();
    let arguments = [&["judge", "tiny-001", "tiny-002", "--page", "--port", "0"][..], &SHORT].concat();
    let mut command = project.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let address = said.split("http://").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let ask = |head: &str, body: &str| -> String {
        let mut server = TcpStream::connect(&address).unwrap();
        let length = body.len();
        write!(server, "{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        server.read_to_string(&mut answer).unwrap();
        answer
    };
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost"), "");
    let post = |kind: &str, body: &str| {
        ask(&format!("POST /api/vote HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}"), body)
    };
    let json = |answer: &str| -> Value { serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap() };
    assert!(get("/").contains("judge.js") && get("/judge.js").contains("api/vote"));
    assert!(get("/judge.css").contains(".sides") && get("/style.css").contains("--first:"));
    let pair = get("/api/pair");
    assert!(!pair.contains("tiny-00"), "the models have no names: {pair}");
    assert_eq!((&json(&pair)["number"], &json(&pair)["total"]), (&1.into(), &5.into()));
    assert_eq!(json(&get("/api/pair")), json(&pair), "it is asked until there is a vote");
    assert!(post("text/plain", "{\"number\": 1, \"choice\": \"left\"}").contains("415"));
    assert!(post("application/json", "{\"number\": 1}").contains("not a vote"));
    assert!(get("/api/vote").contains("404") && votes(&project).is_empty());
    assert_eq!(json(&post("application/json", "{\"number\": 1, \"choice\": \"right\"}"))["number"], 2);
    let old = post("application/json", "{\"number\": 1, \"choice\": \"left\"}");
    assert_eq!((&json(&old)["number"], votes(&project).len()), (&2.into(), 1), "a vote counts once");
    let mut last = old;
    for number in 2..=5 {
        last = post("application/json", &format!("{{\"number\": {number}, \"choice\": \"tie\"}}"));
    }
    assert!(json(&last)["table"].as_str().unwrap().contains("tiny-001"), "{last}");
    crate::interrupt::signal(&child, "-TERM");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("95 % interval"), "{}", ended.out);
    let better: Vec<Value> = votes(&project).into_iter().map(|vote| vote["better"].clone()).collect();
    assert_eq!(better, ["right", "neither", "neither", "neither", "neither"]);
}
