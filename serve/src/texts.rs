//! The texts that are being generated: from jobs to requests of the scheduler, and from its tokens to text.

mod scores;

use std::time::Instant;

use generate::{FinishReason, Generator, TextStream};
use inference::{Counters, ForwardPass, Request, RequestId, Sampling, Scheduler, StopTokens};

use crate::api_error::ApiError;
use crate::event::{Event, ScoredToken};
use crate::job::Job;
use scores::{PendingTokens, PromptScores, Scores};

/// The jobs that are running, and the scheduler that runs them.
pub(crate) struct Texts<'g, M> {
    generator: &'g Generator,
    scheduler: Scheduler<M>,
    jobs: Vec<RunningJob<'g>>,
    /// The log probabilities of sampled tokens whose events are still to come.
    scores: Scores,
}

struct RunningJob<'g> {
    job: Job,
    stop_tokens: StopTokens,
    /// The scheduler's request for each prompt.
    requests: Vec<RequestId>,
    /// The log probabilities of each prompt, as far as they are wanted and known.
    prompts: Vec<PromptScores>,
    /// The texts that are not finished.
    texts: Vec<Option<Text<'g>>>,
}

struct Text<'g> {
    stream: TextStream<'g>,
    completion_tokens: usize,
    /// The tokens whose text is still held back.
    pending: PendingTokens,
    logprob_sum: f64,
    start: Instant,
}

impl<'g, M: ForwardPass> Texts<'g, M> {
    pub(crate) fn new(generator: &'g Generator, scheduler: Scheduler<M>) -> Self {
        Self { generator, scheduler, jobs: Vec::new(), scores: Scores::default() }
    }

