//! A run: which stages there are, which of them must run and why, how they run, and what is recorded.

pub mod baseline;
pub mod dispatch;
pub mod engine;
pub mod estimate;
pub mod gates;
pub mod input_model;
pub mod model_ref;
pub mod plan;
pub mod record;
pub mod session;
pub mod stage;
pub mod task_data;
