//! The fused operations against the reference implementations: values and gradients.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::Dropout;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Allows for two orders of summation in f32.
const TOLERANCE: f32 = 1e-5;

struct Case {
    device: Device,
    rng: ChaCha8Rng,
}

impl Case {
    fn new(seed: u64) -> Self {
        Self { device: Device::flex().autodiff(), rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], spread: f32) -> Tensor<D> {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| (self.rng.random::<f32>() - 0.5) * 2.0 * spread).collect();
        Tensor::from_data(TensorData::new(values, shape.to_vec()), &self.device)
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * b.abs().max(1.0), "{what}: element {i} is {a}, the reference {b}");
    }
}

/// Compares two functions of tensors: their values, and the gradients of a weighted sum of their values.
fn check<const D: usize, const O: usize>(
    what: &str,
    inputs: &[Tensor<D>],
    weights: &Tensor<O>,
    fused: impl Fn(Vec<Tensor<D>>) -> Tensor<O>,
    reference: impl Fn(Vec<Tensor<D>>) -> Tensor<O>,
) {
    let run = |function: &dyn Fn(Vec<Tensor<D>>) -> Tensor<O>| {
        let leaves: Vec<Tensor<D>> = inputs.iter().map(|x| x.clone().detach().require_grad()).collect();
        let y = function(leaves.clone());
        let gradients = (y.clone() * weights.clone()).sum().backward();
        let d_inputs: Vec<Vec<f32>> = leaves.iter().map(|x| values(x.grad(&gradients).unwrap())).collect();
        (values(y), d_inputs)
    };
    let ((y, gradients), (expected_y, expected_gradients)) = (run(&fused), run(&reference));
    assert_close(&format!("{what}, value"), &y, &expected_y);
    for (i, (a, b)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert_close(&format!("{what}, gradient of input {i}"), a, b);
    }
    // The values are the same without gradients.
    let inner: Vec<Tensor<D>> = inputs.iter().map(|x| x.clone().inner()).collect();
    assert_eq!(values(fused(inner)), y, "{what}, without gradients");
}

#[test]
fn cross_entropy() {
    for (n, v, z_loss) in [(1, 2, 0.0), (5, 50, 0.0), (130, 33, 0.0), (130, 33, 0.1)] {
        let mut case = Case::new(1);
        let logits = case.tensor([n, v], 8.0);
        let targets: Vec<i64> =
            (0..n).map(|i| if i % 3 == 1 { -1 } else { case.rng.random_range(0..v as i64) }).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, vec![n]), &case.device);
        let weights = case.tensor([1], 3.0);
        let loss_scale = 1.0 / n as f64;
        check(
            "cross_entropy",
            &[logits],
            &weights,
            |x| kernels::cross_entropy(x[0].clone(), like(&targets, &x[0]), loss_scale, z_loss),
            |x| kernels::reference::cross_entropy(x[0].clone(), like(&targets, &x[0]), loss_scale, z_loss),
        );
    }
}

/// The student's and the teacher's logits, with some targets ignored.
fn distillation(case: &mut Case, n: usize, v: usize) -> [Tensor<2>; 2] {
    [case.tensor([n, v], 8.0), case.tensor([n, v], 8.0)]
}

fn every_third_ignored(n: usize, device: &Device) -> Tensor<1, Int> {
    let targets: Vec<i64> = (0..n).map(|i| if i % 3 == 1 { -1 } else { 0 }).collect();
    Tensor::from_data(TensorData::new(targets, vec![n]), device)
}

