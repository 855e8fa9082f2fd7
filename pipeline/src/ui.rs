//! What a person sees: progress while a run works, tables when it ends, pages that compare runs, and tokens as text.

pub mod console;
pub mod diff_page;
pub mod markdown;
pub mod masked_text;
pub mod page;
pub mod plot;
pub mod summary;
