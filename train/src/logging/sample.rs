//! Text samples during training.

use burn::module::Module;
use inference::{BurnForward, Decoder, Sampling, StopTokens};
use model::Transformer;
use tokenizer::Tokenizer;

use crate::Error;

const SAMPLE_TOKENS: usize = 48;

/// Returns a prompt with up to 48 tokens of the model's text after it, sampled as stage generate does by default. An
/// empty prompt starts from begin-of-text, else from end-of-text. Returns None if there is no such token, or the
/// model's logits are not finite: the next step then reports the divergence with its details.
///
/// # Errors
/// Returns an error if the prompt cannot be encoded, or the device fails.
pub fn sample(model: &Transformer, tokenizer: &Tokenizer, prompt: &str, seed: u64) -> Result<Option<String>, Error> {
    let mut tokens = tokenizer.encode_prompt(prompt)?;
    if tokens.is_empty() {
        tokens.extend(tokenizer.start_of_text());
    }
    if tokens.is_empty() {
        return Ok(None);
    }
    let model = model.valid();
    let mut forward = BurnForward::new(&model, 1);
    let mut decoder = Decoder::new(&mut forward, &tokens, &Sampling { seed, ..Sampling::default() }, SAMPLE_TOKENS)
        .map_err(Error::Sample)?
        .with_stop_tokens(&StopTokens::of(model.config(), tokenizer.stop_tokens().into_iter().map(Some)))
        .with_vocab_size(tokenizer.vocab_size());
    let mut text = prompt.to_owned();
    let mut detokenizer = tokenizer.decode_stream_after(&tokens)?;
    loop {
        match decoder.next_token() {
            Ok(Some(token)) if !decoder.is_stopped() => text.push_str(&detokenizer.push(token)?),
            Ok(_) => break,
            Err(inference::Error::NotFinite { .. }) => return Ok(None),
            Err(error) => return Err(Error::Sample(error)),
        }
    }
    text.push_str(&detokenizer.finish());
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use model::Family;
    use test_support::tiny;

    use super::*;

    #[test]
    fn samples_continue_any_prompt() {
        let tokenizer = tiny::tokenizer();
        let model = tiny::model(Family::Qwen3, 16, &tokenizer);
        let check = |prompt: &str| {
            let text = sample(&model, &tokenizer, prompt, 1).unwrap().unwrap();
            assert!(text.starts_with(prompt) && text.len() > prompt.len(), "{prompt:?}: {text:?}");
            assert_eq!(sample(&model, &tokenizer, prompt, 1).unwrap().unwrap(), text, "the same seed, the same text");
        };
        check("fn main");
        // Starts from the end-of-text token.
        check("");
        // Longer than the context.
        check(&"let x = 1;\n".repeat(20));
    }

    #[test]
    fn model_without_finite_logits_has_no_sample() {
        let tokenizer = tiny::tokenizer();
        let model = tiny::model(Family::Qwen3, 16, &tokenizer);
        let mut weights = model::checkpoint::weights(&model).unwrap();
        weights.values_mut().flat_map(|weight| &mut weight.values).for_each(|value| *value = f32::NAN);
        let broken = model::checkpoint::with_weights(model.config(), weights, &Device::flex());
        assert_eq!(sample(&broken, &tokenizer, "fn", 1).unwrap(), None);
    }
}
