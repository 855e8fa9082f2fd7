//! Spans of requests. Names and attributes are those of OpenTelemetry's semantic conventions for HTTP and generative
//! AI, and vLLM's `gen_ai.latency.…` for times, in seconds, that the conventions do not name. A subscriber decides
//! where they go; without one that wants them they cost next to nothing.

#[cfg(feature = "otel")]
mod opentelemetry_context;
mod trace_parent;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use generate::FinishReason;
use tracing::Span;
use tracing::field::Empty;

use crate::api_error::ApiError;
use crate::work::Work;
pub(crate) use trace_parent::TraceParent;

/// The target of all spans, for filters.
pub const SPAN_TARGET: &str = "serve::span";

/// Returns the span of an HTTP request, from its headers to the end of its answer; inside that of its caller, if there
/// is one.
pub(crate) fn request(method: &Method, path: &str, parent: Option<TraceParent>) -> Span {
    let span = tracing::info_span!(
        target: SPAN_TARGET,
        parent: None,
        "request",
        otel.name = %method,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %method,
        url.path = path,
        http.route = Empty,
        http.response.status_code = Empty,
        "error.type" = Empty,
    );
    #[cfg(feature = "otel")]
    if let Some(parent) = parent {
        opentelemetry_context::set_parent(&span, parent);
    }
    #[cfg(not(feature = "otel"))]
    let _ = parent;
    span
}

/// Returns the id of the trace that a request's span is in, as the log shows it; that of its caller if the span is not
/// recorded.
pub(crate) fn trace_id(span: &Span, parent: Option<TraceParent>) -> Option<String> {
    #[cfg(feature = "otel")]
    if let Some(trace) = opentelemetry_context::trace_id(span) {
        return Some(trace);
    }
    #[cfg(not(feature = "otel"))]
    let _ = span;
    parent.map(|parent| format!("{:032x}", parent.trace))
}

/// Names the current span by the route that answers a request.
pub(crate) fn set_route(request: &Request) {
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        let span = Span::current();
        span.record("otel.name", format!("{} {}", request.method(), route.as_str()));
        span.record("http.route", route.as_str());
    }
}

/// Records how an HTTP request was answered.
pub(crate) fn set_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
}

/// The span of the texts of a request, from its arrival in the queue to the end of the last one.
pub(crate) struct Generation {
    span: Span,
    has_text: Cell<bool>,
    input_tokens: Cell<usize>,
    output_tokens: Cell<usize>,
    reasons: RefCell<Vec<&'static str>>,
    has_failed: Cell<bool>,
}

impl Generation {
    /// Begins the span of work for a model, inside that of its request.
    pub(crate) fn new(model: &str, work: &Work) -> Self {
        let operation = work.operation;
        let sampling = &work.options.sampling;
        let span = tracing::info_span!(
            target: SPAN_TARGET,
            "generation",
            otel.name = format!("{operation} {model}"),
            otel.status_code = Empty,
            otel.status_description = Empty,
            gen_ai.operation.name = operation,
            gen_ai.provider.name = "pipeline",
            gen_ai.request.model = model,
            gen_ai.request.choice.count = work.n,
            gen_ai.request.max_tokens = work.options.max_tokens,
            gen_ai.request.temperature = f64::from(sampling.temperature),
            gen_ai.request.top_p = f64::from(sampling.top_p),
            gen_ai.response.model = model,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.latency.time_in_queue = Empty,
            gen_ai.latency.time_to_first_token = Empty,
            gen_ai.latency.e2e = Empty,
            "error.type" = Empty,
        );
        Self {
            span,
            has_text: Cell::new(false),
            input_tokens: Cell::new(0),
            output_tokens: Cell::new(0),
            reasons: RefCell::default(),
            has_failed: Cell::new(false),
        }
    }

    /// Records that the work has left the queue, this long after its arrival.
    pub(crate) fn start(&self, after: Duration) {
        self.span.record("gen_ai.latency.time_in_queue", after.as_secs_f64());
    }

    /// Records that there is new text, this long after the arrival.
    pub(crate) fn grow(&self, after: Duration) {
        if !self.has_text.replace(true) {
            self.span.record("gen_ai.latency.time_to_first_token", after.as_secs_f64());
        }
    }

    /// Records the end of one text, this long after the arrival.
    pub(crate) fn finish(&self, input_tokens: usize, output_tokens: usize, reason: FinishReason, after: Duration) {
        self.input_tokens.update(|tokens| tokens + input_tokens);
        self.output_tokens.update(|tokens| tokens + output_tokens);
        self.reasons.borrow_mut().push(reason.name());
        self.span.record("gen_ai.latency.e2e", after.as_secs_f64());
    }

    /// Records that the work has failed.
    pub(crate) fn fail(&self, error: &ApiError) {
        self.has_failed.set(true);
        self.span.record("otel.status_code", "ERROR");
        self.span.record("otel.status_description", error.detail.message.as_str());
        self.span.record("error.type", error.detail.code.unwrap_or(error.detail.kind));
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let reasons = self.reasons.take();
        if reasons.is_empty() && !self.has_failed.get() {
            self.span.record("error.type", "cancelled");
        }
        // Fields have no arrays.
        self.span.record("gen_ai.response.finish_reasons", format!("{reasons:?}"));
        self.span.record("gen_ai.usage.input_tokens", self.input_tokens.get());
        self.span.record("gen_ai.usage.output_tokens", self.output_tokens.get());
    }
}
