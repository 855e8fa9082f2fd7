//! The stage on a random model of a few thousand weights.

mod reference;
mod schema;
mod tasks;
mod verdict;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array};

use artifact::{Context, Digest, Host, Outcome, Recipe, Sealed, Unsealed};
use burn::tensor::Device;
use evaluate::{Baseline, Config, Error, Inputs, Language, ReferenceModel, Setting};
use model::{Dtype, Family, ModelConfig, Transformer, checkpoint};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};

const METRICS: &str = r#"{"step": 1, "tokens": 64, "loss": 5.7, "learning_rate": 0.001, "tokens_per_second": 10.0}
{"step": 2, "tokens": 128, "loss": 5.6, "learning_rate": 0.0005, "tokens_per_second": 11.0}
{"step": 2, "tokens": 128, "validation_loss": 5.65}
"#;

/// Returns the loss mask of a document.
type Mask = fn(&[u32]) -> Vec<bool>;

struct Run {
    root: TempDir,
    corpus: Sealed,
    tokens: Sealed,
    checkpoint: Sealed,
    bundle: Sealed,
    index: Sealed,
    reference: Option<Sealed>,
    classifier: Option<Sealed>,
}

fn unsealed(root: &Path, name: &str) -> Unsealed {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    let recipe = Recipe {
        stage: name.to_owned(),
        stage_version: 1,
        config: json!({"markup": "<u>&</u>", "nested": {"list": [1, 2]}}),
        inputs: [].into(),
        seed: 1,
        device_class: None,
    };
    Unsealed::at(folder, recipe)
}

fn seal(unsealed: Unsealed) -> Sealed {
    unsealed.seal(Outcome::default(), 1.0, Host::default()).unwrap()
}

/// Returns the documents of every split: different Rust functions.
fn documents() -> Vec<String> {
    (0..12)
        .map(|i| {
            format!(
                "/// Adds {i} & more to a `Vec<u8>`.\npub fn add_{i}(x: &Vec<u8>) -> usize {{\n    x.len() + {i}\n}}\n"
            )
        })
        .collect()
}

fn inputs() -> Run {
    sharded_inputs(checkpoint::MAX_SHARD_BYTES)
}

fn sharded_inputs(max_shard_bytes: u64) -> Run {
    inputs_with(max_shard_bytes, None)
}

/// Returns inputs with the loss mask that `mask` gives the tokens of each document.
fn masked_inputs(mask: Mask) -> Run {
    inputs_with(checkpoint::MAX_SHARD_BYTES, Some(mask))
}

