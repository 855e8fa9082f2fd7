//! Traces of the server's requests, sent to an OpenTelemetry collector by OTLP over HTTP. The standard variables
//! `OTEL_*` say where to; nothing is sent without an endpoint in them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fmt};

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::platform::log::LogLayer;
use crate::ui::console::Console;

/// The name of the service, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` has another.
const SERVICE: &str = "pipeline";

/// What sends traces, if the environment asks for them. Dropping it sends those that are left.
pub struct Traces {
    provider: Option<SdkTracerProvider>,
    console: Console,
}

impl Traces {
    /// Starts sending traces if a variable names an endpoint.
    ///
    /// # Errors
    /// Returns an error if a variable is not valid.
    pub fn from_environment(console: &Console) -> anyhow::Result<Self> {
        let console = console.clone();
        let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
        let has = |name: &str, value: &str| env::var(name).is_ok_and(|found| found.eq_ignore_ascii_case(value));
        let has_endpoint = is_set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) || is_set(OTEL_EXPORTER_OTLP_ENDPOINT);
        if !has_endpoint || has("OTEL_SDK_DISABLED", "true") || has("OTEL_TRACES_EXPORTER", "none") {
            return Ok(Self { provider: None, console });
        }
        serve::install_tls_provider();
        let exporter = SpanExporter::builder().with_http().build();
        let exporter = exporter.context("traces cannot be sent as the variables OTEL_* say")?;
        let exporter = Reporting { exporter, console: console.clone(), has_failed: AtomicBool::new(false) };
        let attributes = env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut resource = Resource::builder();
        if !is_set("OTEL_SERVICE_NAME") && !attributes.contains("service.name=") {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter);
        Ok(Self { provider: Some(provider.build()), console })
    }

    /// Returns what collects the server's spans, if traces are sent.
    pub fn layer(&self) -> Option<LogLayer> {
        let tracer = self.provider.as_ref()?.tracer(SERVICE);
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        // Where in the source a span begins and which thread it is on say nothing about a request.
        let layer = layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_target(false);
        // A span that is active has the name that it began with; that of a request is known once its route is.
        let layer = layer.with_context_activation(false);
        let spans = Targets::new().with_target(serve::SPAN_TARGET, LevelFilter::INFO);
        Some(layer.with_filter(spans).boxed())
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown()) {
            self.console.line(&format!("the last traces could not be sent: {error}"));
        }
    }
}

/// An exporter that reports its first failure.
struct Reporting {
    exporter: SpanExporter,
    console: Console,
    has_failed: AtomicBool,
}

impl fmt::Debug for Reporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exporter.fmt(f)
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            self.console.line(&format!("traces could not be sent: {error}; later failures are not reported"));
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
