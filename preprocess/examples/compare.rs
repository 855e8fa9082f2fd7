//! Runs quality rules over documents, one thread, and says how fast each was.
//!
//! Usage: `compare DOCUMENTS.jsonl OUT.jsonl [RULE ...]`, where a document is `{"id": ..., "text": ...}`. Each rule runs
//! alone, words split for it anew, then all of them share what was split; the figure is the median of several passes.
//! `OUT.jsonl` gets one line for each document: what each rule measured, and the criterion that it failed. The peer is
//! `compare_datatrove.py`.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};

use preprocess::quality::{Rule, Scratch, c4, code, fineweb, gopher_quality, gopher_repetition};
use preprocess::words::Buffers;
use serde_json::{Map, Value, json};

const PASSES: usize = 7;

struct Document {
    id: String,
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(documents), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("usage: compare DOCUMENTS.jsonl OUT.jsonl [RULE ...]".into());
    };
    let names: Vec<String> = arguments.collect();
    let mut rules = rules();
    rules.retain(|rule| names.is_empty() || names.iter().any(|name| name == rule.name()));
    let documents = read(&documents)?;
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    println!("{} documents, {:.1} MB", documents.len(), bytes as f64 / 1e6);
    let speed = |what: &str, rules: &[Rule]| {
        let seconds = median((0..PASSES).map(|_| pass(rules, &documents)).collect());
        println!("{what:<20} {:8.1} MB/s", bytes as f64 / 1e6 / seconds);
    };
    speed("words alone", &[]);
    for rule in &rules {
        speed(rule.name(), std::slice::from_ref(rule));
    }
    speed("all, words shared", &rules);
    write(&rules, &documents, &out)
}

/// All rules with their published thresholds.
fn rules() -> Vec<Rule> {
    vec![
        Rule::GopherRepetition(gopher_repetition::Config::default()),
        Rule::GopherQuality(gopher_quality::Config::default()),
        Rule::C4(c4::Config::default()),
        Rule::FineWeb(fineweb::Config::default()),
        Rule::Code(code::Config::default()),
    ]
}

fn read(path: &str) -> Result<Vec<Document>, Box<dyn Error>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines
        .map(|line| {
            let line: Value = serde_json::from_str(&line?)?;
            let field = |name| line[name].as_str().map(str::to_owned).ok_or("a document without id or text");
            Ok(Document { id: field("id")?, text: field("text")? })
        })
        .collect()
}

/// Returns the seconds that the rules take.
fn pass(rules: &[Rule], documents: &[Document]) -> f64 {
    let (mut buffers, mut scratch, mut signals) = (Buffers::default(), Scratch::default(), Vec::new());
    let begin = cpu_seconds();
    let mut dropped = 0;
    for document in documents {
        let text = buffers.split(&document.text);
        for rule in rules {
            signals.clear();
            rule.measure(&text, &mut scratch, &mut signals);
            dropped += usize::from(rule.judge(&signals).is_some());
        }
    }
    std::hint::black_box(dropped);
    cpu_seconds() - begin
}

/// Returns the seconds for which this thread has had a core, so that other programs on the machine do not count. Linux
/// alone says.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).map_or(f64::NAN, |n| n / 1e9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn write(rules: &[Rule], documents: &[Document], path: &str) -> Result<(), Box<dyn Error>> {
    let (mut buffers, mut scratch) = (Buffers::default(), Scratch::default());
    let mut out = BufWriter::new(File::create(path)?);
    for document in documents {
        let text = buffers.split(&document.text);
        let mut line = Map::from_iter([("id".to_owned(), json!(document.id))]);
        for rule in rules {
            let mut signals = Vec::new();
            rule.measure(&text, &mut scratch, &mut signals);
            let failure = rule.judge(&signals);
            let measured: Map<String, Value> =
                rule.signals().iter().zip(&signals).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            let failed = failure.map(|failure| failure.criterion);
            let says = failure.map(|failure| failure.to_string());
            line.insert(rule.name().to_owned(), json!({"failed": failed, "says": says, "signals": measured}));
        }
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
