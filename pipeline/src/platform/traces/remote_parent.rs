//! Spans that continue the trace of the client, which names it in the header `traceparent` (W3C, Trace Context,
//! Recommendation 2021).

use std::fmt;

use opentelemetry::Context as TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A layer of OpenTelemetry whose spans with a [`serve::TRACEPARENT_FIELD`] are children of the span that it names.
/// One that is malformed counts for nothing.
pub(super) struct RemoteParent<L>(pub(super) L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for RemoteParent<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut header = Header(None);
        attributes.record(&mut header);
        // A span that begins in this context is a child of its span.
        let parent = header.0.as_deref().and_then(parse);
        let _attached = parent.map(|parent| TraceContext::new().with_remote_span_context(parent).attach());
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        self.0.on_follows_from(id, follows, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.0.on_event(event, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

/// The header of a span.
struct Header(Option<String>);

impl Visit for Header {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == serve::TRACEPARENT_FIELD {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Reads `version-trace-parent-flags` in lower-case hexadecimal digits. A later version may have more after that.
fn parse(header: &str) -> Option<SpanContext> {
    let (version, trace, parent, flags) =
        (header.get(..2)?, header.get(3..35)?, header.get(36..52)?, header.get(53..55)?);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let has_dashes = [2, 35, 52].iter().all(|at| header.as_bytes()[*at] == b'-');
    if !has_dashes || ![version, trace, parent, flags].into_iter().all(is_hex) || version == "ff" {
        return None;
    }
    let rest = &header[55..];
    if !rest.is_empty() && (version == "00" || !rest.starts_with('-')) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, parent) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(parent).ok()?);
    Some(SpanContext::new(trace, parent, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_headers_count_for_nothing() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let check = |header: String, sampled: Option<bool>| {
            let found = parse(&header).map(|context| {
                let ids = (context.trace_id().to_string(), context.span_id().to_string());
                assert_eq!(ids, (trace.to_owned(), parent.to_owned()), "{header}");
                assert!(context.is_remote());
                context.is_sampled()
            });
            assert_eq!(found, sampled, "{header}");
        };
        check(format!("00-{trace}-{parent}-01"), Some(true));
        check(format!("00-{trace}-{parent}-fe"), Some(false));
        check(format!("cc-{trace}-{parent}-03-more"), Some(true));
        check(format!("cc-{trace}-{parent}-03more"), None);
        check(format!("00-{trace}-{parent}-01-more"), None);
        check(format!("ff-{trace}-{parent}-01"), None);
        check(format!("00-{trace}-{parent}-1"), None);
        check(format!("00-{}-{parent}-01", trace.to_uppercase()), None);
        check(format!("00-{}-{parent}-01", "0".repeat(32)), None);
        check(format!("00-{trace}-{}-01", "0".repeat(16)), None);
        check(format!("00-{}-{parent}-01", &trace[1..]), None);
        check(format!("00-+{}-{parent}-01", &trace[1..]), None);
        check(format!("00_{trace}-{parent}-01"), None);
        check(format!("00-{}é-{parent}-01", &trace[2..]), None);
        check(String::new(), None);
    }
}
