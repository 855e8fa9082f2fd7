//! From gradients to changed weights: the gradients of a step, the learning rate, the optimizer.

pub mod gradients;
pub mod optimizer;
pub mod schedule;
