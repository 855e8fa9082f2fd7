//! Decoding with tiny random models: what is cached, cut, held back and cancelled gives the text that a plain
//! calculation gives.

mod tiny;

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use generate::{Completion, FinishReason, Generator, Sampling, sampling};
use model::Family;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws from the whole softmax, with `max_tokens`.
fn plain(max_tokens: usize, seed: u64) -> Sampling {
    Sampling { max_tokens, temperature: 1.0, top_p: 1.0, seed, ..Sampling::default() }
}

fn generate(generator: &Generator, prompt: &str, sampling: &Sampling) -> Completion {
    let mut heard = String::new();
    let completion = generator
        .generate(prompt, sampling, &mut |text| {
            heard += text;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(heard, completion.text, "the pieces are the text");
    completion
}

/// Decodes without a cache: every token is calculated from the whole window again.
fn uncached(generator: &Generator, prompt: &str, sampling: &Sampling) -> String {
    let (model, tokenizer) = (generator.model(), generator.tokenizer());
    let window = model.config().context_length;
    let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
    let mut history = tokenizer.encode(prompt).unwrap();
    if history.is_empty() {
        history.push(tokenizer.end_of_text().unwrap());
    }
    let (mut start, prompt_tokens) = (0, history.len());
    for remaining in (1..=sampling.max_tokens).rev() {
        if history.len() - start > window {
            start = history.len() - (window - (remaining - 1).min(window / 2));
        }
        let seen: Vec<i64> = history[start..].iter().copied().map(i64::from).collect();
        let t = seen.len();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(seen, [1, t]), &model.device());
        let logits = model.forward(tokens).narrow(1, t - 1, 1); // [1, 1, V]
        let mut logits = logits.try_into_vec_as::<f32>().unwrap();
        let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let token = sampling::pick(&mut logits, &history, sampling, uniform);
        history.push(token);
        if Some(token) == tokenizer.end_of_text() {
            break;
        }
    }
    tokenizer.decode(&history[prompt_tokens..]).unwrap()
}

#[test]
fn cached_and_uncached_decoding_give_the_same_text() {
    for family in [Family::Qwen3, Family::Gpt2] {
        // A window of 24 is full twice and more in 64 tokens.
        for context_length in [256, 24] {
            let generator = tiny::generator(family, context_length);
            let long = "let mut total = 0; ".repeat(8);
            for (i, prompt) in ["fn main() {", "", "é→日本", &long].into_iter().enumerate() {
                let sampling = Sampling { repetition_penalty: 1.2, top_k: 50, ..plain(64, i as u64) };
                for sampling in [sampling.clone(), Sampling { temperature: 0.0, ..sampling }] {
                    let expected = uncached(&generator, prompt, &sampling);
                    let found = generate(&generator, prompt, &sampling);
                    assert_eq!(found.text, expected, "{family:?} {context_length} {prompt:?} {sampling:?}");
                }
            }
        }
    }
}

#[test]
fn a_seed_gives_one_text_and_another_seed_another() {
    let generator = tiny::generator(Family::Qwen3, 64);
    let of = |seed| generate(&generator, "let x", &plain(32, seed)).text;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    let greedy = |seed| generate(&generator, "let x", &Sampling { temperature: 0.0, ..plain(32, seed) }).text;
    assert_eq!(greedy(1), greedy(2));
}

#[test]
fn what_a_user_says_is_answered_until_the_end_of_the_turn() {
    let generator = tiny::generator(Family::Qwen3, 64);
    let message = tokenizer::Message { role: "user".to_owned(), content: "let x".to_owned() };
    let (ids, end_of_turn) = generator.tokenizer().encode_chat_prompt(&[message]).unwrap();
    let chat = |seed| generate(&generator, "let x", &Sampling { chat: true, ..plain(200, seed) });
    let completions: Vec<Completion> = (0..20).map(chat).collect();
    assert!(completions.iter().all(|completion| completion.prompt_tokens == ids.len()));
    // A random model ends its turn now and then, and what ends it is no text.
    assert!(completions.iter().any(|completion| completion.finish_reason == FinishReason::Stop));
    let end = generator.tokenizer().decode(&[end_of_turn]).unwrap();
    assert!(end.is_empty() || completions.iter().all(|completion| !completion.text.contains(&end)));
}

#[test]
fn counts_and_reasons_are_right() {
    let generator = tiny::generator(Family::Qwen3, 64);
    let tokens = |text: &str| generator.tokenizer().encode(text).unwrap().len();
    let found = generate(&generator, "fn main() {", &plain(5, 3));
    assert_eq!((found.prompt_tokens, found.completion_tokens), (tokens("fn main() {"), 5));
    assert_eq!(found.finish_reason, FinishReason::Length);
    assert!(found.seconds >= found.first_token_seconds && found.first_token_seconds > 0.0);
    let empty = generate(&generator, "", &plain(1, 3));
    assert_eq!((empty.prompt_tokens, empty.completion_tokens), (1, 1));
    let none = generate(&generator, "fn", &plain(0, 3));
    assert_eq!((none.text.as_str(), none.completion_tokens, none.finish_reason), ("", 0, FinishReason::Length));
    // What a user writes is never a special token.
    let special = generate(&generator, "<|endoftext|>", &plain(1, 3));
    assert!(special.prompt_tokens > 1);
}

#[test]
fn end_of_text_ends_the_text() {
    let generator = tiny::generator(Family::Qwen3, 64);
    // Among 300 nearly equal tokens end-of-text comes sooner or later.
    let ended = (0..40).map(|seed| generate(&generator, "x", &plain(200, seed)));
    let ended: Vec<Completion> = ended.filter(|text| text.finish_reason == FinishReason::Stop).collect();
    assert!(!ended.is_empty());
    assert!(ended.iter().all(|text| text.completion_tokens < 200 && !text.text.contains("endoftext")));
}

#[test]
fn stop_strings_end_the_text_across_token_borders_and_are_never_shown() {
    let generator = tiny::generator(Family::Qwen3, 64);
    // A random model ends some texts early: one is taken that is long enough.
    let long = |seed| generate(&generator, "pub struct", &plain(60, seed));
    let is_long = |text: &Completion| text.finish_reason == FinishReason::Length && text.text.chars().count() > 30;
    let seed = (0..100).find(|seed| is_long(&long(*seed))).unwrap();
    let whole = long(seed).text;
    let characters: Vec<char> = whole.chars().collect();
    for (start, length) in [(0, 1), (3, 2), (5, 7), (9, 13), (20, 4)] {
        let stop: String = characters[start..start + length].iter().collect();
        let sampling = Sampling { stop: vec!["never so".to_owned(), stop.clone()], ..plain(60, seed) };
        let found = generate(&generator, "pub struct", &sampling);
        assert_eq!(found.text, whole[..whole.find(&stop).unwrap()], "{stop:?}");
        assert_eq!(found.finish_reason, FinishReason::Stop);
    }
    // A stop string that only begins is let go at the end.
    let last: String = characters[characters.len() - 2..].iter().collect();
    let begun = Sampling { stop: vec![last + "and more"], ..plain(60, seed) };
    let found = generate(&generator, "pub struct", &begun);
    assert_eq!((found.text, found.finish_reason), (whole, FinishReason::Length));
}

#[test]
fn whoever_listens_can_end_it() {
    let generator = tiny::generator(Family::Gpt2, 64);
    let mut calls = 0;
    let completion = generator
        .generate("fn", &plain(1000, 5), &mut |_| {
            calls += 1;
            if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((completion.finish_reason, completion.completion_tokens, calls), (FinishReason::Cancelled, 4, 4));
}

#[test]
fn a_batch_of_one_is_a_row_of_a_batch_of_many() {
    let generator = tiny::generator(Family::Qwen3, 64);
    let (model, rows) = (generator.model(), [[5_i64, 9, 2, 40], [7, 7, 7, 7], [300, 1, 260, 33]]);
    let all: Vec<i64> = rows.concat();
    let tensor = |values: Vec<i64>, b: usize| {
        Tensor::<2, Int>::from_data(TensorData::new(values, [b, 4]), &model.device()) // [B, T]
    };
    let together = model.forward(tensor(all, 3)).try_into_vec_as::<f32>().unwrap();
    for (i, row) in rows.iter().enumerate() {
        let alone = model.forward(tensor(row.to_vec(), 1)).try_into_vec_as::<f32>().unwrap();
        let part = &together[i * alone.len()..(i + 1) * alone.len()];
        let largest = alone.iter().zip(part).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "row {i} differs by {largest}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let generator = tiny::generator(Family::Qwen3, 64);
    let sampling = Sampling { temperature: f32::INFINITY, ..plain(4, 0) };
    let error = generator.generate("x", &sampling, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "temperature must be a number from 0 up, not inf");
}
