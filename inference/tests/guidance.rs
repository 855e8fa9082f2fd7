//! Classifier-free guidance on the tiny random models of crate `model`: the tokens are those of transformers, which
//! `fixtures/guidance.py` made, and each follows from the logits without a scheduler.

use std::collections::BTreeMap;
use std::path::Path;

use inference::sampler::{self, Uniforms};
use inference::{
    Engine, EngineOptions, Event, ForwardPass, Guidance, Request, RequestId, Row, Sampling, Scheduler, Settings,
};

fn engine(name: &str) -> Engine {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(name);
    let options = EngineOptions { threads: Some(2), block_tokens: 4, cache_tokens: Some(400), ..Default::default() };
    Engine::load(&folder, &options).unwrap()
}

/// Runs requests together, and returns the tokens of each sample.
fn run(engine: Engine, settings: Settings, requests: &[Request]) -> BTreeMap<(RequestId, usize), Vec<u32>> {
    let mut scheduler = Scheduler::new(engine, settings).unwrap();
    for request in requests {
        scheduler.submit(request.clone()).unwrap();
    }
    let mut tokens: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    while !scheduler.is_idle() {
        for event in scheduler.step().unwrap() {
            if let Event::Token { request, sample, token } = event {
                tokens.entry((request, sample)).or_default().push(token);
            }
        }
    }
    tokens
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let tokens = |text: &str| text.split(',').map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
    let mut cases: BTreeMap<&str, Vec<(Request, Vec<u32>)>> = BTreeMap::new();
    for line in include_str!("fixtures/guidance.txt").lines() {
        let [name, scale, penalty, negative, prompt, written, _] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("{line}")
        };
        let negative_prompt = (negative != "-").then(|| tokens(negative));
        let guidance = Guidance { scale: scale.parse().unwrap(), negative_prompt };
        let sampling = Sampling { repetition_penalty: penalty.parse().unwrap(), ..Sampling::greedy() };
        let request = Request { guidance: Some(guidance), sampling, ..Request::new(tokens(prompt), 20) };
        cases.entry(name).or_default().push((request, tokens(written)));
    }
    assert_eq!(cases.len(), 5);
    for (name, cases) in cases {
        let requests: Vec<Request> = cases.iter().map(|(request, _)| request.clone()).collect();
        let found = run(engine(name), Settings::default(), &requests);
        for ((request, expected), found) in cases.iter().zip(found.into_values()) {
            assert_eq!(found, *expected, "{name} {request:?}");
        }
    }
}

/// Returns the logits after `tokens`, read at once into the first blocks of the cache.
fn logits(engine: &mut Engine, tokens: &[u32]) -> Vec<f32> {
    let last = tokens.len() - 1;
    let rows = tokens.iter().enumerate();
    let rows = rows.map(|(position, &token)| Row { sequence: 0, position, token, wants_logits: position == last });
    let blocks: Vec<u32> = (0..engine.block_count() as u32).collect();
    let mut logits = Vec::new();
    engine.forward(&rows.collect::<Vec<_>>(), &[&blocks], &mut logits).unwrap();
    logits
}

#[test]
fn guided_samples_follow_from_the_logits_of_both_texts() {
    let (prompt, negative) = (vec![7, 31, 12, 44, 3, 19, 26], vec![9, 40, 22]);
    let (scale, n) = (2.5, 3);
    let guidance = Some(Guidance { scale, negative_prompt: Some(negative.clone()) });
    let sampling = Sampling { seed: 3, temperature: 0.9, frequency_penalty: 0.4, ..Sampling::unfiltered() };
    let logit_bias = vec![(11, 1.5)];
    let request = Request { guidance, sampling, logit_bias, n, ..Request::new(prompt.clone(), 24) };
    // In chunks of few tokens, beside a request that is not guided.
    let settings = Settings { max_step_tokens: 5, max_sequences: 5, ..Settings::default() };
    let found = run(engine("qwen3"), settings, &[Request::new(vec![4, 8, 15], 30), request.clone()]);
    let mut engine = engine("qwen3");
    for sample in 0..n {
        let mut uniforms = Uniforms::new(sampling.seed + sample as u64);
        let (mut text, mut sampled) = (prompt.clone(), Vec::new());
        for _ in 0..request.max_tokens {
            let own = log_softmax(&logits(&mut engine, &text));
            let unconditional = log_softmax(&logits(&mut engine, &[&negative[..], &sampled].concat()));
            let mut guided: Vec<f32> =
                own.iter().zip(&unconditional).map(|(c, u)| (f64::from(scale) * (c - u) + u) as f32).collect();
            guided[11] += 1.5;
            let token = sampler::pick(&mut guided, &text, prompt.len(), &sampling, uniforms.draw());
            text.push(token);
            sampled.push(token);
        }
        assert_eq!(found[&(RequestId(1), sample)], sampled);
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    logits.iter().map(|logit| f64::from(*logit) - total.ln()).collect()
}
