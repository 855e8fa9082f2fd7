//! Decoding with tiny random models: cached decoding gives the tokens of a reference implementation without a cache.

use burn::tensor::{Int, Tensor, TensorData};
use inference::{BurnForward, Decoder, Engine, EngineOptions, Error, ForwardPass, Sampling, StopTokens, sampler};
use model::{Family, Transformer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use test_support::tiny;

fn tiny_model(family: Family, context_length: usize) -> Transformer {
    tiny::model(family, context_length, &tiny::tokenizer())
}

fn engine(model: &Transformer) -> Engine {
    Engine::of_model(model, &EngineOptions { threads: Some(2), ..EngineOptions::default() }).unwrap()
}

fn decode(model: &mut dyn ForwardPass, prompt: &[u32], sampling: &Sampling, max_tokens: usize) -> Vec<u32> {
    Decoder::new(model, prompt, sampling, max_tokens).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Reference implementation without a cache: each token is computed from the whole window.
fn decode_uncached(model: &Transformer, prompt: &[u32], sampling: &Sampling, max_tokens: usize) -> Vec<u32> {
    let window = model.config().context_length;
    let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
    let mut sequence = prompt.to_vec();
    let mut start = 0;
    for remaining in (1..=max_tokens).rev() {
        if sequence.len() - start > window {
            start = sequence.len() - (window - (remaining - 1).min(window / 2));
        }
        let seen: Vec<i64> = sequence[start..].iter().copied().map(i64::from).collect();
        let t = seen.len();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(seen, [1, t]), &model.device());
        let logits = model.forward(tokens).narrow(1, t - 1, 1); // [1, 1, V]
        let mut logits = logits.try_into_vec_as::<f32>().unwrap();
        let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        sequence.push(sampler::pick(&mut logits, &sequence, prompt.len(), sampling, uniform));
    }
    sequence.split_off(prompt.len())
}

#[test]
fn cached_and_uncached_decoding_give_the_same_tokens() {
    let long: Vec<u32> = (0..70).map(|i| i * 7 % 300).collect();
    for family in [Family::Qwen3, Family::Gpt2] {
        // 64 tokens fill a window of 24 more than twice.
        for context_length in [256, 24] {
            let model = tiny_model(family, context_length);
            let (mut burn, mut engine) = (BurnForward::new(&model, 1), engine(&model));
            for (i, prompt) in [&[5, 9, 2, 40][..], &[0], &long].into_iter().enumerate() {
                let drawn = Sampling { repetition_penalty: 1.2, top_k: 50, seed: i as u64, ..Sampling::unfiltered() };
                for sampling in [drawn, Sampling { temperature: 0.0, ..drawn }] {
                    let expected = decode_uncached(&model, prompt, &sampling, 64);
                    for forward in [&mut burn as &mut dyn ForwardPass, &mut engine] {
                        let found = decode(forward, prompt, &sampling, 64);
                        assert_eq!(found, expected, "{family:?} {context_length} {prompt:?} {sampling:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn decoding_ends_at_the_limit_or_after_a_stop_token() {
    let model = tiny_model(Family::Qwen3, 64);
    let mut engine = engine(&model);
    let sampling = Sampling { seed: 3, ..Sampling::unfiltered() };
    let tokens = decode(&mut engine, &[1, 2], &sampling, 20);
    assert_eq!(tokens.len(), 20);
    assert!(decode(&mut engine, &[1, 2], &sampling, 0).is_empty());
    let stop = tokens[11];
    let first = tokens.iter().position(|token| *token == stop).unwrap();
    let stop_tokens = StopTokens::of(model.config(), [None, Some(stop)]);
    let mut decoder = Decoder::new(&mut engine, &[1, 2], &sampling, 20).unwrap().with_stop_tokens(&stop_tokens);
    let stopped: Vec<u32> = decoder.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(stopped, tokens[..=first]);
    assert!(decoder.is_stopped() && decoder.next_token().unwrap().is_none());
}

#[test]
fn rows_beyond_the_vocabulary_are_never_sampled() {
    let model = tiny_model(Family::Gpt2, 64);
    let sampling = Sampling { temperature: 3.0, ..Sampling::unfiltered() };
    let mut engine = engine(&model);
    let decoder = Decoder::new(&mut engine, &[1], &sampling, 60).unwrap().with_vocab_size(4);
    assert!(decoder.map(Result::unwrap).all(|token| token < 4));
}

#[test]
fn invalid_settings_and_empty_prompts_are_errors() {
    let model = tiny_model(Family::Qwen3, 64);
    let mut engine = engine(&model);
    assert!(matches!(Decoder::new(&mut engine, &[], &Sampling::greedy(), 1), Err(Error::EmptyPrompt)));
    let invalid = Sampling { temperature: f32::INFINITY, ..Sampling::greedy() };
    let error = Decoder::new(&mut engine, &[1], &invalid, 1).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "temperature must be a number from 0 up, not inf");
}

#[test]
fn uncached_logits_have_a_row_per_token() {
    let model = tiny_model(Family::Qwen3, 64);
    let logits = inference::logits(&model, &[4, 7, 1]).unwrap();
    assert_eq!(logits.len(), 3 * model.config().vocab_size);
    let prefix = inference::logits(&model, &[4, 7]).unwrap();
    assert!(inference::parity::max_logit_difference(&logits[..prefix.len()], &prefix) < 1e-5);
}

#[test]
fn batch_of_one_equals_a_row_of_a_batch_of_many() {
    let model = tiny_model(Family::Qwen3, 64);
    let rows = [[5_i64, 9, 2, 40], [7, 7, 7, 7], [95, 1, 60, 33]];
    let tensor = |values: Vec<i64>, b: usize| {
        Tensor::<2, Int>::from_data(TensorData::new(values, [b, 4]), &model.device()) // [B, T]
    };
    let together = model.forward(tensor(rows.concat(), 3)).try_into_vec_as::<f32>().unwrap();
    for (i, row) in rows.iter().enumerate() {
        let alone = model.forward(tensor(row.to_vec(), 1)).try_into_vec_as::<f32>().unwrap();
        let part = &together[i * alone.len()..(i + 1) * alone.len()];
        let difference = inference::parity::max_logit_difference(&alone, part);
        assert!(difference < 1e-5, "row {i} differs by {difference}");
    }
}