#[test]
fn kl_divergence() {
    for (n, v, temperature) in [(1, 2, 1.0), (5, 50, 2.0), (130, 33, 0.7)] {
        let mut case = Case::new(9);
        let [student, teacher] = distillation(&mut case, n, v);
        let targets = every_third_ignored(n, &case.device);
        let weights = case.tensor([1], 3.0);
        let loss_scale = 1.0 / n as f64;
        let teacher = |x: &Tensor<2>| if x.device().is_autodiff() { teacher.clone() } else { teacher.clone().inner() };
        check(
            "kl_divergence",
            &[student],
            &weights,
            |x| {
                let targets = like(&targets, &x[0]);
                kernels::kl_divergence(x[0].clone(), teacher(&x[0]), targets, temperature, loss_scale)
            },
            |x| {
                let targets = like(&targets, &x[0]);
                kernels::reference::kl_divergence(x[0].clone(), teacher(&x[0]), targets, temperature, loss_scale)
            },
        );
    }
}

#[test]
fn the_gradient_of_the_divergence_is_its_slope() {
    let mut case = Case::new(10);
    let (n, v, temperature) = (4, 7, 2.0);
    let [student, teacher] = distillation(&mut case, n, v).map(|logits| logits.mul_scalar(0.25));
    let targets = every_third_ignored(n, &case.device);
    let divergence = |student: Tensor<2>| {
        kernels::kl_divergence(student, teacher.clone(), targets.clone(), temperature, 1.0 / n as f64)
    };
    let leaf = student.clone().require_grad();
    let gradient = values(leaf.grad(&divergence(leaf.clone()).backward()).unwrap());
    let logits = values(student);
    let step = 0.02;
    for (i, slope) in gradient.into_iter().enumerate() {
        let at = |change: f32| {
            let mut logits = logits.clone();
            logits[i] += change;
            values(divergence(Tensor::from_data(TensorData::new(logits, vec![n, v]), &case.device)))[0]
        };
        let difference = (at(step) - at(-step)) / (2.0 * step);
        assert!((difference - slope).abs() < 2e-4, "logit {i}: gradient {slope}, slope {difference}");
    }
}

#[test]
fn a_student_like_its_teacher_has_no_divergence() {
    let mut case = Case::new(11);
    let logits = case.tensor([6, 40], 8.0).require_grad();
    let targets = every_third_ignored(6, &case.device);
    let divergence = kernels::kl_divergence(logits.clone(), logits.clone().detach(), targets, 2.0, 1.0);
    let gradient = values(logits.grad(&divergence.clone().backward()).unwrap());
    assert!(values(divergence)[0].abs() < 1e-5);
    assert!(gradient.into_iter().all(|d| d.abs() < f32::EPSILON));
}

#[test]
fn dropout_has_its_probability_and_keeps_the_mean() {
    let ones = Tensor::<2>::ones([100, 1000], &Device::flex());
    let drop = |seed, stream| values(kernels::dropout(ones.clone(), Dropout { rate: 0.3, seed, stream }));
    let first = drop(1, 2);
    let dropped = first.iter().filter(|x| x.abs() < f32::EPSILON).count();
    assert!((29_000..31_000).contains(&dropped), "{dropped} of 100000 dropped at 0.3");
    assert!(first.iter().all(|x| x.abs() < f32::EPSILON || (x - 1.0 / 0.7).abs() < 1e-6));
    assert_eq!(first, drop(1, 2));
    for other in [drop(2, 2), drop(1, 3), drop(2, 1)] {
        let equal = first.iter().zip(&other).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
        // 0.3² + 0.7²
        assert!((57_000..59_000).contains(&equal), "{equal} of 100000 equal to those of a different seed or stream");
    }
    assert_eq!(values(kernels::dropout(ones.clone(), Dropout { rate: 0.0, seed: 1, stream: 1 })), values(ones));
}

fn like(targets: &Tensor<1, Int>, x: &Tensor<2>) -> Tensor<1, Int> {
    if x.device().is_autodiff() { targets.clone() } else { targets.clone().inner() }
}

#[test]
fn causal_softmax() {
    for (b, h, g, t, s) in [(1, 1, 1, 1, 1), (2, 3, 2, 17, 17), (1, 2, 1, 3, 40), (2, 1, 3, 1, 9)] {
        let mut case = Case::new(2);
        let scores = case.tensor([b, h, g * t, s], 20.0);
        let weights = case.tensor([b, h, g * t, s], 1.0);
        check(
            "causal_softmax",
            &[scores],
            &weights,
            |x| kernels::causal_softmax(x[0].clone(), t, 0.35),
            |x| kernels::reference::causal_softmax(x[0].clone(), t, 0.35),
        );
    }
}

