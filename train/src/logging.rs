//! What a training logs: metrics, the same for TensorBoard, and samples of the model's text.

pub mod metrics;
pub mod sample;
pub mod tensorboard;
