//! The CPU engine against the burn model, on the tiny random models of crate `model`: every family and option.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use inference::parity::max_logit_difference;
use inference::{BurnForward, Engine, EngineOptions, Error, ForwardPass, Row};
use kernels::packed::WeightType;
use kernels::slices::KvType;
use model::lora::{self, LoraConfig};
use model::{Dtype, Transformer, checkpoint};

/// Allows for two implementations in f32 with different orders of summation.
const TOLERANCE: f64 = 1e-4;

/// Returns the folders of all models.
fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let mut folders: Vec<PathBuf> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("config.json").exists());
    folders.sort();
    assert!(folders.len() >= 25, "{folders:?}");
    folders
}

fn folder(name: &str) -> PathBuf {
    folders().into_iter().find(|folder| folder.ends_with(name)).unwrap()
}

fn load(folder: &Path) -> Transformer {
    checkpoint::load(folder, &Device::flex()).unwrap()
}

fn options() -> EngineOptions {
    EngineOptions { threads: Some(3), block_tokens: 4, cache_tokens: Some(400), ..EngineOptions::default() }
}

fn engine(folder: &Path) -> Engine {
    Engine::load(folder, &options()).unwrap()
}

/// Returns a text as long as the context, up to 60 tokens.
fn text(config: &model::ModelConfig, seed: usize) -> Vec<u32> {
    let length = config.context_length.min(60);
    (0..length).map(|i| ((i * i + 7 * seed * i + seed) % config.vocab_size) as u32).collect()
}

/// Returns rows that read `tokens` of a sequence from a position and want all logits.
fn rows(sequence: usize, first: usize, tokens: &[u32]) -> impl Iterator<Item = Row> {
    tokens.iter().enumerate().map(move |(i, token)| Row {
        sequence,
        position: first + i,
        token: *token,
        wants_logits: true,
    })
}

/// Returns the logits `[T, V]` of a text that is read in one call, in ascending blocks.
fn at_once(model: &mut dyn ForwardPass, tokens: &[u32]) -> Vec<f32> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(model.block_tokens()) as u32).collect();
    let mut logits = Vec::new();
    model.forward(&rows(0, 0, tokens).collect::<Vec<_>>(), &[&blocks], &mut logits).unwrap();
    logits
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn logits_are_those_of_the_burn_model() {
    for folder in folders() {
        let model = load(&folder);
        let tokens = text(model.config(), 1);
        let expected = inference::logits(&model, &tokens).unwrap();
        let mut loaded = engine(&folder);
        let found = at_once(&mut loaded, &tokens);
        let difference = max_logit_difference(&found, &expected);
        assert!(difference < TOLERANCE, "{}: {difference}", folder.display());
        let in_memory = at_once(&mut Engine::of_model(&model, &options()).unwrap(), &tokens);
        assert!(max_logit_difference(&in_memory, &expected) < TOLERANCE, "{}", folder.display());
    }
}

#[test]
fn burn_forward_is_the_burn_model() {
    for name in ["gpt2", "llama", "gemma2", "smollm3-window"] {
        let model = load(&folder(name));
        let (first, second) = (text(model.config(), 1), text(model.config(), 2));
        let expected = [&first, &second].map(|tokens| inference::logits(&model, tokens).unwrap());
        let v = model.config().vocab_size;
        let mut forward = BurnForward::new(&model, 2);
        let mut found = [Vec::new(), Vec::new()];
        // In pieces of different lengths, the second sequence two tokens ahead.
        for at in (0..first.len() - 2).step_by(3) {
            let end = (at + 3).min(first.len() - 2);
            let ahead = if at == 0 { 0 } else { at + 2 };
            let both: Vec<Row> = rows(0, at, &first[at..end]).chain(rows(1, ahead, &second[ahead..end + 2])).collect();
            let mut logits = Vec::new();
            forward.forward(&both, &[&[1], &[0]], &mut logits).unwrap();
            let (of_first, of_second) = logits.split_at((end - at) * v);
            found[0].extend_from_slice(of_first);
            found[1].extend_from_slice(of_second);
        }
        for (found, expected) in found.iter().zip(&expected) {
            let difference = max_logit_difference(found, &expected[..found.len()]);
            assert!(difference < TOLERANCE, "{name}: {difference}");
        }
        // A sequence that is taken back to an earlier position, and a copy of it.
        forward.copy_block(1, 0);
        for block in [0, 1] {
            let mut again = Vec::new();
            forward.forward(&rows(0, 5, &first[5..9]).collect::<Vec<_>>(), &[&[block]], &mut again).unwrap();
            assert!(max_logit_difference(&again, &expected[0][5 * v..9 * v]) < TOLERANCE, "{name} {block}");
        }
    }
}