#[test]
fn rms_norm() {
    for (rows, d) in [(1, 4), (3, 24), (200, 50)] {
        let mut case = Case::new(3);
        let x = case.tensor([rows, d], 2.0);
        let weight = case.tensor([d], 1.5).require_grad();
        let weights = case.tensor([rows, d], 1.0);
        let apply = |x: &Tensor<2>, fused: bool| {
            let w = if x.device().is_autodiff() { weight.clone() } else { weight.clone().inner() };
            if fused { kernels::rms_norm(x.clone(), w, 1e-5) } else { kernels::reference::rms_norm(x.clone(), w, 1e-5) }
        };
        check("rms_norm", std::slice::from_ref(&x), &weights, |x| apply(&x[0], true), |x| apply(&x[0], false));
        let d_weight = |fused| {
            let gradients = (apply(&x, fused) * weights.clone()).sum().backward();
            values(weight.grad(&gradients).unwrap())
        };
        assert_close("rms_norm, gradient of the weight", &d_weight(true), &d_weight(false));
    }
}

#[test]
fn swiglu() {
    for (rows, d) in [(1, 1), (3, 7), (40, 500)] {
        let mut case = Case::new(4);
        let inputs = [case.tensor([rows, d], 9.0), case.tensor([rows, d], 2.0)];
        let weights = case.tensor([rows, d], 1.0);
        check(
            "swiglu",
            &inputs,
            &weights,
            |x| kernels::swiglu(x[0].clone(), x[1].clone()),
            |x| kernels::reference::swiglu(x[0].clone(), x[1].clone()),
        );
    }
}

#[test]
fn rope() {
    for (b, t, h, c) in [(1, 1, 1, 2), (2, 9, 3, 8), (3, 5, 1, 64)] {
        let mut case = Case::new(5);
        let x = case.tensor([b, t, h * c], 2.0);
        let angles = case.tensor([t, c / 2], 4.0).inner();
        let weights = case.tensor([b, t, h * c], 1.0);
        let table =
            |x: &Tensor<3>, table: Tensor<2>| if x.device().is_autodiff() { Tensor::from_inner(table) } else { table };
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        check(
            "rope",
            &[x],
            &weights,
            |x| kernels::rope(x[0].clone(), table(&x[0], cos.clone()), table(&x[0], sin.clone())),
            |x| kernels::reference::rope(x[0].clone(), table(&x[0], cos.clone()), table(&x[0], sin.clone())),
        );
    }
}

#[test]
fn rms_norm_over_several_heads_in_a_row() {
    let mut case = Case::new(7);
    let (x, weight) = (case.tensor([5, 3 * 8], 2.0), case.tensor([1, 8], 1.5));
    let weights = case.tensor([5, 3 * 8], 1.0);
    check(
        "rms_norm",
        &[x, weight],
        &weights,
        |x| kernels::rms_norm(x[0].clone(), x[1].clone().squeeze_dim(0), 1e-5),
        |x| kernels::reference::rms_norm(x[0].clone(), x[1].clone().squeeze_dim(0), 1e-5),
    );
}

#[test]
fn layer_norm() {
    for (rows, d) in [(1, 4), (3, 24), (200, 50)] {
        let mut case = Case::new(8);
        let inputs = [case.tensor([rows, d], 2.0), case.tensor([1, d], 1.5), case.tensor([1, d], 1.0)];
        let weights = case.tensor([rows, d], 1.0);
        let vector = |x: &Tensor<2>| x.clone().squeeze_dim::<1>(0);
        check(
            "layer_norm",
            &inputs,
            &weights,
            |x| kernels::layer_norm(x[0].clone(), vector(&x[1]), vector(&x[2]), 1e-5),
            |x| kernels::reference::layer_norm(x[0].clone(), vector(&x[1]), vector(&x[2]), 1e-5),
        );
    }
}

