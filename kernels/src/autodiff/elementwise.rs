//! Operations on rows or on single elements.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};

use super::{Primitive, contiguous, from_vec, into_vec, ints_into_vec, last_dim, record, values};
use crate::dropout::{self, Dropout};
use crate::{activation, loss, norm, reduce, rope, softmax};

/// The operations. The public functions of the crate check shapes and number types before they call them.
#[backend_extension(Flex, Autodiff)]
pub trait ElementwiseOps: Backend {
    /// Cross-entropy of logits `[N, V]`.
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        loss_scale: f64,
        z_loss: f64,
    ) -> FloatTensor<Self>;
    /// KL divergence of a student's logits from a teacher's, both `[N, V]`.
    fn kl_divergence(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        loss_scale: f64,
    ) -> FloatTensor<Self>;
    /// Probabilities of causal attention.
    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f64) -> FloatTensor<Self>;
    /// RMSNorm over the last dimension.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    /// LayerNorm over the last dimension.
    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
    /// GELU in its tanh approximation.
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Dropout.
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
    /// The gated linear unit with SiLU.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Rotary position embeddings.
    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Operations without a backward pass.
#[backend_extension(Flex)]
pub trait ReduceOps: Backend {
    /// The sum of the squares of all elements.
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ReduceOps for Flex {
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        from_vec(vec![reduce::square_sum(values(&contiguous(x))) as f32], [1])
    }
}

/// Returns the loss and the gradient of the logits.
fn cross_entropy_with_gradient(
    logits: Primitive,
    targets: IntTensor<Flex>,
    loss_scale: f64,
    z_loss: f64,
) -> (Primitive, Primitive) {
    let (mut logits, shape) = into_vec(logits);
    let targets = ints_into_vec(targets);
    let loss = loss::cross_entropy(&mut logits, last_dim(&shape), &targets, loss_scale, z_loss);
    (from_vec(vec![loss], [1]), from_vec(logits, shape))
}

/// Returns the divergence and the gradient of the student's logits.
fn kl_divergence_with_gradient(
    student: Primitive,
    teacher: Primitive,
    targets: IntTensor<Flex>,
    temperature: f64,
    loss_scale: f64,
) -> (Primitive, Primitive) {
    let (student, targets) = (contiguous(student), ints_into_vec(targets));
    let (mut teacher, shape) = into_vec(teacher);
    let classes = last_dim(&shape);
    let loss = loss::kl_divergence(values(&student), &mut teacher, classes, &targets, temperature, loss_scale);
    (from_vec(vec![loss], [1]), from_vec(teacher, shape))
}

/// Returns the gradient of logits from that of a loss `[1]`.
fn times_gradient(d_logits: Primitive, gradient: Primitive) -> Primitive {
    let (d_loss, _) = into_vec(gradient);
    let (mut d_logits, shape) = into_vec(d_logits);
    for x in &mut d_logits {
        *x *= d_loss[0];
    }
    from_vec(d_logits, shape)
}

fn rotate(x: Primitive, cos: &Primitive, sin: &Primitive, inverse: bool) -> Primitive {
    let (mut x, shape) = into_vec(x);
    let half = last_dim(&cos.shape());
    rope::rope(&mut x, shape[2] / (2 * half), values(cos), values(sin), half, inverse);
    from_vec(x, shape)
}

impl ElementwiseOps for Flex {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        loss_scale: f64,
        z_loss: f64,
    ) -> FloatTensor<Self> {
        cross_entropy_with_gradient(logits, targets, loss_scale, z_loss).0
    }

    fn kl_divergence(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        loss_scale: f64,
    ) -> FloatTensor<Self> {
        kl_divergence_with_gradient(student, teacher, targets, temperature, loss_scale).0
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f64) -> FloatTensor<Self> {
        let (mut scores, shape) = into_vec(scores);
        softmax::causal_softmax(&mut scores, last_dim(&shape), queries, scale as f32);
        from_vec(scores, shape)
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let (x, weight) = (contiguous(x), contiguous(weight));
        from_vec(norm::rms_norm(values(&x), values(&weight), epsilon as f32), x.shape())
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(contiguous);
        from_vec(norm::layer_norm(values(&x), values(&weight), values(&bias), epsilon as f32), x.shape())
    }

    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = contiguous(x);
        from_vec(activation::gelu(values(&x)), x.shape())
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (mut x, shape) = into_vec(x);
        dropout::dropout(&mut x, dropout.mask());
        from_vec(x, shape)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, up) = (contiguous(gate), contiguous(up));
        from_vec(activation::swiglu(values(&gate), values(&up)), gate.shape())
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        rotate(x, &contiguous(cos), &contiguous(sin), false)
    }
}

