//! Spans of tokens against brute force.

mod tokens;

use std::ops::Range;

use proptest::prelude::*;
use tokens::{Built, Documents, build, words};

/// Returns how often `ids` occur in the documents.
fn count(documents: &Documents, ids: &[u32]) -> u64 {
    let windows = documents.iter().flat_map(|document| document.windows(ids.len().max(1)));
    windows.filter(|window| *window == ids).count() as u64
}

/// Returns the maximal spans of at least `min_tokens` tokens with their counts.
fn maximal(documents: &Documents, query: &[u32], min_tokens: usize) -> Vec<(Range<usize>, u64)> {
    let all = (0..query.len()).flat_map(|start| (start + 1..=query.len()).map(move |end| start..end));
    let found: Vec<Range<usize>> = all.filter(|span| count(documents, &query[span.clone()]) > 0).collect();
    let is_within = |a: &Range<usize>, b: &Range<usize>| a != b && b.start <= a.start && a.end <= b.end;
    let is_maximal = |span: &&Range<usize>| !found.iter().any(|other| is_within(span, other));
    let long = found.iter().filter(is_maximal).filter(|span| span.len() >= min_tokens.max(1));
    long.map(|span| (span.clone(), count(documents, &query[span.clone()]))).collect()
}

fn check(documents: &Documents, built: &Built, query: &[u32], min_tokens: usize) {
    let spans = built.index.spans(query, min_tokens);
    let found: Vec<(Range<usize>, u64)> = spans.iter().map(|span| (span.range.clone(), span.count)).collect();
    assert_eq!(found, maximal(documents, query, min_tokens), "{query:?} of at least {min_tokens} in {documents:?}");
    let tokens: usize = documents.iter().map(Vec::len).sum();
    for span in spans {
        let factors = query[span.range].iter().map(|id| (count(documents, &[*id]) as f64 / tokens as f64).ln());
        assert!((span.log_probability - factors.sum::<f64>()).abs() < 1e-9);
    }
}

/// Few different tokens, so that there are long and many spans; the largest needs 17 bits in one of the vocabularies.
fn ids(vocab_size: u32) -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..4_u32, 1 => Just(vocab_size - 1)]
}

fn case(vocab_size: u32) -> impl Strategy<Value = (u32, Documents, Vec<u32>)> {
    let documents = prop::collection::vec(prop::collection::vec(ids(vocab_size), 0..30), 1..8);
    (Just(vocab_size), documents, prop::collection::vec(ids(vocab_size), 0..20))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn spans_are_those_of_brute_force(
        (vocab_size, documents, query) in prop_oneof![8 => case(20), 1 => case(65_535), 1 => case(70_000)],
        shard_bytes in prop_oneof![Just(20_u64), Just(1 << 20)],
        block_tokens in prop_oneof![Just(1_u64), Just(40), Just(1 << 20)],
        min_tokens in 0..5_usize,
    ) {
        let built = build(&words(vocab_size as usize), &documents, shard_bytes, block_tokens);
        check(&documents, &built, &query, min_tokens);
        // A query that is in the documents, and one that crosses from one to the next.
        check(&documents, &built, &documents[0], min_tokens);
        check(&documents, &built, &documents.concat(), min_tokens);
        prop_assert_eq!(built.index.n_documents(), documents.len());
        prop_assert_eq!(built.index.tokens() as usize, documents.iter().map(Vec::len).sum::<usize>());
    }
}

#[test]
fn planted_spans_are_found_and_no_others() {
    // Every token of the documents is new, except in the planted spans.
    let mut next = 1_000..;
    let mut fresh = |count: usize| -> Vec<u32> { next.by_ref().take(count).collect() };
    let planted: Vec<Vec<u32>> = [5, 17, 60].map(&mut fresh).to_vec();
    let times = [1, 10, 100];
    let mut documents = Documents::new();
    for (span, times) in planted.iter().zip(times) {
        for _ in 0..times {
            documents.push([fresh(7), span.clone(), fresh(3)].concat());
        }
    }
    let built = build(&words(60_000), &documents, 1_000, 500);
    assert!(built.sealed.files("block-").len() > 3);
    let query = [fresh(4), planted[2].clone(), fresh(1), planted[0].clone(), planted[1].clone(), fresh(2)].concat();
    let spans = built.index.spans(&query, 2);
    let found: Vec<(Range<usize>, u64)> = spans.iter().map(|span| (span.range.clone(), span.count)).collect();
    assert_eq!(found, [(4..64, 100), (65..70, 1), (70..87, 10)]);
    assert_eq!(built.index.count(&planted[1]), 10);
    assert_eq!((built.index.count(&fresh(1)), built.index.count(&[])), (0, 0));
    assert_eq!(built.index.longest_prefix(&query[70..]), 17);
}

#[test]
fn tokens_outside_of_the_vocabulary_are_nowhere() {
    let built = build(&words(20), &vec![vec![5, 6, 7]], 1 << 20, 1 << 20);
    assert_eq!(built.index.spans(&[5, 6, u32::MAX, 7, u32::MAX - 1, 65_540], 1).len(), 2);
    // The token that ends a document is not a token of the index.
    assert_eq!(built.index.count(&[7, 0]), 0);
}

#[test]
fn a_long_text_of_the_training_data_is_found_in_about_linear_time() {
    // To look at each start would be ten billion comparisons.
    let document: Vec<u32> = (0..100_000_u64).map(|at| 1 + (at * at * at % 59_999) as u32).collect();
    let built = build(&words(60_002), &vec![document.clone()], 1 << 20, 1 << 20);
    let query = [&document[..], &[60_000], &document[..]].concat();
    let spans: Vec<Range<usize>> = built.index.spans(&query, 8).into_iter().map(|span| span.range).collect();
    assert_eq!(spans, [0..100_000, 100_001..200_001]);
}

#[test]
fn documents_that_are_copies_of_each_other_are_indexed_in_linear_time() {
    let document: Vec<u32> = (0..20_000).map(|at| 1 + (at * at % 7)).collect();
    let documents = vec![document.clone(); 30];
    let built = build(&words(20), &documents, 1 << 20, 1 << 30);
    let spans = built.index.spans(&document[..3_000], 1);
    assert_eq!(spans.len(), 1);
    assert_eq!((spans[0].range.clone(), spans[0].count % 30), (0..3_000, 0));
}
