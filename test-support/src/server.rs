//! An HTTP server in this process: it replies as a test specifies, and records the requests.

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

/// A reply.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The status; 0 for no reply.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The number of bytes of the body after which the connection is closed.
    pub cut: Option<usize>,
    /// Whether the length is not sent, so that the end of the connection is the end of the body.
    pub endless: bool,
}

impl Reply {
    /// Returns a reply with this status and no body.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Returns no reply: the connection is closed.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Returns a redirect.
    pub fn redirect(location: &str) -> Self {
        Self::status(302).with("Location", location)
    }

    /// Returns a reply with this body, whatever range was requested.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    /// Returns the requested range of a file, by RFC 9110.
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

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Closes the connection after so many bytes of the body.
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

    /// Starts a proxy that accepts every CONNECT request and replies in place of the destination.
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

    /// Returns the requests so far.
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
    // No byte after the head may be read: a proxy's client sends another head.
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
    if reply.status == 0 {
        return;
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !reply.endless {
        head.extend(["Content-Length: ", &reply.body.len().to_string(), "\r\n"]);
    }
    let body = if head_only { &[] } else { &reply.body[..reply.cut.unwrap_or(reply.body.len())] };
    // The client may close the connection early.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}
