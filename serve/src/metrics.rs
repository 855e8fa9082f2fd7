//! Metrics in Prometheus' text format. The names and labels are vLLM's without its prefix, so its dashboards and
//! autoscaling rules need little change.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::event::Event;
use crate::paced_events::{EventSender, Gone};
use crate::spans::Generation;
use crate::work::Work;

/// The media type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets of times, in seconds: those of vLLM's histograms, from a small model on a GPU to a large
/// one on a CPU.
const FIRST_TOKEN_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0, 10.0, 30.0, 60.0];
const INTER_TOKEN_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.4, 0.8, 2.0, 5.0];
const REQUEST_SECONDS: [f64; 14] = [0.05, 0.1, 0.3, 0.5, 0.8, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0];

type Labels = [(&'static str, Arc<str>); 1];
type FinishLabels = [(&'static str, Arc<str>); 2];

/// The metrics of a server.
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
}

#[derive(Clone)]
struct Families {
    first_token: Family<Labels, Histogram, fn() -> Histogram>,
    inter_token: Family<Labels, Histogram, fn() -> Histogram>,
    request: Family<Labels, Histogram, fn() -> Histogram>,
    prompt_tokens: Family<Labels, Counter>,
    generation_tokens: Family<Labels, Counter>,
    success: Family<FinishLabels, Counter>,
    running: Family<Labels, Gauge>,
    waiting: Family<Labels, Gauge>,
    cache: Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

/// The metrics of one model.
#[derive(Clone)]
pub(crate) struct ModelMetrics {
    model: Arc<str>,
    first_token: Histogram,
    inter_token: Histogram,
    request: Histogram,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    success: Family<FinishLabels, Counter>,
    running: Gauge,
    waiting: Gauge,
    cache: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let families = Families {
            first_token: Family::new_with_constructor(|| Histogram::new(FIRST_TOKEN_SECONDS)),
            inter_token: Family::new_with_constructor(|| Histogram::new(INTER_TOKEN_SECONDS)),
            request: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            prompt_tokens: Family::default(),
            generation_tokens: Family::default(),
            success: Family::default(),
            running: Family::default(),
            waiting: Family::default(),
            cache: Family::default(),
        };
        let Families { first_token, inter_token, request, .. } = families.clone();
        let Families { prompt_tokens, generation_tokens, success, running, waiting, cache, .. } = families.clone();
        let r = &mut registry;
        r.register("time_to_first_token_seconds", "From a request's arrival to its first text", first_token);
        r.register("inter_token_latency_seconds", "Between two parts of a text", inter_token);
        r.register("e2e_request_latency_seconds", "From a request's arrival to the end of a text", request);
        r.register("prompt_tokens", "Tokens of prompts", prompt_tokens);
        r.register("generation_tokens", "Tokens generated", generation_tokens);
        r.register("request_success", "Texts finished, by reason", success);
        r.register("num_requests_running", "Requests being answered", running);
        r.register("num_requests_waiting", "Requests in the queue", waiting);
        r.register("kv_cache_usage_perc", "Fraction of the KV cache in use, from 0 to 1", cache);
        Self { registry, families }
    }

    /// Returns the metrics of a model.
    pub(crate) fn of(&self, model: &str) -> ModelMetrics {
        let (families, labels) = (&self.families, [("model_name", model.into())]);
        ModelMetrics {
            running: families.running.get_or_create_owned(&labels),
            waiting: families.waiting.get_or_create_owned(&labels),
            cache: families.cache.get_or_create_owned(&labels),
            ..self.of_adapter(model)
        }
    }

    /// Returns the metrics of an adapter. Its queue and cache are those of its model, whose metrics have their load.
    pub(crate) fn of_adapter(&self, name: &str) -> ModelMetrics {
        let model: Arc<str> = name.into();
        let labels = [("model_name", Arc::clone(&model))];
        let families = &self.families;
        ModelMetrics {
            first_token: families.first_token.get_or_create_owned(&labels),
            inter_token: families.inter_token.get_or_create_owned(&labels),
            request: families.request.get_or_create_owned(&labels),
            prompt_tokens: families.prompt_tokens.get_or_create_owned(&labels),
            generation_tokens: families.generation_tokens.get_or_create_owned(&labels),
            success: families.success.clone(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            cache: Gauge::default(),
            model,
        }
    }

    /// Returns all metrics as text.
    pub(crate) fn encode(&self) -> String {
        let mut encoded = String::new();
        // Writing to a string never fails.
        let _ = text::encode(&mut encoded, &self.registry);
        encoded
    }
}

impl ModelMetrics {
    /// Sets how many requests are being answered and waiting.
    pub(crate) fn set_load(&self, running: usize, waiting: usize) {
        self.running.set(running as i64);
        self.waiting.set(waiting as i64);
    }

    /// Sets the fraction of the KV cache in use.
    pub(crate) fn set_cache_usage(&self, fraction: f64) {
        self.cache.set(fraction);
    }
}

/// The worker's end of the channel of a request's events: it measures what it sends.
pub(crate) struct Events {
    sender: EventSender,
    metrics: ModelMetrics,
    span: Generation,
    arrival: Instant,
    /// When each text last grew.
    grown: RefCell<Vec<Option<Instant>>>,
}

impl Events {
    /// Returns the sender of a request that arrives now.
    pub(crate) fn new(sender: EventSender, metrics: ModelMetrics, work: &Work) -> Self {
        let span = Generation::new(&metrics.model, work);
        Self { sender, metrics, span, arrival: Instant::now(), grown: RefCell::default() }
    }

    /// Notes that the request leaves the queue.
    pub(crate) fn start(&self) {
        self.span.start(self.arrival.elapsed());
    }

    /// Returns true if the client has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Returns an error if the client has gone.
    pub(crate) fn send(&self, event: Event) -> Result<(), Gone> {
        match &event {
            Event::Text { index, .. } => self.grow(*index),
            Event::Finished { index, prompt_tokens, completion_tokens, reason, .. } => {
                if *completion_tokens > 0 && self.grown.borrow().get(*index).is_none_or(Option::is_none) {
                    self.grow(*index);
                }
                self.span.finish(*prompt_tokens, *completion_tokens, *reason, self.arrival.elapsed());
                self.metrics.request.observe(self.arrival.elapsed().as_secs_f64());
                self.metrics.prompt_tokens.inc_by(*prompt_tokens as u64);
                self.metrics.generation_tokens.inc_by(*completion_tokens as u64);
                let reason: Arc<str> = reason.name().into();
                let labels = [("model_name", Arc::clone(&self.metrics.model)), ("finished_reason", reason)];
                self.metrics.success.get_or_create(&labels).inc();
            }
            Event::Failed(error) => self.span.fail(error),
            Event::Prompt { .. } | Event::Embedding { .. } | Event::Attention { .. } => {}
        }
        self.sender.send(event)
    }

    fn grow(&self, index: usize) {
        let (now, mut grown) = (Instant::now(), self.grown.borrow_mut());
        if grown.len() <= index {
            grown.resize(index + 1, None);
        }
        self.span.grow(now - self.arrival);
        match grown[index].replace(now) {
            None => self.metrics.first_token.observe((now - self.arrival).as_secs_f64()),
            Some(last) => self.metrics.inter_token.observe((now - last).as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use generate::{CompletionOptions, FinishReason};

    use super::*;
    use crate::paced_events::channel;
    use crate::work::Scoring;

    #[test]
    fn events_are_measured() {
        let metrics = Metrics::new();
        let model = metrics.of("a\"b");
        let (sender, receiver) = channel();
        let (prompts, options) = (vec![vec![1]], CompletionOptions::default());
        let work = Work {
            prompts,
            operation: "chat",
            n: 2,
            options,
            scoring: Scoring::default(),
            shown_tokens: Vec::new(),
            embeds: false,
            attention_layer: None,
        };
        let events = Events::new(sender, model.clone(), &work);
        let text = |index| Event::Text { index, text: "x".to_owned(), tokens: Vec::new() };
        for event in [text(0), text(1), text(0), text(0)] {
            events.send(event).unwrap();
        }
        let reason = FinishReason::Length;
        events
            .send(Event::Finished { index: 0, prompt_tokens: 5, completion_tokens: 3, reason, mean_logprob: 0.0 })
            .unwrap();
        drop(receiver);
        assert!(events.is_closed());
        events
            .send(Event::Finished { index: 1, prompt_tokens: 0, completion_tokens: 1, reason, mean_logprob: 0.0 })
            .unwrap_err();
        model.set_load(2, 3);
        model.set_cache_usage(0.25);
        let text = metrics.encode();
        let label = r#"model_name="a\"b""#;
        for line in [
            format!("time_to_first_token_seconds_count{{{label}}} 2"),
            format!("inter_token_latency_seconds_count{{{label}}} 2"),
            format!("e2e_request_latency_seconds_count{{{label}}} 2"),
            format!("prompt_tokens_total{{{label}}} 5"),
            format!("generation_tokens_total{{{label}}} 4"),
            format!("request_success_total{{{label},finished_reason=\"length\"}} 2"),
            format!("num_requests_running{{{label}}} 2"),
            format!("num_requests_waiting{{{label}}} 3"),
            format!("kv_cache_usage_perc{{{label}}} 0.25"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
