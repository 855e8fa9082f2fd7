//! Random runs: whatever else happens, each sample becomes what it would be alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;

use inference::{
    Adapter, Constraint, Counters, Error, Event, FinishReason, ForwardPass, Guidance, InvalidSetting, Request,
    RequestId, Sampling, Scheduler, Settings,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::mock::{self, Mock, Rotating};

const RUNS: u64 = 10_000;

struct Random(ChaCha8Rng);

impl Random {
    /// Returns a number from `low` to `high`.
    fn from(&mut self, low: usize, high: usize) -> usize {
        low + (self.0.next_u64() % (high - low + 1) as u64) as usize
    }

    fn once_in(&mut self, n: usize) -> bool {
        self.from(1, n) == 1
    }

    fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.from(0, 7) as u32).collect()
    }

    /// Returns a request whose prompt may begin as others do.
    fn request(&mut self, prefixes: &[Vec<u32>], adapters: &[Arc<Adapter>]) -> Request {
        let prefix = &prefixes[self.from(0, prefixes.len() - 1)];
        let mut prompt = prefix[..self.from(0, prefix.len())].to_vec();
        let tail = self.from(usize::from(prompt.is_empty()), 6);
        prompt.extend(self.tokens(tail));
        let temperature = if self.once_in(2) { 0.0 } else { 1.0 };
        let repetition_penalty = if self.once_in(4) { 1.3 } else { 1.0 };
        let frequency_penalty = if self.once_in(4) { 0.5 } else { 0.0 };
        let sampling = Sampling {
            temperature,
            repetition_penalty,
            frequency_penalty,
            seed: self.0.next_u64(),
            ..Sampling::unfiltered()
        };
        let stops = self.once_in(3);
        let constraint: Option<Box<dyn Constraint>> = if self.once_in(4) {
            Some(Box::new(Rotating { step: 0, steps: self.from(1, 30) as u32, completes: self.once_in(2) }))
        } else {
            None
        };
        let adapter = adapters.get(self.from(0, 3 * adapters.len())).cloned();
        if self.once_in(6) {
            let priority = self.from(0, 2) as i32 - 1;
            return Request { priority, adapter, ..Request::embedding(prompt) };
        }
        let guidance = self.once_in(4).then(|| self.guidance(prefixes));
        Request {
            scores_prompt: guidance.is_none() && self.once_in(5),
            guidance,
            n: if self.once_in(3) { self.from(2, 4) } else { 1 },
            sampling,
            constraint,
            stop_tokens: self.tokens(usize::from(stops)).into_iter().collect(),
            priority: self.from(0, 2) as i32 - 1,
            tenant: if self.once_in(4) { "other".to_owned() } else { String::new() },
            adapter,
            wants_logits: self.once_in(3),
            logit_bias: if self.once_in(4) { vec![(self.from(0, 7) as u32, 1.5)] } else { Vec::new() },
            ..Request::new(prompt, self.from(0, 24))
        }
    }

    /// Returns guidance whose negative prompt may begin as prompts do.
    fn guidance(&mut self, prefixes: &[Vec<u32>]) -> Guidance {
        let prefix = &prefixes[self.from(0, prefixes.len() - 1)];
        let (kept, tail) = (self.from(0, prefix.len()), self.from(1, 6));
        let negative_prompt = [&prefix[..kept], &self.tokens(tail)].concat();
        let scale = [0.0, 0.5, 1.0, 1.5, 4.0][self.from(0, 4)];
        Guidance { scale, negative_prompt: (!self.once_in(4)).then_some(negative_prompt) }
    }
}

/// What has been seen of a request.
struct Seen {
    request: Request,
    tokens: Vec<Vec<u32>>,
    ends: Vec<Option<FinishReason>>,
    /// The logits of the prompt, and of each sample.
    scores: Vec<Vec<f32>>,
    logits: Vec<Vec<Vec<f32>>>,
    embedding: Option<Vec<f32>>,
    /// Whether the caller has cancelled it, and which samples it has stopped.
    cancelled: bool,
    stopped: Vec<bool>,
}

impl Seen {
    fn of(request: Request) -> Self {
        let n = request.n;
        Self {
            request,
            tokens: vec![Vec::new(); n],
            ends: vec![None; n],
            scores: Vec::new(),
            logits: vec![Vec::new(); n],
            embedding: None,
            cancelled: false,
            stopped: vec![false; n],
        }
    }