impl<C: CheckpointStrategy> ElementwiseOps for Autodiff<Flex, C> {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        loss_scale: f64,
        z_loss: f64,
    ) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let (loss, d_logits) = cross_entropy_with_gradient(logits, targets, loss_scale, z_loss);
        record::<C, _, _>([node], d_logits, loss, |d_logits, gradient, _| [Some(times_gradient(d_logits, gradient))])
    }

    fn kl_divergence(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        loss_scale: f64,
    ) -> FloatTensor<Self> {
        let (student, node) = student.into_parts();
        let teacher = teacher.into_primitive();
        let (loss, d_student) = kl_divergence_with_gradient(student, teacher, targets, temperature, loss_scale);
        record::<C, _, _>([node], d_student, loss, |d_student, gradient, _| [Some(times_gradient(d_student, gradient))])
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f64) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        let probs = Flex::causal_softmax(scores, queries, scale);
        record::<C, _, _>(
            [node],
            (probs.clone(), queries, scale as f32),
            probs,
            |(probs, queries, scale), gradient, _| {
                let (mut gradient, shape) = into_vec(gradient);
                softmax::causal_softmax_backward(values(&probs), &mut gradient, last_dim(&shape), queries, scale);
                [Some(from_vec(gradient, shape))]
            },
        )
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let y = Flex::rms_norm(x.clone(), weight.clone(), epsilon);
        let state = (x, weight, epsilon as f32);
        record::<C, _, _>([x_node, weight_node], state, y, |(x, weight, epsilon), gradient, _| {
            let (mut gradient, shape) = into_vec(gradient);
            let d_weight = norm::rms_norm_backward(values(&x), values(&weight), &mut gradient, epsilon);
            [from_vec(gradient, shape), from_vec(d_weight, weight.shape())].map(Some)
        })
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node), (bias, bias_node)) =
            (x.into_parts(), weight.into_parts(), bias.into_parts());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let y = Flex::layer_norm(x.clone(), weight.clone(), bias, epsilon);
        let state = (x, weight, epsilon as f32);
        record::<C, _, _>([x_node, weight_node, bias_node], state, y, |(x, weight, epsilon), gradient, _| {
            let (mut gradient, shape) = into_vec(gradient);
            let [d_weight, d_bias] = norm::layer_norm_backward(values(&x), values(&weight), &mut gradient, epsilon);
            [from_vec(gradient, shape), from_vec(d_weight, weight.shape()), from_vec(d_bias, weight.shape())].map(Some)
        })
    }

    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = contiguous(x);
        let y = Flex::gelu(x.clone());
        record::<C, _, _>([node], x, y, |x, gradient, _| {
            let (mut gradient, shape) = into_vec(gradient);
            activation::gelu_backward(values(&x), &mut gradient);
            [Some(from_vec(gradient, shape))]
        })
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = Flex::dropout(x, dropout);
        record::<C, _, _>([node], dropout, y, |dropout, gradient, _| [Some(Flex::dropout(gradient, dropout))])
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (contiguous(gate), contiguous(up));
        let y = Flex::swiglu(gate.clone(), up.clone());
        record::<C, _, _>([gate_node, up_node], (gate, up), y, |(gate, up), gradient, _| {
            let (mut gradient, shape) = into_vec(gradient);
            let d_up = activation::swiglu_backward(values(&gate), values(&up), &mut gradient);
            [from_vec(gradient, shape.clone()), from_vec(d_up, shape)].map(Some)
        })
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        // The angles are constants: no gradient flows back to them.
        let (cos, sin) = (contiguous(cos.into_primitive()), contiguous(sin.into_primitive()));
        let (x, node) = x.into_parts();
        let y = rotate(x, &cos, &sin, false);
        record::<C, _, _>([node], (cos, sin), y, |(cos, sin), gradient, _| [Some(rotate(gradient, &cos, &sin, true))])
    }
}
