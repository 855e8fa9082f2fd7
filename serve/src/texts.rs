//! The texts that are being generated: from jobs to requests of the scheduler, and from its tokens to text.

use std::time::Instant;

use generate::{FinishReason, Generator, TextStream};
use inference::{Counters, ForwardPass, Request, RequestId, Sampling, Scheduler, StopTokens};

use crate::api_error::ApiError;
use crate::job::{Event, Job};

/// The jobs that are running, and the scheduler that runs them.
pub(crate) struct Texts<'g, M> {
    generator: &'g Generator,
    stop_tokens: StopTokens,
    scheduler: Scheduler<M>,
    jobs: Vec<RunningJob<'g>>,
}

struct RunningJob<'g> {
    job: Job,
    /// The scheduler's request for each prompt.
    requests: Vec<RequestId>,
    /// The texts that are not finished.
    texts: Vec<Option<Text<'g>>>,
}

struct Text<'g> {
    stream: TextStream<'g>,
    completion_tokens: usize,
    start: Instant,
}

impl<'g, M: ForwardPass> Texts<'g, M> {
    pub(crate) fn new(generator: &'g Generator, scheduler: Scheduler<M>) -> Self {
        Self { generator, stop_tokens: generator.stop_tokens(), scheduler, jobs: Vec::new() }
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
        let mut started = RunningJob { job, requests: Vec::new(), texts: Vec::new() };
        match self.submit(&mut started) {
            Ok(()) => self.jobs.push(started),
            Err(error) => self.abandon(started, Some(error)),
        }
    }

    fn submit(&mut self, started: &mut RunningJob<'g>) -> Result<(), ApiError> {
        let work = &started.job.work;
        let options = &work.options;
        let start = Instant::now();
        for (i, prompt) in work.prompts.iter().enumerate() {
            let seed = options.sampling.seed.wrapping_add((i * work.n) as u64);
            let request = Request {
                n: work.n,
                sampling: Sampling { seed, ..options.sampling },
                stop_tokens: self.stop_tokens.clone(),
                ..Request::new(prompt.clone(), options.max_tokens)
            };
            started.requests.push(self.scheduler.submit(request).map_err(|error| match error {
                error @ inference::Error::CacheTooSmall { .. } => ApiError::cache_too_small(&error),
                error => failed(&error),
            })?);
            for _ in 0..work.n {
                let stream = self.generator.text_stream(prompt, &options.stop).map_err(|error| failed(&error))?;
                started.texts.push(Some(Text { stream, completion_tokens: 0, start }));
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
        for event in self.scheduler.step()? {
            match event {
                inference::Event::Token { request, sample, token } => self.add_token(request, sample, token),
                inference::Event::Finished { request, sample, reason } => self.finish(request, sample, reason),
                inference::Event::Failed { request, error, .. } => {
                    if let Some((at, _)) = self.find(request) {
                        let job = self.jobs.swap_remove(at);
                        tracing::warn!(%error, "a request failed");
                        self.abandon(job, Some(failed(&error)));
                    }
                }
            }
        }
        Ok(())
    }

    fn add_token(&mut self, request: RequestId, sample: usize, token: u32) {
        let Some((at, prompt)) = self.find(request) else { return };
        let job = &mut self.jobs[at];
        let index = prompt * job.job.work.n + sample;
        let Some(text) = &mut job.texts[index] else { return };
        text.completion_tokens += 1;
        if self.stop_tokens.contains(token) {
            return;
        }
        match text.stream.push(token) {
            Ok(piece) => {
                let has_stopped = text.stream.is_stopped();
                job.send(index, piece);
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
        let Some((at, prompt)) = self.find(request) else { return };
        let job = &mut self.jobs[at];
        let n = job.job.work.n;
        let index = prompt * n + sample;
        let Some(Text { stream, completion_tokens, start }) = job.texts[index].take() else { return };
        let (rest, has_stopped) = stream.finish();
        job.send(index, rest);
        let reason = if has_stopped { FinishReason::Stop } else { reason };
        let prompt_tokens = job.job.work.prompts[prompt].len();
        let seconds = start.elapsed().as_secs_f64();
        tracing::info!(prompt_tokens, completion_tokens, seconds, reason = reason.name(), "text generated");
        let prompt_tokens = if sample == 0 { prompt_tokens } else { 0 };
        // If the client has disconnected, the worker notices before the next step.
        let _ = job.job.events.send(Event::Finished { index, prompt_tokens, completion_tokens, reason });
        if job.texts.iter().all(Option::is_none) {
            self.jobs.swap_remove(at);
        }
    }

    /// Returns the index of the job with a request, and the index of its prompt.
    fn find(&self, request: RequestId) -> Option<(usize, usize)> {
        let prompts = self.jobs.iter().map(|job| job.requests.iter().position(|other| *other == request));
        prompts.enumerate().find_map(|(at, prompt)| Some((at, prompt?)))
    }
}

impl RunningJob<'_> {
    fn send(&self, index: usize, text: String) {
        if !text.is_empty() {
            // If the client has disconnected, the worker notices before the next step.
            let _ = self.job.events.send(Event::Text { index, text });
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    ApiError::server(format!("Generation failed: {error}."))
}
