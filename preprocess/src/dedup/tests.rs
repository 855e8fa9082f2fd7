//! Maps and global steps together, compared with straightforward reference implementations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::minhash::{self, Signer};
use super::near;
use super::repeated::{self, Removal};
use super::shingles::{self, Shingles, jaccard};
use super::{Duplicate, Shard};
use crate::Error;

/// Writes the documents `texts` into as many shards as there are `sizes`, the last with the rest.
fn write_shards(folder: &Path, texts: &[String], sizes: &[usize], write: impl Fn(&Path, &[String])) -> Vec<Shard> {
    let mut shards = Vec::new();
    let mut start: usize = 0;
    for (number, size) in sizes.iter().chain([&usize::MAX]).enumerate() {
        let end = start.saturating_add(*size).min(texts.len());
        let folder = folder.join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        write(&folder, &texts[start..end]);
        shards.push(Shard { folder, first: start as u32, documents: (end - start) as u32 });
        start = end;
    }
    shards
}

fn write_bands(config: &minhash::Config) -> impl Fn(&Path, &[String]) {
    let signer = Signer::new(config);
    move |folder, texts| {
        let mut writer = minhash::Writer::create(folder).unwrap();
        for (document, text) in (0..).zip(texts) {
            if let Some(bands) = signer.bands(text, &mut minhash::Scratch::default()) {
                writer.push(document, &bands).unwrap();
            }
        }
        writer.finish().unwrap();
    }
}

fn write_lines(config: &repeated::Config) -> impl Fn(&Path, &[String]) {
    move |folder, texts| {
        let mut writer = repeated::Writer::create(folder).unwrap();
        for (document, text) in (0..).zip(texts) {
            let hashes = repeated::hashes(config, text, &mut repeated::Scratch::default());
            writer.push(document, &hashes).unwrap();
        }
        writer.finish().unwrap();
    }
}

/// Parameters of the computation that must not change its result.
#[derive(Debug, Clone)]
struct Way {
    sizes: Vec<usize>,
    threads: usize,
    memory_bytes: u64,
}

fn way() -> impl Strategy<Value = Way> {
    let memory_bytes = prop_oneof![Just(0_u64), 0_u64..20_000, Just(u64::MAX)];
    (prop::collection::vec(0_usize..20, 0..4), prop::sample::select(vec![1, 2, 5]), memory_bytes)
        .prop_map(|(sizes, threads, memory_bytes)| Way { sizes, threads, memory_bytes })
}

impl Way {
    fn run<R: Send>(&self, act: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().unwrap().install(act)
    }

    fn near(&self, config: &minhash::Config, texts: &[String], ranks: &[Option<u32>]) -> Vec<Duplicate> {
        let folder = tempfile::tempdir().unwrap();
        let shards = write_shards(folder.path(), texts, &self.sizes, write_bands(config));
        let rank = |document: u32| ranks[document as usize];
        let text = |document: u32| Ok::<_, Error>(texts[document as usize].clone());
        self.run(|| near::duplicates(config, &shards, &rank, self.memory_bytes, &text)).unwrap()
    }

    fn remove(&self, config: &repeated::Config, texts: &[String], ranks: &[Option<u32>]) -> Vec<Option<Removal>> {
        let folder = tempfile::tempdir().unwrap();
        let shards = write_shards(folder.path(), texts, &self.sizes, write_lines(config));
        let rank = |document: u32| ranks[document as usize];
        let repeats = self.run(|| repeated::find(config, &shards, &rank, self.memory_bytes)).unwrap();
        let remove = |(document, text): (u32, &String)| {
            repeats.remove(config, document, text, &mut repeated::Scratch::default())
        };
        (0..).zip(texts).map(remove).collect()
    }
}

/// Documents made of a few sentences, so that many are alike.
fn alike(documents: std::ops::Range<usize>) -> impl Strategy<Value = Vec<String>> {
    let sentence = (0_u32..12).prop_map(|number| {
        let word = |i| char::from_u32('a' as u32 + number + i).unwrap_or('z').to_string().repeat(2 + i as usize);
        (0..4).map(word).collect::<Vec<_>>().join(" ")
    });
    let text = prop::collection::vec(sentence, 0..8).prop_map(|sentences| sentences.join(". "));
    prop::collection::vec(text, documents)
}

fn ranks(documents: usize) -> impl Strategy<Value = Vec<Option<u32>>> {
    prop::collection::vec(prop::option::weighted(0.9, 0_u32..40), documents)
}

