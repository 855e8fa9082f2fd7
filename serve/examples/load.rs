//! Loads a server from another process: clients that stream texts, of which some leave in the middle.
//!
//! Usage: `load ADDRESS SECONDS CLIENTS [PID]`, such as `load 127.0.0.1:8080 600 64 $(pgrep -x pipeline)`. Prints how
//! many requests ended how, the times to the first token and between tokens, and the memory of process PID every
//! minute. A client that is told to come back later (429) does. `serve/tests/load.sh` runs it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A client that gets nothing for this long gives up.
const TIMEOUT: Duration = Duration::from_mins(1);
/// A client that cannot connect waits this long.
const PAUSE: Duration = Duration::from_millis(100);

/// What happened so far.
#[derive(Default)]
struct Counts {
    /// Requests by how they ended.
    ends: BTreeMap<String, u64>,
    /// From the request to its first text, in seconds.
    first_token: Vec<f32>,
    /// Between two parts of a text, in seconds.
    inter_token: Vec<f32>,
}

/// A random client: a linear congruential generator (Knuth's MMIX) is random enough here.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, seconds, clients, pid @ ..] = &arguments[..] else {
        return Err("usage: load ADDRESS SECONDS CLIENTS [PID]".into());
    };
    let (address, clients): (SocketAddr, u64) = (address.parse()?, clients.parse()?);
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for number in 0..clients {
            let counts = &counts;
            scope.spawn(move || {
                let mut random = Random(number + 1);
                while Instant::now() < end {
                    let ended = request(address, &mut random, counts);
                    if let Ok(mut counts) = counts.lock() {
                        *counts.ends.entry(ended.clone()).or_default() += 1;
                    }
                    match ended.as_str() {
                        "429" | "503" => std::thread::sleep(Duration::from_millis(500 + random.below(1000))),
                        "not connected" | "no answer" => std::thread::sleep(PAUSE),
                        _ => {}
                    }
                }
            });
        }
        if let [pid] = pid {
            while Instant::now() < end {
                println!("{} MB resident", resident_bytes(pid) / 1_000_000);
                std::thread::sleep(Duration::from_mins(1).min(end.saturating_duration_since(Instant::now())));
            }
        }
    });
    let mut counts = counts.into_inner()?;
    for (ended, count) in &counts.ends {
        println!("{count:>8}  {ended}");
    }
    println!("first token: {}", percentiles(&mut counts.first_token));
    println!("inter-token: {}", percentiles(&mut counts.inter_token));
    Ok(())
}

/// Sends one request and returns how it ended.
fn request(address: SocketAddr, random: &mut Random, counts: &Mutex<Counts>) -> String {
    let Ok(stream) = TcpStream::connect_timeout(&address, TIMEOUT) else { return "not connected".to_owned() };
    match ask(&stream, random, counts) {
        Ok(ended) => ended,
        Err(error) => format!("cut off: {}", error.kind()),
    }
}

fn ask(mut stream: &TcpStream, random: &mut Random, counts: &Mutex<Counts>) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let prompt = "let total = 0; ".repeat(1 + random.below(8) as usize);
    let (seed, max_tokens) = (random.below(1000), 8 + random.below(56));
    let body = format!(
        "{{\"prompt\": \"{prompt}// {seed}\", \"max_tokens\": {max_tokens}, \"seed\": {seed}, \"stream\": true}}"
    );
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Every fourth client leaves after a few parts; some before the first.
    let leaves_after = (random.below(4) == 0).then(|| random.below(20));
    let start = Instant::now();
    // A server that has gone resets connections that it has not accepted yet.
    let not_answered = "no answer".to_owned();
    if stream.write_all((head + &body).as_bytes()).is_err() {
        return Ok(not_answered);
    }
    if leaves_after == Some(0) {
        std::thread::sleep(Duration::from_millis(random.below(50)));
        return Ok("left before the first text".to_owned());
    }
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return Ok(not_answered) };
    let status = first.get(9..12).unwrap_or_default().to_owned();
    if status != "200" {
        return Ok(status);
    }
    let (mut last, mut parts) = (None::<Instant>, 0);
    for line in lines {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return Ok("200".to_owned());
        }
        if data.starts_with("{\"error\"") {
            return Ok(format!("200, then {data}"));
        }
        let now = Instant::now();
        if let Ok(mut counts) = counts.lock() {
            match last {
                None => counts.first_token.push((now - start).as_secs_f32()),
                Some(last) => counts.inter_token.push((now - last).as_secs_f32()),
            }
        }
        (last, parts) = (Some(now), parts + 1);
        if leaves_after == Some(parts) {
            return Ok("left in the middle".to_owned());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn percentiles(seconds: &mut [f32]) -> String {
    seconds.sort_unstable_by(f32::total_cmp);
    let at = |percent: usize| {
        let place = (seconds.len() * percent / 100).min(seconds.len().saturating_sub(1));
        seconds.get(place).copied().unwrap_or_default() * 1e3
    };
    format!("p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms of {}", at(50), at(95), at(99), seconds.len())
}

/// Returns the resident memory of a process, as Linux reports it; 0 if there is none.
fn resident_bytes(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
