//! Measures the recall and the speed of near deduplication.
//!
//!     cargo run --release --example near_duplicates -- planted WORDS
//!     cargo run --release --example near_duplicates -- corpus DOCUMENTS.jsonl KEPT.txt [SIMILARITY]
//!
//! `planted` makes documents from the words in the text file WORDS, edits copies of them to a known similarity, and
//! compares the finds with the similarity of all pairs. `corpus` reads documents with `id` and `text`, and writes the
//! ids of the kept ones; `near_duplicates.py` does the same with datatrove.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use preprocess::dedup::minhash::{Config, Scratch, Signer, Writer};
use preprocess::dedup::shingles::{self, Shingles, jaccard};
use preprocess::dedup::{Duplicate, Shard, near};
use rayon::prelude::*;

/// Any error ends the program.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["planted", words] => planted(&std::fs::read_to_string(words)?),
        ["corpus", documents, kept] => corpus(Path::new(documents), Path::new(kept), Config::default().similarity),
        ["corpus", documents, kept, similarity] => corpus(Path::new(documents), Path::new(kept), similarity.parse()?),
        _ => Err("usage: planted WORDS | corpus DOCUMENTS KEPT [SIMILARITY]".into()),
    }
}

/// Memory for the global step.
const MEMORY_BYTES: u64 = 512 << 20;

/// Pairs per level: a standard error of 2.5 % for a fraction of one half.
const PAIRS: usize = 400;

const LEVELS: [f64; 5] = [0.5, 0.7, 0.8, 0.9, 0.95];

fn planted(words: &str) -> Result<(), Failure> {
    let words: Vec<&str> = words.split_whitespace().filter(|word| word.chars().all(char::is_alphabetic)).collect();
    let mut random = Random(1);
    let mut texts = Vec::new();
    for level in LEVELS {
        for _ in 0..PAIRS {
            let original: Vec<&str> = (0..100 + random.below(500)).map(|_| words[random.below(words.len())]).collect();
            texts.push(original.join(" "));
            texts.push(edited(&original, level, &words, &mut random));
        }
    }
    let shingles: Vec<Shingles> = texts.par_iter().map(|text| shingles_of(text)).collect();
    let started = Instant::now();
    let similar: Vec<(usize, usize, f64)> = (0..texts.len())
        .into_par_iter()
        .flat_map_iter(|a| {
            let shingles = &shingles;
            let pairs = (0..a).map(move |b| (b, a, jaccard(&shingles[a], &shingles[b])));
            pairs.filter(|(.., similarity)| *similarity >= 0.3)
        })
        .collect();
    println!(
        "{} documents, all pairs in {:.1?}; {} pairs of at least 0.3",
        texts.len(),
        started.elapsed(),
        similar.len()
    );
    for similarity in [0.75, Config::default().similarity, 0.0] {
        let config = Config { similarity, ..Config::default() };
        let started = Instant::now();
        let kept = kept_for(&find(&config, &texts)?);
        println!("\nsimilarity of at least {similarity}, {:.1?}", started.elapsed());
        let root = |document: usize| kept.get(&document).copied().unwrap_or(document);
        println!("level    mean  candidates expected  duplicates by all pairs  found  recall  false finds");
        let mut outside = similar.len();
        for (number, level) in LEVELS.iter().enumerate() {
            let range = number * 2 * PAIRS..(number + 1) * 2 * PAIRS;
            let pairs: Vec<_> = similar.iter().filter(|(a, ..)| range.contains(a)).collect();
            outside -= pairs.len();
            let mean = pairs.iter().map(|pair| pair.2).sum::<f64>() / pairs.len() as f64;
            let candidates = pairs.iter().map(|pair| config.candidate_probability(pair.2)).sum::<f64>();
            let is_found = |pair: &&&(usize, usize, f64)| root(pair.0) == root(pair.1);
            let duplicates: Vec<_> = pairs.iter().filter(|pair| pair.2 >= similarity).collect();
            let found = duplicates.iter().filter(|pair| is_found(pair)).count();
            let falsely = pairs.iter().filter(|pair| pair.2 < similarity).filter(is_found).count();
            let recall = match duplicates.len() {
                0 => "none".to_owned(),
                length => format!("{:.3}", found as f64 / length as f64),
            };
            let duplicates = duplicates.len();
            println!("{level:<5} {mean:7.3}  {candidates:19.1}  {duplicates:23}  {found:5}  {recall:>6}  {falsely:11}");
        }
        let united = kept.len();
        let among_pairs = similar.iter().filter(|(a, b, _)| root(*a) == root(*b)).count();
        println!(
            "{united} documents dropped; {among_pairs} of them in pairs of at least 0.3, {outside} pairs of no level"
        );
    }
    Ok(())
}

