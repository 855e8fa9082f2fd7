//! A run: which stages there are, which of them must run and why, how they run, and what is recorded.

pub mod answers;
pub mod archive;
pub mod baseline;
pub mod catalog;
pub mod comparison;
pub mod dispatch;
pub mod engine;
pub mod estimate;
pub mod gates;
pub mod input_model;
pub mod liveness;
pub mod model_ref;
pub mod names;
pub mod perform;
pub mod plan;
pub mod record;
pub mod repeat;
pub mod session;
pub mod stage;
pub mod task_data;
pub mod values;
