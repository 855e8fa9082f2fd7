//! Reference implementations in burn's own operations, for every device and number type, and to test against.
//!
//! For 16-bit types, norms, softmax and rotary positions are computed in f32; the output has the type of the input.

use burn::tensor::activation::{gelu_approximate, log_softmax, sigmoid, softmax};
use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::dropout::{Dropout, MULTIPLIER};
use crate::optimizers::{AdamW, Muon};

/// As [`crate::cross_entropy`].
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, loss_scale: f64, z_loss: f64) -> Tensor<1> {
    let [n, _] = logits.dims();
    let is_target = targets.clone().greater_equal_elem(0).float(); // [N]
    let own = logits.clone().gather(1, targets.clamp_min(0).reshape([n, 1])).squeeze_dim::<1>(1); // [N]
    let largest = logits.clone().detach().max_dim(1); // [N, 1]
    let lse = (logits - largest.clone()).exp().sum_dim(1).log() + largest; // [N, 1]
    let lse = lse.squeeze_dim::<1>(1);
    let loss = if z_loss > 0.0 { lse.clone() - own + lse.square().mul_scalar(z_loss) } else { lse - own };
    (loss * is_target).sum().mul_scalar(loss_scale)
}

/// As [`crate::kl_divergence`].
pub fn kl_divergence(
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<1, Int>,
    temperature: f64,
    loss_scale: f64,
) -> Tensor<1> {
    let is_target = targets.greater_equal_elem(0).float(); // [N]
    let teacher = log_softmax(teacher.detach().div_scalar(temperature), 1); // [N, V]
    let student = log_softmax(student.div_scalar(temperature), 1); // [N, V]
    let divergence = (teacher.clone().exp() * (teacher - student)).sum_dim(1).squeeze_dim::<1>(1); // [N]
    (divergence * is_target).sum().mul_scalar(temperature * temperature * loss_scale)
}

/// As [`crate::linear`].
///
/// burn's own `linear` reshapes the transposed weight into a batch of one, which copies it on every call if B is 1 or T
/// is a multiple of 32. A product of two matrices copies nothing.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>, residual: Option<Tensor<3>>) -> Tensor<3> {
    let ([b, t, i], [o, _]) = (x.dims(), weight.dims());
    let y = x.reshape([b * t, i]).matmul(weight.transpose()); // [B T, O]
    let y = match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    };
    let y = y.reshape([b, t, o]);
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}

/// As [`crate::embedding`].
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids)
}

/// As [`crate::attention`].
pub fn attention(
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    segment_starts: Option<Tensor<2, Int>>,
    c: usize,
    scale: f64,
    drop: Option<Dropout>,
) -> Tensor<3> {
    let ([b, t, n], [.., m], device) = (queries.dims(), keys.dims(), queries.device());
    let (h, k) = (n / c, m / c);
    let (queries, keys) = (queries.reshape([b, t, h, c]), keys.reshape([b, t, k, c]));
    let values = values.reshape([b, t, k, c]);
    let g = h / k;
    // The G query heads of a key/value head are stacked, so that keys and values are not repeated.
    let queries = queries.swap_dims(1, 2).reshape([b, k, g * t, c]); // [B, K, G T, C]
    let (keys, values) = (keys.swap_dims(1, 2), values.swap_dims(1, 2)); // [B, K, T, C]
    let scores = queries.matmul(keys.swap_dims(2, 3)); // [B, K, G T, T]
    let positions = Tensor::<1, Int>::arange(0..t as i64, &device);
    let (query, key) = (positions.clone().reshape([1, t, 1]), positions.reshape([1, 1, t]));
    let later = key.clone().greater(query); // [1, T, T]
    let masked = match segment_starts {
        Some(starts) => later.expand([b, t, t]).bool_or(key.lower(starts.reshape([b, t, 1]))), // [B, T, T]
        None => later.expand([b, t, t]),
    };
    let masked = masked.reshape([b, 1, 1, t, t]).expand([b, k, g, t, t]).reshape([b, k, g * t, t]);
    let probs = softmax32(scores, |scores| scores.mul_scalar(scale).mask_fill(masked, -1e30)); // [B, K, G T, T]
    let probs = match drop {
        Some(drop) => dropout(probs, drop),
        None => probs,
    };
    probs.matmul(values).reshape([b, h, t, c]).swap_dims(1, 2).reshape([b, t, n]) // [B, T, H C]
}

