//! Whole trainings of a tiny model: a kill, a cancellation and a division into micro-batches do not change the result.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact::{Context, Digest, Event, Host, Outcome, Progress, Sealed, Store, Unsealed};
use model::lora::LoraConfig;
use test_support::recipe;
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};
use train::{Config, Error, Inputs, Model, OptimizerKind, Packing};

/// Returns a document that a tiny model can learn something from.
fn text(i: usize) -> String {
    format!("let x{} = {} + {};\nassert_eq!(x{}, {});\n", i % 7, i % 5, i % 3, i % 7, i % 5 + i % 3)
}

/// Writes a tokens artifact of such documents.
fn tokens(root: &Path, documents: usize) -> Sealed {
    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, (0..documents.max(50)).map(text)).unwrap();
    written(&Store::new(root), &tokenizer, documents, None)
}

/// Writes a tokens artifact with a tokenizer. With `is_learned`, which returns for a split whether its documents count
/// towards the loss, the shards have a loss mask.
fn written(
    store: &Store,
    tokenizer: &Tokenizer,
    documents: usize,
    is_learned: Option<fn(&str, usize) -> bool>,
) -> Sealed {
    let out = store.begin(recipe("tokens")).unwrap();
    std::fs::create_dir_all(out.folder()).unwrap();
    tokenizer.save(out.folder()).unwrap();
    for (split, count) in [("train", documents), ("validation", documents.div_ceil(4))] {
        let mut writer = Writer::new(out.folder(), split, tokenizer, 1 << 20);
        for i in 0..count {
            let mut ids = tokenizer.encode(&text(i * 3)).unwrap();
            ids.extend(tokenizer.end_of_text());
            let bytes = text(i * 3).len() as u64;
            match is_learned {
                Some(is_learned) => writer.push_masked(&ids, &vec![is_learned(split, i); ids.len()], bytes).unwrap(),
                None => writer.push(&ids, bytes).unwrap(),
            }
        }
        writer.finish().unwrap();
    }
    out.seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn config() -> Config {
    Config {
        model: Model { context_length: 16, n_layer: 2, d_model: 32, n_head: 2, n_kv_head: Some(1), ..Model::default() },
        steps: 12,
        batch_size: 4,
        micro_batches: 2,
        learning_rate: 0.01,
        warmup_steps: 3,
        validation_every: 5,
        validation_tokens: 500,
        sample_every: 0,
        save_every: 4,
        log_every: 1,
        ..Config::default()
    }
}

fn train(config: &Config, tokens: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    std::fs::create_dir_all(out.folder()).unwrap();
    train::run(config, &Inputs::of(tokens), out, context)
}

fn digest(folder: &Path, file: &str) -> Digest {
    Digest::of_file(&folder.join(file)).unwrap().0
}

/// Returns the loss of every step.
fn losses(folder: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

#[test]
fn interrupted_training_resumes_to_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let kinds = [
        config(),
        Config { optimizer: OptimizerKind::Adamw, ..config() },
        Config { precision: model::Precision::Bf16, activation_checkpointing: true, ..config() },
    ];
    for (kind, config) in kinds.into_iter().enumerate() {
        let whole = Unsealed::at(root.path().join(format!("whole-{kind}")), recipe("train"));
        let outcome = train(&config, &tokens, &whole, &Context::quiet(1)).unwrap();
        assert_eq!(outcome.counts["steps"], 12);

        for stop_at in [1, 4, 7, 11] {
            let out = Unsealed::at(root.path().join(format!("cut-{kind}-{stop_at}")), recipe("train"));
            let mut context = Context::quiet(1);
            let cancel = context.cancel.clone();
            context.progress = Progress::new(move |event| {
                if event == Event::Position(stop_at) {
                    cancel.request();
                }
            });
            let error = train(&config, &tokens, &out, &context).unwrap_err();
            assert!(matches!(error, Error::InterruptedAt { step, steps: 12 } if step == stop_at), "{error}");
            train(&config, &tokens, &out, &Context::quiet(1)).unwrap();
            for file in ["model.safetensors", "optimizer.safetensors"] {
                assert_eq!(digest(out.folder(), file), digest(whole.folder(), file), "{file}, stopped at {stop_at}");
            }
            assert_eq!(losses(out.folder()), losses(whole.folder()));
        }
    }
}

/// A base model whose embeddings grow for a chat template, in full and with adapters.
#[test]
fn interrupted_training_of_a_grown_vocabulary_resumes_to_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let enough = tokens(root.path(), 60);
    let out = Store::new(root.path()).begin(recipe("train")).unwrap();
    let outcome = train(&config(), &enough, &out, &Context::quiet(1)).unwrap();
    let base = out.seal(outcome, 0.0, Host::default()).unwrap();

    let template = "llama3";
    let tokenizer = Tokenizer::from_file(&enough.folder().join("tokenizer.json")).unwrap();
    let tokenizer = tokenizer.with_chat_template(template).unwrap();
    let grown = written(&Store::new(root.path().join("grown")), &tokenizer, 60, None);
    let adapters = LoraConfig { rank: 2, ..LoraConfig::default() };
    for (kind, lora) in [None, Some(adapters)].into_iter().enumerate() {
        let growing = Config {
            init: Some("base".to_owned()),
            chat_template: Some(template.to_owned()),
            pad_vocab_to_multiple_of: 64,
            lora,
            ..config()
        };
        let run = |name: &str, stop_at: Option<u64>| {
            let out = Unsealed::at(root.path().join(format!("{name}-{kind}")), recipe("train"));
            std::fs::create_dir_all(out.folder()).unwrap();
            let mut context = Context::quiet(1);
            let cancel = context.cancel.clone();
            context.progress = Progress::new(move |event| {
                if stop_at.is_some_and(|step| event == Event::Position(step)) {
                    cancel.request();
                }
            });
            let result = train::run(&growing, &Inputs { init: Some(&base), ..Inputs::of(&grown) }, &out, &context);
            (out, result)
        };
        let (whole, result) = run("whole", None);
        result.unwrap();
        let vocab_size = model::checkpoint::load_config(whole.folder()).unwrap().vocab_size;
        assert!(vocab_size >= tokenizer.vocab_size() && vocab_size.is_multiple_of(64), "{vocab_size}");
        for stop_at in [1, 7] {
            let name = format!("cut-{stop_at}");
            run(&name, Some(stop_at)).1.unwrap_err();
            let (cut, result) = run(&name, None);
            result.unwrap();
            for file in ["model.safetensors", "optimizer.safetensors"] {
                assert_eq!(digest(cut.folder(), file), digest(whole.folder(), file), "{file}, stopped at {stop_at}");
            }
        }
    }
}

