//! Completions of tiny random models: streaming, seeds, stop tokens, stop strings, counts and cancelling.

use std::ops::ControlFlow;

use generate::{Completion, CompletionOptions, Config, FinishReason, Generator, Prompt, Sampling};
use model::Family;
use test_support::tiny;

fn generator(family: Family, context_length: usize) -> Generator {
    let tokenizer = tiny::tokenizer();
    Generator::new(tiny::model(family, context_length, &tokenizer), tokenizer).unwrap()
}

/// Samples from the whole softmax.
fn unfiltered(max_tokens: usize, seed: u64) -> CompletionOptions {
    let sampling = Sampling { seed, ..Sampling::unfiltered() };
    CompletionOptions { max_tokens, sampling, ..CompletionOptions::default() }
}

fn generate(generator: &Generator, prompt: &str, options: &CompletionOptions) -> Completion {
    generate_from(generator, &Prompt::Text(prompt.to_owned()), options)
}

fn generate_from(generator: &Generator, prompt: &Prompt, options: &CompletionOptions) -> Completion {
    let mut streamed = String::new();
    let completion = generator
        .generate(prompt, options, &mut |text| {
            streamed += text;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(streamed, completion.text, "the streamed pieces are the text");
    completion
}

#[test]
fn same_seed_gives_the_same_text() {
    let generator = generator(Family::Qwen3, 64);
    let of = |seed| generate(&generator, "let x", &unfiltered(32, seed)).text;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    let greedy = |seed| {
        let sampling = Sampling { seed, ..Sampling::greedy() };
        generate(&generator, "let x", &CompletionOptions { sampling, ..unfiltered(32, seed) }).text
    };
    assert_eq!(greedy(1), greedy(2));
}

#[test]
fn chat_answer_ends_with_the_turn() {
    let generator = generator(Family::Qwen3, 64);
    let prompt = Prompt::chat(None, "let x");
    let ids = generator.encode(&prompt).unwrap();
    let chat = |seed| generate_from(&generator, &prompt, &unfiltered(200, seed));
    let completions: Vec<Completion> = (0..20).map(chat).collect();
    assert!(completions.iter().all(|completion| completion.prompt_tokens == ids.len()));
    // A random model sometimes ends its turn; the token that ends it is not part of the text.
    assert!(completions.iter().any(|completion| completion.finish_reason == FinishReason::Stop));
    assert!(completions.iter().all(|completion| !completion.text.contains("<|im_end|>")));
    let with_system = generator.encode(&Prompt::chat(Some("Be brief."), "let x")).unwrap();
    assert!(with_system.len() > ids.len() && with_system.ends_with(&ids[1..]), "{with_system:?} {ids:?}");
}

#[test]
fn log_probabilities_are_those_of_the_sampled_tokens() {
    let generator = generator(Family::Qwen3, 64);
    let options = CompletionOptions { logprobs: Some(2), ..unfiltered(20, 5) };
    let found = generate(&generator, "let x", &options);
    assert_eq!(found.text, generate(&generator, "let x", &unfiltered(20, 5)).text);
    assert_eq!(found.logprobs.len(), found.completion_tokens);
    let ids: Vec<u32> = found.logprobs.iter().map(|(id, _)| *id).collect();
    assert_eq!(generator.tokenizer().decode(&ids).unwrap(), found.text);
    for (id, logprobs) in &found.logprobs {
        let [first, second] = logprobs.top[..] else { panic!("{logprobs:?}") };
        assert!(second.1 <= first.1 && logprobs.logprob <= first.1 && first.1 < 0.0, "{logprobs:?}");
        assert!(
            [first, second].iter().all(|(top, logprob)| top != id || logprob.to_bits() == logprobs.logprob.to_bits())
        );
    }
    // The most likely token is the one that greedy sampling takes.
    let greedy = CompletionOptions { sampling: Sampling::greedy(), ..options };
    let greedy = generate(&generator, "let x", &greedy);
    assert!(greedy.logprobs.iter().all(|(id, logprobs)| logprobs.top[0].0 == *id));
    assert!(generate(&generator, "let x", &unfiltered(3, 5)).logprobs.is_empty());
}

#[test]
fn guided_texts_follow_both_prompts() {
    // The cache of a loaded model is one context: both sequences must fit in it.
    let generator = generator(Family::Qwen3, 256);
    let guided = |scale: Option<f32>, negative: Option<&str>, prompt: &Prompt| {
        let (guidance_scale, negative_prompt) = (scale, negative.map(str::to_owned));
        let config = Config { guidance_scale, negative_prompt, ..Config::default() };
        let guidance = generator.guidance(&config, prompt).unwrap();
        let options = CompletionOptions { guidance, logprobs: Some(0), ..unfiltered(12, 5) };
        generate_from(&generator, prompt, &options)
    };
    for prompt in [Prompt::Text("let x".to_owned()), Prompt::chat(None, "let x")] {
        let text = |scale, negative| guided(scale, negative, &prompt).text;
        let plain = text(None, None);
        assert_eq!(text(Some(1.0), Some("fn")), plain);
        // With scale 0 the sample is that of the negative prompt alone; where both are one, the scale has no effect.
        let of_negative = generate_from(&generator, &prompt.negative("fn main() {"), &unfiltered(12, 5)).text;
        assert_eq!(text(Some(0.0), Some("fn main() {")), of_negative);
        assert_eq!(text(Some(4.0), Some("let x")), plain);
        let texts = [plain, text(Some(60.0), None), text(Some(60.0), Some("fn main() {"))];
        assert!(texts[0] != texts[1] && texts[0] != texts[2] && texts[1] != texts[2], "{texts:?}");
        // Log probabilities are those of the model after the prompt.
        let found = guided(Some(4.0), None, &prompt);
        assert!(found.logprobs.iter().all(|(_, logprobs)| logprobs.logprob < 0.0 && logprobs.logprob.is_finite()));
    }
}

#[test]
fn counts_and_finish_reasons_are_right() {
    let generator = generator(Family::Qwen3, 64);
    let tokens = |text: &str| generator.tokenizer().encode(text).unwrap().len();
    let found = generate(&generator, "fn main() {", &unfiltered(5, 3));
    assert_eq!((found.prompt_tokens, found.completion_tokens), (tokens("fn main() {"), 5));
    assert_eq!(found.finish_reason, FinishReason::Length);
    assert!(found.seconds >= found.first_token_seconds && found.first_token_seconds > 0.0);
    let empty = generate(&generator, "", &unfiltered(1, 3));
    assert_eq!((empty.prompt_tokens, empty.completion_tokens), (1, 1));
    let none = generate(&generator, "fn", &unfiltered(0, 3));
    assert_eq!((none.text.as_str(), none.completion_tokens, none.finish_reason), ("", 0, FinishReason::Length));
    // Special tokens in a prompt are read as such; in a message they are ordinary text.
    let special = generate(&generator, "<|endoftext|>", &unfiltered(1, 3));
    assert_eq!(special.prompt_tokens, 1);
    let of_message = |text: &str| generator.encode(&Prompt::chat(None, text)).unwrap().len();
    assert!(of_message("<|endoftext|>") > of_message("e") + 1);
}

#[test]
fn end_of_text_token_ends_the_text() {
    let generator = generator(Family::Qwen3, 64);
    // Among 300 nearly equally likely tokens end-of-text is drawn sooner or later.
    let ended = (0..40).map(|seed| generate(&generator, "x", &unfiltered(200, seed)));
    let ended: Vec<Completion> = ended.filter(|text| text.finish_reason == FinishReason::Stop).collect();
    assert!(!ended.is_empty());
    assert!(ended.iter().all(|text| text.completion_tokens < 200 && !text.text.contains("endoftext")));
}

#[test]
fn stop_strings_end_the_text_across_token_boundaries() {
    let generator = generator(Family::Qwen3, 64);
    // A random model ends some texts early: this seed's text is long enough.
    let long = |seed| generate(&generator, "pub struct", &unfiltered(60, seed));
    let is_long = |text: &Completion| text.finish_reason == FinishReason::Length && text.text.chars().count() > 30;
    let seed = (0..100).find(|seed| is_long(&long(*seed))).unwrap();
    let whole = long(seed).text;
    let characters: Vec<char> = whole.chars().collect();
    for (start, length) in [(0, 1), (3, 2), (5, 7), (9, 13), (20, 4)] {
        let stop: String = characters[start..start + length].iter().collect();
        let options = CompletionOptions { stop: vec!["not in it".to_owned(), stop.clone()], ..unfiltered(60, seed) };
        let found = generate(&generator, "pub struct", &options);
        assert_eq!(found.text, whole[..whole.find(&stop).unwrap()], "{stop:?}");
        assert_eq!(found.finish_reason, FinishReason::Stop);
    }
    // The beginning of a stop string is released at the end.
    let last: String = characters[characters.len() - 2..].iter().collect();
    let begun = CompletionOptions { stop: vec![last + "and more"], ..unfiltered(60, seed) };
    let found = generate(&generator, "pub struct", &begun);
    assert_eq!((found.text, found.finish_reason), (whole, FinishReason::Length));
}

#[test]
fn caller_can_cancel() {
    let generator = generator(Family::Gpt2, 64);
    let mut calls = 0;
    let completion = generator
        .generate(&Prompt::Text("fn".to_owned()), &unfiltered(1000, 5), &mut |_| {
            calls += 1;
            if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((completion.finish_reason, completion.completion_tokens, calls), (FinishReason::Cancelled, 4, 4));
}

#[test]
fn settings_out_of_range_are_refused() {
    let generator = generator(Family::Qwen3, 64);
    let sampling = Sampling { temperature: f32::INFINITY, ..Sampling::default() };
    let options = CompletionOptions { sampling, ..unfiltered(4, 0) };
    let error =
        generator.generate(&Prompt::Text("x".to_owned()), &options, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "temperature must be a number from 0 up, not inf");
}
