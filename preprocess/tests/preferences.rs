//! Preference pairs.

mod corpus;

use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;
use artifact::{Context, Outcome, Sealed};
use corpus::{seal, small, texts, unsealed, write_file};
use preprocess::{Config, Error, LengthConfig};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

type Chat = Vec<(&'static str, String)>;

fn write(folder: &Path, chats: &[Chat]) -> Sealed {
    let turns = || chats.iter().flatten();
    let turns = StructArray::try_from(vec![
        ("role", texts(turns().map(|turn| Some(turn.0.to_owned())))),
        ("content", texts(turns().map(|turn| Some(turn.1.clone())))),
    ]);
    let turns = turns.unwrap();
    let item = Arc::new(Field::new_list_field(turns.data_type().clone(), false));
    let messages = ListArray::new(item, OffsetBuffer::from_lengths(chats.iter().map(Vec::len)), Arc::new(turns), None);
    let n = chats.len();
    let column = |value: fn(usize) -> String| texts((0..n).map(|i| Some(value(i))));
    let columns = [
        ("id", column(|i| format!("doc-{i:04}"))),
        ("text", Arc::new(StringArray::new_null(n)) as ArrayRef),
        ("raw", Arc::new(BinaryArray::new_null(n))),
        ("messages", Arc::new(messages)),
        ("source", column(|_| "a".to_owned())),
        ("path", column(|_| "a.jsonl".to_owned())),
        ("licence", column(|_| "MIT".to_owned())),
    ];
    write_file(folder, 0, columns);
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