fn inputs_with(max_shard_bytes: u64, mask: Option<Mask>) -> Run {
    let root = tempfile::tempdir().unwrap();
    let corpus = unsealed(root.path(), "collect");
    fs::write(corpus.path("sources.json"), "{}").unwrap();

    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, documents().iter()).unwrap();
    let tokens = unsealed(root.path(), "preprocess");
    fs::write(tokens.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    for split in ["train", "validation", "test"] {
        let mut writer = Writer::new(tokens.folder(), split, &tokenizer, 300);
        for text in documents() {
            let mut ids = tokenizer.encode(&text).unwrap();
            ids.extend(tokenizer.end_of_text());
            match mask {
                Some(mask) => writer.push_masked(&ids, &mask(&ids), text.len() as u64).unwrap(),
                None => writer.push(&ids, text.len() as u64).unwrap(),
            }
        }
        writer.finish().unwrap();
    }
    let report = json!({
        "funnel": [
            {"step": "collected <all>", "documents": 40, "bytes": 4000},
            {"step": "unique", "documents": 36, "bytes": 3600},
        ],
        "splits": {"test": {"documents": 12, "bytes": 1200, "tokens": 600}},
        "licences": {"MIT & Apache-2.0": {"documents": 36, "bytes": 3600, "tokens": 1800}},
        "bytes_per_token": 2.0,
    });
    fs::write(tokens.path("report.json"), report.to_string()).unwrap();
    write_origins(&tokens);

    let shape = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 32,
        n_layer: 2,
        n_head: 2,
        n_kv_head: 1,
        head_dim: 16,
        d_ff: 48,
        context_length: 32,
        tied_embeddings: true,
        end_of_text: tokenizer.end_of_text(),
        ..ModelConfig::of(Family::Qwen3)
    };
    let model = Transformer::init(&shape, 7, &Device::flex());
    let hugging_face = |name: &str, dtype: Dtype| {
        let out = unsealed(root.path(), name);
        checkpoint::save_sharded(&model, out.folder(), dtype, max_shard_bytes).unwrap();
        tokenizer.write_hugging_face(out.folder(), shape.context_length).unwrap();
        out
    };
    let checkpoint = hugging_face("train", Dtype::F32);
    fs::write(checkpoint.path("metrics.jsonl"), METRICS).unwrap();
    let bundle = hugging_face("optimize", Dtype::Bf16);
    let parity = json!({
        "split": "validation", "tokens": 100, "checkpoint": {"loss_nats": 5.7, "bits_per_byte": 3.1},
        "formats": [{
            "format": "bf16", "weights_bytes": 1000, "max_logit_difference": 0.01, "mean_logit_difference": 0.001,
            "kl_divergence_nats": 1e-6, "top_1_agreement": 0.99, "loss_nats": 5.7001, "bits_per_byte": 3.1001,
            "loss_difference_nats": 0.0001,
            "limits": {"max_logit_difference": 0.5, "max_loss_difference": 0.02},
        }],
    });
    fs::write(bundle.path("parity.json"), parity.to_string()).unwrap();
    let speed = json!({ "checkpoint": 900.0, "formats": { "bf16": 1234.0 } });
    fs::write(bundle.path("speed.json"), speed.to_string()).unwrap();
    let [corpus, tokens, checkpoint, bundle] = [corpus, tokens, checkpoint, bundle].map(seal);
    let index = unsealed(root.path(), "index");
    trace::run(&trace::Config::default(), &tokens, &index, &Context::quiet(1)).unwrap();
    Run { index: seal(index), reference: None, classifier: None, root, corpus, tokens, checkpoint, bundle }
}

/// Writes where the documents of each split came from: every third is of the source `rare <b>`, the first of none.
fn write_origins(tokens: &Unsealed) {
    let rows = documents().len();
    let texts = |of: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..rows).map(|row| Some(of(row))).collect::<StringArray>())
    };
    let source = |row| match row {
        0 => "",
        row if row % 3 == 0 => "rare <b>",
        _ => "common",
    };
    let signals = [
        ("id", texts(&|row| row.to_string())),
        ("piece", Arc::new((0..rows).map(|_| Some(0)).collect::<UInt32Array>()) as ArrayRef),
        ("source", texts(&|row| source(row).to_owned())),
        ("path", texts(&|row| format!("src/{row}.rs"))),
        ("licence", texts(&|_| "MIT".to_owned())),
    ];
    let places =
        || ["train", "validation", "test"].into_iter().flat_map(|split| (0..rows as u32).map(move |row| (split, row)));
    let order = [
        ("split", Arc::new(places().map(|(split, _)| Some(split)).collect::<StringArray>()) as ArrayRef),
        ("row", Arc::new(places().map(|(_, row)| Some(row)).collect::<UInt32Array>())),
    ];
    for (name, rows) in [
        ("signals.parquet", RecordBatch::try_from_iter(signals).unwrap()),
        ("order.parquet", RecordBatch::try_from_iter(order).unwrap()),
    ] {
        let file = fs::File::create(tokens.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
    }
}

impl Run {
    fn evaluate(&self, name: &str, config: &Config, context: &Context) -> Result<Sealed, Error> {
        self.evaluate_after(None, name, config, context)
    }

    fn evaluate_after(
        &self,
        baseline: Option<Baseline<'_>>,
        name: &str,
        config: &Config,
        context: &Context,
    ) -> Result<Sealed, Error> {
        let out = unsealed(self.root.path(), name);
        let Self { corpus, tokens, checkpoint, bundle, index, .. } = self;
        let setting =
            |key: &str, origin: &str| Setting { key: key.to_owned(), value: "7".to_owned(), origin: origin.to_owned() };
        let settings = [setting("seed", ""), setting("train.steps", "pipeline.toml:12 <i>")];
        let reference = self.reference.as_ref().map(|sealed| ReferenceModel { name: "other", sealed });
        let (classifier, settings) = (self.classifier.as_ref(), &settings);
        let inputs = Inputs { corpus, tokens, checkpoint, bundle, index, reference, classifier, baseline, settings };
        let outcome = evaluate::run(config, &inputs, &out, context)?;
        Ok(out.seal(outcome, 1.0, Host::default()).unwrap())
    }
}