    /// Returns the number of jobs.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns the counts of the scheduler.
    pub(crate) fn counters(&self) -> Counters {
        self.scheduler.counters()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Starts the texts of a job. If one of them cannot be started, the job fails.
    pub(crate) fn start(&mut self, job: Job) {
        job.events.start();
        let stop_tokens = self.generator.stop_tokens().with(&job.work.options.stop_token_ids);
        let mut started = RunningJob { job, stop_tokens, requests: Vec::new(), prompts: Vec::new(), texts: Vec::new() };
        match self.submit(&mut started) {
            Ok(()) => self.jobs.push(started),
            Err(error) => self.abandon(started, Some(error)),
        }
    }

    fn submit(&mut self, started: &mut RunningJob<'g>) -> Result<(), ApiError> {
        let work = &started.job.work;
        let (options, scoring) = (&work.options, work.scoring);
        let start = Instant::now();
        for (i, prompt) in work.prompts.iter().enumerate() {
            let seed = options.sampling.seed.wrapping_add((i * work.n) as u64);
            let request = Request {
                n: work.n,
                sampling: Sampling { seed, ..options.sampling },
                wants_logits: scoring.alternatives.is_some() || scoring.ranks,
                scores_prompt: scoring.prompts,
                embeds: work.embeds,
                attention_layer: work.attention_layer,
                adapter: started.job.adapter.clone(),
                ..self.generator.request(prompt, options)
            };
            started.requests.push(self.scheduler.submit(request).map_err(|error| match error {
                error @ inference::Error::CacheTooSmall { .. } => {
                    let name = match work.attention_layer {
                        Some(_) => "prompt",
                        None if work.embeds => "input",
                        None => "max_tokens",
                    };
                    ApiError::cache_too_small(name, &error)
                }
                error @ inference::Error::NoAttentionWeights => ApiError::no_attention(&error),
                inference::Error::Sampling(invalid) => ApiError::setting(&invalid),
                error => failed(&error),
            })?);
            started.prompts.push(PromptScores::default());
            for _ in 0..work.n {
                let stream = self.generator.text_stream(prompt, &options.stop, &work.shown_tokens);
                let stream = stream.map_err(|error| failed(&error))?;
                let (completion_tokens, logprob_sum, pending) = (0, 0.0, PendingTokens::default());
                started.texts.push(Some(Text { stream, completion_tokens, pending, logprob_sum, start }));
            }
        }
        Ok(())
    }

    /// Cancels the jobs whose clients have disconnected.
    pub(crate) fn cancel_abandoned(&mut self) {
        let abandoned: Vec<RunningJob<'g>> = self.jobs.extract_if(.., |job| job.job.events.is_closed()).collect();
        for job in abandoned {
            self.abandon(job, None);
        }
    }

    /// Ends all jobs with an error.
    pub(crate) fn fail(&mut self, error: &ApiError) {
        for job in std::mem::take(&mut self.jobs) {
            self.abandon(job, Some(error.clone()));
        }
    }

    fn abandon(&mut self, job: RunningJob<'g>, error: Option<ApiError>) {
        for request in job.requests {
            self.scheduler.cancel(request);
        }
        if let Some(error) = error {
            // The client may have disconnected.
            let _ = job.job.events.send(Event::Failed(error));
        }
    }

    /// Runs the model once and sends the new text.
    ///
    /// # Errors
    /// Returns an error if the model fails.
    pub(crate) fn step(&mut self) -> Result<(), inference::Error> {
        let Self { generator, scheduler, jobs, scores, .. } = self;
        // Tokens of a failed step will not come.
        scores.clear();
        let events = scheduler.step_with_logits(&mut |row| {
            let Some((at, prompt)) = find(jobs, row.request) else { return };
            let job = &mut jobs[at];
            let alternatives = job.job.work.scoring.alternatives.unwrap_or_default();
            match (row.sample, row.next) {
                (Some(sample), Some(token)) => scores.add(row, sample, token, alternatives),
                (Some(_), None) => {}
                (None, next) => {
                    let tokens = job.prompts[prompt].add(row.logits, next, alternatives);
                    if let Some(following) = tokens {
                        job.send_prompt(generator, prompt, &following);
                    }
                }
            }
        })?;
        for event in events {
            match event {
                inference::Event::Token { request, sample, token } => self.add_token(request, sample, token),
                inference::Event::Embedding { request, embedding } => {
                    if let Some((at, index)) = find(&self.jobs, request) {
                        let _ = self.jobs[at].job.events.send(Event::Embedding { index, embedding });
                    }
                }
                inference::Event::Attention { request, weights } => {
                    if let Some((at, _)) = find(&self.jobs, request) {
                        let _ = self.jobs[at].job.events.send(Event::Attention { weights });
                    }
                }
                inference::Event::Finished { request, sample, reason } => self.finish(request, sample, reason),
                inference::Event::Failed { request, error, .. } => {
                    if let Some((at, _)) = find(&self.jobs, request) {
                        let job = self.jobs.swap_remove(at);
                        tracing::warn!(%error, "a request failed");
                        let error = match error {
                            error @ inference::Error::Constraint { .. } => ApiError::constraint(&error),
                            error => failed(&error),
                        };
                        self.abandon(job, Some(error));
                    }
                }
            }
        }
        Ok(())
    }

    fn add_token(&mut self, request: RequestId, sample: usize, token: u32) {
        let scores = self.scores.take(request, sample);
        let Some((at, prompt)) = find(&self.jobs, request) else { return };
        let job = &mut self.jobs[at];
        let index = prompt * job.job.work.n + sample;
        let Some(text) = &mut job.texts[index] else { return };
        text.completion_tokens += 1;
        text.logprob_sum += scores.as_ref().map_or(0.0, |scores| f64::from(scores.logprob));
        if job.stop_tokens.contains(token) {
            // Evaluation harnesses leave out the last token of a prompt and its text, whichever it is.
            if job.job.work.scoring.prompts {
                let end = text.stream.decoded_characters();
                text.pending.push(scores::scored(self.generator.tokenizer(), end..end, token, scores));
            }
            return;
        }
        let before = text.stream.decoded_characters();
        match text.stream.push(token) {
            Ok(piece) => {
                let scoring = job.job.work.scoring;
                if scoring.ids || scoring.alternatives.is_some() {
                    let range = before..text.stream.decoded_characters();
                    text.pending.push(scores::scored(self.generator.tokenizer(), range, token, scores));
                }
                let has_stopped = text.stream.is_stopped();
                let tokens = text.pending.release(&piece);
                job.send(index, piece, tokens);
                if has_stopped {
                    self.scheduler.stop(request, sample);
                    self.finish(request, sample, FinishReason::Stop);
                }
            }
            Err(error) => {
                let job = self.jobs.swap_remove(at);
                self.abandon(job, Some(failed(&error)));
            }
        }
    }

    /// Sends the rest of a text; its job ends with its last text.
    fn finish(&mut self, request: RequestId, sample: usize, reason: FinishReason) {
        let Some((at, prompt)) = find(&self.jobs, request) else { return };
        let job = &mut self.jobs[at];
        let n = job.job.work.n;
        let index = prompt * n + sample;
        let Some(text) = job.texts[index].take() else { return };
        let Text { stream, completion_tokens, mut pending, logprob_sum, start } = text;
        let (rest, has_stopped) = stream.finish();
        let mut tokens = pending.release(&rest);
        if !has_stopped {
            tokens.extend(pending.rest());
        }
        job.send(index, rest, tokens);
        let reason = if has_stopped { FinishReason::Stop } else { reason };
        let prompt_tokens = job.job.work.prompts[prompt].len();
        let seconds = start.elapsed().as_secs_f64();
        tracing::info!(prompt_tokens, completion_tokens, seconds, reason = reason.name(), "text generated");
        let prompt_tokens = if sample == 0 { prompt_tokens } else { 0 };
        let mean_logprob = logprob_sum / completion_tokens.max(1) as f64;
        // If the client has disconnected, the worker notices before the next step.
        let finished = Event::Finished { index, prompt_tokens, completion_tokens, reason, mean_logprob };
        let _ = job.job.events.send(finished);
        if job.texts.iter().all(Option::is_none) {
            self.jobs.swap_remove(at);
        }
    }
}

/// Returns the index of the job with a request, and the index of its prompt.
fn find(jobs: &[RunningJob<'_>], request: RequestId) -> Option<(usize, usize)> {
    let prompts = jobs.iter().map(|job| job.requests.iter().position(|other| *other == request));
    prompts.enumerate().find_map(|(at, prompt)| Some((at, prompt?)))
}

impl RunningJob<'_> {
    fn send(&self, index: usize, text: String, tokens: Vec<ScoredToken>) {
        if !(text.is_empty() && tokens.is_empty()) {
            // If the client has disconnected, the worker notices before the next step.
            let _ = self.job.events.send(Event::Text { index, text, tokens });
        }
    }

    /// Sends the scored tokens of a prompt to each of its texts.
    fn send_prompt(&self, generator: &Generator, prompt: usize, following: &[inference::Logprobs]) {
        let work = &self.job.work;
        let tokens = scores::of_prompt(generator.tokenizer(), &work.prompts[prompt], following);
        for index in prompt * work.n..(prompt + 1) * work.n {
            let _ = self.job.events.send(Event::Prompt { index, tokens: tokens.clone() });
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    ApiError::server(format!("Generation failed: {error}."))
}