    fn check(&self, mock: &Mock) {
        if self.request.embeds {
            return self.check_embedding();
        }
        assert_eq!(self.embedding, None);
        for sample in 0..self.request.n {
            let (tokens, end) = (&self.tokens[sample], self.ends[sample]);
            let alone = mock::alone(mock, &self.request, sample);
            match end.expect("every sample ends") {
                FinishReason::Cancelled => {
                    assert!(self.cancelled);
                    assert!(alone.tokens.starts_with(tokens), "{tokens:?} {:?}", alone.tokens);
                }
                FinishReason::Stop if self.stopped[sample] => assert!(alone.tokens.starts_with(tokens)),
                reason => assert_eq!((tokens, reason), (&alone.tokens, alone.reason), "{:?}", self.request),
            }
            if self.request.wants_logits {
                assert_eq!(self.logits[sample], alone.logits[..tokens.len()]);
            } else {
                assert!(self.logits[sample].is_empty());
            }
        }
        if self.request.scores_prompt && !self.cancelled && !self.stopped.contains(&true) {
            assert_eq!(self.scores.len(), self.request.prompt.len());
        }
        assert!(self.request.scores_prompt || self.scores.is_empty());
        for (i, scores) in self.scores.iter().enumerate() {
            let adapter = self.request.adapter.as_deref();
            assert_eq!(*scores, mock::logits(&self.request.prompt[..=i], adapter, mock.vocab_size));
        }
    }

    fn check_embedding(&self) {
        assert!(self.tokens[0].is_empty() && self.logits[0].is_empty() && self.scores.is_empty());
        let Some(embedding) = &self.embedding else {
            assert!(self.cancelled || self.stopped[0]);
            return;
        };
        assert_eq!(self.ends, [Some(FinishReason::Stop)]);
        let expected = mock::embedding(&self.request.prompt, self.request.adapter.as_deref());
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6;
        assert_eq!(embedding.len(), expected.len());
        assert!(!embedding.iter().zip(&expected).any(differs), "{embedding:?} is not {expected:?}");
    }
}

/// Records what has happened to a request.
fn record(seen: &mut BTreeMap<RequestId, Seen>, event: Event) {
    match event {
        Event::Token { request, sample, token } => {
            let request = seen.get_mut(&request).unwrap();
            assert_eq!(request.ends[sample], None, "a token after the end");
            request.tokens[sample].push(token);
        }
        Event::Finished { request, sample, reason } => {
            let end = seen.get_mut(&request).unwrap().ends[sample].replace(reason);
            assert_eq!(end, None, "a sample ends once");
        }
        Event::Embedding { request, embedding } => {
            let seen = seen.get_mut(&request).unwrap();
            assert_eq!(seen.ends, [None], "an embedding after the end");
            assert_eq!(seen.embedding.replace(embedding), None, "one embedding");
        }
        Event::Attention { .. } => panic!("no request is for weights of attention"),
        Event::Failed { error, .. } => panic!("{error}"),
    }
}

