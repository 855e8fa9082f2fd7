//! Adapters beside the weights of their base, on the tiny random models of crate `model` and their adapters in PEFT's
//! layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use inference::parity::max_logit_difference;
use inference::{
    Adapter, AdapterBase, BurnForward, Engine, EngineOptions, Event, ForwardPass, Request, Row, RowResult, Scheduler,
    SequenceRef, Settings,
};
use model::gguf::{self, Metadata, Quantization};
use model::lora::{self, LoraConfig};
use model::{Family, Transformer, checkpoint, named_parameters};
use tempfile::TempDir;

/// Allows for two implementations in f32 with different orders of summation.
const TOLERANCE: f64 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(name)
}

fn base(name: &str) -> Transformer {
    checkpoint::load(&fixture(name), &Device::flex()).unwrap()
}

fn load(folder: &Path) -> (Box<dyn ForwardPass + Send>, AdapterBase) {
    inference::load_base(folder, &Device::flex(), Some(200)).unwrap()
}

fn tokens(config: &model::ModelConfig) -> Vec<u32> {
    (0..config.context_length.min(30)).map(|i| ((i * i + 5) % config.vocab_size) as u32).collect()
}

/// Returns what each token of a text gets, read in one call.
fn read(model: &mut dyn ForwardPass, tokens: &[u32], adapter: Option<&Adapter>, result: RowResult) -> Vec<f32> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(model.block_tokens()) as u32).collect();
    let row = |(position, token): (usize, &u32)| Row { sequence: 0, position, token: *token, wants_logits: true };
    let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
    let mut results = Vec::new();
    let sequence = SequenceRef { blocks: &blocks, adapter, result };
    model.forward_sequences(&rows, &[sequence], &mut results).unwrap();
    results
}

fn logits(model: &mut dyn ForwardPass, tokens: &[u32], adapter: Option<&Adapter>) -> Vec<f32> {
    read(model, tokens, adapter, RowResult::Logits)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Fills adapters with values that are a function of their index and not zero.
struct Fill(f32);

impl named_parameters::Mapper for Fill {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !name.contains(".lora.") {
            return param;
        }
        self.0 += 1.0;
        let first = self.0;
        param.map(|tensor| {
            let shape = tensor.dims().to_vec();
            let count: usize = shape.iter().product();
            let values = (0..count).map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) / (1.0 + first % 3.0));
            Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), &tensor.device())
        })
    }
}

/// Returns a model with adapters of some projections, and their folder.
fn attached(name: &str, targets: &[&str]) -> (Transformer, TempDir) {
    let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
    let config = LoraConfig { rank: 3, alpha: 5.0, target_modules, ..LoraConfig::default() };
    let model = named_parameters::map(lora::attach(base(name), &config, 1).unwrap(), &mut Fill(0.0));
    let folder = tempfile::tempdir().unwrap();
    lora::save(&model, name, folder.path()).unwrap();
    (model, folder)
}

/// Checks logits and hidden states beside the base of `folder` against those of the merged model.
fn check(folder: &Path, adapter: &Path, merged: &Transformer) {
    let (mut model, adapters) = load(folder);
    let adapter = adapters.load(adapter).unwrap();
    let tokens = tokens(merged.config());
    let mut merged = Engine::of_model(merged, &EngineOptions::default()).unwrap();
    for result in [RowResult::Logits, RowResult::HiddenState] {
        let expected = read(&mut merged, &tokens, None, result);
        let found = read(&mut *model, &tokens, Some(&adapter), result);
        let difference = max_logit_difference(&found, &expected);
        assert!(difference < TOLERANCE, "{}, {result:?}: {difference}", folder.display());
        let alone = read(&mut *model, &tokens, None, result);
        assert!(max_logit_difference(&alone, &expected) > 1e-2, "{}: the adapter is used", folder.display());
    }
}

#[test]
fn logits_beside_the_base_are_those_of_the_merged_model() {
    for (name, adapter) in
        [("qwen3", "peft-qwen3"), ("qwen3", "ours-qwen3"), ("gpt2", "peft-gpt2"), ("gpt2", "ours-gpt2")]
    {
        let folder = fixture("lora").join(adapter);
        let merged = lora::merged(lora::load(base(name), &folder).unwrap());
        check(&fixture(name), &folder, &merged);
    }
    // Projections that are concatenated or not, gated or not, with biases, and followed by norms.
    for (name, targets) in [
        ("phi3", &["all-linear"][..]),
        ("phi3", &["qkv_proj"]),
        ("gemma2", &["all-linear"]),
        ("qwen2", &["all-linear"]),
        ("llama", &["k_proj", "down_proj"]),
        ("llama", &["v_proj", "gate_proj"]),
        ("gpt2", &["all-linear"]),
        ("gpt2", &["mlp.c_proj"]),
    ] {
        let (model, folder) = attached(name, targets);
        check(&fixture(name), folder.path(), &lora::merged(model));
    }
}

