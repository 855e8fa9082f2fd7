//! Measures the speed of quality rules and of exact deduplication over documents, in one thread.
//!
//! Usage: `compare DOCUMENTS.jsonl OUT.jsonl [RULE ...]`, where a document is `{"id": ..., "text": ...}`. Each rule
//! first runs alone, splitting the words itself, then all of them with a common split; figures are medians of several
//! passes. `OUT.jsonl` gets a line per document: the signals of each rule, and the criterion that the document does not
//! meet. The counterpart is `compare_datatrove.py`.

use std::convert::Infallible;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};

use artifact::Digest;
use preprocess::dedup::exact;
use preprocess::steps::quality::{Orthography, Rule, Scratch, c4, code, fineweb, gopher_quality, gopher_repetition};
use preprocess::text::words::Buffers;
use serde_json::{Map, Value, json};

const PASSES: usize = 7;

/// Not a rule: drops all but the first of equal documents.
const EXACT_DUPLICATES: &str = "exact_duplicates";

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
    let is_wanted = |wanted: &str| names.is_empty() || names.iter().any(|name| name == wanted);
    rules.retain(|rule| is_wanted(rule.name()));
    let documents = read(&documents)?;
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    println!("{} documents, {:.1} MB", documents.len(), bytes as f64 / 1e6);
    let speed = |what: &str, pass: &dyn Fn() -> f64| {
        let seconds = median((0..PASSES).map(|_| pass()).collect());
        println!("{what:<20} {:8.1} MB/s", bytes as f64 / 1e6 / seconds);
    };
    if !rules.is_empty() {
        speed("words alone", &|| pass(&[], &documents));
        for rule in &rules {
            speed(rule.name(), &|| pass(std::slice::from_ref(rule), &documents));
        }
        speed("all, words shared", &|| pass(&rules, &documents));
    }
    let mut duplicates = None;
    if is_wanted(EXACT_DUPLICATES) {
        // The processor time of the pool's thread is measured.
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        speed(EXACT_DUPLICATES, &|| one_thread.install(|| equal(&documents).1));
        duplicates = Some(equal(&documents).0);
    }
    write(&rules, duplicates.as_deref(), &documents, &out)
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

/// Returns the seconds of the rules.
fn pass(rules: &[Rule], documents: &[Document]) -> f64 {
    let (mut buffers, mut scratch, mut signals) = (Buffers::default(), Scratch::default(), Vec::new());
    let begin = cpu_seconds();
    let mut dropped = 0;
    for document in documents {
        let text = buffers.split(&document.text);
        for rule in rules {
            signals.clear();
            rule.measure(&text, Orthography::ENGLISH, &mut scratch, &mut signals);
            dropped += usize::from(rule.first_failure(&signals).is_some());
        }
    }
    std::hint::black_box(dropped);
    cpu_seconds() - begin
}

/// Returns, for each document, whether it equals an earlier one, and the seconds of the deduplication.
fn equal(documents: &[Document]) -> (Vec<bool>, f64) {
    let begin = cpu_seconds();
    let digests: Vec<Digest> = documents.iter().map(|document| Digest::of(document.text.as_bytes())).collect();
    let scan = |each: &mut dyn FnMut(u32, &[u8; 32])| {
        (0..).zip(&digests).for_each(|(number, digest)| each(number, digest.as_bytes()));
        Ok::<_, Infallible>(())
    };
    let Ok(found) = exact::duplicates(documents.len() as u32, scan, &Some, u64::MAX);
    let mut is_duplicate = vec![false; documents.len()];
    for duplicate in found {
        is_duplicate[duplicate.document as usize] = true;
    }
    (is_duplicate, cpu_seconds() - begin)
}

/// Returns the processor seconds of this thread, which other programs on the machine do not affect. Linux only.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).map_or(f64::NAN, |n| n / 1e9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn write(
    rules: &[Rule],
    duplicates: Option<&[bool]>,
    documents: &[Document],
    path: &str,
) -> Result<(), Box<dyn Error>> {
    let (mut buffers, mut scratch) = (Buffers::default(), Scratch::default());
    let mut out = BufWriter::new(File::create(path)?);
    for (number, document) in documents.iter().enumerate() {
        let text = buffers.split(&document.text);
        let mut line = Map::from_iter([("id".to_owned(), json!(document.id))]);
        for rule in rules {
            let mut signals = Vec::new();
            rule.measure(&text, Orthography::ENGLISH, &mut scratch, &mut signals);
            let failure = rule.first_failure(&signals);
            let measured: Map<String, Value> =
                rule.signals().iter().zip(&signals).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            let failed = failure.map(|failure| failure.criterion);
            let says = failure.map(|failure| failure.to_string());
            line.insert(rule.name().to_owned(), json!({"failed": failed, "says": says, "signals": measured}));
        }
        if let Some(duplicates) = duplicates {
            let failed = duplicates[number].then_some("is equal to another");
            line.insert(EXACT_DUPLICATES.to_owned(), json!({ "failed": failed }));
        }
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
