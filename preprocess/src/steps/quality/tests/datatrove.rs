//! Every signal against datatrove.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;

/// A document of `datatrove_figures.json`, which `datatrove_figures.py` writes.
#[derive(Deserialize)]
struct Document {
    text: String,
    /// True if spaCy splits it into the same words.
    same_words: bool,
    annex: Figures,
    spacy: Figures,
}

#[derive(Deserialize)]
struct Figures {
    gopher_quality: Vec<f64>,
    gopher_repetition: Vec<f64>,
    fineweb: Vec<f64>,
    c4: C4Figures,
}

#[derive(Deserialize)]
struct C4Figures {
    figures: Vec<f64>,
    text: String,
    dropped: Value,
}

#[test]
fn signals_equal_those_of_datatrove() {
    let documents: Vec<Document> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/datatrove_figures.json")).unwrap();
    assert!(documents.len() >= 30 && documents.iter().filter(|document| document.same_words).count() >= 15);
    let (mut buffers, mut scratch) = (Buffers::default(), Scratch::default());
    for document in &documents {
        let text = buffers.split(&document.text);
        let mut measured = Map::new();
        for rule in web() {
            let mut signals = Vec::new();
            rule.measure(&text, Orthography::ENGLISH, &mut scratch, &mut signals);
            measured.insert(rule.name().to_owned(), signals.into());
        }
        let cleaned = c4::clean(&c4::Config::default(), &text, Orthography::ENGLISH, &mut scratch);
        measured.insert("c4".to_owned(), cleaned.signals[2..].to_vec().into());
        let check = |figures: &Figures| {
            for (rule, expected) in [
                ("gopher_quality", &figures.gopher_quality),
                ("gopher_repetition", &figures.gopher_repetition),
                ("fineweb", &figures.fineweb),
                ("c4", &figures.c4.figures),
            ] {
                let measured: Vec<f64> = serde_json::from_value(measured[rule].clone()).unwrap();
                let close = measured.len() == expected.len()
                    && measured.iter().zip(expected).all(|(ours, theirs)| (ours - theirs).abs() < 1e-9);
                assert!(close, "{rule} of {:?}\nours   {measured:?}\ntheirs {expected:?}", document.text);
            }
            let is_dropped = c4::first_failure(&c4::Config::default(), &cleaned.signals).is_some();
            assert_eq!(is_dropped, figures.c4.dropped != Value::Bool(true), "{:?}", document.text);
        };
        check(&document.annex);
        if document.same_words {
            check(&document.spacy);
        }
        // In datatrove a dropped document keeps its text.
        if cleaned.signals[2] > 0.0 {
            assert_eq!(cleaned.text.as_deref().unwrap_or(&document.text), document.annex.c4.text);
        }
    }
}
