//! Traces of the server's requests, received by a collector in this process. Built with the feature `otel`:
//! `cargo test --release --workspace --features pipeline/otel --test traces`.

#![cfg(all(feature = "otel", unix))]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A field of a protobuf message: its number, and its value.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// Reads the fields of a message (Protocol Buffers' encoding).
fn fields(mut message: &[u8]) -> Vec<Field<'_>> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = message.split_at(length);
        *message = rest;
        taken
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        fields.push(match tag & 7 {
            0 => Field::Number(tag >> 3, varint(&mut message)),
            1 => Field::Number(tag >> 3, u64::from_le_bytes(take(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(tag >> 3, take(&mut message, length))
            }
            5 => Field::Number(tag >> 3, u64::from(u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()))),
            other => panic!("wire type {other}"),
        });
    }
    fields
}

/// Returns the messages and strings in field `number`.
fn messages(message: &[u8], number: u64) -> Vec<&[u8]> {
    let of_number = |field| match field {
        Field::Bytes(found, bytes) if found == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of_number).collect()
}

fn number(message: &[u8], number: u64) -> u64 {
    let of_number = |field| match field {
        Field::Number(found, value) if found == number => Some(value),
        _ => None,
    };
    fields(message).into_iter().find_map(of_number).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the attributes in field `number` as text.
fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let value = |value: &[u8]| {
        fields(value).into_iter().next().map_or_else(String::new, |field| match field {
            Field::Bytes(1, string) => text(string),
            Field::Number(2 | 3, integer) => integer.to_string(),
            Field::Number(4, bits) => f64::from_bits(bits).to_string(),
            _ => "another type".to_owned(),
        })
    };
    messages(message, number)
        .into_iter()
        .map(|pair| (text(messages(pair, 1)[0]), value(messages(pair, 2)[0])))
        .collect()
}

/// A span of opentelemetry-proto's `trace.proto`.
#[derive(Debug)]
struct Span {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Option<Vec<u8>>,
    name: String,
    kind: u64,
    nanoseconds: std::ops::Range<u64>,
    attributes: BTreeMap<String, String>,
}

/// Returns the spans of an `ExportTraceServiceRequest` and the attributes of their resource.
fn spans(request: &[u8]) -> (Vec<Span>, BTreeMap<String, String>) {
    let (mut spans, mut resource) = (Vec::new(), BTreeMap::new());
    for of_resource in messages(request, 1) {
        resource.extend(messages(of_resource, 1).into_iter().flat_map(|resource| attributes(resource, 1)));
        for span in messages(of_resource, 2).into_iter().flat_map(|of_scope| messages(of_scope, 2)) {
            let bytes = |number| messages(span, number).first().map(|bytes| bytes.to_vec());
            spans.push(Span {
                trace: bytes(1).unwrap(),
                id: bytes(2).unwrap(),
                parent: bytes(4).filter(|parent| !parent.is_empty()),
                name: text(messages(span, 5)[0]),
                kind: number(span, 6),
                nanoseconds: number(span, 7)..number(span, 8),
                attributes: attributes(span, 9),
            });
        }
    }
    (spans, resource)
}

/// Reads the head and the body of a request.
fn read(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Starts a collector and returns its address and what it receives.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while let Some(request) = read(&stream) {
                let _ = sender.send(request);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    (address, receiver)
}

fn serve(folder: &Path, environment: &[(&str, &str)]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.args(["serve", &folder.display().to_string(), "--port", "0", "--device", "cpu"]).current_dir(folder);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let address = said.split_once("http://").unwrap_or_else(|| panic!("{said}")).1;
    let address = address.split(';').next().unwrap().to_owned();
    while !ask(&address, "GET /ready", "").starts_with("HTTP/1.1 200") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    (child, address)
}

fn ask(address: &str, what: &str, body: &str) -> String {
    ask_in(address, what, "", body)
}

/// As [`ask`], with lines of further headers.
fn ask_in(address: &str, what: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn stop(child: Child) -> String {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    errors
}

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "let x"}], "max_tokens": 5, "temperature": 0.5}"#;

