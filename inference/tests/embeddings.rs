//! Embeddings of prompts, on the tiny random models of crate `model`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use inference::{BurnForward, Engine, EngineOptions, Event, ForwardPass, Request, RequestId, Scheduler, Settings};
use model::{KvCache, Transformer, checkpoint};

/// Allows for two implementations in f32 with different orders of summation.
const TOLERANCE: f32 = 1e-4;

fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let mut folders: Vec<PathBuf> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("config.json").exists());
    assert!(folders.len() >= 25, "{folders:?}");
    folders
}

fn engine(folder: &Path) -> Engine {
    let options = EngineOptions { block_tokens: 4, cache_tokens: Some(400), ..EngineOptions::default() };
    Engine::load(folder, &options).unwrap()
}

/// Returns prompts of different lengths that begin in the same way.
fn prompts(config: &model::ModelConfig) -> Vec<Vec<u32>> {
    let token = |i: usize| ((i * i + 3) % config.vocab_size) as u32;
    [1, 4, 13, 14, config.context_length.min(40)].map(|length| (0..length).map(token).collect()).to_vec()
}

/// Returns the mean of the burn model's hidden states, divided by its length.
fn reference(model: &Transformer, prompt: &[u32]) -> Vec<f32> {
    let ids: Vec<i64> = prompt.iter().copied().map(i64::from).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, prompt.len()]), &model.device());
    let mut cache = KvCache::new(model.config());
    let states: Vec<f32> = model.hidden_cached_rows(tokens, &mut cache, prompt.len()).try_into_vec_as().unwrap();
    let mut mean = vec![0.0; model.config().d_model];
    for state in states.chunks_exact(mean.len()) {
        mean.iter_mut().zip(state).for_each(|(mean, x)| *mean += x / prompt.len() as f32);
    }
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    mean.iter().map(|x| x / length).collect()
}

/// Runs until nothing is left to do, and returns the embeddings.
fn run<M: ForwardPass>(scheduler: &mut Scheduler<M>) -> BTreeMap<RequestId, Vec<f32>> {
    let mut embeddings = BTreeMap::new();
    while !scheduler.is_idle() {
        for event in scheduler.step().unwrap() {
            match event {
                Event::Embedding { request, embedding } => assert_eq!(embeddings.insert(request, embedding), None),
                Event::Failed { error, .. } => panic!("{error}"),
                Event::Token { .. } | Event::Attention { .. } | Event::Finished { .. } => {}
            }
        }
    }
    embeddings
}

fn embed(model: impl ForwardPass, prompt: &[u32]) -> Vec<f32> {
    let mut scheduler = Scheduler::new(model, Settings::default()).unwrap();
    let id = scheduler.submit(Request::embedding(prompt.to_vec())).unwrap();
    run(&mut scheduler).remove(&id).unwrap()
}

#[test]
fn embedding_is_the_mean_of_the_reference_models_states() {
    let mut largest = 0.0_f32;
    for folder in folders() {
        let model = checkpoint::load(&folder, &Device::flex()).unwrap();
        for prompt in prompts(model.config()) {
            let expected = reference(&model, &prompt);
            for found in [embed(engine(&folder), &prompt), embed(BurnForward::new(&model, 1), &prompt)] {
                let length = found.iter().map(|x| x * x).sum::<f32>().sqrt();
                assert!((length - 1.0).abs() < 1e-5, "{}: length {length}", folder.display());
                assert_eq!(found.len(), expected.len());
                let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(difference < TOLERANCE, "{}: {difference}", folder.display());
                largest = largest.max(difference);
            }
        }
    }
    println!("embeddings differ by {largest:.1e}");
}

/// To the last bit, among texts that are continued, in chunks, and with blocks that others have left. (The positions of
/// `llama-dynamic` depend on the chunks.)
#[test]
fn embedding_does_not_depend_on_what_is_computed_together() {
    for folder in folders().iter().filter(|folder| !folder.ends_with("llama-dynamic")) {
        let prompts = prompts(engine(folder).config());
        let alone: Vec<Vec<f32>> = prompts.iter().map(|prompt| embed(engine(folder), prompt)).collect();
        for reuse_prefixes in [false, true] {
            let settings = Settings { max_step_tokens: 7, max_sequences: 6, reuse_prefixes, ..Settings::default() };
            let mut scheduler = Scheduler::new(engine(folder), settings).unwrap();
            for _ in 0..2 {
                let mut ids = Vec::new();
                for prompt in &prompts {
                    scheduler.submit(Request::new(prompt.clone(), 9)).unwrap();
                    ids.push(scheduler.submit(Request::embedding(prompt.clone())).unwrap());
                }
                let found = run(&mut scheduler);
                for (id, expected) in ids.iter().zip(&alone) {
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert!(bits(&found[id]) == bits(expected), "{}, reuse {reuse_prefixes}", folder.display());
                }
            }
        }
    }
}
