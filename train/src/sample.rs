//! A taste of the model's text while it trains.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use model::{KvCache, Transformer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenizer::Tokenizer;

use crate::Error;

const SAMPLE_TOKENS: usize = 48;
const TEMPERATURE: f64 = 0.8;

/// Returns up to 48 tokens of text after `prompt`, drawn at temperature 0.8. The prompt must have tokens.
///
/// # Errors
/// When the prompt cannot be encoded, or the device fails.
pub fn sample(model: &Transformer, tokenizer: &Tokenizer, prompt: &str, seed: u64) -> Result<String, Error> {
    let model = model.valid();
    let device = model.device();
    let context = model.config().context_length;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = prompt.to_owned();
    let mut stream = tokenizer.decode_stream();
    let mut cache = KvCache::new(model.config());
    let mut input = tokenizer.encode(prompt)?;
    input.truncate(context.saturating_sub(1));
    for _ in 0..SAMPLE_TOKENS {
        if input.is_empty() || cache.len() + input.len() > context {
            break;
        }
        let ids: Vec<i64> = input.iter().map(|id| i64::from(*id)).collect();
        let shape = vec![1, ids.len()];
        let logits = model
            .forward_cached(Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device), &mut cache)
            .div_scalar(TEMPERATURE); // [1, V]
        let shares: Vec<f32> = softmax(logits, 1).try_into_vec_as().map_err(Error::compute)?;
        let mut left = rng.random::<f32>() * shares.iter().sum::<f32>();
        let drawn = shares.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        let token = drawn.unwrap_or(0) as u32;
        if Some(token) == tokenizer.end_of_text() {
            break;
        }
        text.push_str(&stream.push(token)?);
        input = vec![token];
    }
    Ok(text)
}
