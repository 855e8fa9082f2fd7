//! Statistics of the inputs of a model's projections, over tokens of the validation split, one layer at a time.
//!
//! Dimensions: T tokens of a window, D model width, I inputs of a projection. Projections of the same input share its
//! statistics. All are of the model in the checkpoint's precision; those of a layer do not see the errors of the layers
//! before it.
//!
//! In memory are the states of all tokens between two layers, 4 D bytes a token, and the sums over one layer's inputs:
//! for GPTQ, 8 I² bytes of each of the four.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::Context;
use inference::engine::ProjectionInput;
use inference::{Engine, EngineOptions, Row};
use kernels::Pool;
use kernels::packed::{PackedMatrix, Scratch, WeightType};
use tokenizer::shard::Split;

use crate::{Error, Method, parity};

/// What is added to the squares of the inputs, as a fraction of their mean, so that the matrix can be inverted: as in
/// GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022.
const DAMPING: f64 = 0.01;

/// A forward pass over the tokens, which stands between two layers.
pub(crate) struct Calibration {
    method: Method,
    engine: Engine,
    /// The blocks of the cache that a window is in.
    blocks: Vec<u32>,
    windows: Vec<Window>,
    next_layer: usize,
}

/// Consecutive tokens.
struct Window {
    rows: Vec<Row>,   // [T]
    hidden: Vec<f32>, // [T, D], the input of the next layer
}

/// The statistics of an input.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The mean square of each element, `[I]`.
    pub(crate) importance: Vec<f32>,
    /// The upper triangular matrix U, `[I, I]`, with `UᵀU` the inverse of the matrix of second moments; only for GPTQ,
    /// else empty.
    pub(crate) inverse_factor: Vec<f32>,
}

impl Calibration {
    /// Reads the last `tokens` tokens of the validation split: of a split that is long enough, none that formats are
    /// compared on.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded or does not fit the split.
    pub(crate) fn new(method: Method, tokens: u64, checkpoint: &Path, validation: &Split) -> Result<Self, Error> {
        let shape = parity::check_split(checkpoint, validation)?;
        let len = shape.context_length.min(parity::MAX_WINDOW);
        let options = EngineOptions { cache_tokens: Some(len), ..EngineOptions::default() };
        let mut engine = Engine::load(checkpoint, &options)?;
        let mut ids = vec![0; usize::try_from(tokens).unwrap_or(usize::MAX).min(validation.len())];
        validation.copy(validation.len() - ids.len(), &mut ids);
        let window = |ids: &[u32]| {
            let row =
                |(position, token): (usize, &u32)| Row { sequence: 0, position, token: *token, wants_logits: false };
            let rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
            Window { hidden: engine.embeddings(&rows), rows }
        };
        let windows = ids.chunks(len).map(window).collect();
        let blocks = (0..len.div_ceil(options.block_tokens) as u32).collect();
        Ok(Self { method, engine, blocks, windows, next_layer: 0 })
    }

    /// Computes the next layer, and returns the sums over its inputs.
    ///
    /// # Errors
    /// Returns [`Error::Interrupted`] if the run was asked to stop.
    pub(crate) fn next_layer(
        &mut self,
        pool: &Pool,
        context: &Context,
    ) -> Result<BTreeMap<ProjectionInput, Sums>, Error> {
        let mut sums = BTreeMap::<ProjectionInput, Sums>::new();
        for Window { rows, hidden } in &mut self.windows {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            self.engine.observe_layer(self.next_layer, rows, &[&self.blocks], hidden, &mut |_, input, x| {
                let columns = x.len() / rows.len();
                sums.entry(input).or_insert_with(|| Sums::new(columns, self.method)).add(x, pool);
            });
        }
        self.next_layer += 1;
        Ok(sums)
    }
}

