//! Weights of attention, on the tiny random models of crate `model`; `fixtures/attention.py` made the numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use inference::{
    Adapter, AdapterBase, BurnForward, Engine, EngineOptions, Error, Event, ForwardPass, Request, RequestId, Row,
    RowResult, Scheduler, SequenceRef, Settings,
};
use kernels::packed::WeightType;
use kernels::slices::KvType;
use model::{checkpoint, lora};

/// Allows for two implementations in f32 with different orders of summation, and for rounded numbers.
const TOLERANCE: f32 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(name)
}

/// What transformers computes for a text.
struct Expected {
    tokens: Vec<u32>,
    /// A position, a layer, and the weights `[H, T]`.
    rows: Vec<(usize, usize, Vec<f32>)>,
}

/// Returns what transformers computes, by the name of the model.
fn expected() -> BTreeMap<String, Expected> {
    let mut expected: BTreeMap<String, Expected> = BTreeMap::new();
    let mut name = "";
    for line in include_str!("fixtures/attention.txt").lines() {
        let mut words = line.split(' ');
        match words.next().unwrap() {
            "tokens" => {
                name = words.next().unwrap();
                let tokens = words.map(|token| token.parse().unwrap()).collect();
                expected.insert(name.to_owned(), Expected { tokens, rows: Vec::new() });
            }
            position => {
                let layer = words.next().unwrap().parse().unwrap();
                let weights = words.map(|weight| weight.parse().unwrap()).collect();
                expected.get_mut(name).unwrap().rows.push((position.parse().unwrap(), layer, weights));
            }
        }
    }
    assert!(expected.len() >= 25, "{}", expected.len());
    expected
}

fn options() -> EngineOptions {
    EngineOptions { threads: Some(2), block_tokens: 4, cache_tokens: Some(400), ..EngineOptions::default() }
}

fn engine(name: &str) -> Engine {
    Engine::load(&fixture(name), &options()).unwrap()
}

/// Returns the weights `[H, T]` in a layer at each position of a text that is read in one call.
fn weights(
    model: &mut dyn ForwardPass,
    tokens: &[u32],
    layer: usize,
    adapter: Option<&Adapter>,
) -> Result<Vec<Vec<f32>>, Error> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(model.block_tokens()) as u32).collect();
    let row = |(position, token): (usize, &u32)| Row { sequence: 0, position, token: *token, wants_logits: true };
    let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
    let sequence = SequenceRef { blocks: &blocks, adapter, result: RowResult::Attention { layer } };
    let mut results = Vec::new();
    model.forward_sequences(&rows, &[sequence], &mut results)?;
    let [_, n_head] = model.attention_heads().unwrap();
    let mut rest = &results[..];
    let weights = (1..=tokens.len()).map(|end| {
        let (weights, others) = rest.split_at(n_head * end);
        rest = others;
        weights.to_vec()
    });
    let weights = weights.collect();
    assert!(rest.is_empty(), "{} numbers too many", rest.len());
    Ok(weights)
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn weights_are_those_of_transformers() {
    let (mut largest, mut windows) = (0.0_f32, 0);
    for (name, Expected { tokens, rows }) in expected() {
        let mut engine = engine(&name);
        let config = engine.config().clone();
        for layer in 0..config.n_layer {
            let found = weights(&mut engine, &tokens, layer, None).unwrap();
            for (position, _, expected) in rows.iter().filter(|(_, other, _)| *other == layer) {
                let difference = largest_difference(&found[*position], expected);
                assert!(difference < TOLERANCE, "{name}, layer {layer}, position {position}: {difference}");
                largest = largest.max(difference);
            }
            let window = config.sliding_window.filter(|_| config.layer(layer).sliding);
            windows += usize::from(window.is_some_and(|window| window < tokens.len()));
            for (position, heads) in found.iter().enumerate() {
                let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
                for head in heads.chunks_exact(position + 1) {
                    let sum: f32 = head.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{name}, layer {layer}, position {position}: {sum}");
                    assert!(head[..first].iter().all(|weight| *weight == 0.0), "{name}: before the window");
                    assert!(head[first..].iter().all(|weight| *weight > 0.0), "{name}: in the window");
                }
            }
        }
    }
    assert!(windows >= 8, "{windows} layers with windows");
    println!("weights differ by {largest:.1e}");
}