#[test]
fn incomplete_state_is_skipped() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let whole = Unsealed::at(root.path().join("whole"), recipe("train"));
    train(&config(), &tokens, &whole, &Context::quiet(1)).unwrap();

    let out = Unsealed::at(root.path().join("cut"), recipe("train"));
    let mut context = Context::quiet(1);
    let cancel = context.cancel.clone();
    context.progress = Progress::new(move |event| {
        if event == Event::Position(6) {
            cancel.request();
        }
    });
    train(&config(), &tokens, &out, &context).unwrap_err();
    // A later state without its last file, beside a complete one.
    let torn = out.folder().join(".resume/step-000000009");
    std::fs::create_dir(&torn).unwrap();
    std::fs::write(torn.join("model.safetensors"), "half").unwrap();
    train(&config(), &tokens, &out, &Context::quiet(1)).unwrap();
    assert_eq!(digest(out.folder(), "model.safetensors"), digest(whole.folder(), "model.safetensors"));

    // A damaged state is named; without it, training starts again and reaches the same bits.
    let out = Unsealed::at(root.path().join("damaged"), recipe("train"));
    train(&config(), &tokens, &out, &context).unwrap_err();
    let folder = std::fs::read_dir(out.folder().join(".resume")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(folder.join("optimizer.safetensors"), "damaged").unwrap();
    let error = train(&config(), &tokens, &out, &Context::quiet(1)).unwrap_err();
    assert!(matches!(&error, Error::Resume { path, .. } if *path == folder), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
    train(&config(), &tokens, &out, &Context::quiet(1)).unwrap();
    assert_eq!(digest(out.folder(), "model.safetensors"), digest(whole.folder(), "model.safetensors"));
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let of = |micro_batches: usize| {
        let config = Config { micro_batches, optimizer: OptimizerKind::Adamw, ..config() };
        let out = Unsealed::at(root.path().join(format!("micro-{micro_batches}")), recipe("train"));
        train(&config, &tokens, &out, &Context::quiet(1)).unwrap();
        losses(out.folder())
    };
    let in_one = of(1);
    for micro_batches in [2, 4] {
        for (step, (one, many)) in in_one.iter().zip(of(micro_batches)).enumerate() {
            assert!((one - many).abs() < 1e-4, "step {step}: loss {one} in one micro-batch, {many} in {micro_batches}");
        }
    }
}

#[test]
fn training_lowers_the_loss() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let in_f32 = model::Family::ALL.map(|family| (family, model::Precision::F32));
    for (family, precision) in in_f32.into_iter().chain([(model::Family::Qwen3, model::Precision::Bf16)]) {
        let mut config = Config { steps: 40, precision, ..config() };
        config.model.family = family;
        config.model.n_kv_head = None;
        config.model.sliding_window = family.layers(2).iter().any(|layer| layer.sliding).then_some(6);
        let out = Unsealed::at(root.path().join(format!("{family:?}-{precision:?}")), recipe("train"));
        train(&config, &tokens, &out, &Context::quiet(1)).unwrap();
        let losses = losses(out.folder());
        assert!(losses[39] < 0.6 * losses[0], "{family:?}, {precision:?}: {} after {}", losses[39], losses[0]);
        for file in ["config.json", "tokenizer_config.json", "generation_config.json", "trainer_state.json"] {
            assert!(out.path(file).exists(), "{file}");
        }
    }
}

