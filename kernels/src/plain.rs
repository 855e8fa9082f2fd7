//! The same operations as burn's own, for every device and number type, and to test against.

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Int, Tensor, TensorData};

/// As [`crate::cross_entropy`].
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [n, _] = logits.dims();
    log_softmax(logits, 1).gather(1, targets.reshape([n, 1])).mean().neg()
}

/// As [`crate::causal_softmax`].
pub fn causal_softmax(scores: Tensor<4>, queries: usize, scale: f64) -> Tensor<4> {
    let [_, _, rows, keys] = scores.dims();
    let scores = scores.mul_scalar(scale);
    if queries == 1 {
        return softmax(scores, 3);
    }
    let mut mask = vec![0.0f32; rows * keys];
    for (row, mask) in mask.chunks_exact_mut(keys).enumerate() {
        mask[keys - queries + row % queries + 1..].fill(-1e30);
    }
    let mask = Tensor::from_data(TensorData::new(mask, vec![1, 1, rows, keys]), &scores.device());
    softmax(scores + mask, 3)
}

/// As [`crate::rms_norm`].
pub fn rms_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, epsilon: f64) -> Tensor<N> {
    let mean_square = x.clone().square().mean_dim(N - 1); // [.., 1]
    x * mean_square.add_scalar(epsilon).sqrt().recip() * weight.unsqueeze()
}

/// As [`crate::swiglu`].
pub fn swiglu<const N: usize>(gate: Tensor<N>, up: Tensor<N>) -> Tensor<N> {
    gate.clone() * sigmoid(gate) * up
}

/// As [`crate::rope`].
pub fn rope(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    let [_, t, _, c] = x.dims();
    let half = c / 2;
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half)); // [B, T, H, C / 2]
    let (cos, sin) = (cos.reshape([1, t, 1, half]), sin.reshape([1, t, 1, half]));
    let turned = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![turned, b * cos + a * sin], 3)
}
