//! Time limits of a connection's bytes: clients that send their headers slowly, send nothing, or do not read.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Limits;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Phase>);

#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// Waiting for the first request.
    New { since: Instant },
    /// Waiting for another request.
    Idle { since: Instant },
    /// Reading the headers of a request.
    Headers { since: Instant },
    /// Reading a body, generating, answering.
    Answering,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Phase::New { since: Instant::now() }))
    }
}

impl Activity {
    /// Marks the end of a request's headers.
    pub(super) fn begin(&self) {
        self.set(Phase::Answering);
    }

    /// Marks the end of an answer.
    pub(super) fn end(&self) {
        self.set(Phase::Idle { since: Instant::now() });
    }

    pub(super) fn phase(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) {
        let mut phase = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::New { .. } | Phase::Idle { .. }) {
            *phase = Phase::Headers { since: Instant::now() };
        }
    }

    fn set(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Returns when the client must have sent more.
    fn deadline(&self, limits: Limits) -> Option<Instant> {
        match self.phase() {
            Phase::New { since } | Phase::Idle { since } => Some(since + limits.idle),
            Phase::Headers { since } => Some(since + limits.header),
            Phase::Answering => None,
        }
    }
}

/// A stream whose reads and writes fail when the client takes too long.
pub(super) struct TimedIo<S> {
    stream: S,
    activity: Arc<Activity>,
    limits: Limits,
    reading: Pin<Box<Sleep>>,
    /// Since the client stopped reading.
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedIo<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, limits: Limits) -> Self {
        Self { stream, activity, limits, reading: Box::pin(tokio::time::sleep(limits.idle)), writing: None }
    }

    /// Passes on the result of a write, or fails if it has been pending for too long.
    fn timed<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing = None;
            return result;
        }
        let idle = self.limits.idle;
        let timer = self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            if buffer.filled().len() > filled {
                self.activity.received();
            }
            return Poll::Ready(result);
        }
        let Some(deadline) = self.activity.deadline(self.limits) else { return Poll::Pending };
        if self.reading.deadline() != deadline {
            self.reading.as_mut().reset(deadline);
        }
        ready!(self.reading.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client sends nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.timed(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, result)
    }
}
