//! Limits of connections, hostile clients, and draining.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::Config;

use super::server::{Server, events, head, long, status};

const SECOND: Duration = Duration::from_secs(1);

/// Waits until the server closes a connection, and returns how long that took.
fn closed_after(mut stream: TcpStream, start: Instant) -> Duration {
    let mut rest = Vec::new();
    // A connection that is reset is closed as well.
    let _ = stream.read_to_end(&mut rest);
    assert!(start.elapsed() < 20 * SECOND, "the connection was not closed");
    start.elapsed()
}

#[test]
fn client_that_sends_one_byte_a_second_is_disconnected() {
    let server = Server::start(Config { header_seconds: 2, body_seconds: 2, ..Config::default() });
    let trickle = |mut stream: TcpStream, text: &str| {
        let start = Instant::now();
        let mut writer = stream.try_clone().unwrap();
        let bytes = text.as_bytes().to_vec();
        let sender = std::thread::spawn(move || {
            for byte in bytes {
                if writer.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(SECOND);
            }
        });
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let took = start.elapsed();
        drop(stream);
        sender.join().unwrap();
        (answer, took)
    };
    let (answer, took) = trickle(server.connect(), "GET /health HTTP/1.1");
    assert!(answer.is_empty() && (SECOND..6 * SECOND).contains(&took), "{took:?}: {answer}");
    let mut stream = server.connect();
    stream.write_all(head(20).as_bytes()).unwrap();
    let (answer, took) = trickle(stream, "{\"prompt\": \"fn main\"}");
    assert!(answer.starts_with("HTTP/1.1 408 ") && took < 6 * SECOND, "{took:?}: {answer}");
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn idle_connections_are_closed() {
    let server = Server::start(Config { idle_seconds: 1, ..Config::default() });
    let start = Instant::now();
    let silent = server.connect();
    let mut kept_alive = server.connect();
    kept_alive.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answered = server.connect();
    answered.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    for stream in [silent, kept_alive, answered] {
        let took = closed_after(stream, start);
        assert!((SECOND / 2..6 * SECOND).contains(&took), "{took:?}");
    }
}

#[test]
fn client_that_does_not_read_its_answer_frees_its_slot() {
    let server = Server::start(Config { idle_seconds: 1, ..Config::default() });
    // The socket's buffers hold some seconds of text, and less time of log probabilities.
    let mut body = long(1_000_000, true);
    body["logprobs"] = 20.into();
    let client = server.send(&body);
    server.wait_for_load(1, 0);
    let start = Instant::now();
    while server.get("/health").1["requests"]["running"] != 0 {
        assert!(start.elapsed() < Duration::from_mins(1), "the slot is not freed");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let server = Server::start(Config { max_connections: 3, ..Config::default() });
    let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    // The client of this test keeps the third one.
    assert_eq!(server.get("/health").0, 200);
    let mut refused = server.connect();
    refused.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "too_many_connections");
    held.clear();
    let start = Instant::now();
    loop {
        let mut stream = server.connect();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        if status(stream) == 200 {
            break;
        }
        assert!(start.elapsed() < 5 * SECOND, "closed connections leave their place");
    }
}

#[test]
fn huge_headers_are_refused() {
    let server = Server::start(Config::default());
    let ask = |headers: &str| {
        let mut stream = server.connect();
        let request = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        status(stream)
    };
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(20_000))), 200);
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(40_000))), 431);
    assert_eq!(ask(&"X: a\r\n".repeat(50)), 200);
    assert_eq!(ask(&"X: a\r\n".repeat(200)), 431);
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn hostile_bodies_are_refused() {
    let server = Server::start(Config::default());
    let nested = |open: &str, close: &str| format!("{{\"prompt\": {}{}}}", open.repeat(10_000), close.repeat(10_000));
    let one_letter = json!({"prompt": "a".repeat(1_000_000), "max_tokens": 1}).to_string();
    let cases: [(&str, Vec<u8>, &[u16]); 7] = [
        ("nested arrays", nested("[", "]").into_bytes(), &[400]),
        ("nested objects", nested("{\"a\":", "}").into_bytes(), &[400]),
        ("unclosed arrays", "[".repeat(10_000).into_bytes(), &[400]),
        ("invalid UTF-8", b"{\"prompt\": \"\xff\xfe\"}".to_vec(), &[400]),
        ("an unpaired surrogate", br#"{"prompt": "\ud800"}"#.to_vec(), &[400]),
        // Longer than the context: cut off or refused.
        ("a megabyte of one letter", one_letter.into_bytes(), &[200, 400]),
        ("more than a megabyte", vec![b'a'; 2_000_000], &[413]),
    ];
    for (name, body, expected) in cases {
        let start = Instant::now();
        let status = server.status_of(&body);
        assert!(expected.contains(&status), "{name}: {status}");
        assert!(start.elapsed() < 30 * SECOND, "{name} took {:?}", start.elapsed());
        assert_eq!(server.get("/health").0, 200, "after {name}");
    }
}

#[test]
fn request_that_takes_too_long_is_ended() {
    let server = Server::start(Config { request_seconds: 1, ..Config::default() });
    let start = Instant::now();
    let (status, error) = server.post("/v1/completions", &long(1_000_000, false));
    assert_eq!((status, &error["error"]["code"]), (504, &json!("request_timeout")));
    server.wait_for_load(0, 0);
    let events = events(server.send(&long(1_000_000, true)));
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "request_timeout");
    assert!(events.len() > 2, "some of the text was sent");
    server.wait_for_load(0, 0);
    assert!((2 * SECOND..20 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn disconnecting_frees_the_place_at_once() {
    let server = Server::start(Config { max_concurrent_requests: 1, max_queue: 1, ..Config::default() });
    let running = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 0);
    // Requests whose clients go while they wait leave the queue to others.
    for _ in 0..3 {
        let waiting = server.send(&long(1_000_000, true));
        server.wait_for_load(1, 1);
        drop(waiting);
        server.wait_for_load(1, 0);
    }
    let next = server.send(&long(2, true));
    server.wait_for_load(1, 1);
    let start = Instant::now();
    drop(running);
    assert_eq!(events(next).last().unwrap(), "[DONE]");
    // A step of this model takes well under a millisecond.
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[test]
fn draining_answers_what_was_accepted_and_refuses_the_rest() {
    let mut server = Server::start(Config { max_concurrent_requests: 1, ..Config::default() });
    let running = server.send(&long(3000, true));
    server.wait_for_load(1, 0);
    let waiting = server.send(&long(3, true));
    server.wait_for_load(1, 1);
    server.begin_to_stop();
    let start = Instant::now();
    while server.get("/ready").1["status"] != "stopping" {
        assert!(start.elapsed() < 5 * SECOND, "the server does not say that it is stopping");
    }
    assert_eq!(server.get("/ready").0, 503);
    assert_eq!(server.get("/health").0, 200, "it is alive");
    let (status, error) = server.post("/v1/completions", &long(1, false));
    assert_eq!((status, &error["error"]["code"]), (503, &json!("stopping")));
    for stream in [running, waiting] {
        assert_eq!(events(stream).last().unwrap(), "[DONE]");
    }
    server.stop().0.unwrap();
    assert!(TcpStream::connect(server.address).is_err(), "the listener is closed");
}

#[test]
fn connections_that_are_open_when_the_server_stops_are_answered() {
    let mut server = Server::start(Config::default());
    let mut connections: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    server.begin_to_stop();
    // Longer than the server takes to find that it has nothing to answer.
    std::thread::sleep(Duration::from_millis(300));
    let body = long(1, false).to_string();
    for stream in &mut connections {
        stream.write_all((head(body.len()) + &body).as_bytes()).unwrap();
    }
    for mut stream in connections {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let has = |header: &str| answer.contains(&format!("\r\n{header}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 503 ") && has("connection: close") && has("retry-after: 1"), "{answer}");
    }
    server.stop().0.unwrap();
}

#[test]
fn answer_to_a_body_that_is_not_read_arrives() {
    let server = Server::start(Config::default());
    let mut stream = server.connect();
    let body = vec![b'x'; 8 << 20];
    let head = format!("POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}