#[test]
fn gelu() {
    for (rows, d) in [(1, 1), (3, 7), (40, 500)] {
        let mut case = Case::new(9);
        let x = case.tensor([rows, d], 9.0);
        let weights = case.tensor([rows, d], 1.0);
        check("gelu", &[x], &weights, |x| kernels::gelu(x[0].clone()), |x| kernels::reference::gelu(x[0].clone()));
    }
}

const DROPOUT: Dropout = Dropout { rate: 0.2, seed: 3, stream: 4 };

#[test]
fn dropout() {
    let mut case = Case::new(10);
    let x = case.tensor([70, 600], 2.0);
    let weights = case.tensor([70, 600], 1.0);
    check(
        "dropout",
        &[x],
        &weights,
        |x| kernels::dropout(x[0].clone(), DROPOUT),
        |x| kernels::reference::dropout(x[0].clone(), DROPOUT),
    );
}

type Linear = fn(Tensor<3>, Tensor<2>, Option<Tensor<1>>, Option<Tensor<3>>) -> Tensor<3>;

#[test]
fn linear() {
    for (b, t, i, o) in [(1, 1, 1, 1), (2, 5, 7, 3), (3, 40, 24, 48)] {
        for (with_bias, with_residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut case = Case::new(11);
            let mut inputs = vec![case.tensor([b, t, i], 1.0), case.tensor([1, o, i], 0.3)];
            inputs.extend(with_bias.then(|| case.tensor([1, 1, o], 1.0)));
            inputs.extend(with_residual.then(|| case.tensor([b, t, o], 1.0)));
            let weights = case.tensor([b, t, o], 1.0);
            let apply = |x: Vec<Tensor<3>>, linear: Linear| {
                let bias = with_bias.then(|| x[2].clone().reshape([o]));
                linear(x[0].clone(), x[1].clone().reshape([o, i]), bias, with_residual.then(|| x[x.len() - 1].clone()))
            };
            check("linear", &inputs, &weights, |x| apply(x, kernels::linear), |x| apply(x, kernels::reference::linear));
        }
    }
}

#[test]
fn embedding() {
    let mut case = Case::new(12);
    let table = case.tensor([9, 5], 1.0);
    let ids = Tensor::<2, Int>::from_ints([[3, 0, 3, 8], [8, 1, 3, 0]], &case.device);
    let ids = |x: &Tensor<2>| if x.device().is_autodiff() { ids.clone() } else { ids.clone().inner() };
    let weights = case.tensor([2, 4, 5], 1.0);
    check(
        "embedding",
        &[table],
        &weights,
        |x| kernels::embedding(x[0].clone(), ids(&x[0])),
        |x| kernels::reference::embedding(x[0].clone(), ids(&x[0])),
    );
}

type Attention = fn(Tensor<3>, Tensor<3>, Tensor<3>, Option<Tensor<2, Int>>, usize, f64, Option<Dropout>) -> Tensor<3>;