/// Returns the layer of a parameter and the input that it is multiplied by; None if it is no projection of a layer.
pub(crate) fn input_of(parameter: &str) -> Option<(usize, ProjectionInput)> {
    let (layer, module) = parameter.strip_prefix("layers.")?.strip_suffix(".weight")?.split_once('.')?;
    let input = match module {
        "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj" => ProjectionInput::Attention,
        "self_attn.o_proj" => ProjectionInput::AttentionOutput,
        "mlp.gate_proj" | "mlp.up_proj" => ProjectionInput::Mlp,
        "mlp.down_proj" => ProjectionInput::MlpOutput,
        _ => return None,
    };
    Some((layer.parse().ok()?, input))
}

/// Sums over rows of an input.
pub(crate) struct Sums {
    rows: usize,
    squares: Vec<f64>,  // [I]
    products: Vec<f64>, // [I, I]; empty unless for GPTQ
    scratch: Scratch,
}

impl Sums {
    fn new(columns: usize, method: Method) -> Self {
        let products = if method == Method::Gptq { vec![0.0; columns * columns] } else { Vec::new() };
        Self { rows: 0, squares: vec![0.0; columns], products, scratch: Scratch::default() }
    }

    fn add(&mut self, x: &[f32], pool: &Pool) {
        let columns = self.squares.len();
        let rows = x.len() / columns;
        self.rows += rows;
        for row in x.chunks_exact(columns) {
            for (sum, x) in self.squares.iter_mut().zip(row) {
                *sum += f64::from(*x).powi(2);
            }
        }
        if self.products.is_empty() {
            return;
        }
        let transposed: Vec<f32> = (0..x.len()).map(|at| x[at % rows * columns + at / rows]).collect();
        let mut products = vec![0.0; columns * columns];
        let matrix = PackedMatrix::quantize(&transposed, [columns, rows], WeightType::F32);
        matrix.multiply(pool, &transposed, &mut self.scratch, &mut products);
        for (sum, product) in self.products.iter_mut().zip(products) {
            *sum += f64::from(product);
        }
    }

    /// Returns the statistics; None if they are not finite.
    pub(crate) fn finish(self) -> Option<Inputs> {
        let importance: Vec<f32> = self.squares.iter().map(|sum| (sum / self.rows as f64) as f32).collect();
        let inverse_factor = inverse_factor(self.products, self.squares.len());
        let is_finite = importance.iter().chain(&inverse_factor).all(|x| x.is_finite());
        is_finite.then_some(Inputs { importance, inverse_factor })
    }
}

/// Returns the upper triangular U with `UᵀU = (H + λ)⁻¹`, for a matrix H of sums of products.
///
/// H is V Vᵀ for an upper triangular V, by Cholesky's method from the last column to the first, and U is the inverse of
/// V.
///
/// # Shapes
/// - matrix: `[N, N]`, or empty
/// - output: as `matrix`
fn inverse_factor(mut matrix: Vec<f64>, n: usize) -> Vec<f32> {
    if matrix.is_empty() {
        return Vec::new();
    }
    let mean = (0..n).map(|i| matrix[i * (n + 1)]).sum::<f64>() / n as f64;
    // Inputs that are all zero say nothing: every weight counts the same.
    let damping = if mean == 0.0 { 1.0 } else { DAMPING * mean };
    for i in 0..n {
        matrix[i * (n + 1)] += damping;
    }
    for j in (0..n).rev() {
        let (above, row_j) = matrix[..(j + 1) * n].split_at_mut(j * n);
        let following = j + 1..n;
        let diagonal = (row_j[j] - dot(&row_j[following.clone()], &row_j[following.clone()])).sqrt();
        row_j[j] = diagonal;
        for row_i in above.chunks_exact_mut(n) {
            row_i[j] = (row_i[j] - dot(&row_i[following.clone()], &row_j[following.clone()])) / diagonal;
        }
    }
    let mut inverse = vec![0.0; n * n];
    for i in (0..n).rev() {
        let (before, below) = inverse.split_at_mut((i + 1) * n);
        let (row, factor) = (&mut before[i * n..], &matrix[i * n..(i + 1) * n]);
        row[i] = 1.0;
        for (below, factor) in below.chunks_exact(n).zip(&factor[i + 1..]) {
            for (x, below) in row[i + 1..].iter_mut().zip(&below[i + 1..]) {
                *x -= factor * below;
            }
        }
        for x in &mut row[i..] {
            *x /= factor[i];
        }
    }
    inverse.into_iter().map(|x| x as f32).collect()
}

