//! Conversations: their weights, and those that the chat template refuses.

mod corpus;

use std::collections::BTreeMap;
use std::error::Error as _;

use artifact::Context;
use corpus::{Chat, seal, short, unsealed, write_chats};
use preprocess::{Config, TokenizerConfig};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

const CHATS: usize = 200;

fn chat(i: usize) -> Chat {
    vec![
        ("user", format!("Is question {i} on page {}?", 31 * i)),
        ("assistant", format!("Answer {i}: page {}.", 7 * i)),
    ]
}

/// Returns how often each conversation is in a split.
fn counts(split: &Split, tokenizer: &Tokenizer) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for document in 0..split.n_documents() {
        let text = tokenizer.decode(&split.document(document)).unwrap();
        let number = text.split("Answer ").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
        *counts.entry(number.parse().unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn weights_repeat_conversations_of_the_train_split() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let chats: Vec<Chat> = (0..CHATS).map(chat).collect();
    // Those without a weight come last.
    let weight = |i: usize| if i < 60 { 3.0 } else { 0.5 };
    let weights: Vec<f64> = (0..160).map(weight).collect();
    let corpus = write_chats(from.path(), &chats, &weights);
    let outcome = preprocess::run(&short(), &corpus, &unsealed(to.path()), &Context::quiet(0)).unwrap();
    let sealed = seal(to.path(), outcome);
    let tokenizer = Tokenizer::from_file(&sealed.folder().join("tokenizer.json")).unwrap();
    let [train, validation, test] =
        ["train", "validation", "test"].map(|name| counts(&Split::open(&sealed, name).unwrap(), &tokenizer));

    assert!(validation.values().chain(test.values()).all(|count| *count == 1), "{validation:?} {test:?}");
    let is_elsewhere = |i: &usize| validation.contains_key(i) || test.contains_key(i);
    let of_train: Vec<usize> = (0..CHATS).filter(|i| !is_elsewhere(i)).collect();
    let count = |i: &usize| train.get(i).copied().unwrap_or_default();
    assert!(of_train.iter().filter(|i| **i < 60).all(|i| count(i) == 3), "{train:?}");
    assert!(of_train.iter().filter(|i| **i >= 160).all(|i| count(i) == 1), "{train:?}");
    let halves: Vec<usize> = of_train.iter().filter(|i| (60..160).contains(*i)).map(count).collect();
    assert!(halves.iter().all(|count| *count <= 1), "{halves:?}");
    let taken = halves.iter().sum::<usize>();
    // Four standard deviations of a fair coin.
    let (mean, deviation) = (halves.len() as f64 / 2.0, (halves.len() as f64).sqrt() / 2.0);
    assert!((taken as f64 - mean).abs() < 4.0 * deviation, "{taken} of {}", halves.len());
}

#[test]
fn a_conversation_that_the_template_refuses_is_named() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chats: Vec<Chat> = (0..40).map(chat).collect();
    chats[23].insert(0, ("system", "Answer briefly.".to_owned()));
    let corpus = write_chats(from.path(), &chats, &[]);
    let template = from.path().join("template.jinja");
    let source = "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}\
                  {% endif %}{{ message.role }}: {{ message.content }}<|end|>{% endfor %}";
    std::fs::write(&template, source).unwrap();
    let tokenizer = TokenizerConfig { chat_template: Some(template.display().to_string()), ..short().tokenizer };
    let config = Config { tokenizer, ..short() };
    let error = preprocess::run(&config, &corpus, &unsealed(to.path()), &Context::quiet(0)).unwrap_err();
    assert!(error.to_string().starts_with("document doc-0023 of source a cannot be encoded; remove it"), "{error}");
    assert_eq!(error.source().unwrap().to_string(), "the chat template refuses these messages: no system role");
}
