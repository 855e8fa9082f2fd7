//! Completions one after another that share a KV cache.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Instant;

use inference::{Event, FinishReason, ForwardPass, Logprobs, RequestId, Scheduler, Settings};

use crate::{Completion, CompletionOptions, Error, Generator, Prompt};

/// A generator whose keys and values are kept from one text to the next: what a prompt has in common with the beginning
/// of an earlier one or of its text, such as the turns of a conversation so far, is not read again.
pub struct Session<'g> {
    generator: &'g Generator,
    scheduler: Scheduler<&'g mut (dyn ForwardPass + Send + 'static)>,
}

impl Generator {
    /// Calls `run` with a session. Other callers of this generator wait until it returns.
    ///
    /// # Errors
    /// Returns the error of `run`, or one if the model's cache cannot be used.
    pub fn session<T, E: From<Error>>(&self, run: impl FnOnce(&mut Session<'_>) -> Result<T, E>) -> Result<T, E> {
        let (mut model, mut draft_model) = (self.model(), self.draft_model());
        let settings = Settings {
            // Those of a guided text.
            max_sequences: 2,
            draft_tokens: self.draft_tokens(),
            vocab_size: Some(self.tokenizer().vocab_size()),
            ..Settings::default()
        };
        let mut scheduler = Scheduler::new(&mut **model, settings).map_err(Error::from)?;
        if let Some(draft_model) = &mut draft_model {
            scheduler = scheduler.with_draft_model(&mut ***draft_model).map_err(Error::from)?;
        }
        run(&mut Session { generator: self, scheduler })
    }

    /// Continues a text or answers a conversation: [`Generator::encode`], then [`Generator::complete`].
    ///
    /// # Errors
    /// As both.
    pub fn generate(
        &self,
        prompt: &Prompt,
        options: &CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        self.session(|session| session.generate(prompt, options, on_text))
    }

    /// Continues the tokens of a prompt: [`Session::complete`] in a session of its own.
    ///
    /// # Errors
    /// As [`Session::complete`].
    pub fn complete(
        &self,
        prompt: &[u32],
        options: &CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        self.session(|session| session.complete(prompt, options, on_text))
    }
}

impl Session<'_> {
    /// Returns the generator.
    pub fn generator(&self) -> &Generator {
        self.generator
    }

    /// Continues a text or answers a conversation: [`Generator::encode`], then [`Session::complete`].
    ///
    /// # Errors
    /// As both.
    pub fn generate(
        &mut self,
        prompt: &Prompt,
        options: &CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        self.complete(&self.generator.encode(prompt)?, options, on_text)
    }

