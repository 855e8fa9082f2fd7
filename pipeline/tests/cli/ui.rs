//! The page of the runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::Value;

use crate::interrupt::signal;
use crate::project::{Ended, Project};

#[test]
fn the_page_shows_runs_curves_reports_and_comparisons() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "evaluate"]);
    project.succeeds(&["run", "--until", "train", "--set", "train.learning_rate=3e-4"]);
    project.succeeds(&["tag", "tiny-001", "best"]);
    let mut command = project.command(&["ui", "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let address = said.split("http://").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let ask = |method: &str, path: &str, host: &str| -> String {
        let mut server = TcpStream::connect(&address).unwrap();
        write!(server, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    };
    let check = |path: &str, parts: &[&str]| {
        let answer = ask("GET", path, "localhost");
        for part in parts {
            assert!(answer.contains(part), "{part} is not in the answer to {path}:\n{answer}");
        }
    };
    check("/", &["200 OK", "script-src 'self'", "ui.js", "Runs</h1>"]);
    check("/ui.js", &["200 OK", "text/javascript", "api/runs"]);
    check("/style.css", &["200 OK", "--first:"]);
    check("/api/metrics?run=tiny-002", &["200 OK", "\"validation_loss\""]);
    check("/report?run=best", &["200 OK", "sandbox allow-scripts", "</html>"]);
    check("/diff?a=best&b=tiny-002", &["200 OK", "sandbox", "train.learning_rate"]);
    for path in [
        "/report?run=tiny-002",
        "/report?run=../../x",
        "/report",
        "/api/metrics?run=other",
        "/api",
        "/../pipeline.toml",
    ] {
        check(path, &["404 Not Found"]);
    }
    let answer = ask("GET", "/api/runs", "localhost");
    let runs: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(runs[0]["name"], "tiny-002");
    assert_eq!(runs[1]["tags"][0], "best");
    assert!(ask("POST", "/", "localhost\r\nContent-Type: application/json").contains("405"), "it only reads");
    assert!(ask("GET", "/", "evil.example").contains("403"));
    signal(&child, "-TERM");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}
