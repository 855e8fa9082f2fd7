//! A server of this process, which answers as the test says and remembers what it was asked.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// Returns a parameter of the query, as it was sent.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?')?.1;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// After how many bytes of the body the connection breaks.
    pub cut: Option<usize>,
    /// Whether the length is not told, so that the end of the connection is the end of the body.
    pub endless: bool,
}

impl Reply {
    /// Returns an answer of this status, without a body.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Returns an answer that sends its caller elsewhere.
    pub fn redirect(location: &str) -> Self {
        Self::status(302).with("Location", location)
    }

    /// Returns a body, whatever range was asked for.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    /// Returns the part of a file that was asked for, as RFC 9110 wants it.
    pub fn file(request: &Request, content: &[u8], etag: &str) -> Self {
        if request.header("if-match").is_some_and(|wanted| wanted != etag) {
            return Self::status(412);
        }
        let same = request.header("if-range").is_none_or(|wanted| wanted == etag);
        let range = request.header("range").filter(|_| same).and_then(|range| range.strip_prefix("bytes="));
        let from = range.and_then(|range| range.split_once('-')?.0.parse::<usize>().ok());
        let reply = match from {
            None => Self::body(content),
            Some(from) if from >= content.len() => Self::status(416),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
                Self { status: 206, ..Self::body(&content[from..]) }.with("Content-Range", &range)
            }
        };
        if etag.is_empty() { reply } else { reply.with("ETag", etag) }
    }

    /// Returns the answer with a header more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the answer, broken off after so many bytes of its body.
    pub fn cut(self, bytes: usize) -> Self {
        Self { cut: Some(bytes), ..self }
    }
}

/// A server on a free port of the loopback interface.
pub struct Server {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(answer, false)
    }

    /// Starts a proxy that says it is connected to whatever it is asked for, and answers in its place.
    pub fn proxy(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(answer, true)
    }

    fn listen(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static, is_proxy: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || {
                    if is_proxy && read(&stream).is_some() {
                        let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    }
                    let Some(request) = read(&stream) else { return };
                    seen.lock().unwrap().push(request.clone());
                    send(&stream, &answer(&request), request.method == "HEAD");
                });
            }
        });
        Self { url, requests }
    }

    /// Returns what was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns a header of every request for a path so far.
    pub fn headers_of(&self, path: &str, name: &str) -> Vec<Option<String>> {
        let requests = self.requests();
        let of_path = requests.iter().filter(|request| request.path() == path);
        of_path.map(|request| request.header(name).map(str::to_owned)).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    // One byte more than the head must not be taken: a proxy's caller goes on with another head.
    let mut lines = BufReader::with_capacity(1, stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request { method, target, headers })
}

fn send(mut stream: &TcpStream, reply: &Reply, head_only: bool) {
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !reply.endless {
        head.extend(["Content-Length: ", &reply.body.len().to_string(), "\r\n"]);
    }
    let body = if head_only { &[] } else { &reply.body[..reply.cut.unwrap_or(reply.body.len())] };
    // A caller that has seen enough hangs up.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}
