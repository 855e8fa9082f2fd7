//! What the program asks of its surroundings: allocator, environment, host, clock, signals, and where logs and
//! traces go.

pub mod allocator;
pub mod clock;
pub mod environment;
pub mod host;
pub mod interrupt;
pub mod log;
#[cfg(feature = "otel")]
pub mod traces;
