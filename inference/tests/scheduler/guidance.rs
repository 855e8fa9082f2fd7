//! Classifier-free guidance: two sequences in lock step.

use inference::{Event, Guidance, Request, Sampling, Scheduler, Settings};

use crate::mock::{self, Mock};
use crate::{drain, finished, prompt, scheduler};

fn guided(scale: f32, negative_prompt: Option<Vec<u32>>, request: Request) -> Request {
    Request { guidance: Some(Guidance { scale, negative_prompt }), ..request }
}

#[test]
fn both_sequences_are_decoded_in_one_pass() {
    for (own, negative) in [(18, 3), (3, 18)] {
        // 8 tokens a step: the shorter prompt waits for the longer one.
        let settings = Settings { max_step_tokens: 8, max_sequences: 4, ..Settings::default() };
        let mut scheduler = scheduler(32, settings);
        let request = guided(2.0, Some(prompt(negative, 5)), Request::new(prompt(own, 1), 6));
        scheduler.submit(request.clone()).unwrap();
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        while !scheduler.is_idle() {
            let events = scheduler.step().unwrap();
            let read = &scheduler.model().rows;
            rows.push((read.len(), read.iter().filter(|row| row.wants_logits).count()));
            tokens.extend(events.iter().filter_map(|event| match event {
                Event::Token { token, .. } => Some(*token),
                _ => None,
            }));
        }
        assert_eq!(rows, [(8, 0), (8, 0), (5, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2)]);
        assert_eq!(tokens, mock::alone(scheduler.model(), &request, 0).tokens);
        let plain = Request { guidance: None, ..request };
        assert_ne!(tokens, mock::alone(scheduler.model(), &plain, 0).tokens);
        assert_eq!(scheduler.counters().used_blocks, 0);
    }
}

#[test]
fn scale_of_one_has_no_second_sequence() {
    let sampling = Sampling { seed: 8, ..Sampling::unfiltered() };
    let plain = Request { sampling, wants_logits: true, ..Request::new(prompt(9, 2), 12) };
    let run = |request: &Request| {
        let mut scheduler = scheduler(32, Settings { max_sequences: 1, draft_tokens: 3, ..Settings::default() });
        scheduler.submit(request.clone()).unwrap();
        (drain(&mut scheduler), scheduler.counters())
    };
    assert_eq!(run(&guided(1.0, Some(prompt(4, 1)), plain.clone())), run(&plain));
}

#[test]
fn guided_samples_have_no_drafts_and_share_the_blocks_of_both_prompts() {
    let settings = Settings { draft_tokens: 4, ..Settings::default() };
    let mut scheduler = scheduler(32, settings).with_draft_model(Mock::new(32, 4)).unwrap();
    let request = guided(1.5, Some(vec![3; 6]), Request { n: 3, ..Request::new(prompt(10, 1), 9) });
    let id = scheduler.submit(request.clone()).unwrap();
    scheduler.step().unwrap();
    // Three blocks of the prompt and two of the negative one; the last of each is copied for each other sample.
    assert_eq!((scheduler.counters().used_blocks, scheduler.counters().running), (5, 6));
    scheduler.step().unwrap();
    assert_eq!((scheduler.counters().used_blocks, scheduler.model().copies), (9, 4));
    assert!(scheduler.stop(id, 1));
    assert_eq!((scheduler.counters().used_blocks, scheduler.counters().running), (7, 4));
    let tokens = drain(&mut scheduler);
    let alone = mock::alone(scheduler.model(), &request, 0).tokens;
    assert!(alone.ends_with(&tokens[&(id, 0)]) && tokens[&(id, 0)] == tokens[&(id, 2)]);
    assert_eq!((scheduler.counters().drafted_tokens, scheduler.counters().used_blocks), (0, 0));
}

#[test]
fn blocks_are_those_of_both_sequences() {
    // 4 blocks of 4 tokens: all but the last of the sampled tokens are read after 7 tokens, and after 4.
    let request = guided(3.0, Some(prompt(4, 3)), Request::new(prompt(7, 1), 2));
    for (max_tokens, expected) in [
        (2, None),
        (3, Some("17 tokens of prompt and answer, counted with the second sequence of guidance, do not fit")),
    ] {
        let mut scheduler = scheduler(4, Settings::default());
        let result = scheduler.submit(Request { max_tokens, ..request.clone() });
        match (result, expected) {
            (Ok(id), None) => assert_eq!(finished(&mut scheduler), [id]),
            (Err(error), Some(expected)) => assert!(error.to_string().starts_with(expected), "{error}"),
            (result, _) => panic!("{max_tokens}: {result:?}"),
        }
    }
}

#[test]
fn invalid_guidance_is_named() {
    let refused = |settings: Settings, request: Request| {
        let mut scheduler: Scheduler<Mock> = scheduler(8, settings);
        scheduler.submit(request).unwrap_err().to_string()
    };
    let plain = || Request::new(vec![1, 2], 3);
    for (scale, negative_prompt, expected) in [
        (f32::NAN, None, "guidance_scale must be a number from 0 to 100, not NaN"),
        (f32::INFINITY, None, "guidance_scale must be a number from 0 to 100, not inf"),
        (-1.0, None, "guidance_scale must be a number from 0 to 100, not -1"),
        (2.0, Some(vec![]), "negative_prompt must be at least one token, not none"),
        (2.0, Some(vec![8]), "the prompt has the token 8, but the model knows only tokens below 8"),
    ] {
        assert_eq!(refused(Settings::default(), guided(scale, negative_prompt, plain())), expected);
    }
    let unsampled = "guidance_scale must be 1 where a prompt is scored, embedded or explained, not 2";
    for request in [Request { scores_prompt: true, ..plain() }, Request::embedding(vec![1])] {
        assert_eq!(refused(Settings::default(), guided(2.0, None, request)), unsampled);
    }
    let one = Settings { max_sequences: 1, ..Settings::default() };
    let expected = "guidance_scale must be 1 where max_sequences is 1, not 2";
    assert_eq!(refused(one, guided(2.0, None, plain())), expected);
}