    /// Continues the tokens of a prompt.
    ///
    /// `on_text` is called once per token with the text that is final by then: whole characters that cannot be the
    /// start of a stop string, often none. It cancels by returning [`ControlFlow::Break`]. The pieces concatenated are
    /// the completion's text.
    ///
    /// A text may grow longer than the model's context: it then continues from its latest tokens.
    ///
    /// # Errors
    /// Returns an error if an option is out of range, the prompt is empty or longer than the model's context, the
    /// device fails, or the logits are not finite.
    pub fn complete(
        &mut self,
        prompt: &[u32],
        options: &CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        let generator = self.generator;
        options.validate()?;
        options.check_tokens(generator.tokenizer().vocab_size())?;
        let prompt = generator.fit(prompt, options.truncate_prompt_tokens)?;
        let start = Instant::now();
        let mut completion = Completion {
            text: String::new(),
            prompt_tokens: prompt.len(),
            completion_tokens: 0,
            finish_reason: FinishReason::Length,
            logprobs: Vec::new(),
            first_token_seconds: 0.0,
            seconds: 0.0,
        };
        let request = generator.request(prompt, options);
        let stop_tokens = request.stop_tokens.clone();
        let mut stream = generator.text_stream(prompt, &options.stop, &[])?;
        let id = self.scheduler.submit(request)?;
        let top = options.logprobs.unwrap_or_default();
        let read = self.read(id, top, |token, logprobs| {
            completion.completion_tokens += 1;
            completion.logprobs.extend(logprobs.map(|logprobs| (token, logprobs)));
            if completion.completion_tokens == 1 {
                completion.first_token_seconds = start.elapsed().as_secs_f64();
            }
            let text = if stop_tokens.contains(token) { String::new() } else { stream.push(token)? };
            completion.text += &text;
            Ok(match on_text(&text) {
                ControlFlow::Break(()) => ControlFlow::Break(FinishReason::Cancelled),
                ControlFlow::Continue(()) if stream.is_stopped() => ControlFlow::Break(FinishReason::Stop),
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
            })
        });
        // Nothing is left of a text that was broken off, whatever the reason.
        self.scheduler.cancel(id);
        completion.finish_reason = read?;
        if completion.finish_reason != FinishReason::Cancelled && !stream.is_stopped() {
            let (rest, has_stopped) = stream.finish();
            if has_stopped {
                completion.finish_reason = FinishReason::Stop;
            }
            if !rest.is_empty() {
                completion.text += &rest;
                // The text is complete: there is nothing left to cancel.
                let _ = on_text(&rest);
            }
        }
        completion.seconds = start.elapsed().as_secs_f64();
        Ok(completion)
    }

    /// Gives the tokens of a request to `on_token` until it ends, with their log probabilities and those of the `top`
    /// most likely tokens if it wants them, and returns why it ended.
    fn read(
        &mut self,
        id: RequestId,
        top: usize,
        mut on_token: impl FnMut(u32, Option<Logprobs>) -> Result<ControlFlow<FinishReason>, Error>,
    ) -> Result<FinishReason, Error> {
        loop {
            let mut logprobs = VecDeque::new();
            let events = self.scheduler.step_with_logits(&mut |row| {
                logprobs.extend(row.next.map(|token| Logprobs::of(row.logits, token, top)));
            })?;
            for event in events {
                match event {
                    Event::Token { request, token, .. } if request == id => {
                        if let ControlFlow::Break(reason) = on_token(token, logprobs.pop_front())? {
                            return Ok(reason);
                        }
                    }
                    Event::Finished { request, reason, .. } if request == id => return Ok(reason),
                    Event::Failed { request, error, .. } if request == id => return Err(error.into()),
                    // The end of an earlier text that was broken off.
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("generator", self.generator).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use model::Family;
    use test_support::tiny;

    use super::*;
    use crate::Sampling;

    #[test]
    fn turns_of_a_conversation_are_read_once() {
        let tokenizer = tiny::tokenizer();
        let generator = Generator::new(tiny::model(Family::Qwen3, 512, &tokenizer), tokenizer).unwrap();
        let options = CompletionOptions { max_tokens: 40, sampling: Sampling::unfiltered(), ..Default::default() };
        let first: Vec<u32> = (0..100).map(|i| i % 7 + 20).collect();
        let complete = |session: &mut Session<'_>, prompt: &[u32], most: usize| {
            let mut left = most;
            session.complete(prompt, &options, &mut |_| {
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        };
        let second: Vec<u32> = first.iter().chain(&[30, 31, 32]).copied().collect();
        let alone = generator.session(|session| complete(session, &second, 100)).unwrap();
        let reused = generator.session(|session| {
            let broken_off = complete(session, &first, 3)?;
            assert_eq!((broken_off.finish_reason, broken_off.completion_tokens), (FinishReason::Cancelled, 3));
            let completion = complete(session, &second, 100)?;
            assert_eq!(
                Completion { seconds: 0.0, first_token_seconds: 0.0, ..completion },
                Completion { seconds: 0.0, first_token_seconds: 0.0, ..alone }
            );
            Ok::<_, Error>(session.scheduler.counters().reused_tokens)
        });
        assert!((64..=100).contains(&reused.unwrap()));
    }
}
