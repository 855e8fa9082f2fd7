//! Conversations on standard input, and what restricts and speeds up texts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::interrupt::signal;
use crate::project::{Ended, Project};
use crate::tiny::{chatting, write};

fn project() -> Project {
    let project = Project::new();
    write(&project.path("models/tiny"), &chatting());
    project
}

/// Starts the program with pipes.
fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs `chat` with these lines on standard input.
fn chat(project: &Project, lines: &str) -> Ended {
    let arguments =
        ["chat", "models/tiny", "--max-tokens", "2", "--seed", "3", "--device", "cpu", "--system", "Be brief."];
    let mut child = start(project, &arguments);
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    Ended::from(child.wait_with_output().unwrap())
}

/// The first Ctrl-C while a message is read explains itself, one in an answer stops that, and two end the program.
#[test]
fn ctrl_c_stops_the_answer_and_then_the_program() {
    let project = Project::new();
    let mut files = chatting();
    // The answer would be as long as the context, which takes minutes.
    let mut config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    config["max_position_embeddings"] = 200_000.into();
    files.insert("config.json".to_owned(), config.to_string().into_bytes());
    write(&project.path("models/tiny"), &files);
    let endless =
        ["--max-tokens", "190000", "--logit-bias", "0=-100", "--logit-bias", "3=-100", "--logit-bias", "5=-100"];
    let arguments = [&["chat", "models/tiny", "--device", "cpu"][..], &endless].concat();
    let mut child = start(&project, &arguments);
    let mut input = child.stdin.take().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut answered = child.stdout.take().unwrap();
    let mut answer = [0];
    for saved in ["one.json", "two.json"] {
        input.write_all(b"a\n").unwrap();
        answered.read_exact(&mut answer).unwrap();
        signal(&child, "-INT");
        input.write_all(format!("/save {saved}\n/reset\n").as_bytes()).unwrap();
        let expected = format!("2 messages in {saved}");
        assert!(said.by_ref().any(|line| line.unwrap() == expected), "{saved}");
        let saved = messages(&project, saved);
        let tokens = saved[1].1.chars().count();
        assert!((1..190_000).contains(&tokens), "{tokens}");
        // What is left of the answer.
        while answer != *b"\n" {
            answered.read_exact(&mut answer).unwrap();
        }
    }
    signal(&child, "-INT");
    assert!(said.by_ref().any(|line| line.unwrap().contains("and so does Ctrl-C again")));
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Returns the roles and texts of a saved conversation.
fn messages(project: &Project, file: &str) -> Vec<(String, String)> {
    let saved: Value = serde_json::from_slice(&fs::read(project.path(file)).unwrap()).unwrap();
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    saved["messages"].as_array().unwrap().iter().map(|m| (text(m, "role"), text(m, "content"))).collect()
}

#[test]
fn commands_change_the_conversation() {
    let project = project();
    let lines = [
        "a",
        "/save one.json",
        "/regenerate",
        "/save two.json",
        "//x",
        "/system R",
        "/save three.json",
        "/reset",
        "/save four.json",
        "/load two.json",
        "/save five.json",
        "/quit",
        "never read",
    ];
    let ended = chat(&project, &lines.join("\n"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let one = messages(&project, "one.json");
    let roles: Vec<&str> = one.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!((one[0].1.as_str(), one[1].1.as_str()), ("Be brief.", "a"));
    let two = messages(&project, "two.json");
    assert_eq!(two[..2], one[..2]);
    assert!(two.len() == 3 && two[2] != one[2], "another seed gives another answer: {two:?}");
    let three = messages(&project, "three.json");
    assert_eq!(three[0], ("system".to_owned(), "R".to_owned()));
    assert!(three.len() == 5 && three[3] == ("user".to_owned(), "/x".to_owned()), "{three:?}");
    assert_eq!(messages(&project, "four.json"), three[..1]);
    assert_eq!(messages(&project, "five.json"), two);
    assert!(ended.out.contains(&one[2].1) && ended.out.contains(&two[2].1), "{}", ended.out);
    // A saved conversation is a prompt.
    fs::rename(project.path("four.json"), project.path("four.jsonl")).unwrap();
    fs::copy(project.path("two.json"), project.path("two.jsonl")).unwrap();
    project.succeeds(&["generate", "models/tiny", "--prompts", "two.jsonl", "--max-tokens", "2", "--device", "cpu"]);
    for (line, expected) in [
        ("/jump", "there is no command /jump; /help lists them"),
        ("/regenerate", "there is no message to answer again"),
        ("/load none.json", "cannot read none.json"),
    ] {
        let ended = chat(&project, line);
        assert!(ended.code == Some(1) && ended.err.contains(expected), "{}", ended.err);
    }
}

#[test]
fn texts_obey_what_the_arguments_say() {
    let project = project();
    let generate = |more: &[&str]| {
        let arguments = ["generate", "models/tiny", "a b", "--max-tokens", "40", "--seed", "5", "--device", "cpu"];
        project.succeeds(&[&arguments[..], more].concat())
    };
    let regex = generate(&["--regex", "[0-9]{3}-[a-c]{2}"]);
    let text = regex.trim_end().strip_prefix("a b").unwrap();
    assert!(text.len() == 6 && text.as_bytes()[3] == b'-' && text[..3].parse::<u32>().is_ok(), "{text}");
    project.write(
        "schema.json",
        r#"{"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2}"#,
    );
    let error = project.fails(2, &["generate", "models/tiny", "a", "--json-schema", "schema.json", "--regex", "a"]);
    assert!(error.contains("cannot be used with"), "{error}");
    let error = project.fails(1, &["generate", "models/tiny", "a", "--regex", "(", "--device", "cpu"]);
    assert!(error.contains("--regex cannot be used"), "{error}");
    // Drafts of any model change nothing.
    let plain = generate(&["--temperature", "1.2"]);
    for more in [
        &["--draft-tokens", "3"][..],
        &["--draft-model", "models/tiny"],
        &["--draft-model", "models/tiny", "--draft-tokens", "2"],
    ] {
        assert_eq!(generate(&[&["--temperature", "1.2"], more].concat()), plain, "{more:?}");
    }
    let long = "a b ".repeat(2000);
    let error = project.fails(1, &["generate", "models/tiny", &long, "--device", "cpu"]);
    assert!(error.contains("more than the model's context of") && error.contains("truncate_prompt_tokens"), "{error}");
    let truncated =
        ["generate", "models/tiny", &long, "--device", "cpu", "--truncate-prompt-tokens", "5", "--max-tokens", "1"];
    project.succeeds(&truncated);
}
