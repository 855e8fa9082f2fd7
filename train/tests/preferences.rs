//! Whole preference trainings of a tiny model.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use artifact::{Context, Digest, Event, Host, Outcome, Progress, Sealed, Store, Unsealed};
use model::lora::LoraConfig;
use test_support::recipe;
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};
use train::{Config, DpoConfig, Error, Model};

/// Writes a tokens artifact of pairs in which a number was chosen over letters.
fn tokens(root: &Path) -> Sealed {
    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, ["how many? 12345 67890 abcdef"].iter()).unwrap();
    let out = Store::new(root).begin(recipe("tokens")).unwrap();
    std::fs::write(out.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    for (split, count) in [("train", 40), ("validation", 10)] {
        let mut writer = Writer::new(out.folder(), split, &tokenizer, 1 << 20);
        for i in 0..count {
            let document = |answer: &str| {
                let mut ids = tokenizer.encode(&format!("{i} how many? ")).unwrap();
                let before = ids.len();
                ids.extend(tokenizer.encode(answer).unwrap());
                ids.extend(tokenizer.end_of_text());
                let mask: Vec<bool> = (0..ids.len()).map(|at| at >= before).collect();
                (ids, mask)
            };
            let (chosen, rejected) = (document(["12", "345", "6"][i % 3]), document(["ab", "cdef"][i % 2]));
            writer.push_pair([(&chosen.0, &chosen.1), (&rejected.0, &rejected.1)], 20).unwrap();
        }
        writer.finish().unwrap();
    }
    out.seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn config() -> Config {
    Config {
        model: Model { context_length: 32, n_layer: 2, d_model: 32, n_head: 2, ..Model::default() },
        dpo: Some(DpoConfig::default()),
        steps: 12,
        batch_size: 6,
        micro_batches: 2,
        learning_rate: 0.003,
        warmup_steps: 2,
        validation_every: 4,
        sample_every: 0,
        save_every: 5,
        log_every: 1,
        ..Config::default()
    }
}

fn train(config: &Config, tokens: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    std::fs::create_dir_all(out.folder()).unwrap();
    train::run(config, &train::Inputs::of(tokens), out, context)
}

/// Returns the values of a field in the metrics.
fn metrics(folder: &Path, field: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line[field].as_f64()).collect()
}

#[test]
fn interrupted_preference_tuning_resumes_to_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path());
    for (name, lora) in [("full", None), ("lora", Some(LoraConfig { rank: 4, dropout: 0.1, ..LoraConfig::default() }))]
    {
        let config = Config { lora, ..config() };
        let whole = Unsealed::at(root.path().join(format!("{name}-whole")), recipe("train"));
        train(&config, &tokens, &whole, &Context::quiet(1)).unwrap();
        let losses = metrics(whole.folder(), "loss");
        assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-5, "{name}: {losses:?}");
        let (validation, accuracy) =
            (metrics(whole.folder(), "validation_loss"), metrics(whole.folder(), "validation_accuracy"));
        assert!(validation.last().unwrap() < &0.68, "{name}: {validation:?}");
        assert!((accuracy.last().unwrap() - 1.0).abs() < 1e-9, "{name}: {accuracy:?}");

        for stop_at in [1, 7] {
            let out = Unsealed::at(root.path().join(format!("{name}-{stop_at}")), recipe("train"));
            let mut context = Context::quiet(1);
            let cancel = context.cancel.clone();
            // Scoring the pairs with the reference reports positions too.
            let is_training = AtomicBool::new(false);
            context.progress = Progress::new(move |event| match event {
                Event::Begin { part, .. } => is_training.store(part == "training", Ordering::SeqCst),
                Event::Position(at) if at == stop_at && is_training.load(Ordering::SeqCst) => cancel.request(),
                _ => {}
            });
            let error = train(&config, &tokens, &out, &context).unwrap_err();
            assert!(matches!(error, Error::InterruptedAt { step, .. } if step == stop_at), "{error}");
            train(&config, &tokens, &out, &Context::quiet(1)).unwrap();
            let digest = |folder: &Path| Digest::of_file(&folder.join("model.safetensors")).unwrap().0;
            assert_eq!(digest(out.folder()), digest(whole.folder()), "{name}, stopped at {stop_at}");
            assert_eq!(metrics(out.folder(), "loss"), losses);
        }
    }
}

#[test]
fn pairs_without_dpo_and_dpo_without_pairs_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path());
    let out = Unsealed::at(root.path().join("out"), recipe("train"));
    let check = |change: &dyn Fn(&mut Config), expected: &str| {
        let mut config = config();
        change(&mut config);
        let error = train(&config, &tokens, &out, &Context::quiet(1)).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    check(&|c| c.dpo = None, "train.dpo: is missing, but the tokens are pairs of a chosen and a rejected answer");
    check(&|c| c.z_loss = 0.1, "train.z_loss: has no effect with train.dpo");
    check(
        &|c| c.model.context_length = 4,
        "train.dpo needs pairs of a chosen and a rejected answer, but the train split has none that fit in 4 tokens: \
         collect a source with `chat = \"preference\"`, or raise train.model.context_length",
    );
}
