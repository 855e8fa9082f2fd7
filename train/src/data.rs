//! The training data in the order of the steps.

pub mod batches;
pub mod packing;
pub mod sampler;
pub mod shuffle;