#[test]
fn adapters_of_quantised_bases_have_the_logits_of_a_merged_model() {
    let folders = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let [base, of_peft, own, files] = folders.each_ref().map(TempDir::path);
    test_support::tiny::write(base, Family::Qwen3, 64);
    test_support::tiny::write_adapter(of_peft, 1);
    let model = checkpoint::load(base, &Device::flex()).unwrap();
    // With the digest of the base's weights before they are rounded.
    lora::save(&lora::load(model.clone(), of_peft).unwrap(), "base", own).unwrap();
    let tokens = tokens(model.config());
    for (quantization, bound) in [(Quantization::F32, 1e-5), (Quantization::Q8_0, 8e-2), (Quantization::Q4_0, 8e-2)] {
        let path = files.join("model.gguf");
        gguf::save(&model, &path, quantization, &Metadata::default()).unwrap();
        let rounded = checkpoint::load(&path, &Device::flex()).unwrap();
        let merged = lora::merged(lora::load(rounded, of_peft).unwrap());
        let expected = logits(&mut Engine::of_model(&merged, &EngineOptions::default()).unwrap(), &tokens, None);
        let spread = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let (mut quantised, adapters) = load(&path);
        let adapter = adapters.load(own).unwrap();
        let found = logits(&mut *quantised, &tokens, Some(&adapter));
        let difference = max_logit_difference(&found, &expected) / f64::from(spread);
        println!("{quantization:?}: {difference:.1e}");
        // Activations are rounded as well where weights are integers.
        assert!(difference < bound, "{quantization:?}: {difference}");
        let without = max_logit_difference(&logits(&mut *quantised, &tokens, None), &expected);
        assert!(without / f64::from(spread) > 10.0 * bound, "{quantization:?}: {without}");
    }
}

#[test]
fn adapters_on_a_device_have_the_tensors_of_their_base() {
    let folder = fixture("lora").join("peft-qwen3");
    let model = base("qwen3");
    let adapter = AdapterBase::of_model(model.clone()).load(&folder).unwrap();
    let tokens = tokens(model.config());
    let expected = inference::logits(&lora::load(model.clone(), &folder).unwrap(), &tokens).unwrap();
    let mut forward = BurnForward::new(model.clone(), 1);
    let found = logits(&mut forward, &tokens, Some(&adapter));
    assert!(max_logit_difference(&found, &expected) < TOLERANCE);
    let found = logits(&mut forward, &tokens, None);
    assert!(max_logit_difference(&found, &inference::logits(&model, &tokens).unwrap()) < TOLERANCE);
    assert_eq!(adapter.bytes(), 0);
}

/// Runs requests together and returns the bits of the logits of their tokens, and of their embeddings.
fn run<M: ForwardPass>(scheduler: &mut Scheduler<M>, requests: &[Request]) -> Vec<Vec<u32>> {
    let ids: Vec<_> = requests.iter().map(|request| scheduler.submit(request.clone()).unwrap()).collect();
    let mut found = vec![Vec::new(); ids.len()];
    let at = |id| ids.iter().position(|other| *other == id).unwrap();
    while !scheduler.is_idle() {
        let events = scheduler.step_with_logits(&mut |row| found[at(row.request)].extend(bits(row.logits))).unwrap();
        for event in events {
            match event {
                Event::Embedding { request, embedding } => found[at(request)].extend(bits(&embedding)),
                Event::Failed { error, .. } => panic!("{error}"),
                Event::Token { .. } | Event::Attention { .. } | Event::Finished { .. } => {}
            }
        }
    }
    found
}

#[test]
fn base_and_adapters_in_one_batch_are_as_one_by_one() {
    for (name, folders) in [("qwen3", ["peft-qwen3", "ours-qwen3"]), ("gpt2", ["peft-gpt2", "ours-gpt2"])] {
        let (mut model, base) = load(&fixture(name));
        let load = |name| Arc::new(base.load(&fixture("lora").join(name)).unwrap());
        let [a, b] = folders.map(load);
        let settings = Settings { max_step_tokens: 11, max_sequences: 6, ..Settings::default() };
        let mut requests = Vec::new();
        for adapter in [None, Some(a), Some(b)] {
            // The same prompt, so that a block of another adapter would be found.
            let prompt: Vec<u32> = (1..40).map(|i| i * i % 50).collect();
            let adapted = |request| Request { adapter: adapter.clone(), wants_logits: true, ..request };
            requests.push(adapted(Request::new(prompt.clone(), 8)));
            requests.push(adapted(Request { embeds: true, ..Request::new(prompt, 0) }));
        }
        let mut scheduler = Scheduler::new(&mut *model, settings.clone()).unwrap();
        let together = run(&mut scheduler, &requests);
        // Once more, from the blocks of the first time.
        assert!(run(&mut scheduler, &requests) == together, "{name}");
        for (request, together) in requests.iter().zip(&together) {
            let settings = Settings { reuse_prefixes: false, max_step_tokens: 100, ..settings.clone() };
            let mut alone = self::load(&fixture(name)).0;
            let mut scheduler = Scheduler::new(&mut *alone, settings).unwrap();
            assert!(run(&mut scheduler, std::slice::from_ref(request))[0] == *together, "{name}");
        }
        for (i, one) in together.iter().enumerate() {
            assert!(together[..i].iter().all(|other| other != one), "{name}: adapters differ");
        }
    }
}