fn text(sealed: &Sealed, name: &str) -> String {
    fs::read_to_string(sealed.verified(name).unwrap()).unwrap()
}

fn config() -> Config {
    Config { samples: 8, sample_tokens: 20, language: Language::Rust, ..Config::default() }
}

#[test]
fn sharded_models_give_the_same_figures() {
    let figures = |run: &Run| {
        let sealed = run.evaluate("evaluate", &config(), &Context::quiet(3)).unwrap();
        serde_json::from_str::<Value>(&text(&sealed, "report.json")).unwrap()
    };
    let (one, several) = (inputs(), sharded_inputs(20_000));
    assert!(several.bundle.folder().join(model::hub_layout::INDEX).exists());
    let (expected, found) = (figures(&one), figures(&several));
    for key in ["validation", "test", "samples"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
    for (key, number_bytes) in [("checkpoint_bytes", 4), ("bundle_bytes", 2)] {
        let weights_bytes = number_bytes * found["model"]["parameters"].as_u64().unwrap();
        assert!(found["model"][key].as_u64().unwrap() > weights_bytes, "{key}");
    }
}

#[test]
fn report_holds_all_metrics_and_no_times() {
    let run = inputs();
    let sealed = run.evaluate("evaluate", &config(), &Context::quiet(3)).unwrap();
    assert_eq!(sealed.files(""), ["documents.jsonl", "latency.json", "report.html", "report.json"]);
    let report: Value = serde_json::from_str(&text(&sealed, "report.json")).unwrap();

    let bytes: usize = documents().iter().map(String::len).sum();
    let counts = &sealed.manifest().counts;
    for split in ["validation", "test"] {
        let figures = &report[split]["checkpoint"];
        // The first token is only context; it is one byte, a slash.
        let scored = report[split]["bytes"].as_u64().unwrap() as usize;
        assert!(scored < bytes && scored > bytes - 20, "{scored} of {bytes}");
        let number = |name: &str| figures[name].as_f64().unwrap();
        let expected = number("loss_nats") * number("tokens") / 2f64.ln() / scored as f64;
        assert!((number("bits_per_byte") - expected).abs() < 1e-9);
        assert!((number("perplexity").ln() - number("loss_nats")).abs() < 1e-9);
        assert!(number("top_1_accuracy") <= number("top_5_accuracy"));
        for metric in ["bits_per_byte", "perplexity", "top_5_accuracy"] {
            let end = |end: &str| figures["intervals"][metric][end].as_f64().unwrap();
            assert!(end("low") <= number(metric) && number(metric) <= end("high"), "{metric} {figures}");
        }
        assert_eq!(figures["documents"], 12);
        for (name, value) in [
            ("checkpoint", &figures["bits_per_byte"]),
            ("gzip_9", &report[split]["baselines"]["gzip_9_bits_per_byte"]),
            ("zstd_19", &report[split]["baselines"]["zstd_19_bits_per_byte"]),
        ] {
            assert_eq!(&counts[&format!("{name}_{split}_bits_per_byte")], value);
            assert!((0.1..20.0).contains(&value.as_f64().unwrap()), "{name} {value}");
        }
    }
    for name in [
        "checkpoint_test_perplexity",
        "bundle_test_top_1_accuracy",
        "bundle_test_bits_per_byte_high",
        "n_gram_test_bits_per_byte",
        "expected_calibration_error",
        "stereotype_fraction",
        "toxic_fraction",
        "parses_fraction",
        "distinct_2",
    ] {
        assert!(counts[name].is_number(), "{name}");
    }
    assert!(sealed.manifest().headline.starts_with("validation bits per byte "), "{}", sealed.manifest().headline);

    let samples = report["samples"]["items"].as_array().unwrap();
    assert_eq!(samples.len(), 8);
    assert_eq!(samples[2]["seed"], 5);
    // All held-out documents are valid Rust, truncated by the token limit.
    assert_eq!(report["samples"]["held_out_parses_fraction"], 1.0);
    assert_eq!(report["training"]["best_validation_loss_nats"], 5.65);
    assert_eq!(report["data"]["steps"][1]["documents"], 36);
    assert_eq!(report["artifacts"][5]["digest"], Value::Null);
    for (at, split) in ["train", "validation"].into_iter().enumerate() {
        let examples = &report["examples"][at];
        assert_eq!(examples["split"], split);
        let shown: Vec<&str> = examples["documents"].as_array().unwrap().iter().map(shown_text).collect();
        let expected = documents()[..shown.len()].to_vec();
        assert!(!shown.is_empty() && shown.len() <= 3 && shown == expected, "{shown:?}");
    }

    let again = run.evaluate("again", &config(), &Context::quiet(3)).unwrap();
    let files = |sealed: &Sealed| sealed.manifest().files["report.json"].clone();
    assert!(again.manifest().files["report.html"].volatile);
    // The stage's own name, which differs here, is part of its fingerprint.
    let same = text(&again, "report.json").replace("\"again\"", "\"evaluate\"");
    let own = report["artifacts"][5]["fingerprint"].as_str().unwrap();
    let other = again.manifest().fingerprint.to_string();
    assert_eq!(same.replace(&other, own), text(&sealed, "report.json"));
    assert_eq!(files(&again).bytes + 3, files(&sealed).bytes);
}

/// Returns the text of an example without its special tokens.
fn shown_text(document: &Value) -> &str {
    let [text, end] = &document["segments"].as_array().unwrap()[..] else { panic!("{document}") };
    assert_eq!((&text["kind"], &end["text"]), (&json!("text"), &json!("<|endoftext|>")));
    assert_eq!(document["tokens"], document["learned_tokens"]);
    text["text"].as_str().unwrap()
}

#[test]
fn tasks_are_asked_of_the_bundle() {
    let run = inputs();
    let config = Config { tasks: vec!["code".to_owned(), "english".to_owned()], task_limit: 6, ..config() };
    let sealed = run.evaluate("evaluate", &config, &Context::quiet(3)).unwrap();
    assert_eq!(sealed.files(""), ["documents.jsonl", "latency.json", "report.html", "report.json", "tasks.jsonl"]);
    let report: Value = serde_json::from_str(&text(&sealed, "report.json")).unwrap();
    let names: Vec<_> = report["tasks"].as_array().unwrap().iter().map(|task| &task["name"]).collect();
    assert_eq!(names, ["code", "english"]);
    let score = &report["tasks"][0]["scores"][1];
    assert_eq!((&score["metric"], &report["tasks"][0]["items"]), (&json!("acc_norm"), &json!(6)));
    assert_eq!(sealed.manifest().counts["code_acc_norm"], score["value"]);
    assert!(text(&sealed, "report.html").contains(">Tasks</span><"));
    assert_eq!(text(&sealed, "tasks.jsonl").lines().count(), 12);

    let inputs = |config: &Config| evaluate::inputs(config, &Context::quiet(3)).unwrap();
    assert_eq!(inputs(&config).keys().collect::<Vec<_>>(), ["task code", "task english"]);
    let digest = report["tasks"][0]["digest"].as_str().unwrap();
    assert_eq!(inputs(&config)["task code"].to_string(), digest);
    let wrong = Config { tasks: vec!["no-such-task".to_owned()], ..config };
    assert!(run.evaluate("wrong", &wrong, &Context::quiet(3)).unwrap_err().to_string().contains("no-such-task"));
}

#[test]
fn examples_show_what_is_learned() {
    let run = masked_inputs(|ids| (0..ids.len()).map(|at| at >= 10).collect());
    let sealed = run.evaluate("evaluate", &config(), &Context::quiet(3)).unwrap();
    let report: Value = serde_json::from_str(&text(&sealed, "report.json")).unwrap();
    let document = &report["examples"][0]["documents"][0];
    let segments = document["segments"].as_array().unwrap();
    assert_eq!(
        segments.iter().map(|segment| &segment["learned_tokens"] == 0).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(segments[0]["range"], json!({"start": 0, "end": 10}));
    let [before, after] = [0, 1].map(|at: usize| segments[at]["text"].as_str().unwrap());
    assert_eq!(format!("{before}{after}"), documents()[0]);
    let page = text(&sealed, "report.html");
    assert!(
        page.contains("<span class=\"context\">&#x2f;&#x2f;&#x2f; ") && page.contains("<span class=\"learned\">"),
        "{page}"
    );
}

#[test]
fn page_is_self_contained_and_escaped() {
    let run = inputs();
    let config = Config { prompts: vec!["<script>alert(1)</script> & \"".to_owned()], ..config() };
    let sealed = run.evaluate("evaluate", &config, &Context::quiet(3)).unwrap();
    let page = text(&sealed, "report.html");
    assert_eq!(page.matches("<script").count(), 1, "that of the charts");
    for wrong in [
        "<script>alert",
        "http://",
        "https://",
        "src=",
        "@import",
        "url(",
        "<u>",
        "<all>",
        "<b>common",
        "<i>",
        "NaN",
        "undefined",
    ] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    for right in [
        "&lt;script&gt;alert(1)&lt;",
        "collected &lt;all&gt;",
        "MIT &amp; Apache-2.0",
        "rare &lt;b&gt;",
        "pipeline.toml:12 &lt;i&gt;",
        "Training and validation loss by step",
        "Accuracy by confidence",
        "Artifacts and what they were made from",
        "No gates are configured",
        "validation 5.650 at 2",
        "does not parse",
        "<span class=\"learned\">&#x2f;&#x2f;&#x2f; Adds ",
        "&amp; more to a `Vec&lt;u8&gt;`.↵\n",
        "<span class=\"learned special\">&lt;|endoftext|&gt;</span>",
    ] {
        assert!(page.contains(right), "{right}");
    }
    for tag in [
        "html", "main", "table", "tr", "td", "th", "figure", "svg", "details", "section", "div", "pre", "span", "dl",
        "p",
    ] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn page_without_samples_or_a_language() {
    let run = inputs();
    let check = |config: Config, expected: &[&str], absent: &[&str]| {
        let page = text(&run.evaluate("evaluate", &config, &Context::quiet(3)).unwrap(), "report.html");
        assert!(expected.iter().all(|part| page.contains(part)) && !absent.iter().any(|part| page.contains(part)));
    };
    check(Config { samples: 0, ..config() }, &["Provenance"], &[">Samples</span><", "Samples that parse"]);
    check(Config { language: Language::None, ..config() }, &[">Samples</span><", "Repetition in samples"], &["parses"]);
    check(Config { max_tokens: 40, ..config() }, &["39 tokens"], &[]);
}

#[test]
fn mismatches_are_named() {
    let check = |run: &Run, config: &Config, expected: &[&str]| {
        let error = run.evaluate("evaluate", config, &Context::quiet(3)).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    let run = inputs();
    check(&run, &Config { top_p: 2.0, ..config() }, &["evaluate.top_p", "2"]);

    let metrics = run.checkpoint.folder().join("metrics.jsonl");
    fs::remove_file(&metrics).unwrap();
    check(&run, &config(), &["metrics.jsonl should have"]);
    fs::write(&metrics, METRICS).unwrap();

    let weights = run.bundle.folder().join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..100]).unwrap();
    check(&run, &config(), &["optimize", "model.safetensors should have", " 100;"]);
    fs::write(&weights, whole).unwrap();

    let other =
        Tokenizer::train(&TrainConfig { vocab_size: 280, ..TrainConfig::default() }, documents().iter()).unwrap();
    let bundle = unsealed(run.root.path(), "other");
    for entry in fs::read_dir(run.bundle.folder()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, bundle.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    fs::remove_file(bundle.path("manifest.json")).unwrap();
    other.write_hugging_face(bundle.folder(), 32).unwrap();
    let run = Run { bundle: seal(bundle), ..run };
    check(&run, &config(), &["other", "tokenizer.json has digest", &other.digest().to_string()]);
}

#[test]
fn cancelling_is_an_error() {
    let context = Context::quiet(3);
    context.cancel.request();
    assert!(matches!(inputs().evaluate("evaluate", &config(), &context), Err(Error::Interrupted)));
}