/// Unites all pairs that agree in a band and are similar, by repainting.
fn near_by_all_pairs(config: &minhash::Config, texts: &[String], ranks: &[Option<u32>]) -> Vec<Duplicate> {
    let signer = Signer::new(config);
    let bands: Vec<_> = texts.iter().map(|text| signer.bands(text, &mut minhash::Scratch::default())).collect();
    let shingles: Vec<Shingles> = texts
        .iter()
        .map(|text| Shingles::new(text, config.words_per_shingle, &mut shingles::Scratch::default()))
        .collect();
    let mut sets: Vec<usize> = (0..texts.len()).collect();
    for a in 0..texts.len() {
        for b in 0..a {
            let meet = bands[a].iter().flatten().zip(bands[b].iter().flatten()).any(|(a, b)| a == b);
            let take_part = ranks[a].is_some() && ranks[b].is_some();
            if meet && take_part && jaccard(&shingles[a], &shingles[b]) >= config.similarity {
                let (from, to) = (sets[a], sets[b]);
                sets.iter_mut().filter(|set| **set == from).for_each(|set| *set = to);
            }
        }
    }
    let kept =
        |set| (0..texts.len()).filter(|document| sets[*document] == set).min_by_key(|member| (ranks[*member], *member));
    let pair = |document: usize| {
        let of = kept(sets[document])?;
        (of != document).then_some(Duplicate { document: document as u32, of: of as u32 })
    };
    (0..texts.len()).filter_map(pair).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// With few documents every bucket is compared in full.
    #[test]
    fn near_duplicates_are_those_of_all_pairs(
        (texts, ranks) in alike(0..17).prop_flat_map(|texts| { let n = texts.len(); (Just(texts), ranks(n)) }),
        similarity in prop::sample::select(vec![0.0, 0.3, 0.75, 1.0]),
        way in way(),
    ) {
        let config = minhash::Config { words_per_shingle: 2, bands: 6, rows: 2, similarity };
        prop_assert_eq!(way.near(&config, &texts, &ranks), near_by_all_pairs(&config, &texts, &ranks));
    }

    /// With many, buckets are larger than their representatives.
    #[test]
    fn neither_shards_nor_threads_nor_memory_show_in_near_duplicates(
        (texts, ranks) in alike(60..90).prop_flat_map(|texts| { let n = texts.len(); (Just(texts), ranks(n)) }),
        one in way(),
        other in way(),
    ) {
        let config = minhash::Config { words_per_shingle: 3, bands: 5, rows: 1, similarity: 0.6 };
        prop_assert_eq!(one.near(&config, &texts, &ranks), other.near(&config, &texts, &ranks));
    }

    /// With different ranks, the order of documents does not matter either.
    #[test]
    fn the_order_of_documents_does_not_matter(
        texts in alike(60..61),
        order in Just((0..60).collect::<Vec<usize>>()).prop_shuffle(),
        way in way(),
    ) {
        let config = minhash::Config { words_per_shingle: 2, bands: 6, rows: 2, similarity: 0.5 };
        let in_order: Vec<Option<u32>> = (0..60).map(Some).collect();
        let shuffled: Vec<String> = order.iter().map(|document| texts[*document].clone()).collect();
        let ranks: Vec<Option<u32>> = order.iter().map(|document| Some(*document as u32)).collect();
        let number = |at: u32| order[at as usize] as u32;
        let mut found: Vec<Duplicate> = way
            .near(&config, &shuffled, &ranks)
            .into_iter()
            .map(|pair| Duplicate { document: number(pair.document), of: number(pair.of) })
            .collect();
        found.sort_unstable();
        prop_assert_eq!(found, way.near(&config, &texts, &in_order));
    }

    #[test]
    fn repeats_are_those_that_are_counted(
        (texts, ranks) in documents_of_lines().prop_flat_map(|texts| { let n = texts.len(); (Just(texts), ranks(n)) }),
        max_documents in 1_u32..4,
        keep_first in prop::bool::ANY,
        way in way(),
    ) {
        let config =
            repeated::Config { paragraphs: false, min_characters: 3, max_documents, keep_first, ..Default::default() };
        let mut documents: BTreeMap<&str, BTreeSet<(u32, usize)>> = BTreeMap::new();
        for (document, text) in texts.iter().enumerate() {
            if let Some(rank) = ranks[document] {
                text.lines().filter(|line| line.len() >= 3).for_each(|line| {
                    documents.entry(line).or_default().insert((rank, document));
                });
            }
        }
        let expected: Vec<u32> = texts.iter().enumerate().map(|(document, text)| {
            let is_removed = |line: &&str| documents.get(line).is_some_and(|found| {
                let keeps = keep_first && found.first().is_some_and(|(_, first)| *first == document);
                found.len() > max_documents as usize && !keeps
            });
            text.lines().filter(is_removed).count() as u32
        }).collect();
        let removals = way.remove(&config, &texts, &ranks);
        let lines: Vec<_> = removals.iter().map(|removal| removal.as_ref().map_or(0, |r| r.lines)).collect();
        prop_assert_eq!(lines, expected);
    }
}