#[test]
fn blocks_are_not_shared_between_adapters() {
    let (mut model, base) = load(&fixture("qwen3"));
    let load = |name| Arc::new(base.load(&fixture("lora").join(name)).unwrap());
    let mut scheduler = Scheduler::new(&mut *model, Settings::default()).unwrap();
    let mut reused = |adapter: Option<&Arc<Adapter>>| {
        let before = scheduler.counters().reused_tokens;
        let request = Request { adapter: adapter.cloned(), ..Request::new((0..50).collect(), 1) };
        run(&mut scheduler, &[request]);
        scheduler.counters().reused_tokens - before
    };
    let (a, b) = (load("peft-qwen3"), load("ours-qwen3"));
    assert_eq!([reused(None), reused(Some(&a)), reused(Some(&b))], [0; 3]);
    // The same adapter, loaded again, has the same blocks.
    assert_eq!([reused(None), reused(Some(&a)), reused(Some(&load("ours-qwen3")))], [32; 3]);
}

#[test]
fn an_adapter_takes_the_memory_of_its_matrices() {
    let engine = Engine::load(&fixture("qwen3"), &EngineOptions::default()).unwrap();
    let adapters = AdapterBase::of_files(engine.config().clone(), &fixture("qwen3"));
    let adapter = adapters.load(&fixture("lora").join("ours-qwen3")).unwrap();
    let file = fs::metadata(fixture("lora").join("ours-qwen3").join(lora::WEIGHTS)).unwrap().len() as usize;
    // Rows are packed in panels of 32.
    assert!((1..40 * file).contains(&adapter.bytes()), "{} bytes of a file of {file}", adapter.bytes());
}

/// Returns the error of an adapter whose configuration is changed.
fn refused(from: &Path, change: (&str, &str)) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(from.join(lora::WEIGHTS), folder.path().join(lora::WEIGHTS)).unwrap();
    let config = fs::read_to_string(from.join(lora::CONFIG)).unwrap();
    assert!(config.contains(change.0), "{config}");
    fs::write(folder.path().join(lora::CONFIG), config.replacen(change.0, change.1, 1)).unwrap();
    let error = load(&fixture("qwen3")).1.load(folder.path()).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[test]
fn adapters_that_do_not_fit_are_named() {
    let peft = fixture("lora").join("peft-qwen3");
    for (change, expected) in [
        (("\"use_dora\": false", "\"use_dora\": true"), "use_dora: true is not supported"),
        (("\"lora_bias\": false", "\"lora_bias\": true"), "lora_bias: true is not supported"),
        (("\"bias\": \"none\"", "\"bias\": \"all\""), "bias: \"all\" is not supported, only \"none\""),
        (("\"trainable_token_indices\": null", "\"trainable_token_indices\": [3]"), "trainable_token_indices: [3]"),
        (("\"q_proj\"", "\"c_attn\""), "target_modules: `c_attn` is not a projection of this model"),
        (("\"r\": 3", "\"r\": 4"), "has shape [3, "),
    ] {
        let error = refused(&peft, change);
        assert!(error.contains(expected), "{error}");
    }
    let config = LoraConfig { rank: 2, modules_to_save: vec!["embed_tokens".to_owned()], ..LoraConfig::default() };
    let trained = checkpoint::load(&fixture("qwen3"), &Device::flex().autodiff()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    lora::save(&lora::attach(trained, &config, 1).unwrap(), "qwen3", folder.path()).unwrap();
    let error = refused(folder.path(), ("LORA", "LORA"));
    assert!(error.contains("modules_to_save: `embed_tokens` is not supported beside a base"), "{error}");

    // An adapter of other weights of the same shapes.
    let other = Transformer::init(base("qwen3").config(), 9, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    lora::save(&lora::attach(other, &LoraConfig::default(), 1).unwrap(), "other", folder.path()).unwrap();
    let error = refused(folder.path(), ("LORA", "LORA"));
    assert!(error.contains("is an adapter of another base"), "{error}");
    let error = load(&fixture("phi3")).1.load(&peft).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, "target_modules: `k_proj` is not a projection of this model");
}