/// A sequence has the same logits, to the last bit, alone and among others, in whatever pieces it is read, in whatever
/// blocks, and with whatever number of threads. (The positions of `llama-dynamic` depend on the pieces.)
#[test]
fn results_do_not_depend_on_what_is_computed_together() {
    for folder in folders().iter().filter(|folder| !folder.ends_with("llama-dynamic")) {
        check_independence(folder, KvType::F32);
    }
    for name in ["llama", "gemma2", "gpt2"] {
        check_independence(&folder(name), KvType::F16);
        check_independence(&folder(name), KvType::Int8);
    }
}

fn check_independence(folder: &Path, cache_type: KvType) {
    let options = EngineOptions { cache_type, ..options() };
    let mut alone = Engine::load(folder, &options).unwrap();
    let texts: Vec<Vec<u32>> = (1..=3).map(|seed| text(alone.config(), seed)).collect();
    let expected: Vec<Vec<u32>> = texts.iter().map(|tokens| bits(&at_once(&mut alone, tokens))).collect();
    for threads in [1, 2] {
        let options = EngineOptions { threads: Some(threads), ..options.clone() };
        let mut together = Engine::load(folder, &options).unwrap();
        // The blocks of the sequences alternate, in descending order.
        let count = texts[0].len().div_ceil(4) as u32;
        let blocks: Vec<Vec<u32>> = (0..3).map(|i| (0..count).map(|n| 3 * (count - n) + i).collect()).collect();
        let sequences: Vec<&[u32]> = blocks.iter().map(Vec::as_slice).collect();
        let mut found = vec![Vec::new(); 3];
        let mut read = [0; 3];
        for call in 0.. {
            let mut call_rows = Vec::new();
            for (i, tokens) in texts.iter().enumerate() {
                // One token, a few, or many; sometimes none.
                let length = [1, 5, 0, 17, 2, 3][(call + 2 * i) % 6].min(tokens.len() - read[i]);
                call_rows.extend(rows(i, read[i], &tokens[read[i]..][..length]));
                read[i] += length;
            }
            let mut logits = Vec::new();
            together.forward(&call_rows, &sequences, &mut logits).unwrap();
            let v = together.vocab_size();
            call_rows.iter().zip(logits.chunks_exact(v)).for_each(|(row, logits)| {
                found[row.sequence].extend(bits(logits));
            });
            if read.iter().zip(&texts).all(|(read, tokens)| *read == tokens.len()) {
                break;
            }
        }
        assert!(found == expected, "{} in {cache_type:?} with {threads} threads", folder.display());
    }
}

#[test]
fn smaller_types_of_the_cache_cost_this_much() {
    for folder in folders() {
        let mut exact = engine(&folder);
        let tokens = text(exact.config(), 1);
        let expected = at_once(&mut exact, &tokens);
        let spread = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (cache_type, bound) in [(KvType::F16, 5e-3), (KvType::Int8, 5e-2)] {
            let options = EngineOptions { cache_type, ..options() };
            let found = at_once(&mut Engine::load(&folder, &options).unwrap(), &tokens);
            let difference = max_logit_difference(&found, &expected) / f64::from(spread);
            println!("{} in {cache_type:?}: {difference:.1e}", folder.display());
            assert!(difference < bound, "{} in {cache_type:?}: {difference}", folder.display());
            assert_ne!(bits(&found), bits(&expected), "{}: {cache_type:?} is used", folder.display());
        }
    }
}

/// The inputs of a layer's projections are the same to the last bit whether texts are read one after the other through
/// all layers, or layer by layer.
#[test]
fn layers_can_be_computed_one_after_the_other() {
    for name in ["gpt2", "llama", "gemma2", "phi3", "smollm3-window"] {
        let mut engine = engine(&folder(name));
        let texts = [text(engine.config(), 1), text(engine.config(), 2)[..7].to_vec()];
        let blocks: Vec<u32> = (0..15).collect();
        let rows = texts.map(|tokens| rows(0, 0, &tokens).collect::<Vec<Row>>());
        let mut expected = Vec::new();
        for rows in &rows {
            engine.observe(rows, &[&blocks], &mut Vec::new(), &mut |layer, input, x| {
                expected.push((layer, input, bits(x)));
            });
        }
        expected.sort_by_key(|(layer, ..)| *layer);
        let mut found = Vec::new();
        let mut hidden: Vec<Vec<f32>> = rows.iter().map(|rows| engine.embeddings(rows)).collect();
        for layer in 0..engine.config().n_layer {
            for (rows, hidden) in rows.iter().zip(&mut hidden) {
                engine.observe_layer(layer, rows, &[&blocks], hidden, &mut |layer, input, x| {
                    found.push((layer, input, bits(x)));
                });
            }
        }
        assert!(found == expected, "{name}");
    }
}