#[test]
fn adapters_do_not_change_their_base() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let out = Store::new(root.path()).begin(recipe("train")).unwrap();
    let outcome = train(&config(), &tokens, &out, &Context::quiet(1)).unwrap();
    let base = out.seal(outcome, 0.0, Host::default()).unwrap();

    let adapting = Config {
        init: Some("base".to_owned()),
        lora: Some(LoraConfig { rank: 2, dropout: 0.1, ..LoraConfig::default() }),
        packing: Some(Packing::Documents),
        learning_rate: 3e-3,
        ..config()
    };
    let run = |name: &str, context: &Context| {
        let out = Unsealed::at(root.path().join(name), recipe("train"));
        std::fs::create_dir_all(out.folder()).unwrap();
        let result = train::run(&adapting, &Inputs { init: Some(&base), ..Inputs::of(&tokens) }, &out, context);
        (out, result)
    };
    let (whole, result) = run("whole", &Context::quiet(1));
    result.unwrap();
    assert!(whole.path("adapter/adapter_model.safetensors").exists());
    let validation = |folder: &Path| -> Vec<f64> {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter_map(|line| line["validation_loss"].as_f64()).collect()
    };
    // Before the first step, after 5, 10 and 12.
    let measured = validation(whole.folder());
    assert_eq!(measured.len(), 4);
    assert!(measured[3] < measured[0], "{measured:?}");
    // The checkpoint is the base with the adapter merged in.
    assert_ne!(digest(whole.folder(), "model.safetensors"), digest(base.folder(), "model.safetensors"));
    let device = model::device::resolve("cpu").unwrap();
    let adapted = model::lora::load(model::checkpoint::load(base.folder(), &device).unwrap(), &whole.path("adapter"));
    let merged = model::checkpoint::weights(&model::lora::merged(adapted.unwrap())).unwrap();
    let written = model::checkpoint::weights(&model::checkpoint::load(whole.folder(), &device).unwrap()).unwrap();
    assert_eq!(merged, written);

    let mut context = Context::quiet(1);
    let cancel = context.cancel.clone();
    context.progress = Progress::new(move |event| {
        if event == Event::Position(7) {
            cancel.request();
        }
    });
    run("cut", &context).1.unwrap_err();
    let (cut, result) = run("cut", &Context::quiet(1));
    result.unwrap();
    for file in ["model.safetensors", "adapter/adapter_model.safetensors", "optimizer.safetensors"] {
        assert_eq!(digest(cut.folder(), file), digest(whole.folder(), file), "{file}");
    }
}

