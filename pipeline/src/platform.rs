//! What the program asks of its surroundings: allocator, environment, host, clock, signals.

pub mod allocator;
pub mod clock;
pub mod environment;
pub mod host;
pub mod interrupt;
