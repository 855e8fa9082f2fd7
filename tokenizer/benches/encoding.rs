//! Encoding and training compared with Hugging Face's, which give the same tokens, on the source of this workspace.
//!
//! `cargo bench -p tokenizer`

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::BytesCount;
use rayon::prelude::*;
use tokenizer::{Tokenizer, TrainConfig};

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut texts = Vec::new();
    collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut texts);
    texts
});

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::train(&TrainConfig::default(), TEXTS.iter()).expect("a vocabulary that is large enough")
});

fn collect(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != ".git") {
            collect(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.extend(fs::read_to_string(&path));
        }
    }
}

fn bytes() -> BytesCount {
    BytesCount::new(TEXTS.iter().map(String::len).sum::<usize>())
}

#[divan::bench]
fn encode(bencher: Bencher) {
    let tokenizer = &*TOKENIZER;
    bencher.counter(bytes()).bench(|| {
        let encode = |encoder: &mut tokenizer::Encoder<'_>, text: &String| encoder.encode(text).map(|ids| ids.len());
        TEXTS.par_iter().map_init(|| tokenizer.encoder(), encode).sum::<Result<usize, _>>()
    });
}

#[divan::bench]
fn encode_hugging_face(bencher: Bencher) {
    let tokenizer = tokenizers::Tokenizer::from_bytes(TOKENIZER.to_json()).expect("our own JSON");
    bencher.counter(bytes()).bench(|| {
        let texts: Vec<&str> = TEXTS.iter().map(String::as_str).collect();
        tokenizer
            .encode_batch_fast(texts, false)
            .map(|encodings| encodings.iter().map(tokenizers::Encoding::len).sum::<usize>())
    });
}

#[divan::bench]
fn decode(bencher: Bencher) {
    let ids: Vec<Vec<u32>> = TEXTS.iter().flat_map(|text| TOKENIZER.encode(text)).collect();
    bencher.counter(bytes()).bench(|| ids.iter().flat_map(|ids| TOKENIZER.decode(ids)).map(|t| t.len()).sum::<usize>());
}

#[divan::bench(sample_count = 5)]
fn train(bencher: Bencher) {
    bencher.counter(bytes()).bench(|| Tokenizer::train(&TrainConfig::default(), TEXTS.iter()).map(|t| t.vocab_size()));
}

fn main() {
    divan::main();
}