/// Returns the counters at the end, and the numbers of blocks copied and of guided tokens.
fn run(seed: u64, adapters: &[Arc<Adapter>]) -> (Counters, usize, usize) {
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    let mut mock = Mock::new(random.from(3, 24), random.from(1, 5));
    mock.context_length = random.from(4, 40);
    mock.failing_calls = (0..random.from(0, 3)).map(|_| random.from(1, 60)).collect();
    let max_sequences = random.from(1, 6);
    let settings = Settings {
        max_step_tokens: max_sequences + random.from(0, 12),
        max_sequences,
        reuse_prefixes: !random.once_in(4),
        draft_tokens: if random.once_in(2) { random.from(1, 4) } else { 0 },
        vocab_size: None,
    };
    let (block_count, block_tokens, context_length) = (mock.block_count(), mock.block_tokens, mock.context_length);
    let mut scheduler = Scheduler::new(mock, settings).unwrap();
    if random.once_in(3) {
        let mut draft = Mock::new(random.from(1, 12), random.from(1, 5));
        draft.context_length = random.from(2, 40);
        draft.noise = if random.once_in(2) { 0.0 } else { 1.0 };
        draft.failing_calls = (0..random.from(0, 1)).map(|_| random.from(1, 60)).collect();
        scheduler = scheduler.with_draft_model(draft).unwrap();
    }
    let prefixes: Vec<Vec<u32>> = (0..3).map(|_| random.tokens(12)).collect();
    let mut seen: BTreeMap<RequestId, Seen> = BTreeMap::new();
    let (mut to_come, mut steps, mut max_steps) = (random.from(1, 12), 0, 100);
    while to_come > 0 || !scheduler.is_idle() {
        while to_come > 0 && (scheduler.is_idle() || random.once_in(4)) {
            to_come -= 1;
            let request = random.request(&prefixes, adapters);
            let read = |prompt: usize| (prompt + request.max_tokens.saturating_sub(1)).min(context_length);
            let negative = request.guidance.as_ref().filter(|guidance| guidance.is_active());
            let negative = negative.map(|guidance| guidance.negative_prompt.as_ref().map_or(1, Vec::len));
            let read = [Some(request.prompt.len()), negative].map(|prompt| prompt.map_or(0, read));
            let blocks: usize = read.map(|tokens| tokens.div_ceil(block_tokens)).iter().sum();
            let read: usize = read.iter().sum();
            match scheduler.submit(request.clone()) {
                Ok(id) => {
                    // Even if it had to be read again after each token, one token a step.
                    max_steps += request.n * (request.max_tokens + 1) * (read + 2);
                    seen.insert(id, Seen::of(request));
                }
                Err(Error::CacheTooSmall { .. }) => assert!(blocks > block_count),
                Err(Error::Sampling(InvalidSetting { name: "guidance_scale", .. })) => {
                    assert!(negative.is_some() && max_sequences == 1);
                }
                Err(Error::PromptTooLong { .. }) => assert!(request.prompt.len() > context_length),
                Err(error) => panic!("{error}"),
            }
        }
        if random.once_in(12) && !seen.is_empty() {
            let id = RequestId(random.from(0, seen.len() - 1) as u64);
            let request = seen.get_mut(&id).unwrap();
            if random.once_in(2) {
                let is_unfinished = request.ends.iter().any(Option::is_none);
                let was_unfinished = scheduler.cancel(id);
                assert!(is_unfinished || !was_unfinished);
                request.cancelled |= was_unfinished;
            } else {
                let sample = random.from(0, request.request.n - 1);
                request.stopped[sample] |= scheduler.stop(id, sample);
            }
        }
        steps += 1;
        assert!(steps < max_steps, "no progress after {steps} steps");
        let mut handed_out = Vec::new();
        let events = scheduler.step_with_logits(&mut |row| {
            handed_out.push((row.request, row.sample, row.position, row.next, row.logits.to_vec()));
        });
        for (id, sample, position, next, logits) in handed_out {
            let request = seen.get_mut(&id).unwrap();
            match sample {
                None => {
                    request.scores.push(logits);
                    assert_eq!((position, next), (request.scores.len(), request.request.prompt.get(position).copied()));
                }
                Some(sample) => {
                    let of_sample = &mut request.logits[sample];
                    assert_eq!(position, request.request.prompt.len() + of_sample.len());
                    of_sample.push(logits);
                }
            }
        }
        for event in events.unwrap_or_else(|error| {
            assert_eq!(error.to_string(), "cannot read the logits from the device: out of memory");
            Vec::new()
        }) {
            record(&mut seen, event);
        }
        let counters = scheduler.counters();
        assert!(counters.running <= max_sequences);
        assert!(scheduler.model().rows.len() <= max_sequences + 12);
    }
    for request in seen.values() {
        request.check(scheduler.model());
    }
    let counters = scheduler.counters();
    assert_eq!((counters.waiting, counters.running, counters.used_blocks), (0, 0, 0), "nothing is left behind");
    let is_guided = |seen: &&Seen| seen.request.guidance.as_ref().is_some_and(Guidance::is_active);
    let guided = seen.values().filter(is_guided).flat_map(|seen| &seen.tokens).map(Vec::len).sum();
    (counters, scheduler.model().copies, guided)
}

#[test]
fn sample_does_not_depend_on_what_else_runs() {
    // Two adapters of one model; the mock depends on their digests alone.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let (_, base) = inference::load_base(&fixtures.join("qwen3"), &Device::flex(), None).unwrap();
    let load = |name| Arc::new(base.load(&fixtures.join("lora").join(name)).unwrap());
    let adapters = ["peft-qwen3", "ours-qwen3"].map(load);
    let (mut copies, mut guided) = (0, 0);
    let mut total = Counters::default();
    for seed in 0..RUNS {
        // Captured output is only shown if the test fails: the last line names the run.
        println!("run {seed}");
        let (counters, copied, guided_tokens) = run(seed, &adapters);
        copies += copied;
        guided += guided_tokens;
        total.steps += counters.steps;
        total.sampled_tokens += counters.sampled_tokens;
        total.preemptions += counters.preemptions;
        total.reused_tokens += counters.reused_tokens;
        total.started_tokens += counters.started_tokens;
        total.accepted_tokens += counters.accepted_tokens;
        total.drafted_tokens += counters.drafted_tokens;
    }
    println!("{total:?}, {copies} copied blocks, {guided} guided tokens");
    // The runs exercise what they are meant to.
    let many = RUNS as usize / 2;
    assert!(
        guided > many && copies > many && total.preemptions as usize > many && total.accepted_tokens as usize > many
    );
    assert!(total.hit_rate() > 0.1 && total.accepted_tokens < total.drafted_tokens);
}