/// As [`crate::dropout`].
pub fn dropout<const N: usize>(x: Tensor<N>, dropout: Dropout) -> Tensor<N> {
    let (mask, n, device) = (dropout.mask(), x.shape().num_elements(), x.device());
    // The halves of each index, from short ranges: some devices fill long ones element by element.
    let l = n.div_ceil(1 << 16);
    let range = |end: usize| Tensor::<1, Int>::arange(0..end as i64, &device);
    let right = range(256).mul_scalar(256).reshape([256, 1]).expand([256, 256]) + range(256).reshape([1, 256]);
    let mut right = right.reshape([1, 1 << 16]).expand([l, 1 << 16]);
    let mut left = range(l).bitwise_and_scalar(0xffff).reshape([l, 1]).expand([l, 1 << 16]);
    for key in mask.keys {
        let product = right.clone().bitwise_xor_scalar(key).mul_scalar(MULTIPLIER);
        let scrambled = product.bitwise_right_shift_scalar(8).bitwise_and_scalar(0xffff);
        (left, right) = (right, left.bitwise_xor(scrambled));
    }
    let drawn = left.bitwise_and_scalar(0x7fff).bitwise_left_shift_scalar(16).bitwise_or(right);
    let drawn = drawn.reshape([l << 16]).narrow(0, 0, n).reshape(x.shape());
    let kept = drawn.greater_equal_elem(mask.threshold).float().cast(x.dtype());
    x * kept.mul_scalar(mask.keep)
}

/// As [`crate::causal_softmax`].
pub fn causal_softmax(scores: Tensor<4>, queries: usize, scale: f64) -> Tensor<4> {
    let [_, _, rows, keys] = scores.dims();
    if queries == 1 {
        return softmax32(scores, |scores| scores.mul_scalar(scale));
    }
    let mut mask = vec![0.0f32; rows * keys];
    for (row, mask) in mask.chunks_exact_mut(keys).enumerate() {
        mask[keys - queries + row % queries + 1..].fill(-1e30);
    }
    let mask = Tensor::from_data(TensorData::new(mask, vec![1, 1, rows, keys]), &scores.device());
    softmax32(scores, |scores| scores.mul_scalar(scale) + mask)
}

/// As [`crate::rms_norm`].
pub fn rms_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, epsilon: f64) -> Tensor<N> {
    let (shape, [d], dtype) = (x.shape(), weight.dims(), x.dtype());
    let x = to_f32(x).reshape([shape.num_elements() / d, d]);
    let mean_square = x.clone().square().mean_dim(1); // [.., 1]
    (x * mean_square.add_scalar(epsilon).sqrt().recip() * weight.unsqueeze()).reshape(shape).cast(dtype)
}

/// As [`crate::layer_norm`].
pub fn layer_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<N> {
    let dtype = x.dtype();
    burn::tensor::module::layer_norm(to_f32(x), weight, Some(bias), epsilon).cast(dtype)
}

/// As [`crate::gelu`].
pub fn gelu<const N: usize>(x: Tensor<N>) -> Tensor<N> {
    gelu_approximate(x)
}

/// As [`crate::swiglu`].
pub fn swiglu<const N: usize>(gate: Tensor<N>, up: Tensor<N>) -> Tensor<N> {
    gate.clone() * sigmoid(gate) * up
}

