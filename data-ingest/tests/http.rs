//! Downloads, against a server of this process.

mod corpus;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use artifact::{Context, Digest};
use corpus::{chain, collect, context, one};
use data_ingest::{Config, Error, Source, inventory};

const CONTENT: &[u8] = b"0123456789 the quick brown fox jumps over the lazy dog";

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Answer {
    /// Sends everything asked for.
    Whole,
    /// Announces everything asked for and hangs up after so many bytes.
    Cut(usize),
    /// Sends everything from the beginning, whatever was asked for.
    IgnoringRange,
    /// Sends these bytes instead.
    Other(&'static [u8]),
    /// Sends a status, with a header line of its own.
    Status(u16, &'static str),
    /// Hangs up.
    Nothing,
}

struct Server {
    url: String,
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    /// Starts a server that answers one request after the other, then refuses.
    fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data/fox.txt?version=1", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (Arc::clone(&ranges), answers.to_vec());
        thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                seen.lock().unwrap().push(serve(&stream, &answer));
            }
        });
        Self { url, ranges }
    }

    /// Returns the `Range` header of each request so far.
    fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, answer: &Answer) -> Option<String> {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some((name, value)) = line.split_once(": ") {
            if name.eq_ignore_ascii_case("range") {
                range = Some(value.to_owned());
            }
        } else if line.is_empty() {
            break;
        }
    }
    let from = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (from, body, sent) = match answer {
        Answer::Whole => (from, CONTENT, usize::MAX),
        Answer::Cut(bytes) => (from, CONTENT, *bytes),
        Answer::IgnoringRange => (None, CONTENT, usize::MAX),
        Answer::Other(body) => (from, *body, usize::MAX),
        Answer::Status(status, header) => {
            write!(stream, "HTTP/1.1 {status} X\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            return range;
        }
        Answer::Nothing => return range,
    };
    let (status, start) = match from {
        Some(from) if from >= body.len() => ("416 X".to_owned(), body.len()),
        Some(from) => (format!("206 X\r\nContent-Range: bytes {from}-{}/{}", body.len() - 1, body.len()), from),
        None => ("200 OK".to_owned(), 0),
    };
    let rest = &body[start..];
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len()).unwrap();
    stream.write_all(&rest[..rest.len().min(sent)]).unwrap();
    range
}

fn config(url: &str) -> Config {
    let source = Source { url: Some(url.to_owned()), sha256: Some(Digest::of(CONTENT)), ..Source::default() };
    Config { allow_private: true, ..one(source) }
}

fn online(base: &Path) -> Context {
    Context { offline: false, ..context(base) }
}

/// Collects from a server that gives `answers`; compares the ranges asked for, and the error if one is expected.
fn check(answers: &[Answer], ranges: &[Option<&str>], expected: Result<(), &str>) {
    check_with(answers, ranges, expected, |_| ());
}

fn check_with(answers: &[Answer], ranges: &[Option<&str>], expected: Result<(), &str>, adjust: impl Fn(&mut Config)) {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(answers);
    let mut config = config(&server.url);
    adjust(&mut config);
    let found = collect(&config, &online(base.path()));
    match (found, expected) {
        (Ok((_, rows)), Ok(())) => {
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].text.as_deref().map(str::as_bytes), Some(CONTENT));
            assert_eq!(rows[0].path, "fox.txt");
            // A second run takes it from the cache, without the network.
            let (_, again) = collect(&config, &context(base.path())).unwrap();
            assert_eq!(again, rows);
        }
        (Err(error), Err(expected)) => {
            // What follows the question mark may be a key, and is told nowhere but in a name that nobody chose.
            let shown = server.url.split('?').next().unwrap();
            assert_eq!(chain(&error).replace(&server.url, "<url>").replace(shown, "<url>"), expected);
        }
        (found, expected) => panic!("{found:?}\n{expected:?}"),
    }
    let asked = server.ranges();
    assert_eq!(asked.iter().map(Option::as_deref).collect::<Vec<_>>(), ranges);
}

