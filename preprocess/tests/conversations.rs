//! Conversations: their weights, and those that the chat template refuses.

mod corpus;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use artifact::{Context, Event, Host, Progress, Recipe, Sealed, Unsealed};
use corpus::{Chat, seal, short, unsealed, write_chats};
use preprocess::inspect;
use preprocess::{Config, Step, TokenizerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
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

/// Refuses conversations with a system message, and fails on those with a tool's.
const TEMPLATE: &str = "{% for message in messages %}{% if message.role == 'system' %}\
    {{ raise_exception('no system\\nrole') }}{% elif message.role == 'tool' %}\
    {{ message.content.missing() }}{% endif %}\
    {{ message.role }}: {{ message.content }}<|end|>{% endfor %}";

/// A run of the stage with [`TEMPLATE`].
struct Refusing {
    result: Result<Sealed, preprocess::Error>,
    corpus: Sealed,
    /// The lines on the terminal.
    lines: Vec<String>,
    _folders: [TempDir; 2],
}

/// Runs the stage on 40 conversations, of which those in `with` get another message first, by its role.
fn run(change: impl Fn(&mut Config), with: &[(usize, &'static str)]) -> Refusing {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut chats: Vec<Chat> = (0..40).map(chat).collect();
    for (i, role) in with {
        chats[*i].insert(0, (role, "Answer briefly.".to_owned()));
    }
    let corpus = write_chats(folders[0].path(), &chats, &[]);
    let template = folders[0].path().join("template.jinja");
    std::fs::write(&template, TEMPLATE).unwrap();
    let tokenizer = TokenizerConfig { chat_template: Some(template.display().to_string()), ..short().tokenizer };
    let mut config = Config { tokenizer, ..short() };
    change(&mut config);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let progress = Progress::new(move |event| {
        if let Event::Line(line) = event {
            heard.lock().unwrap().push(line.to_owned());
        }
    });
    let context = Context { progress, ..Context::quiet(0) };
    let recipe = Recipe {
        stage: preprocess::NAME.to_owned(),
        stage_version: preprocess::VERSION,
        config: config.fingerprint_value(),
        inputs: BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    let out = Unsealed::at(folders[1].path(), recipe);
    let result = preprocess::run(&config, &corpus, &out, &context);
    let result = result.map(|outcome| out.seal(outcome, 0.0, Host::default()).unwrap());
    let lines = lines.lock().unwrap().iter().filter(|line| line.contains("dropped")).cloned().collect();
    Refusing { result, corpus, lines, _folders: folders }
}

/// Returns the report, and the number of documents in train, validation and test.
fn written(tokens: &Sealed) -> (Value, [usize; 3]) {
    let report = std::fs::read_to_string(tokens.folder().join("report.json")).unwrap();
    let count = |name| Split::open(tokens, name).unwrap().n_documents();
    (serde_json::from_str(&report).unwrap(), ["train", "validation", "test"].map(count))
}

#[test]
fn conversations_that_the_template_refuses_are_dropped() {
    let run = run(|_| (), &[(23, "system"), (31, "tool")]);
    let tokens = run.result.unwrap();
    let (report, counts) = written(&tokens);
    assert_eq!(counts.iter().sum::<usize>(), 38);
    assert_eq!(report["documents_out"], 38);
    assert_eq!(report["dropped"]["chat_template"]["documents"], 2);
    assert_eq!(report["failed"], json!({"chat_template.refused": 1, "chat_template.failed": 1}));
    let last = report["funnel"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["step"], &last["documents"]), (&json!("chat_template"), &json!(38)));
    assert_eq!(report["notices"], json!([]));
    assert_eq!(tokens.manifest().counts["dropped_chat_template"], 2);
    let message = "the chat template refuses these messages: no system role";
    assert_eq!(run.lines.len(), 2, "{:?}", run.lines);
    assert_eq!(run.lines[0], format!("document doc-0023 of source a is dropped: {message}"));
    assert!(run.lines[1].starts_with("document doc-0031 of source a is dropped: the chat template failed: "));
    let (dropped, total) = inspect::dropped(&tokens, &run.corpus, Some(Step::ChatTemplate), 0, 1).unwrap();
    assert_eq!((dropped.len(), total), (1, 2));
    let dropped = &dropped[0];
    assert_eq!((dropped.name.as_str(), dropped.reason.as_str(), dropped.tokens), ("doc-0023", "chat_template", 0));
    assert_eq!(dropped.criterion.as_deref(), Some("refused"));
    assert_eq!(dropped.texts, [("message".to_owned(), message.to_owned())]);
    let none = inspect::what_if(&tokens, &[]).unwrap();
    assert_eq!((none.now.documents, none.then.documents), (38, 38));
    assert_eq!(none.steps.last().unwrap().step, Step::ChatTemplate);
    assert_eq!(none.steps.last().unwrap().then.documents, 2);
}

#[test]
fn many_refusals_are_noticed_and_the_first_are_named() {
    let with: Vec<(usize, &str)> = (5..12).map(|i| (i, "system")).collect();
    let run = run(|_| (), &with);
    let (report, _) = written(&run.result.unwrap());
    assert_eq!(report["notices"], json!(["chat_template dropped 7 of 40 documents (refused 7)"]));
    assert_eq!(run.lines.len(), 4);
    assert!(run.lines[2].starts_with("document doc-0007 of source a is dropped: "), "{:?}", run.lines);
    assert_eq!(run.lines[3], "4 more conversations are dropped: see `data dropped --by chat_template`");
}

#[test]
fn a_split_that_refusals_empty_is_filled_again() {
    let held_out = |config: &mut Config| (config.validation, config.test) = (0.0001, 0.0001);
    // The documents nearest to the two splits are among those refused, whichever they are.
    let with = |kept: usize| (0..40).filter(|i| i % 10 >= kept).map(|i| (i, "system")).collect::<Vec<_>>();
    for kept in [1, 5, 9] {
        let (report, counts) = written(&run(held_out, &with(kept)).result.unwrap());
        assert_eq!(counts, [4 * kept - 2, 1, 1]);
        assert_eq!(report["documents_out"], 4 * kept);
    }
}

#[test]
fn sources_are_mixed_without_the_refused_conversations() {
    let mix = |config: &mut Config| config.mix = toml::from_str("[epochs]\na = 2.0").unwrap();
    let run = run(mix, &[(3, "system"), (4, "system")]);
    let (report, [train, validation, test]) = written(&run.result.unwrap());
    assert_eq!(report["documents_out"], 38);
    assert_eq!(train, 2 * (38 - validation - test));
}

#[test]
fn nothing_but_refusals_is_an_error() {
    let all: Vec<(usize, &str)> = (0..40).map(|i| (i, "system")).collect();
    let error = run(|_| (), &all).result.unwrap_err().to_string();
    assert_eq!(
        error,
        "all 40 documents were filtered out: 40 by chat_template (remove them from the data, or use a template that \
         takes them: train.chat_template); document doc-0000 of source a: the chat template refuses these messages: no \
         system role"
    );
}
