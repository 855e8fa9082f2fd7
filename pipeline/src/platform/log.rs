//! What libraries log.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::ui::console::Console;

/// A consumer of spans and events besides the console.
pub type LogLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Shows warnings of libraries on the console, and what the filter `more` adds; `PIPELINE_LOG` overrides both
/// (`PIPELINE_LOG=debug`).
pub fn log_to(console: &Console, more: &str) {
    log_and_trace(console, more, None);
}

/// As [`log_to`]; `layer` is what else consumes spans and events.
pub fn log_and_trace(console: &Console, more: &str, layer: Option<LogLayer>) {
    // GPU drivers warn about much that does not concern the user.
    let default = format!("warn,wgpu_core=error,wgpu_hal=error,naga=error,cubecl_wgpu=error,{more}");
    let filter = EnvFilter::try_from_env("PIPELINE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = fmt::layer().with_writer(console.clone()).with_ansi(false).without_time();
    // Only the first call in a process counts, and there is only one.
    let _ = tracing_subscriber::registry().with(layer).with(log.with_filter(filter)).try_init();
}