fn documents_of_lines() -> impl Strategy<Value = Vec<String>> {
    let line = prop::string::string_regex("[ab]{1,4}").expect("a valid pattern");
    let text = prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"));
    prop::collection::vec(text, 0..60)
}

#[test]
fn a_failing_reader_stops_the_search() {
    #[derive(Debug, PartialEq)]
    struct Stopped;
    impl From<Error> for Stopped {
        fn from(error: Error) -> Self {
            panic!("{error}")
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let config = minhash::Config::default();
    let texts = ["one two three four five six".to_owned(), "one two three four five six!".to_owned()];
    let shards = write_shards(folder.path(), &texts, &[1], write_bands(&config));
    assert_eq!(near::duplicates(&config, &shards, &|_| Some(0), 1 << 20, &|_| Err(Stopped)), Err(Stopped));
    // Without a check nothing is read.
    let config = minhash::Config { similarity: 0.0, ..config };
    let found = near::duplicates(&config, &shards, &|_| Some(0), 1 << 20, &|_| Err(Stopped));
    assert_eq!(found, Ok(vec![Duplicate { document: 1, of: 0 }]));
}

#[test]
fn texts_lose_what_repeats() {
    let notice = "All rights are reserved by the owners of this page.\n";
    let menu = "Home\nAbout us and our work\nContact us\n";
    let check = |texts: &[&str], config: &repeated::Config, expected: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let ranks: Vec<Option<u32>> = (0..texts.len() as u32).map(Some).collect();
        let removals = Way { sizes: vec![1], threads: 2, memory_bytes: 1 << 20 }.remove(config, &texts, &ranks);
        let left: Vec<&str> =
            removals.iter().zip(&texts).map(|(r, text)| r.as_ref().map_or(&**text, |r| &*r.text)).collect();
        assert_eq!(left, expected);
    };
    let dolma = repeated::Config::default();
    let ccnet = repeated::Config { keep_first: false, ..repeated::Config::default() };
    check(&[], &dolma, &[]);
    check(&["a\n", "a\n"], &dolma, &["a\n", "a\n"]);
    check(&[notice, notice], &dolma, &[notice, ""]);
    check(&[notice, notice], &ccnet, &["", ""]);
    let more = repeated::Config { max_documents: 2, ..repeated::Config::default() };
    check(&[notice, notice], &more, &[notice, notice]);
    check(&[notice, notice, notice], &more, &[notice, "", ""]);
    // What differs in case, punctuation, numbers or white space is the same line.
    let like = "  ALL rights are reserved by the owners -- of this page";
    check(&[notice, like], &dolma, &[notice, ""]);
    check(
        &["Page 3 of the yearly report of the society\n", "Page 14 of the yearly report of the society"],
        &dolma,
        &["Page 3 of the yearly report of the society\n", ""],
    );
    // Inside one document nothing repeats.
    let twice = format!("{notice}{notice}");
    check(&[&twice, "other"], &dolma, &[&twice, "other"]);
    // A paragraph of short lines goes as a whole, with the blank lines before it.
    let page = |text: &str| format!("{text}\n\n{menu}\nThe end of {text}.\n");
    check(&[&page("one"), &page("two")], &dolma, &[&page("one"), "two\n\nThe end of two.\n"]);
    let lines_only = repeated::Config { paragraphs: false, ..repeated::Config::default() };
    check(&[&page("one"), &page("two")], &lines_only, &[&page("one"), &page("two")]);
    // A paragraph is not a line of the same words.
    check(&[menu, "Home About us and our work Contact us"], &dolma, &[menu, "Home About us and our work Contact us"]);
    check(&[notice, &format!("First.\n{notice}Last.")], &dolma, &[notice, "First.\nLast."]);
    check(&[notice, &format!("First.\n\n{}", notice.trim_end())], &dolma, &[notice, "First."]);
    check(&[notice, &format!("\n\n{notice}\n \nFirst.\n\n\n")], &dolma, &[notice, "First.\n\n\n"]);
    check(&[notice, &format!("\n\nFirst.\n{notice}\n")], &dolma, &[notice, "\n\nFirst.\n\n"]);
}

#[test]
fn removals_are_counted() {
    let config = repeated::Config { min_characters: 8, ..repeated::Config::default() };
    let texts =
        ["long line\n\nab\ncdefgh\n\nanother line".to_owned(), "Long line\nmine\n\nAB\nCdefgh\n\nnew words".to_owned()];
    let removals = Way { sizes: vec![], threads: 1, memory_bytes: 0 }.remove(&config, &texts, &[Some(3), Some(7)]);
    let expected = Removal { text: "mine\n\nnew words".to_owned(), lines: 1, paragraphs: 1 };
    assert_eq!(removals, [None, Some(expected)]);
}