/// What is rounded changes a weight by about as much as it is rounded.
#[test]
fn rounded_weights_and_caches_have_nearly_the_same_weights() {
    let expected = expected();
    for name in ["llama", "gemma2", "gpt2", "smollm3-window"] {
        let tokens = &expected[name].tokens;
        let mut exact = engine(name);
        let last = exact.config().n_layer - 1;
        let exact = weights(&mut exact, tokens, last, None).unwrap();
        for (cache_type, weight_type, tolerance) in [
            (KvType::F16, None, 3e-3),
            (KvType::Int8, None, 0.1),
            (KvType::F32, Some(WeightType::F16), 1e-2),
            (KvType::F32, Some(WeightType::Bf16), 0.1),
        ] {
            let options = EngineOptions { cache_type, weight_type, ..options() };
            let mut engine = Engine::load(&fixture(name), &options).unwrap();
            let found = weights(&mut engine, tokens, last, None).unwrap();
            for (position, (found, exact)) in found.iter().zip(&exact).enumerate() {
                let difference = largest_difference(found, exact);
                assert!(difference < tolerance, "{name}, {cache_type:?}, {weight_type:?}: {difference}");
                for head in found.chunks_exact(position + 1) {
                    assert!((head.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }
}

#[test]
fn weights_beside_the_base_are_those_of_the_merged_model() {
    for name in ["qwen3", "gpt2"] {
        let folder = fixture("lora").join(format!("peft-{name}"));
        let base = checkpoint::load(&fixture(name), &Device::flex()).unwrap();
        let merged = lora::merged(lora::load(base, &folder).unwrap());
        let mut merged = Engine::of_model(&merged, &options()).unwrap();
        let mut engine = engine(name);
        let adapter = AdapterBase::of_files(engine.config().clone(), &fixture(name)).load(&folder).unwrap();
        let tokens = expected().remove(name).unwrap().tokens;
        for layer in 0..engine.config().n_layer {
            let expected = weights(&mut merged, &tokens, layer, None).unwrap().concat();
            let found = weights(&mut engine, &tokens, layer, Some(&adapter)).unwrap().concat();
            assert!(largest_difference(&found, &expected) < TOLERANCE, "{name}, layer {layer}");
            let alone = weights(&mut engine, &tokens, layer, None).unwrap().concat();
            assert!(largest_difference(&alone, &expected) > 1e-3, "{name}, layer {layer}: the adapter is used");
        }
    }
}

/// To the last bit, rows with other results, weights of other layers, chunks and reused blocks change nothing, and are
/// not changed. (The positions of `llama-dynamic` depend on the chunks.)
#[test]
fn weights_do_not_depend_on_what_is_computed_together() {
    for (name, Expected { tokens, .. }) in expected().into_iter().filter(|(name, _)| name != "llama-dynamic") {
        let mut alone = engine(&name);
        let layers = alone.config().n_layer;
        let expected: Vec<Vec<Vec<f32>>> =
            (0..layers).map(|layer| weights(&mut alone, &tokens, layer, None).unwrap()).collect();
        let continued = run(&mut scheduler(&name, true), vec![Request::new(tokens.clone(), 9)]);
        for reuse_prefixes in [false, true] {
            let mut scheduler = scheduler(&name, reuse_prefixes);
            for length in [1, 4, 9, tokens.len()] {
                let prompt = tokens[..length].to_vec();
                let mut requests = vec![Request::new(tokens.clone(), 9), Request::embedding(prompt.clone())];
                requests.extend((0..layers).map(|layer| Request::attention(prompt.clone(), layer)));
                let found = run(&mut scheduler, requests);
                assert_eq!(found[0].0, continued[0].0, "{name}: the text beside them");
                for (layer, (_, weights)) in found[2..].iter().enumerate() {
                    let expected = &expected[layer][length - 1];
                    assert_eq!(bits(weights), bits(expected), "{name}, layer {layer}, {length} tokens");
                }
            }
            let reused = scheduler.counters().reused_tokens;
            assert_eq!(reused > 0, reuse_prefixes, "{name}: {reused} tokens of earlier requests");
        }
    }
}

fn scheduler(name: &str, reuse_prefixes: bool) -> Scheduler<Engine> {
    let settings = Settings { max_step_tokens: 7, max_sequences: 7, reuse_prefixes, ..Settings::default() };
    Scheduler::new(engine(name), settings).unwrap()
}

/// Runs requests together, and returns the tokens and the weights of each.
fn run(scheduler: &mut Scheduler<Engine>, requests: Vec<Request>) -> Vec<(Vec<u32>, Vec<f32>)> {
    let ids: Vec<RequestId> = requests.into_iter().map(|request| scheduler.submit(request).unwrap()).collect();
    let mut found = vec![(Vec::new(), Vec::new()); ids.len()];
    let at = |id| ids.iter().position(|other| *other == id).unwrap();
    while !scheduler.is_idle() {
        for event in scheduler.step().unwrap() {
            match event {
                Event::Token { request, token, .. } => found[at(request)].0.push(token),
                Event::Attention { request, weights } => found[at(request)].1 = weights,
                Event::Failed { error, .. } => panic!("{error}"),
                Event::Embedding { .. } | Event::Finished { .. } => {}
            }
        }
    }
    found
}

#[test]
fn requests_without_an_answer_are_refused() {
    let model = checkpoint::load(&fixture("llama"), &Device::flex()).unwrap();
    let mut other = BurnForward::new(&model, 1);
    assert_eq!(other.attention_heads(), None);
    let device = "this device does not give the weights of attention, only the engine on the CPU does: load the model \
                  with device `cpu`";
    let row = Row { sequence: 0, position: 0, token: 1, wants_logits: true };
    let sequence = SequenceRef { result: RowResult::Attention { layer: 0 }, ..SequenceRef::new(&[0]) };
    let error = other.forward_sequences(&[row], &[sequence], &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), device);
    let mut scheduler = Scheduler::new(other, Settings::default()).unwrap();
    assert_eq!(scheduler.submit(Request::attention(vec![1], 0)).unwrap_err().to_string(), device);

    let mut scheduler = self::scheduler("llama", true);
    let mut refused = |request| scheduler.submit(request).unwrap_err().to_string();
    let layers = model.config().n_layer;
    let request = |layer| Request::attention(vec![1, 2], layer);
    assert_eq!(refused(request(layers)), format!("attention_layer must be below the number of layers, not {layers}"));
    let alone = "attention_layer must be alone, without tokens to sample or a prompt to score, not with them";
    assert_eq!(refused(Request { max_tokens: 1, ..request(0) }), alone);
    assert_eq!(refused(Request { scores_prompt: true, ..request(0) }), alone);
    assert!(refused(Request { embeds: true, ..request(0) }).starts_with("embeds must be alone"));
    let long = Request::attention(vec![1; model.config().context_length + 1], 0);
    assert!(refused(long).contains("more than the"));
}
