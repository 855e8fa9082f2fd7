//! How far the predictions of two models are apart, measured on the same tokens.

/// Differences between a reference model and a candidate. Sums, so that positions can be added one by one.
///
/// For each position, [`Parity::add`] takes both models' logits (for example rows of [`crate::logits`]) and the token
/// that came next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parity {
    /// Positions compared.
    pub tokens: u64,
    /// The largest absolute difference between two logits; infinite if one of them is NaN.
    pub max_logit_difference: f64,
    logits: u64,
    sum_of_logit_differences: f64,
    sum_of_divergences: f64,
    agreements: u64,
    sum_of_reference_losses: f64,
    sum_of_candidate_losses: f64,
}

impl Parity {
    /// Adds one position: both models' logits over the same vocabulary, and the id of the token that came next.
    ///
    /// # Panics
    /// Panics if the vocabularies differ.
    pub fn add(&mut self, reference: &[f32], candidate: &[f32], target: usize) {
        assert_eq!(reference.len(), candidate.len(), "both models have the same vocabulary");
        let (p, q) = (Row::of(reference), Row::of(candidate));
        let mut divergence = 0.0;
        for (&a, &b) in reference.iter().zip(candidate) {
            let difference = logit_difference(a, b);
            self.max_logit_difference = self.max_logit_difference.max(difference);
            self.sum_of_logit_differences += difference;
            let (log_p, log_q) = (f64::from(a) - p.log_sum_exp, f64::from(b) - q.log_sum_exp);
            divergence += log_p.exp() * (log_p - log_q);
        }
        self.tokens += 1;
        self.logits += reference.len() as u64;
        self.sum_of_divergences += divergence;
        self.agreements += u64::from(p.argmax == q.argmax);
        self.sum_of_reference_losses += p.log_sum_exp - f64::from(reference[target]);
        self.sum_of_candidate_losses += q.log_sum_exp - f64::from(candidate[target]);
    }

    /// Returns the mean absolute difference between two logits.
    pub fn mean_logit_difference(&self) -> f64 {
        self.sum_of_logit_differences / self.logits as f64
    }

    /// Returns the mean divergence of the candidate's distribution from the reference's (Kullback and Leibler, On
    /// Information and Sufficiency, 1951), in nats per token.
    pub fn kl_divergence_nats(&self) -> f64 {
        let mean = self.sum_of_divergences / self.tokens as f64;
        // Rounding can leave a sum of zeros slightly below zero. Not `max`, which turns NaN into zero.
        if mean < 0.0 { 0.0 } else { mean }
    }

    /// Returns the fraction of positions at which both models predict the same most likely token.
    pub fn top_1_agreement(&self) -> f64 {
        self.agreements as f64 / self.tokens as f64
    }

    /// Returns the reference's mean cross-entropy.
    pub fn reference_loss_nats(&self) -> f64 {
        self.sum_of_reference_losses / self.tokens as f64
    }

    /// Returns the candidate's mean cross-entropy.
    pub fn candidate_loss_nats(&self) -> f64 {
        self.sum_of_candidate_losses / self.tokens as f64
    }

    /// Returns how much higher the candidate's loss is than the reference's.
    pub fn loss_difference_nats(&self) -> f64 {
        self.candidate_loss_nats() - self.reference_loss_nats()
    }
}

/// Returns the largest absolute difference between two lists of logits; infinite if a value is NaN or the lengths
/// differ.
pub fn max_logit_difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(&a, &b)| logit_difference(a, b)).fold(0.0, f64::max)
}

/// Returns how many tokens at the start of two sequences are equal, such as those of two greedy decodings.
pub fn equal_tokens(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn logit_difference(a: f32, b: f32) -> f64 {
    let difference = f64::from(a - b).abs();
    // `f64::max` ignores NaN, which must not count as parity.
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// One position's logits.
struct Row {
    log_sum_exp: f64,
    argmax: usize,
}

impl Row {
    fn of(logits: &[f32]) -> Self {
        let mut argmax = 0;
        for (i, &logit) in logits.iter().enumerate() {
            if logit > logits[argmax] {
                argmax = i;
            }
        }
        let max = f64::from(logits[argmax]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
        Self { log_sum_exp: max + sum.ln(), argmax }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn measures_match_a_calculation_by_hand() {
        // Uniform over two tokens against 3:1, and equal rows: every measure is a mean over the two positions.
        let mut parity = Parity::default();
        parity.add(&[0.0, 0.0], &[3f32.ln(), 0.0], 0);
        parity.add(&[1.0, 2.0], &[1.0, 2.0], 1);
        let ln2 = std::f64::consts::LN_2;
        let second = (1.0 + (-1f64).exp()).ln();
        assert_eq!((parity.tokens, parity.logits), (2, 4));
        assert_close(parity.max_logit_difference, 3f64.ln());
        assert_close(parity.mean_logit_difference(), 3f64.ln() / 4.0);
        assert_close(parity.kl_divergence_nats(), 0.5 * ((0.5f64 / 0.75).ln() + (0.5f64 / 0.25).ln()) / 2.0);
        assert_close(parity.top_1_agreement(), 1.0);
        assert_close(parity.reference_loss_nats(), f64::midpoint(ln2, second));
        assert_close(parity.candidate_loss_nats(), f64::midpoint((4f64 / 3.0).ln(), second));
        assert_close(parity.loss_difference_nats(), ((4f64 / 3.0).ln() - ln2) / 2.0);
    }

    #[test]
    fn nan_and_different_lengths_are_infinitely_far_apart() {
        let check = |a: &[f32], b: &[f32], expected: f64| {
            assert_eq!(max_logit_difference(a, b).to_bits(), expected.to_bits(), "{a:?} {b:?}");
        };
        check(&[1.0, -2.0], &[1.5, -4.0], 2.0);
        check(&[], &[], 0.0);
        check(&[f32::NAN, 0.0], &[0.0, 0.0], f64::INFINITY);
        check(&[0.0], &[0.0, 0.0], f64::INFINITY);
        let mut parity = Parity::default();
        parity.add(&[f32::NAN, 0.0], &[0.0, 0.0], 1);
        assert_eq!(parity.max_logit_difference.to_bits(), f64::INFINITY.to_bits());
        assert!(parity.kl_divergence_nats().is_nan());
        assert_eq!(
            (equal_tokens(&[1, 2, 3], &[1, 2, 4]), equal_tokens(&[1], &[1, 2]), equal_tokens(&[], &[])),
            (2, 1, 0)
        );
    }
}