#[test]
fn attention() {
    // The last lengths exceed a block of queries.
    for (b, t, h, k, c) in [(1, 1, 1, 1, 2), (2, 17, 4, 2, 6), (2, 64, 2, 2, 32), (1, 150, 3, 1, 16), (2, 129, 2, 1, 8)]
    {
        for (packed, dropout) in [(false, None), (true, None), (false, Some(DROPOUT)), (true, Some(DROPOUT))] {
            let mut case = Case::new(13);
            let (queries, keys) = (case.tensor([b, t, h * c], 2.0), case.tensor([b, t, k * c], 2.0));
            let values = case.tensor([b, t, k * c], 2.0);
            let weights = case.tensor([b, t, h * c], 1.0);
            // Segments of different lengths, within a block and across blocks.
            let segment_starts: Vec<i64> = (0..b)
                .flat_map(|row| {
                    (0..t).map(move |i| {
                        [0, 3, 5, 70, 71].into_iter().filter(|s| s + row <= i).max().map_or(0, |s| (s + row) as i64)
                    })
                })
                .collect();
            let segment_starts = Tensor::<2, Int>::from_data(TensorData::new(segment_starts, vec![b, t]), &case.device);
            let segment_starts = |x: &Tensor<3>| {
                packed.then(|| {
                    if x.device().is_autodiff() { segment_starts.clone() } else { segment_starts.clone().inner() }
                })
            };
            let apply = |x: Vec<Tensor<3>>, attention: Attention| {
                attention(x[0].clone(), x[1].clone(), x[2].clone(), segment_starts(&x[0]), c, 0.4, dropout)
            };
            check(
                "attention",
                &[queries, keys, values],
                &weights,
                |x| apply(x, kernels::attention),
                |x| apply(x, kernels::reference::attention),
            );
        }
    }
}

#[test]
fn non_contiguous_views_are_read_in_logical_order() {
    let mut case = Case::new(6);
    let x = case.tensor([6, 4], 2.0).inner();
    let weight = case.tensor([6], 1.0).inner();
    let transposed = x.clone().transpose();
    let copied = Tensor::<2>::from_data(transposed.clone().into_data(), &Device::flex());
    let fused = |x: Tensor<2>| values(kernels::rms_norm(x, weight.clone(), 1e-6));
    assert_eq!(fused(transposed.clone()), fused(copied.clone()));
    assert_eq!(
        values(kernels::swiglu(transposed.clone(), copied.clone())),
        values(kernels::swiglu(copied.clone(), transposed.clone()))
    );
    // A view of a part reads its part only, and shared values are not changed.
    let part = x.clone().narrow(0, 1, 3).reshape([1, 1, 3, 4]);
    let before = values(x.clone());
    let probs = values(kernels::causal_softmax(part.clone(), 3, 1.0));
    assert_close("a part", &probs, &values(kernels::reference::causal_softmax(part, 3, 1.0)));
    assert_eq!(values(x), before);
}

#[test]
fn nan_logits_give_a_nan_loss() {
    let device = Device::flex();
    let logits = Tensor::<2>::from_floats([[1.0, f32::NAN, 2.0]], &device);
    let target = Tensor::<1, Int>::from_ints([0], &device);
    assert!(values(kernels::cross_entropy(logits, target, 1.0, 0.0))[0].is_nan());
}

#[test]
fn the_output_has_the_type_of_a_16_bit_input() {
    let mut case = Case::new(11);
    let x = case.tensor([2, 6, 16], 2.0);
    let one = case.tensor([16], 1.0);
    let (cos, sin) = (case.tensor([6, 4], 1.0), case.tensor([6, 4], 1.0));
    let check = |what: &str, function: &dyn Fn(Tensor<3>) -> Tensor<3>| {
        let (short, exact) = (function(x.clone().cast(DType::BF16)), function(x.clone()));
        assert_eq!(short.dtype(), DType::BF16, "{what}");
        for (a, b) in values(short.cast(DType::F32)).iter().zip(values(exact)) {
            assert!((a - b).abs() <= 0.03 * b.abs().max(1.0), "{what}: {a} instead of {b}");
        }
    };
    check("rms_norm", &|x| kernels::rms_norm(x, one.clone(), 1e-5));
    check("layer_norm", &|x| kernels::layer_norm(x, one.clone(), one.clone(), 1e-5));
    check("rope", &|x| kernels::rope(x, cos.clone(), sin.clone()));
    check("attention", &|x| kernels::attention(x.clone(), x.clone(), x, None, 8, 0.35, Some(DROPOUT)));
    check("dropout", &|x| kernels::dropout(x, DROPOUT));
    check("gelu", &kernels::gelu);
    check("swiglu", &|x| kernels::swiglu(x.clone(), x));
}
