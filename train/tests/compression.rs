//! Distillation and quantisation-aware training of a tiny model.

use std::path::Path;

use artifact::{Context, Digest, Event, Host, Outcome, Progress, Sealed, Store, Unsealed};
use burn::tensor::{Int, Tensor, TensorData};
use model::compressed_tensors::Integers;
use model::lora::LoraConfig;
use model::{Transformer, checkpoint, rounding};
use test_support::recipe;
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};
use train::{Config, DistillConfig, Error, Inputs, Model, OptimizerKind, Packing, PruneConfig};

fn text(i: usize) -> String {
    format!("let x{} = {} + {};\nassert_eq!(x{}, {});\n", i % 7, i % 5, i % 3, i % 7, i % 5 + i % 3)
}

/// Writes a tokens artifact whose tokenizer has at most `vocab_size` tokens; every third token is no target.
fn tokens(root: &Path, vocab_size: usize) -> Sealed {
    let config = TrainConfig { vocab_size, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, (0..60).map(text)).unwrap();
    let out = Store::new(root).begin(recipe("tokens")).unwrap();
    std::fs::create_dir_all(out.folder()).unwrap();
    tokenizer.save(out.folder()).unwrap();
    for (split, count) in [("train", 60), ("validation", 15)] {
        let mut writer = Writer::new(out.folder(), split, &tokenizer, 1 << 20);
        for i in 0..count {
            let mut ids = tokenizer.encode(&text(i * 3)).unwrap();
            ids.extend(tokenizer.end_of_text());
            let mask: Vec<bool> = (0..ids.len()).map(|at| at % 3 != 1).collect();
            writer.push_masked(&ids, &mask, text(i * 3).len() as u64).unwrap();
        }
        writer.finish().unwrap();
    }
    out.seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn config() -> Config {
    Config {
        model: Model { context_length: 48, n_layer: 2, d_model: 32, n_head: 2, n_kv_head: Some(1), ..Model::default() },
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

fn distilling() -> Config {
    let distill = DistillConfig { teacher: "teacher".to_owned(), ..DistillConfig::default() };
    Config { distill: Some(distill), ..config() }
}

/// Trains in the folder `name`, and cancels at a step.
fn run(
    root: &Path,
    name: &str,
    config: &Config,
    inputs: &Inputs<'_>,
    stop_at: Option<u64>,
) -> (Unsealed, Result<Outcome, Error>) {
    let out = Unsealed::at(root.join(name), recipe("train"));
    std::fs::create_dir_all(out.folder()).unwrap();
    let mut context = Context::quiet(1);
    let cancel = context.cancel.clone();
    context.progress = Progress::new(move |event| {
        if stop_at.is_some_and(|step| event == Event::Position(step)) {
            cancel.request();
        }
    });
    let result = train::run(config, inputs, &out, &context);
    (out, result)
}

/// Trains a model and seals it.
fn trained(root: &Path, config: &Config, tokens: &Sealed) -> Sealed {
    let out = Store::new(root).begin(recipe("train")).unwrap();
    std::fs::create_dir_all(out.folder()).unwrap();
    let outcome = train::run(config, &Inputs::of(tokens), &out, &Context::quiet(1)).unwrap();
    out.seal(outcome, 0.0, Host::default()).unwrap()
}

fn digest(folder: &Path, file: &str) -> Digest {
    Digest::of_file(&folder.join(file)).unwrap().0
}

/// Returns the values of a field in the metrics.
fn metrics(folder: &Path, field: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line[field].as_f64()).collect()
}

/// Checks that a training killed at any of some steps reaches the same bits.
fn check_resume(root: &Path, name: &str, config: &Config, inputs: &Inputs<'_>) -> Unsealed {
    let (whole, result) = run(root, &format!("{name}-whole"), config, inputs, None);
    result.unwrap();
    for stop_at in [1, 7] {
        let cut = format!("{name}-{stop_at}");
        run(root, &cut, config, inputs, Some(stop_at)).1.unwrap_err();
        let (cut, result) = run(root, &cut, config, inputs, None);
        result.unwrap();
        for file in ["model.safetensors", "optimizer.safetensors"] {
            assert_eq!(digest(cut.folder(), file), digest(whole.folder(), file), "{name}, {file}, cut at {stop_at}");
        }
        assert_eq!(metrics(cut.folder(), "loss"), metrics(whole.folder(), "loss"));
    }
    whole
}

#[test]
fn interrupted_distillation_resumes_to_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 300);
    let teacher = trained(root.path(), &Config { steps: 30, ..config() }, &tokens);
    let inputs = Inputs { teacher: Some(&teacher), ..Inputs::of(&tokens) };
    let small = Config { model: Model { n_layer: 1, ..config().model }, ..distilling() };
    for packing in [Packing::Documents, Packing::Windows] {
        let small = Config { packing: Some(packing), ..small.clone() };
        let whole = check_resume(root.path(), &format!("{packing:?}"), &small, &inputs);
        let parts = [metrics(whole.folder(), "cross_entropy"), metrics(whole.folder(), "teacher_divergence")];
        let losses = metrics(whole.folder(), "loss");
        assert_eq!(losses.len(), 12);
        for (step, loss) in losses.iter().enumerate() {
            let expected = 0.5 * (parts[0][step] + parts[1][step]);
            assert!((loss - expected).abs() < 1e-6, "step {step}: {loss} of {parts:?}");
        }
        assert!(parts[1][11] < 0.9 * parts[1][0], "the student approaches its teacher: {:?}", parts[1]);
    }
    let adapters = LoraConfig { rank: 2, dropout: 0.1, ..LoraConfig::default() };
    let start = trained(&root.path().join("start"), &config(), &tokens);
    let adapting = Config { init: Some("start".to_owned()), lora: Some(adapters), ..distilling() };
    check_resume(root.path(), "lora", &adapting, &Inputs { init: Some(&start), ..inputs });
}

