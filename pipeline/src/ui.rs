//! What a person sees: progress while a run works, and tables when it ends.

pub mod console;
pub mod summary;
