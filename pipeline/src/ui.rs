//! What a person sees: progress while a run works, tables when it ends, and tokens as text.

pub mod console;
pub mod markdown;
pub mod masked_text;
pub mod summary;