#[test]
fn requests_are_traced_to_the_collector_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    test_support::tiny::write(folder.path(), model::Family::Qwen3, 128);
    let (endpoint, received) = collector();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a")];
    let (child, address) = serve(folder.path(), &environment);
    assert!(ask(&address, "POST /v1/chat/completions", CHAT).starts_with("HTTP/1.1 200"));
    let invalid = r#"{"prompt": "x", "temperature": 9}"#;
    assert!(ask(&address, "POST /v1/completions", invalid).starts_with("HTTP/1.1 400"));
    let log = stop(child);
    assert!(log.contains("INFO serve::access: request remote="), "the log has no spans: {log}");

    // What had not been sent is sent at the end.
    let (mut all, mut resource) = (Vec::new(), BTreeMap::new());
    for (head, body) in received.try_iter() {
        assert!(head.starts_with("POST /v1/traces ") && head.to_lowercase().contains("x-tenant: a"), "{head}");
        let (spans, of_resource) = spans(&body);
        all.extend(spans);
        resource.extend(of_resource);
    }
    assert!(log.contains(&format!("trace_id=\"{}\"", hexadecimal(&all[0].trace))), "{log}");
    assert_eq!(resource["service.name"], "pipeline");
    let named = |name: &str| {
        let found: Vec<&Span> = all.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} in {all:#?}");
        found[0]
    };
    assert_eq!(all.len(), 3, "probes are not traced: {all:#?}");
    let (request, generation) = (named("POST /v1/chat/completions"), named("chat pipeline"));
    assert_eq!((request.kind, &request.parent), (2, &None), "a server's span without a parent");
    for (name, expected) in
        [("http.request.method", "POST"), ("http.route", "/v1/chat/completions"), ("http.response.status_code", "200")]
    {
        assert_eq!(request.attributes[name], expected, "{name}");
    }
    assert_eq!((&generation.trace, generation.parent.as_ref()), (&request.trace, Some(&request.id)));
    let (outer, inner) = (&request.nanoseconds, &generation.nanoseconds);
    assert!(outer.start <= inner.start && inner.start < inner.end, "{outer:?} {inner:?}");
    for (name, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "pipeline"),
        ("gen_ai.request.max_tokens", "5"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.usage.output_tokens", "5"),
        ("gen_ai.response.finish_reasons", "[\"length\"]"),
    ] {
        assert_eq!(generation.attributes[name], expected, "{name} in {generation:#?}");
    }
    let seconds = |name: &str| generation.attributes[name].parse::<f64>().unwrap();
    assert!(seconds("gen_ai.usage.input_tokens") > 4.0);
    let times = ["time_in_queue", "time_to_first_token", "e2e"].map(|name| seconds(&format!("gen_ai.latency.{name}")));
    assert!(0.0 < times[0] && times.is_sorted() && times[2] < 60.0, "{times:?}");
    assert_eq!(named("POST /v1/completions").attributes["http.response.status_code"], "400");
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn a_request_is_in_the_trace_of_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    test_support::tiny::write(folder.path(), model::Family::Qwen3, 128);
    let (endpoint, received) = collector();
    let (child, address) = serve(folder.path(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)]);
    let (sampled, unsampled, span) = ("a".repeat(32), "b".repeat(32), "c".repeat(16));
    for (trace, flags) in [(&sampled, "01"), (&unsampled, "00")] {
        let header = format!("traceparent: 00-{trace}-{span}-{flags}\r\n");
        assert!(ask_in(&address, "POST /v1/chat/completions", &header, CHAT).starts_with("HTTP/1.1 200"));
    }
    let invalid = "traceparent: 00-a-b-01\r\n";
    assert!(ask_in(&address, "GET /v1/models", invalid, "").starts_with("HTTP/1.1 200"));
    let log = stop(child);
    let all: Vec<Span> = received.try_iter().flat_map(|(_, body)| spans(&body).0).collect();
    // What the caller does not record is not sent.
    let mut found: Vec<_> = all.iter().map(|span| (span.name.as_str(), hexadecimal(&span.trace))).collect();
    found.sort_unstable();
    let [models, request, chat] = &found[..] else { panic!("{all:#?}") };
    assert_eq!((chat, request), (&("chat pipeline", sampled.clone()), &("POST /v1/chat/completions", sampled.clone())));
    assert!(models.0 == "GET /v1/models" && models.1 != sampled, "{models:?}");
    let request = all.iter().find(|span| span.kind == 2 && hexadecimal(&span.trace) == sampled).unwrap();
    assert_eq!(request.parent.as_deref().map(hexadecimal), Some(span));
    for trace in [&sampled, &unsampled, &models.1] {
        assert!(log.contains(&format!("trace_id=\"{trace}\"")), "{trace} in {log}");
    }
}

#[test]
fn nothing_is_sent_without_an_endpoint_and_an_unreachable_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    test_support::tiny::write(folder.path(), model::Family::Qwen3, 128);
    let (endpoint, received) = collector();
    for environment in [&[][..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SDK_DISABLED", "true")]] {
        let (child, address) = serve(folder.path(), environment);
        assert!(ask(&address, "POST /v1/chat/completions", CHAT).starts_with("HTTP/1.1 200"));
        assert!(!stop(child).contains("traces"));
        assert_eq!(received.try_iter().count(), 0);
    }
    // Nothing listens on the discard port.
    let (child, address) = serve(folder.path(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")]);
    assert!(ask(&address, "POST /v1/chat/completions", CHAT).starts_with("HTTP/1.1 200"));
    let log = stop(child);
    assert!(log.contains("traces could not be sent: "), "{log}");
}
