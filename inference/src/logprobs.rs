//! Log probabilities of tokens.

use kernels::slices;

/// The log probability of a token, and of the most likely tokens in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The natural logarithm of the token's probability.
    pub logprob: f32,
    /// The most likely tokens with theirs, in descending order; the lowest id first among equals.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Returns the log probability of `token` under the softmax of the logits, and those of the `top` most likely.
    ///
    /// # Panics
    /// Panics if the token is not below the number of logits.
    pub fn of(logits: &[f32], token: u32, top: usize) -> Self {
        let normalizer = slices::log_sum_exp(logits);
        let logprob = |token: u32| logits[token as usize] - normalizer;
        let top = top.min(logits.len());
        let by_likelihood = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let mut tokens: Vec<u32> = if top == 0 { Vec::new() } else { (0..logits.len() as u32).collect() };
        if top < tokens.len() {
            tokens.select_nth_unstable_by(top, by_likelihood);
            tokens.truncate(top);
        }
        tokens.sort_unstable_by(by_likelihood);
        Self { logprob: logprob(token), top: tokens.into_iter().map(|token| (token, logprob(token))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_the_softmax() {
        let logits: Vec<f32> = [0.1_f32, 0.4, 0.4, 0.1].iter().map(|p| p.ln() + 3.0).collect();
        let found = Logprobs::of(&logits, 3, 3);
        assert!((found.logprob.exp() - 0.1).abs() < 1e-6);
        assert_eq!(found.top.iter().map(|(token, _)| *token).collect::<Vec<u32>>(), [1, 2, 0]);
        assert!(found.top.iter().zip([0.4, 0.4, 0.1]).all(|((_, found), p)| (found.exp() - p).abs() < 1e-6));
        assert_eq!(Logprobs::of(&logits, 0, 0).top, []);
        assert_eq!(Logprobs::of(&logits, 0, 9).top.len(), 4);
        let masked = Logprobs::of(&[f32::NEG_INFINITY, 1.0], 0, 2);
        assert_eq!((masked.logprob, masked.top), (f32::NEG_INFINITY, vec![(1, 0.0), (0, f32::NEG_INFINITY)]));
    }
}