#[test]
fn only_wanted_logits_are_returned() {
    let mut engine = engine(&folder("qwen3"));
    let tokens = text(engine.config(), 1);
    let all = at_once(&mut engine, &tokens);
    let wanted = [3, 4, 20];
    let mut some: Vec<Row> = rows(0, 0, &tokens).collect();
    for row in &mut some {
        row.wants_logits = wanted.contains(&row.position);
    }
    let blocks: Vec<u32> = (0..20).collect();
    let mut found = vec![7.0];
    engine.forward(&some, &[&blocks], &mut found).unwrap();
    let v = engine.vocab_size();
    let expected: Vec<f32> = wanted.iter().flat_map(|row| &all[row * v..][..v]).copied().collect();
    assert_eq!(found[0].to_bits(), 7.0f32.to_bits(), "logits are appended");
    assert_eq!(bits(&found[1..]), bits(&expected));
}

#[test]
fn copied_blocks_continue_like_the_original() {
    let mut engine = engine(&folder("llama"));
    let tokens = text(engine.config(), 1);
    let expected = at_once(&mut engine, &tokens);
    // The first block is shared, the second is copied and continued in another way.
    engine.copy_block(1, 90);
    let mut ignored = Vec::new();
    engine.forward(&rows(0, 6, &[1, 2]).collect::<Vec<_>>(), &[&[0, 1]], &mut ignored).unwrap();
    let mut found = Vec::new();
    engine.forward(&rows(0, 6, &tokens[6..10]).collect::<Vec<_>>(), &[&[0, 90, 91]], &mut found).unwrap();
    let v = engine.vocab_size();
    assert_eq!(bits(&found), bits(&expected[6 * v..10 * v]));
}

#[test]
fn weights_are_packed_in_the_type_they_are_stored_in() {
    let model = load(&folder("llama"));
    let tokens = text(model.config(), 1);
    let folder = tempfile::tempdir().unwrap();
    for (dtype, weight_type) in
        [(Dtype::F32, WeightType::F32), (Dtype::Bf16, WeightType::Bf16), (Dtype::F16, WeightType::F16)]
    {
        checkpoint::save(&model, folder.path(), dtype).unwrap();
        let expected = inference::logits(&load(folder.path()), &tokens).unwrap();
        let mut stored = engine(folder.path());
        let found = at_once(&mut stored, &tokens);
        let difference = max_logit_difference(&found, &expected);
        assert!(difference < TOLERANCE, "{dtype:?}: {difference}");
        // The same as if the rounded weights were converted back.
        let options = EngineOptions { weight_type: Some(weight_type), ..options() };
        let converted = at_once(&mut Engine::of_model(&load(folder.path()), &options).unwrap(), &tokens);
        assert_eq!(bits(&found), bits(&converted), "{dtype:?}");
    }
}

#[test]
fn adapters_are_merged() {
    let model = load(&folder("qwen3"));
    let tokens = text(model.config(), 1);
    let config = LoraConfig { rank: 4, ..LoraConfig::default() };
    let adapted = lora::attach(model, &config, 3).unwrap();
    let expected = inference::logits(&adapted, &tokens).unwrap();
    let found = at_once(&mut Engine::of_model(&adapted, &options()).unwrap(), &tokens);
    assert!(max_logit_difference(&found, &expected) < TOLERANCE);
}

#[test]
fn a_width_that_blocks_do_not_divide_is_named() {
    // D is 36 in this model.
    let options = EngineOptions { weight_type: Some(WeightType::Int4), ..options() };
    let widths: Vec<String> = folders()
        .iter()
        .filter_map(|folder| match Engine::load(folder, &options) {
            Ok(_) => None,
            Err(error @ Error::WeightType { .. }) => Some(error.to_string()),
            Err(error) => panic!("{error}"),
        })
        .collect();
    assert!(widths.iter().any(|error| error.contains("blocks of 32")), "{widths:?}");
}