#[test]
fn micro_batches_of_a_distillation_add_up_to_the_batch() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 300);
    let teacher = trained(root.path(), &config(), &tokens);
    let inputs = Inputs { teacher: Some(&teacher), ..Inputs::of(&tokens) };
    let of = |micro_batches: usize| {
        let config = Config { micro_batches, optimizer: OptimizerKind::Adamw, ..distilling() };
        let (out, result) = run(root.path(), &format!("micro-{micro_batches}"), &config, &inputs, None);
        result.unwrap();
        metrics(out.folder(), "loss")
    };
    for (step, (one, many)) in of(1).into_iter().zip(of(4)).enumerate() {
        assert!((one - many).abs() < 1e-4, "step {step}: loss {one} in one micro-batch, {many} in four");
    }
}

#[test]
fn a_student_that_starts_as_its_teacher_has_no_divergence() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 300);
    let teacher = trained(root.path(), &config(), &tokens);
    let inputs = Inputs { init: Some(&teacher), teacher: Some(&teacher), ..Inputs::of(&tokens) };
    let same = Config { init: Some("teacher".to_owned()), steps: 1, ..distilling() };
    let (out, result) = run(root.path(), "same", &same, &inputs, None);
    result.unwrap();
    let divergence = metrics(out.folder(), "teacher_divergence");
    assert!(divergence.len() == 1 && divergence[0].abs() < 1e-5, "{divergence:?}");
}

#[test]
fn unusable_teachers_are_named() {
    let root = tempfile::tempdir().unwrap();
    let tokens_of = |vocab_size: usize| tokens(&root.path().join(vocab_size.to_string()), vocab_size);
    let (own, other) = (tokens_of(300), tokens_of(262));
    let check = |config: &Config, teacher: &Sealed, expected: &[&str]| {
        let inputs = Inputs { teacher: Some(teacher), ..Inputs::of(&own) };
        let error = run(root.path(), "out", config, &inputs, None).1.unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    let stranger = trained(&root.path().join("stranger"), &config(), &other);
    let of = |tokens: &Sealed| {
        let tokenizer = Tokenizer::from_file(&tokens.folder().join("tokenizer.json")).unwrap();
        tokenizer.digest().short()
    };
    check(&distilling(), &stranger, &["train.distill.teacher (teacher)", &of(&own), &of(&other)]);
    let short = Config { model: Model { context_length: 16, ..config().model }, ..config() };
    let short = trained(&root.path().join("short"), &short, &own);
    check(&distilling(), &short, &["train.model.context_length: 48", "16 tokens", "train.distill.teacher"]);
}

/// Returns the logits of a model.
fn logits(model: &Transformer) -> Vec<f32> {
    let tokens = TensorData::new((0..32i64).map(|i| i * 7 % 250).collect::<Vec<_>>(), vec![1, 32]);
    model.forward(Tensor::<2, Int>::from_data(tokens, &model.device())).try_into_vec_as().unwrap()
}

#[test]
fn quantisation_after_aware_training_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 300);
    let start = trained(root.path(), &config(), &tokens);
    for integers in [Integers::Int8, Integers::Int4] {
        let aware = Config { init: Some("start".to_owned()), quantization: Some(integers), steps: 30, ..config() };
        let aware = Config { learning_rate: 3e-3, ..aware };
        let inputs = Inputs { init: Some(&start), ..Inputs::of(&tokens) };
        let out = check_resume(root.path(), &format!("{integers:?}"), &aware, &inputs);
        let device = model::device::resolve("cpu").unwrap();
        let trained = checkpoint::load(out.folder(), &device).unwrap();
        assert_eq!(logits(&trained), logits(&rounding::rounded(&trained, integers).unwrap()), "{integers:?}");
        // The rounded model improves, from the loss that rounding costs.
        let validation = metrics(out.folder(), "validation_loss");
        assert!(validation.last().unwrap() < &validation[0], "{integers:?}: {validation:?}");
    }
}

#[test]
fn a_pruned_model_is_smaller_and_recovers() {
    let root = tempfile::tempdir().unwrap();
    let tokens = tokens(root.path(), 300);
    let large = Config { model: Model { n_layer: 4, ..config().model }, steps: 60, ..config() };
    let start = trained(root.path(), &large, &tokens);
    let inputs = Inputs { init: Some(&start), teacher: Some(&start), ..Inputs::of(&tokens) };
    let prune = PruneConfig { layers: 2, d_ff: Some(48) };
    let pruning = Config { init: Some("start".to_owned()), prune: Some(prune), ..distilling() };
    let out = check_resume(root.path(), "pruned", &pruning, &inputs);
    let shape = checkpoint::load_config(out.folder()).unwrap();
    assert_eq!((shape.n_layer, shape.d_ff), (2, 48));
    checkpoint::load(out.folder(), &model::device::resolve("cpu").unwrap()).unwrap();
    let validation = metrics(out.folder(), "validation_loss");
    assert!(validation.last().unwrap() < &validation[0], "{validation:?}");

    let all = PruneConfig { layers: 4, d_ff: None };
    let (_, result) = run(root.path(), "all", &Config { prune: Some(all), ..pruning }, &inputs, None);
    assert_eq!(result.unwrap_err().to_string(), "train.prune.layers: 4 leaves none of the model's 4");
}
