//! Passages of texts, and where they occur.

mod tokens;

use tempfile::TempDir;
use tokens::{Documents, run, trained, unsealed, write, write_tables};
use trace::{Config, Error, Index, Options, Passage};

const TEXTS: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.\n",
    "In Jena stands a tower: « 東京の塔は高い » 👩‍👩‍👧‍👦 and no one knows why it is there.\n",
    "fn main() {\n    println!(\"{}\", 1 + 2);\n}\n",
    "We said that the quick brown fox jumps over the lazy dog, twice.\n",
];

struct Traced {
    index: Index,
    folder: TempDir,
}

/// Builds the index of the texts, with tables of their documents.
fn traced() -> Traced {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(&TEXTS, 320);
    let documents: Documents = TEXTS.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let path = folder.path().join("tokens");
    unsealed(&path);
    write_tables(&path, documents.len());
    let tokens = write(&path, &tokenizer, &documents, 1 << 20);
    let sealed = run(&Config { block_tokens: 60, ..Config::default() }, &tokens, &folder.path().join("index")).unwrap();
    assert!(sealed.files("block-").len() > 1);
    Traced { index: Index::open(&sealed).unwrap(), folder }
}

fn options(min_tokens: usize) -> Options {
    Options { min_tokens, max_passages: usize::MAX, max_occurrences: 5, context_tokens: 4 }
}

fn texts(passages: &[Passage]) -> Vec<&str> {
    passages.iter().map(|passage| passage.text.as_str()).collect()
}

#[test]
fn a_passage_has_its_place_in_the_text_and_in_the_documents() {
    let Traced { index, folder } = traced();
    let text = "Über alles: quick brown fox jumps over the lazy dog, he said. 東京の塔は高い!";
    let passages = index.trace(text, &options(6)).unwrap();
    assert_eq!(passages.len(), 2);
    assert!(texts(&passages).iter().any(|text| text.contains("東京の塔は高い")), "{:?}", texts(&passages));
    let fox = &passages
        [texts(&passages).iter().position(|text| text.contains("quick brown fox jumps over the lazy dog")).unwrap()];
    assert_eq!(&text[fox.bytes.clone()], fox.text);
    let characters: Vec<char> = text.chars().collect();
    assert_eq!(characters[fox.characters.clone()].iter().collect::<String>(), fox.text);
    assert_eq!((fox.count, fox.tokens >= 6), (2, true));
    // The documents are in the corpus in the opposite order.
    let mut found: Vec<_> =
        fox.occurrences.iter().map(|place| (&*place.document.id, &*place.document.licence)).collect();
    found.sort_unstable();
    assert_eq!(found, [("doc-1", "MIT"), ("doc-4", "CC0-1.0")]);
    let second = fox.occurrences.iter().find(|place| place.document.id == "doc-1").unwrap();
    assert_eq!((second.document.piece, &*second.document.source, &*second.document.path), (1, "source 1", "src/1.rs"));
    let whole = format!("{}{}{}", second.before, fox.text, second.after);
    assert!(TEXTS[3].contains(&whole) && whole.len() > fox.text.len(), "{whole:?}");
    assert!(second.position > 0);
    drop(folder);
}

#[test]
fn every_text_of_the_training_data_is_one_passage() {
    let Traced { index, folder: _folder } = traced();
    for text in TEXTS {
        let passages = index.trace(text, &options(1)).unwrap();
        assert_eq!(texts(&passages), [text]);
        assert_eq!(passages[0].occurrences[0].position, 0);
        assert_eq!((&*passages[0].occurrences[0].before, &*passages[0].occurrences[0].after), ("", ""));
    }
}

#[test]
fn a_passage_stands_in_its_document_character_by_character() {
    let Traced { index, folder: _folder } = traced();
    // Every part of a text, cut between characters: what is found in it occurs in the texts.
    for text in TEXTS {
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for (i, start) in ends.iter().enumerate().step_by(3) {
            for end in ends.iter().skip(i).step_by(7) {
                let part = &text[*start..*end];
                for passage in index.trace(part, &options(2)).unwrap() {
                    assert_eq!(part[passage.bytes.clone()], *passage.text);
                    assert!(TEXTS.iter().any(|text| text.contains(&passage.text)), "{:?} of {part:?}", passage.text);
                }
            }
        }
    }
}

#[test]
fn a_part_of_a_character_is_no_passage() {
    let Traced { index, folder: _folder } = traced();
    // Three of its four bytes are those of people in the texts.
    let other = "Ω👪";
    assert!(index.tokenizer().encode(other).unwrap().len() > 2);
    for passage in index.trace(other, &options(1)).unwrap() {
        assert!(!passage.text.is_empty(), "{passage:?}");
    }
}

#[test]
fn the_first_word_is_found_within_a_sentence() {
    let Traced { index, folder: _folder } = traced();
    let passages = index.trace("stands a tower", &options(2)).unwrap();
    assert_eq!(texts(&passages), ["stands a tower"]);
    assert_eq!(passages[0].bytes, 0..14);
}

#[test]
fn the_least_likely_passage_comes_first_and_the_number_is_limited() {
    let Traced { index, folder: _folder } = traced();
    let text = "fn main() { ... lazy dog ... « 東京の塔は高い » and no one knows why";
    let all = index.trace(text, &options(2)).unwrap();
    assert!(all.len() > 2 && all.is_sorted_by(|a, b| a.log_probability <= b.log_probability));
    assert!(all[0].text.contains("東京の塔は高い"), "{:?}", texts(&all));
    let one = index.trace(text, &Options { max_passages: 1, max_occurrences: 0, ..options(2) }).unwrap();
    assert_eq!((texts(&one), one[0].occurrences.len()), (vec![&*all[0].text], 0));
    assert!(index.trace("", &options(1)).unwrap().is_empty());
    assert!(index.trace("<|endoftext|>", &options(6)).unwrap().is_empty());
}

#[test]
fn tables_that_do_not_match_are_errors_that_name_them() {
    let tokenizer = trained(&TEXTS, 320);
    let documents: Documents = TEXTS.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let check = |rows: usize, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        unsealed(folder.path());
        write_tables(folder.path(), rows);
        let tokens = write(folder.path(), &tokenizer, &documents, 1 << 20);
        let error = run(&Config::default(), &tokens, &folder.path().join("index")).err().unwrap();
        assert!(matches!(error, Error::Table { .. }) && error.to_string().contains(expected), "{error}");
    };
    check(3, "order.parquet does not match the shards: of documents 0..4 of split train it has 3, expected 4");
}