/// Returns the inner product; eight sums at a time, which the compiler computes as vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
impl Inputs {
    /// Returns the statistics of rows of inputs, `[M, I]`, for GPTQ.
    pub(crate) fn of_rows(x: &[f32], columns: usize, pool: &Pool) -> Option<Self> {
        let mut sums = Sums::new(columns, Method::Gptq);
        sums.add(x, pool);
        sums.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_mapped_to_their_inputs() {
        use ProjectionInput::{Attention, AttentionOutput, Mlp, MlpOutput};
        let check = |name: &str, expected: Option<(usize, ProjectionInput)>| assert_eq!(input_of(name), expected);
        check("layers.0.self_attn.k_proj.weight", Some((0, Attention)));
        check("layers.2.self_attn.o_proj.weight", Some((2, AttentionOutput)));
        check("layers.11.mlp.up_proj.weight", Some((11, Mlp)));
        check("layers.2.mlp.down_proj.weight", Some((2, MlpOutput)));
        check("layers.2.input_layernorm.weight", None);
        check("layers.2.mlp.down_proj.bias", None);
        check("lm_head", None);
    }

    #[test]
    fn factor_is_that_of_the_inverse() {
        let n: usize = 19;
        // A positive definite matrix, far from a diagonal one.
        let matrix: Vec<f64> = (0..n * n)
            .map(|at| 10.0 / (1.0 + (at / n).abs_diff(at % n) as f64) + if at % (n + 1) == 0 { 1.0 } else { 0.0 })
            .collect();
        let factor = inverse_factor(matrix.clone(), n);
        let u = |i: usize, j: usize| f64::from(factor[i * n + j]);
        let inverse = |i: usize, j: usize| (0..n).map(|k| u(k, i) * u(k, j)).sum::<f64>();
        for i in 0..n {
            for j in 0..n {
                assert!(i <= j || u(i, j) == 0.0, "{i} {j}: not upper triangular");
                let damped = |k: usize| matrix[i * n + k] + if i == k { DAMPING * 11.0 } else { 0.0 };
                let product: f64 = (0..n).map(|k| damped(k) * inverse(k, j)).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-5, "{i} {j}: {product}");
            }
        }
    }

    #[test]
    fn statistics_are_those_of_all_rows() {
        let (rows, columns) = (70, 32);
        let x: Vec<f32> = (0..rows * columns).map(|i| ((i * 37) % 23) as f32 / 4.0 - 2.0).collect();
        let pool = Pool::new(2);
        let whole = Inputs::of_rows(&x, columns, &pool).unwrap();
        let mut sums = Sums::new(columns, Method::Gptq);
        for part in x.chunks(30 * columns) {
            sums.add(part, &pool);
        }
        let parts = sums.finish().unwrap();
        let square = |column: usize| (0..rows).map(|row| x[row * columns + column].powi(2)).sum::<f32>();
        for column in 0..columns {
            let expected = square(column) / rows as f32;
            assert!((whole.importance[column] - expected).abs() < 1e-4 * expected);
        }
        for (a, b) in whole.inverse_factor.iter().zip(&parts.inverse_factor) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn inputs_may_be_zero_but_not_infinite() {
        let pool = Pool::new(1);
        let zero = Inputs::of_rows(&[0.0; 64], 32, &pool).unwrap();
        assert!((0..32).all(|i| (zero.inverse_factor[i * 33] - 1.0).abs() < 1e-6));
        let mut x = [1.0; 64];
        x[33] = f32::INFINITY;
        assert!(Inputs::of_rows(&x, 32, &pool).is_none());
        x[33] = f32::NAN;
        assert!(Inputs::of_rows(&x, 32, &pool).is_none());
    }
}