#[test]
fn a_download_arrives_whole() {
    check(&[Answer::Whole], &[None], Ok(()));
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    check(&[Answer::Cut(10), Answer::Whole], &[None, Some("bytes=10-")], Ok(()));
    check(&[Answer::Cut(10), Answer::Cut(5), Answer::Whole], &[None, Some("bytes=10-"), Some("bytes=15-")], Ok(()));
    check(&[Answer::Cut(10), Answer::IgnoringRange], &[None, Some("bytes=10-")], Ok(()));
    check(&[Answer::Nothing, Answer::Whole], &[None, None], Ok(()));
}

#[test]
fn a_resumed_download_of_another_version_starts_again() {
    let other = Answer::Other(b"another version of the very same file, somewhat longer");
    check(&[Answer::Cut(10), other, Answer::Whole], &[None, Some("bytes=10-"), None], Ok(()));
    let shorter = Answer::Other(b"short");
    check(&[Answer::Cut(10), shorter, Answer::Whole], &[None, Some("bytes=10-"), None], Ok(()));
}

#[test]
fn a_failing_server_is_tried_again_and_not_for_ever() {
    let busy = Answer::Status(503, "Retry-After: 0\r\n");
    check(&[busy.clone(), busy.clone(), Answer::Whole], &[None, None, None], Ok(()));
    check_with(
        &[busy.clone(), busy],
        &[None, None],
        Err(
            "source <url>: cannot download <url> (tried 2 times; what arrived is kept for the next time): HTTP status 503",
        ),
        |config| config.download_attempts = 2,
    );
    check(&[Answer::Status(404, "")], &[None], Err("source <url>: <url> answered with HTTP status 404"));
}

#[test]
fn a_wrong_digest_is_an_error_with_both() {
    let told = format!(
        "source <url>: <url> has SHA-256 {}, its `sha256` says {}",
        Digest::of(b"something else"),
        Digest::of(CONTENT)
    );
    check(&[Answer::Other(b"something else")], &[None], Err(&told));
}

#[test]
fn a_download_has_a_size_cap() {
    check_with(
        &[Answer::Whole],
        &[None],
        Err("source <url>: <url> has at least 54 bytes, collect.max_download_bytes is 53"),
        |config| config.max_download_bytes = CONTENT.len() as u64 - 1,
    );
}

#[test]
fn offline_refuses_what_is_not_cached() {
    let base = tempfile::tempdir().unwrap();
    let config = config("http://127.0.0.1:9/fox.txt");
    // Listing needs no network: what is pinned is known.
    let inputs = inventory(&config, &context(base.path())).unwrap().inputs();
    assert_eq!(inputs.keys().collect::<Vec<_>>(), ["source http://127.0.0.1:9/fox.txt"]);
    let error = collect(&config, &context(base.path())).unwrap_err();
    assert!(matches!(&error, Error::Offline { url, .. } if url == "http://127.0.0.1:9/fox.txt"), "{error}");
}

#[test]
fn a_run_that_was_cut_off_goes_on_where_it_stopped() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(&[Answer::Cut(20), Answer::Whole]);
    let config = Config { download_attempts: 1, ..config(&server.url) };
    assert!(matches!(collect(&config, &online(base.path())), Err(Error::Download { attempts: 1, .. })));
    let (_, rows) = collect(&config, &online(base.path())).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(server.ranges(), [None, Some("bytes=20-".to_owned())]);
}

#[test]
fn a_cached_file_with_a_flipped_bit_is_downloaded_again() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(&[Answer::Whole, Answer::Whole]);
    let config = config(&server.url);
    collect(&config, &online(base.path())).unwrap();
    let cached = base.path().join("experiments/cache/downloads").join(Digest::of(CONTENT).to_string());
    let mut bytes = std::fs::read(&cached).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&cached, bytes).unwrap();
    let (_, rows) = collect(&config, &online(base.path())).unwrap();
    assert_eq!(rows[0].text.as_deref().map(str::as_bytes), Some(CONTENT));
    assert_eq!(server.ranges().len(), 2);
}
