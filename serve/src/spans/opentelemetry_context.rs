//! What a span has in OpenTelemetry beside its fields: the trace that it is in.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TraceParent;

/// Puts a span that has not been entered yet into that of its caller.
pub(super) fn set_parent(span: &Span, parent: TraceParent) {
    let (trace, id) = (TraceId::from(parent.trace), SpanId::from(parent.span));
    let parent = SpanContext::new(trace, id, TraceFlags::new(parent.flags), true, TraceState::default());
    // Fails only where traces are not sent.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// Returns the id of a span's trace, if traces are sent.
pub(super) fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let trace = context.span().span_context().trace_id();
    (trace != TraceId::INVALID).then(|| trace.to_string())
}
