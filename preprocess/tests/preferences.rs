//! Preference pairs.

mod corpus;

use std::fs::File;
use std::path::Path;

use artifact::{Context, Outcome, Sealed};
use corpus::{seal, small, unsealed};
use polars::prelude::{Column, DataFrame, DataType, IntoSeries, NamedFrom, ParquetWriter, Series, StructChunked};
use preprocess::{Config, Error, LengthConfig};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

type Chat = Vec<(&'static str, String)>;

fn write(folder: &Path, chats: &[Chat]) -> Sealed {
    let turns = |chat: &Chat| {
        let column = |name: &str, values: Vec<&str>| Series::new(name.into(), values);
        let roles = column("role", chat.iter().map(|turn| turn.0).collect());
        let contents = column("content", chat.iter().map(|turn| turn.1.as_str()).collect());
        StructChunked::from_series("".into(), chat.len(), [roles, contents].iter()).unwrap().into_series()
    };
    let n = chats.len();
    let column = |name: &str, value: fn(usize) -> String| -> Column {
        Series::new(name.into(), (0..n).map(value).collect::<Vec<_>>()).into()
    };
    let mut frame = DataFrame::new_infer_height(vec![
        column("id", |i| format!("doc-{i:04}")),
        Series::full_null("text".into(), n, &DataType::String).into(),
        Series::full_null("raw".into(), n, &DataType::Binary).into(),
        Series::new("messages".into(), chats.iter().map(turns).collect::<Vec<_>>()).into(),
        column("source", |_| "a".to_owned()),
        column("path", |_| "a.jsonl".to_owned()),
        column("licence", |_| "MIT".to_owned()),
    ])
    .unwrap();
    let file = File::create(folder.join("documents-00000.parquet")).unwrap();
    ParquetWriter::new(file).finish(&mut frame).unwrap();
    seal(folder, Outcome::default())
}

fn preferences(count: usize) -> Vec<Chat> {
    let chat = |i: usize| {
        vec![
            ("user", format!("What is {i} and {i}?")),
            ("assistant", format!("It is {}.", 2 * i)),
            ("rejected", format!("No idea, {i} is too large.")),
        ]
    };
    (0..count).map(chat).collect()
}

/// Returns a configuration without a minimum length.
fn short() -> Config {
    Config { length: LengthConfig { min_bytes: 1, ..LengthConfig::default() }, ..small() }
}

fn run(config: &Config, chats: &[Chat], each: impl Fn(&Sealed)) -> Result<(), Error> {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let corpus = write(from.path(), chats);
    let outcome = preprocess::run(config, &corpus, &unsealed(to.path()), &Context::quiet(0))?;
    each(&seal(to.path(), outcome));
    Ok(())
}

#[test]
fn a_preference_becomes_a_pair_of_consecutive_documents() {
    // Shards so small that some end between pairs.
    let config = Config { shard_bytes: 300, ..short() };
    let check = |sealed: &Sealed| {
        let tokenizer = Tokenizer::from_file(&sealed.folder().join("tokenizer.json")).unwrap();
        let mut pairs = 0;
        for name in ["train", "validation", "test"] {
            let split = Split::open(sealed, name).unwrap();
            assert_eq!(split.n_pairs(), Some(split.n_documents() / 2));
            for pair in 0..split.n_pairs().unwrap() {
                pairs += 1;
                let parts = [0, 1].map(|which| {
                    let range = split.document_range(2 * pair + which);
                    let mut learned = vec![false; range.len()];
                    split.copy_mask(range.start, &mut learned);
                    let ids = split.document(2 * pair + which);
                    let of = |is_learned: bool| {
                        let ids = ids.iter().zip(&learned).filter(|(_, learned)| **learned == is_learned);
                        tokenizer.decode(&ids.map(|(id, _)| *id).collect::<Vec<u32>>()).unwrap()
                    };
                    (of(false), of(true))
                });
                let [(prompt, chosen), (other_prompt, rejected)] = parts;
                assert_eq!(prompt, other_prompt);
                let number: usize = prompt.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
                assert!(chosen.starts_with(&format!("It is {}.", 2 * number)), "{chosen:?}");
                assert!(rejected.starts_with(&format!("No idea, {number} ")), "{rejected:?}");
            }
        }
        assert_eq!(pairs, 40);
    };
    run(&config, &preferences(40), check).unwrap();
}

#[test]
fn a_split_of_preferences_and_other_documents_is_an_error() {
    let mut chats = preferences(20);
    chats.iter_mut().skip(10).for_each(|chat| drop(chat.pop()));
    let error = run(&short(), &chats, |_| ()).unwrap_err();
    assert!(matches!(error, Error::MixedPairs { split: "train" }), "{error}");
}
