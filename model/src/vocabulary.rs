//! Growing the vocabulary of a trained model: rows for new tokens.
//!
//! A new row is the mean of the old ones, plus noise that tells new rows apart: with the mean alone, a model gives no
//! new token more than 1 / V of its probability, so that what it knew stays (Hewitt, "Initializing New Word Embeddings
//! for Pretrained Language Models", 2021). Transformers draws from a normal distribution with the mean and the
//! covariance of the old rows (`resize_token_embeddings`, times 1e-9); here the noise is independent, with a fraction
//! of each column's standard deviation.
//!
//! Dimensions: V vocabulary, D width.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::checkpoint::{self, Weight};
use crate::{Error, ModelConfig, Transformer};

/// The standard deviation of the noise, as a fraction of that of a column: heuristic, enough to break ties.
const NOISE: f32 = 0.05;

/// The parameters with a row for each token.
const TABLES: [&str; 2] = ["embed_tokens", "lm_head"];

/// Returns the model with a vocabulary of `vocab_size`, at least as large as before. The logits of the old tokens do
/// not change. The same seed gives the same rows.
///
/// # Errors
/// Returns an error if the device fails.
///
/// # Panics
/// Panics if the vocabulary would shrink.
pub fn grow(model: Transformer, vocab_size: usize, seed: u64) -> Result<Transformer, Error> {
    let old = model.config().vocab_size;
    assert!(vocab_size >= old, "a vocabulary of {old} cannot become one of {vocab_size}");
    if vocab_size == old {
        return Ok(model);
    }
    let config = ModelConfig { vocab_size, ..model.config().clone() };
    let mut weights = checkpoint::weights(&model)?;
    for (stream, name) in (0..).zip(TABLES) {
        if let Some(Weight { shape, values }) = weights.get_mut(name) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            shape[0] = vocab_size; // [V, D]
            append_rows(values, shape[1], vocab_size - old, &mut rng);
        }
    }
    Ok(checkpoint::with_weights(&config, weights, &model.device()))
}

/// Appends rows with the mean of the old ones, and noise.
fn append_rows(values: &mut Vec<f32>, width: usize, count: usize, rng: &mut ChaCha8Rng) {
    let rows = (values.len() / width) as f64;
    let mut sums = vec![(0.0_f64, 0.0_f64); width];
    for row in values.chunks_exact(width) {
        for ((sum, squares), value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
            *squares += f64::from(*value).powi(2);
        }
    }
    for _ in 0..count {
        values.extend(sums.iter().map(|(sum, squares)| {
            let mean = sum / rows;
            let deviation = (squares / rows - mean * mean).max(0.0).sqrt();
            mean as f32 + NOISE * deviation as f32 * noise(rng)
        }));
    }
}

/// Returns a value with mean 0 and variance 1: the sum of twelve uniform values is close to normal.
fn noise(rng: &mut ChaCha8Rng) -> f32 {
    let uniform = |rng: &mut ChaCha8Rng| rng.next_u32() as f32 / u32::MAX as f32;
    (0..12).map(|_| uniform(rng)).sum::<f32>() - 6.0
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, Tensor, TensorData};

    use super::*;
    use crate::Family;
    use crate::config::tests::tiny;

    fn check(family: Family, tied_embeddings: bool) {
        let device = Device::flex();
        let config = ModelConfig { tied_embeddings, ..tiny(family) };
        let model = Transformer::init(&config, 1, &device);
        let logits = |model: &Transformer| -> Vec<f32> {
            let tokens = Tensor::<2, Int>::from_data(TensorData::new(vec![1i64, 2, 3, 4], vec![1, 4]), &device);
            model.forward(tokens).try_into_vec_as().unwrap()
        };
        let (old, new) = (config.vocab_size, config.vocab_size + 3);
        let before = logits(&model);
        let grown = grow(model.clone(), new, 7).unwrap();
        assert_eq!(grown.config().vocab_size, new);
        let after = logits(&grown);
        for (before, after) in before.chunks_exact(old).zip(after.chunks_exact(new)) {
            let difference = before.iter().zip(after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 1e-5, "{difference}");
        }
        let weights = checkpoint::weights(&grown).unwrap();
        for name in TABLES.into_iter().filter(|name| weights.contains_key(*name)) {
            let Weight { shape, values } = &weights[name];
            let width = shape[1];
            assert_eq!(shape[0], new);
            let (old_rows, new_rows) = values.split_at(old * width);
            assert_ne!(new_rows[..width], new_rows[width..2 * width], "rows differ");
            for (column, new) in new_rows[..width].iter().enumerate() {
                let column_values = || old_rows.iter().skip(column).step_by(width);
                let mean = column_values().sum::<f32>() / old as f32;
                let spread = column_values().map(|x| (x - mean).abs()).fold(0.0, f32::max);
                assert!((new - mean).abs() <= 0.4 * spread, "near the mean");
            }
        }
        assert_eq!(weights.contains_key("lm_head"), !tied_embeddings);
        let again = checkpoint::weights(&grow(model, new, 7).unwrap()).unwrap();
        assert_eq!(again["embed_tokens"], weights["embed_tokens"], "the same seed, the same rows");
    }

    #[test]
    fn new_rows_are_near_the_mean_and_old_logits_stay() {
        check(Family::Qwen3, false);
        check(Family::Llama, true);
        check(Family::Gpt2, true);
    }
}
