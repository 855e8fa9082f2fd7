//! Retries: what a failed attempt means for the next, and how long to wait in between.

use std::thread;
use std::time::Duration;

use artifact::Context;
use backon::{BackoffBuilder, ExponentialBuilder};

use crate::Error;

/// The delay after the first failure, to which the jitter adds up to as much again; it doubles with each attempt.
/// Heuristic, not measured: a server that restarts is back after a few seconds.
const MIN_DELAY: Duration = Duration::from_millis(250);
/// The longest delay, before jitter. Heuristic, not measured: longer waits look like a hang.
const MAX_DELAY: Duration = Duration::from_secs(15);
/// The longest wait, whatever `Retry-After` asks for.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often a wait checks for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// A failed attempt.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Retrying may help: the reason, and how long the server asks to wait.
    Retryable(BoxedError, Option<Duration>),
    /// The partial file belongs to another version: the download must restart from the beginning.
    Restart(&'static str),
    /// Retrying does not help.
    Fatal(Error),
}

impl Failure {
    /// Returns a failure that retrying may fix.
    pub fn retryable(reason: impl Into<BoxedError>) -> Self {
        Self::Retryable(reason.into(), None)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Calls `attempt` until it succeeds, fails fatally or has been called `max_attempts` times; then `give_up` makes the
/// error of the number of attempts and the last failure.
///
/// Delays are exponential with jitter, so that runs that failed together do not retry together.
pub(crate) fn retry<T>(
    max_attempts: u32,
    context: &Context,
    give_up: impl Fn(u32, BoxedError) -> Error,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Error> {
    let backoff = ExponentialBuilder::new().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY).with_jitter();
    // The crate's own loop could neither be cancelled while it waits nor honour `Retry-After`.
    let mut delays = backoff.without_max_times().build();
    let mut attempts = 1;
    loop {
        let (reason, requested) = match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Restart(reason)) => (reason.into(), Some(Duration::ZERO)),
            Err(Failure::Retryable(reason, requested)) => (reason, requested),
        };
        if attempts >= max_attempts {
            return Err(give_up(attempts, reason));
        }
        tracing::warn!("{reason}; attempt {attempts} of {max_attempts}");
        let delay = delays.next().unwrap_or(MAX_DELAY);
        sleep(requested.unwrap_or(delay).min(MAX_WAIT), context)?;
        attempts += 1;
    }
}

/// Sleeps, and returns early with an error on cancellation.
pub(crate) fn sleep(duration: Duration, context: &Context) -> Result<(), Error> {
    let mut left = duration;
    while !left.is_zero() {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        thread::sleep(left.min(POLL_INTERVAL));
        left = left.saturating_sub(POLL_INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn give_up(attempts: u32, source: BoxedError) -> Error {
        Error::Download { name: "x".to_owned(), url: "y".to_owned(), attempts, source }
    }

    #[test]
    fn retries_stop_at_success_a_fatal_error_or_the_maximum() {
        let check = |fails: u32, failure: fn() -> Failure, expected_calls: u32, expected: Result<(), &str>| {
            let mut calls = 0;
            let found = retry(3, &Context::quiet(0), give_up, || {
                calls += 1;
                if calls > fails { Ok(()) } else { Err(failure()) }
            });
            assert_eq!(found.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
            assert_eq!(calls, expected_calls);
        };
        let now = || Failure::Retryable("busy".into(), Some(Duration::ZERO));
        check(0, now, 1, Ok(()));
        check(2, now, 3, Ok(()));
        check(3, now, 3, Err("source x: cannot download y (3 attempts; the partial file is kept for the next run)"));
        check(1, || Failure::Restart("changed"), 2, Ok(()));
        check(1, || Failure::Fatal(Error::Interrupted), 1, Err("interrupted"));
    }

    #[test]
    fn the_first_wait_is_between_a_quarter_and_half_a_second() {
        let started = Instant::now();
        let mut calls = 0;
        let done = retry(2, &Context::quiet(0), give_up, || {
            calls += 1;
            if calls == 2 { Ok(()) } else { Err(Failure::retryable("busy")) }
        });
        done.unwrap();
        assert!(started.elapsed() >= MIN_DELAY, "{:?}", started.elapsed());
    }

    #[test]
    fn a_wait_ends_on_cancellation() {
        let context = Context::quiet(0);
        context.cancel.request();
        let long = || Err::<(), _>(Failure::Retryable("busy".into(), Some(Duration::from_secs(20))));
        assert!(matches!(retry(2, &context, give_up, long), Err(Error::Interrupted)));
    }
}
