//! One request and its answer: the time limit and the line in the access log.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use artifact::Cancel;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, Sleep};
use tracing::{Instrument, Span};

use super::in_flight::{InFlight, One};
use super::request_id;
use super::timed_io::Activity;
use crate::api_error::ApiError;
use crate::spans::{self, TraceParent};

/// Paths that machines ask for every few seconds, which are neither logged nor traced.
const PROBES: [&str; 3] = ["/health", "/ready", "/metrics"];

/// An extension of an answer: the name of the key that asked for it.
#[derive(Debug, Clone)]
pub(crate) struct KeyName(pub(crate) Arc<str>);

/// What a connection's exchanges have in common.
pub(super) struct Exchange {
    /// The client's address.
    pub(super) remote: Arc<str>,
    pub(super) activity: Arc<Activity>,
    pub(super) in_flight: InFlight,
    /// From the headers of the request to the end of the answer.
    pub(super) limit: Duration,
    /// Requested when answers end their connections.
    pub(super) stopping: Cancel,
}

impl Exchange {
    /// Answers a request within the time limit, or with an error that says so.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
        router: &TowerToHyperService<axum::Router>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<> {
        let start = Instant::now();
        self.activity.begin();
        let path = request.uri().path().to_owned();
        let is_probe = PROBES.contains(&path.as_str());
        let (id, parent) = (request_id::of(request.headers()), TraceParent::of(request.headers()));
        let span = if is_probe { Span::none() } else { spans::request(request.method(), &path, parent) };
        let mut record = Record {
            span: span.clone(),
            parent,
            activity: Arc::clone(&self.activity),
            _one: self.in_flight.begin(),
            start,
            remote: Arc::clone(&self.remote),
            id: id.clone(),
            method: request.method().clone(),
            path,
            is_probe,
            key: None,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            bytes: 0,
            is_whole: false,
        };
        let (answered, limit, stopping) = (router.call(request).instrument(span), self.limit, self.stopping.clone());
        async move {
            let timer = tokio::time::sleep_until(start + limit);
            let mut answer = match tokio::time::timeout_at(start + limit, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => ApiError::too_slow(limit).into_response(),
            };
            answer.headers_mut().insert(request_id::HEADER, id);
            if stopping.is_requested() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            record.status = answer.status();
            record.key = answer.extensions().get::<KeyName>().map(|name| Arc::clone(&name.0));
            let kind = answer.headers().get(header::CONTENT_TYPE);
            let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
            Ok(answer.map(|body| AnswerBody { body: Some(body), timer: Box::pin(timer), limit, is_stream, record }))
        }
    }
}

/// The body of an answer, which ends when the time is up: a stream of events with an error.
pub(super) struct AnswerBody {
    body: Option<Body>,
    timer: Pin<Box<Sleep>>,
    limit: Duration,
    is_stream: bool,
    record: Record,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // Before the frames: of a stream whose client reads slowly, there is always one.
        let is_over = this.timer.as_mut().poll(context).is_ready();
        if !(is_over && this.is_stream)
            && let Poll::Ready(frame) = Pin::new(body).poll_frame(context)
        {
            match &frame {
                Some(Ok(frame)) => this.record.bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => {}
                None => this.record.is_whole = true,
            }
            return Poll::Ready(frame);
        }
        if !is_over {
            return Poll::Pending;
        }
        // Dropping the body cancels the generation.
        self.body = None;
        let error = ApiError::too_slow(self.limit);
        if !self.is_stream {
            return Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other(error.detail.message)))));
        }
        let event = serde_json::to_string(&error.body()).unwrap_or_default();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("data: {event}\n\n"))))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // A body whose length is known is not polled for its end.
        self.record.is_whole |= self.body.as_ref().is_some_and(HttpBody::is_end_stream);
    }
}

/// The line in the access log, written when the answer has ended or the client has gone, and the span that ends then.
struct Record {
    span: Span,
    parent: Option<TraceParent>,
    activity: Arc<Activity>,
    _one: One,
    start: Instant,
    remote: Arc<str>,
    id: HeaderValue,
    method: Method,
    /// Without the query, which may hold secrets.
    path: String,
    is_probe: bool,
    key: Option<Arc<str>>,
    status: StatusCode,
    bytes: usize,
    is_whole: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.activity.end();
        spans::set_status(&self.span, self.status);
        if self.is_probe {
            return;
        }
        tracing::info!(
            target: "serve::access",
            remote = %self.remote,
            key = self.key.as_deref(),
            method = %self.method,
            path = self.path,
            status = self.status.as_u16(),
            bytes = self.bytes,
            seconds = self.start.elapsed().as_secs_f64(),
            whole = self.is_whole,
            request_id = self.id.to_str().ok(),
            trace_id = spans::trace_id(&self.span, self.parent),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::stream::repeat;

    use super::*;

    /// Returns how an answer that never ends by itself ends when its time is up.
    fn end(is_stream: bool) -> Vec<Result<Bytes, axum::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let record = Record {
                span: Span::none(),
                parent: None,
                activity: Arc::default(),
                _one: InFlight::default().begin(),
                start: Instant::now(),
                remote: "client".into(),
                id: HeaderValue::from_static("id"),
                method: Method::POST,
                path: String::new(),
                is_probe: true,
                key: None,
                status: StatusCode::OK,
                bytes: 0,
                is_whole: false,
            };
            let frames = repeat(Ok::<_, Infallible>(Bytes::from_static(b"data: {}\n\n")));
            let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
            tokio::time::sleep(Duration::from_millis(2)).await;
            let body = Some(Body::from_stream(frames));
            let answer = AnswerBody { body, timer, limit: Duration::from_secs(3), is_stream, record };
            Body::new(answer).into_data_stream().take(3).collect().await
        })
    }

    #[test]
    fn a_stream_ends_in_time_even_if_it_always_has_a_frame() {
        let events: Vec<Bytes> = end(true).into_iter().map(Result::unwrap).collect();
        let [event] = &events[..] else { panic!("{} events", events.len()) };
        assert!(event.starts_with(b"data: {\"error\":{\"message\":\"The answer took longer than 3 s"), "{event:?}");
        assert_eq!(end(false).len(), 3, "an answer that is ready is sent");
    }
}