/// As [`crate::rope`].
pub fn rope(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    let ([b, t, n], [_, half], dtype) = (x.dims(), cos.dims(), x.dtype());
    let x = to_f32(x).reshape([b, t, n / (2 * half), 2 * half]); // [B, T, H, C]
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half)); // [B, T, H, C / 2]
    let (cos, sin) = (cos.reshape([1, t, 1, half]), sin.reshape([1, t, 1, half]));
    let rotated = a.clone() * cos.clone() - b.clone() * sin.clone();
    let both = Tensor::cat(vec![rotated, b * cos + a * sin], 3); // [B, T, H, C]
    both.reshape([-1, t as i32, n as i32]).cast(dtype)
}

/// As [`crate::square_sum`].
pub fn square_sum<const N: usize>(x: Tensor<N>) -> Tensor<1> {
    x.square().sum()
}

/// As [`crate::adamw`].
pub fn adamw<const N: usize>(
    x: Tensor<N>,
    gradient: Tensor<N>,
    moments: Option<[Tensor<N>; 2]>,
    step: &AdamW,
) -> (Tensor<N>, [Tensor<N>; 2]) {
    let gradient = gradient.mul_scalar(step.gradient_scale);
    let moment = |old: Option<Tensor<N>>, new: Tensor<N>, beta: f32| match old {
        Some(old) => old.mul_scalar(beta) + new.mul_scalar(1.0 - beta),
        None => new.mul_scalar(1.0 - beta),
    };
    let [old_1, old_2] = moments.map_or([None, None], |moments| moments.map(Some));
    let moment_1 = moment(old_1, gradient.clone(), step.beta_1);
    let moment_2 = moment(old_2, gradient.square(), step.beta_2);
    let [correction_1, correction_2] = step.corrections();
    let divisor = moment_2.clone().mul_scalar(correction_2).sqrt().add_scalar(step.epsilon);
    let update = moment_1.clone().mul_scalar(correction_1).div(divisor);
    let kept = x.mul_scalar(1.0 - step.learning_rate * step.weight_decay);
    (kept - update.mul_scalar(step.learning_rate), [moment_1, moment_2])
}

/// As [`crate::muon`].
pub fn muon(x: Tensor<2>, gradient: Tensor<2>, velocity: Option<Tensor<2>>, step: &Muon) -> (Tensor<2>, Tensor<2>) {
    let gradient = gradient.mul_scalar(step.gradient_scale);
    let velocity = match velocity {
        Some(velocity) => gradient.clone() + velocity.mul_scalar(Muon::MOMENTUM),
        None => gradient.clone(),
    };
    let update = velocity.clone().mul_scalar(Muon::MOMENTUM) + gradient;
    let [rows, columns] = update.dims();
    let update = if rows > columns { update.transpose() } else { update };
    let norm = update.clone().square().sum().sqrt().clamp_min(1e-7);
    let mut update = update / norm.unsqueeze();
    let [a, b, c] = Muon::COEFFICIENTS;
    for _ in 0..Muon::ITERATIONS {
        let gram = update.clone().matmul(update.clone().transpose());
        let square = gram.clone().matmul(gram.clone());
        let polynomial = gram.mul_scalar(b) + square.mul_scalar(c);
        update = update.clone().mul_scalar(a) + polynomial.matmul(update);
    }
    let update = if rows > columns { update.transpose() } else { update };
    let kept = x.mul_scalar(1.0 - step.learning_rate * step.weight_decay);
    (kept - update.mul_scalar(step.update_scale(rows, columns)), velocity)
}

/// Returns the softmax over the last dimension of `prepare(scores)`, computed in f32.
fn softmax32(scores: Tensor<4>, prepare: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let dtype = scores.dtype();
    softmax(prepare(to_f32(scores)), 3).cast(dtype)
}

/// Returns 16-bit numbers as f32, others unchanged.
fn to_f32<const N: usize>(x: Tensor<N>) -> Tensor<N> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) { x.cast(DType::F32) } else { x }
}
