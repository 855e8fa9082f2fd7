//! How long an index of 100 MB of tokens takes to build, and a query of 200 tokens: `index_speed [TOKENS [FOLDER]]`.
//!
//! The tokens are made up: half of a document is new, of the frequencies of words (Zipf's law), and half are passages
//! of earlier documents, so that queries find long spans. With a folder, that of a tokens artifact, its train split is
//! indexed instead.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use artifact::{Context, Host, Outcome, Recipe, Sealed, Unsealed};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenizer::Tokenizer;
use tokenizer::shard::{Split, Writer};
use trace::{Config, Index};

const VOCAB_SIZE: usize = 32_000;
const QUERY_TOKENS: usize = 200;
const QUERIES: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let tokens: usize = arguments.next().map_or(Ok(50_000_000), |count| count.parse())?;
    let folder = tempfile::tempdir()?;
    let tokens = match arguments.next() {
        Some(folder) => Sealed::open(Path::new(&folder))?,
        None => made_up(&folder.path().join("tokens"), tokens)?,
    };
    let split = Split::open(&tokens, "train")?;
    println!("{} tokens in {} documents", split.len(), split.n_documents());

    let start = Instant::now();
    let out = unsealed(&folder.path().join("index"))?;
    let outcome = trace::run(&Config::default(), &tokens, &out, &Context::quiet(0))?;
    println!("built in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let sealed = out.seal(outcome, 0.0, Host::default())?;
    println!("sealed {:.0} MB in {:.1} s", sealed.manifest().total_bytes() as f64 / 1e6, start.elapsed().as_secs_f64());
    let start = Instant::now();
    let index = Index::open(&sealed)?;
    println!("opened in {:.2} s", start.elapsed().as_secs_f64());

    let mut random = ChaCha8Rng::seed_from_u64(1);
    time("tokens of the training data", &index, &mut random, |random| {
        let start = random.random_range(0..split.len() - QUERY_TOKENS);
        let mut ids = vec![0; QUERY_TOKENS];
        split.copy(start, &mut ids);
        ids
    });
    time("passages of the training data, of 5 to 40 tokens", &index, &mut random, |random| {
        let mut ids = Vec::new();
        while ids.len() < QUERY_TOKENS {
            let start = random.random_range(0..split.len() - 40);
            let mut passage = vec![0; random.random_range(5..40)];
            split.copy(start, &mut passage);
            ids.extend(passage);
        }
        ids.truncate(QUERY_TOKENS);
        ids
    });
    Ok(())
}

/// Prints how long queries take: their spans of at least 8 tokens, with counts.
fn time(name: &str, index: &Index, random: &mut ChaCha8Rng, query: impl Fn(&mut ChaCha8Rng) -> Vec<u32>) {
    let mut seconds: Vec<f64> = (0..QUERIES)
        .map(|_| {
            let ids = query(random);
            let start = Instant::now();
            std::hint::black_box(index.spans(&ids, 8));
            start.elapsed().as_secs_f64()
        })
        .collect();
    let first = seconds[0];
    seconds.sort_by(f64::total_cmp);
    let milliseconds = |at: usize| 1e3 * seconds[at];
    println!(
        "{name}: median {:.2} ms, 99th percentile {:.2} ms, the first {:.2} ms",
        milliseconds(QUERIES / 2),
        milliseconds(QUERIES * 99 / 100),
        1e3 * first
    );
}

fn unsealed(folder: &Path) -> Result<Unsealed, std::io::Error> {
    std::fs::create_dir_all(folder)?;
    let recipe = Recipe {
        stage: "benchmark".to_owned(),
        stage_version: 1,
        config: serde_json::json!({}),
        inputs: BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    Ok(Unsealed::at(folder, recipe))
}

/// Writes made-up documents of about 1,000 tokens as the train split.
fn made_up(folder: &Path, tokens: usize) -> Result<Sealed, Box<dyn Error>> {
    let out = unsealed(folder)?;
    let name = |id: usize| if id == 0 { "<|endoftext|>".to_owned() } else { format!("w{id}") };
    let vocabulary: BTreeMap<String, usize> = (0..VOCAB_SIZE).map(|id| (name(id), id)).collect();
    let model = serde_json::json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "w1" });
    let json = serde_json::json!({ "version": "1.0", "added_tokens": [], "model": model }).to_string();
    let tokenizer = Tokenizer::from_bytes(json.as_bytes())?;
    std::fs::write(out.path("tokenizer.json"), tokenizer.to_json())?;
    let mut writer = Writer::new(folder, "train", &tokenizer, 1 << 28);
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut all: Vec<u32> = Vec::with_capacity(tokens);
    while all.len() < tokens {
        let start = all.len();
        let end = (start + random.random_range(100..2000)).min(tokens);
        while all.len() < end {
            let length = random.random_range(10..200).min(end - all.len());
            if start > length && random.random_bool(0.5) {
                let from = random.random_range(0..start - length);
                all.extend_from_within(from..from + length);
            } else {
                all.extend((0..length).map(|_| zipf(&mut random)));
            }
        }
        let document: Vec<u32> = all[start..].iter().copied().chain([0]).collect();
        writer.push(&document, 1)?;
    }
    writer.finish()?;
    Ok(out.seal(Outcome::default(), 0.0, Host::default())?)
}

/// Returns a token with a probability of about one by its number.
fn zipf(random: &mut impl Rng) -> u32 {
    let uniform: f64 = random.random();
    ((VOCAB_SIZE as f64 - 1.0).powf(uniform) as u32).clamp(1, VOCAB_SIZE as u32 - 1)
}