#[test]
fn unusable_data_and_settings_are_named() {
    let root = tempfile::tempdir().unwrap();
    let out = Unsealed::at(root.path().join("out"), recipe("train"));
    let small = tokens(root.path(), 2);
    let error = train(&config(), &small, &out, &Context::quiet(1)).unwrap_err();
    assert!(matches!(error, Error::TooFewTokens { needed: 65, batch_size: 4, context_length: 16, .. }), "{error}");

    let enough = tokens(root.path(), 60);
    let wild =
        Config { learning_rate: 10.0, warmup_steps: 0, clip_norm: 0.0, optimizer: OptimizerKind::Adamw, ..config() };
    let wild = Config { weight_decay: 10.0, steps: 60, ..wild };
    let error = train(&wild, &enough, &out, &Context::quiet(1)).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)), "{error}");
    assert!(error.to_string().contains("lower train.learning_rate"), "{error}");

    let tokenizer = Tokenizer::from_file(&enough.folder().join("tokenizer.json")).unwrap();
    let masked = |is_learned: fn(&str, usize) -> bool, name: &str| {
        written(&Store::new(root.path().join(name)), &tokenizer, 60, Some(is_learned))
    };
    let unstarted = Unsealed::at(root.path().join("unstarted"), recipe("train"));
    let without = masked(|split, _| split == "train", "without");
    let error = train(&config(), &without, &unstarted, &Context::quiet(1)).unwrap_err();
    assert!(matches!(error, Error::NoValidationTargets { .. }), "{error}");
    let late = masked(|split, document| split == "train" || document > 10, "late");
    let few = Config { validation_tokens: 20, ..config() };
    let error = train(&few, &late, &unstarted, &Context::quiet(1)).unwrap_err();
    assert!(matches!(error, Error::ValidationTargetsBeyond { read: 20, first: 21.. }), "{error}");
    assert!(!unstarted.path("metrics.jsonl").exists(), "before the first step");

    let error =
        train(&config(), &enough, &out, &Context { device: "tpu".to_owned(), ..Context::quiet(1) }).unwrap_err();
    assert!(error.to_string().starts_with("unknown device `tpu`"), "{error}");
}

/// The same steps on wgpu and on the CPU. Skipped with a message if no adapter is found, as on a machine without a
/// Vulkan driver; the CI script installs Mesa's software driver.
#[test]
fn losses_on_wgpu_match_the_cpu() {
    let Ok(adapter) = model::device::describe("wgpu") else {
        println!("skipped: wgpu finds no adapter here (on Debian: apt-get install mesa-vulkan-drivers)");
        return;
    };
    println!("training on {adapter}");
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let config = Config { steps: 4, micro_batches: 1, validation_every: 100, ..config() };
    let of = |device: &str| {
        let out = Unsealed::at(root.path().join(device), recipe("train"));
        let context = Context { device: device.to_owned(), ..Context::quiet(1) };
        train(&config, &tokens, &out, &context).unwrap();
        losses(out.folder())
    };
    let (cpu, wgpu) = (of("cpu"), of("wgpu"));
    assert_eq!(cpu.len(), 4);
    for (step, (a, b)) in cpu.iter().zip(&wgpu).enumerate() {
        assert!((a - b).abs() < 1e-3, "step {step}: loss {a} on the CPU, {b} on wgpu");
    }
}

#[test]
fn progress_reaches_the_last_step() {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 60);
    let out = Unsealed::at(root.path().join("out"), recipe("train"));
    let progress = Progress::new(|event| {
        if let Event::Position(at) = event {
            LAST.store(at, Ordering::SeqCst);
        }
    });
    train(&config(), &tokens, &out, &Context { progress, ..Context::quiet(1) }).unwrap();
    assert_eq!(LAST.load(Ordering::SeqCst), 12);
}
