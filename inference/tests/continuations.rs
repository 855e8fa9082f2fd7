//! Log-likelihoods of continuations against the logits of each text read alone.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use inference::continuations::{self, Continuation, Likelihood};
use inference::{BurnForward, Engine, EngineOptions, Error, ForwardPass, Row};
use model::checkpoint;

fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let mut folders: Vec<PathBuf> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Rotations that depend on the length of what is read at once make any division of a text count.
    folders.retain(|folder| folder.join("config.json").exists() && !folder.ends_with("llama-dynamic"));
    folders.sort();
    folders
}

fn engine(folder: &Path, cache_tokens: usize) -> Engine {
    let options =
        EngineOptions { threads: Some(2), block_tokens: 4, cache_tokens: Some(cache_tokens), ..Default::default() };
    Engine::load(folder, &options).unwrap()
}

/// Returns the likelihood by its definition: the text is read alone and in one call.
fn alone(model: &mut dyn ForwardPass, one: &Continuation) -> Likelihood {
    let whole: Vec<u32> = one.context.iter().chain(&one.tokens).copied().collect();
    let first = whole.len().saturating_sub(model.context_length() + 1);
    let whole = &whole[first..];
    let rows: Vec<Row> = whole[..whole.len() - 1]
        .iter()
        .enumerate()
        .map(|(position, token)| Row { sequence: 0, position, token: *token, wants_logits: true })
        .collect();
    let blocks: Vec<u32> = (0..rows.len().div_ceil(model.block_tokens()) as u32).collect();
    let mut logits = Vec::new();
    model.forward(&rows, &[&blocks], &mut logits).unwrap();
    let mut likelihood = Likelihood { log_likelihood: 0.0, is_greedy: true };
    for (i, logits) in logits.chunks_exact(model.vocab_size()).enumerate().skip(whole.len() - 1 - one.tokens.len()) {
        let own = logits[whole[i + 1] as usize];
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        likelihood.log_likelihood += f64::from(own) - sum.ln();
        likelihood.is_greedy &= logits.iter().all(|logit| *logit <= own);
    }
    likelihood
}

/// Returns contexts with common beginnings, of which some are longer than the model's context, with several
/// continuations each.
fn questions(vocab_size: usize, context_length: usize) -> Vec<Continuation> {
    let text = |seed: usize, length: usize| -> Vec<u32> {
        (0..length).map(|i| ((i * i + 7 * seed * i + seed) % vocab_size) as u32).collect()
    };
    let mut all = Vec::new();
    for (seed, length) in [(1, 1), (1, 9), (1, 13), (2, 4), (1, 8), (3, context_length), (3, context_length + 7)] {
        let mut context = text(1, length.min(8));
        context.extend(text(seed, length.saturating_sub(8)));
        for tokens in [text(5, 1), text(6, 3), text(7, context_length.min(6)), text(5, 1)] {
            all.push(Continuation { context: context.clone(), tokens });
        }
    }
    all
}

fn scores(model: &mut dyn ForwardPass, questions: &[Continuation]) -> Vec<Likelihood> {
    let mut scores = vec![None; questions.len()];
    continuations::score(model, questions, |i, score| scores[i].replace(score).is_none()).unwrap();
    scores.into_iter().map(Option::unwrap).collect()
}

#[test]
fn likelihoods_are_those_of_each_text_alone_for_every_family() {
    for folder in folders() {
        let config = checkpoint::load_config(&folder).unwrap();
        let questions = questions(config.vocab_size, config.context_length);
        // Once with room for everything, once with room for one context and one continuation.
        for cache_tokens in [64 * config.context_length, 2 * config.context_length.next_multiple_of(4)] {
            let found = scores(&mut engine(&folder, cache_tokens), &questions);
            let mut model = engine(&folder, config.context_length);
            for (question, found) in questions.iter().zip(found) {
                let expected = alone(&mut model, question);
                let difference = (found.log_likelihood - expected.log_likelihood).abs();
                assert!(difference < 1e-4, "{}: {found:?}, not {expected:?}", folder.display());
                assert_eq!(found.is_greedy, expected.is_greedy, "{}", folder.display());
            }
        }
    }
}

#[test]
fn likelihoods_do_not_depend_on_what_else_is_scored() {
    let folder = folders().into_iter().find(|folder| folder.ends_with("llama")).unwrap_or_else(|| folders()[0].clone());
    let config = checkpoint::load_config(&folder).unwrap();
    let questions = questions(config.vocab_size, config.context_length);
    let mut model = engine(&folder, 64 * config.context_length);
    let together = scores(&mut model, &questions);
    for (i, question) in questions.iter().enumerate() {
        assert_eq!(scores(&mut model, std::slice::from_ref(question)), [together[i]]);
    }
}

#[test]
fn the_burn_model_agrees() {
    let folder = &folders()[0];
    let model = checkpoint::load(folder, &Device::flex()).unwrap();
    let (vocab_size, context_length) = (model.config().vocab_size, model.config().context_length);
    let questions = questions(vocab_size, context_length);
    let burn = scores(&mut BurnForward::new(model, 3), &questions);
    let engine = scores(&mut engine(folder, 64 * context_length), &questions);
    for (burn, engine) in burn.iter().zip(engine) {
        assert!((burn.log_likelihood - engine.log_likelihood).abs() < 1e-3, "{burn:?}, not {engine:?}");
    }
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let model = engine(&folders()[0], 64);
    let (vocab_size, context_length) = (model.vocab_size(), model.context_length());
    let mut model = if 64 < 2 * context_length { engine(&folders()[0], 2 * context_length + 4) } else { model };
    let mut check = |context: Vec<u32>, tokens: Vec<u32>, expected: &str| {
        let error = continuations::score(&mut model, &[Continuation { context, tokens }], |_, _| true).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(vec![], vec![1], "no tokens");
    check(vec![1], vec![], "no tokens");
    check(vec![1], vec![vocab_size as u32], "knows only tokens below");
    check(vec![1], vec![1; context_length + 1], "more than the");
    let mut small = engine(&folders()[0], context_length);
    let one = Continuation { context: vec![1], tokens: vec![2] };
    let error = continuations::score(&mut small, std::slice::from_ref(&one), |_, _| true).unwrap_err();
    assert!(matches!(error, Error::CacheTooSmall { .. }), "{error}");
    let error = continuations::score(&mut model, &[one], |_, _| false).unwrap_err();
    assert!(matches!(error, Error::Model(model::Error::Interrupted)), "{error}");
}