/// Returns `original` with words replaced, inserted and deleted at random, until its similarity is `level`.
fn edited(original: &[&str], level: f64, words: &[&str], random: &mut Random) -> String {
    let source = shingles_of(&original.join(" "));
    let mut copy = original.to_vec();
    loop {
        let text = copy.join(" ");
        if jaccard(&source, &shingles_of(&text)) <= level {
            return text;
        }
        let at = random.below(copy.len());
        let word = words[random.below(words.len())];
        match random.below(3) {
            0 => copy[at] = word,
            1 => copy.insert(at, word),
            _ => drop(copy.remove(at)),
        }
    }
}

fn shingles_of(text: &str) -> Shingles {
    Shingles::new(text, Config::default().words_per_shingle, &mut shingles::Scratch::default())
}

fn corpus(documents: &Path, kept: &Path, similarity: f64) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Document {
        id: String,
        text: String,
    }
    let lines = std::fs::read_to_string(documents)?;
    let documents: Vec<Document> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let texts: Vec<String> = documents.iter().map(|document| document.text.clone()).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    let config = Config { similarity, ..Config::default() };
    let signer = Signer::new(&config);
    let mut scratch = Scratch::default();
    let (mut best, mut signed) = (f64::INFINITY, 0);
    for _ in 0..5 {
        let started = cpu_seconds()?;
        signed = texts.iter().filter(|text| signer.bands(text, &mut scratch).is_some()).count();
        best = best.min(cpu_seconds()? - started);
    }
    println!(
        "signatures: {signed} of {} documents, {:.1} MB in {best:.3} s of one core, {:.1} MB/s",
        texts.len(),
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / best
    );
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let timed = || -> Result<_, Failure> {
        let started = cpu_seconds()?;
        Ok((find(&config, &texts)?, cpu_seconds()? - started))
    };
    let (found, seconds) = one_thread.install(timed)?;
    println!("total: {} kept of {}, {seconds:.3} s of one core", texts.len() - found.len(), texts.len());
    let dropped = kept_for(&found);
    let ids = documents.iter().enumerate().filter(|(document, _)| !dropped.contains_key(document));
    let ids: Vec<&str> = ids.map(|(_, document)| &*document.id).collect();
    Ok(std::fs::write(kept, ids.join("\n") + "\n")?)
}

/// Returns the processor seconds of this thread, which other programs on the machine do not affect.
fn cpu_seconds() -> Result<f64, Failure> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = statistics.split_whitespace().next().ok_or("no figure")?.parse()?;
    Ok(nanoseconds / 1e9)
}

fn kept_for(duplicates: &[Duplicate]) -> HashMap<usize, usize> {
    duplicates.iter().map(|pair| (pair.document as usize, pair.of as usize)).collect()
}

fn find(config: &Config, texts: &[String]) -> Result<Vec<Duplicate>, Failure> {
    let folder = tempfile::tempdir()?;
    let signer = Signer::new(config);
    let mut writer = Writer::create(folder.path())?;
    let mut scratch = Scratch::default();
    for (document, text) in (0..).zip(texts) {
        if let Some(bands) = signer.bands(text, &mut scratch) {
            writer.push(document, &bands)?;
        }
    }
    writer.finish()?;
    let shard = Shard { folder: folder.path().to_owned(), first: 0, documents: texts.len() as u32 };
    let text = |document: u32| Ok::<_, preprocess::Error>(texts[document as usize].clone());
    Ok(near::duplicates(config, &[shard], &Some, MEMORY_BYTES, &text)?)
}

/// Pseudo-random numbers (`SplitMix64`), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(word ^ (word >> 31)) * end as u128) >> 64) as usize
    }
}
