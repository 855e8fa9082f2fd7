//! The scaling of rotary frequencies as Llama 3 has it: a tensor with the number that each frequency is divided by.
//!
//! The file does not have the parameters of the scaling, which are recovered from the factors.

use crate::rope;
use crate::{ModelConfig, RopeScaling};

/// The tensor's name.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The largest relative difference between factors of the same scaling: those of other programs are rounded twice.
const TOLERANCE: f32 = 1e-5;

/// The parameters of all models that Meta published with this scaling.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_CONTEXT_LENGTH: usize = 8192;

/// Usual factors of the context, where no pair is divided by the whole factor.
const FACTORS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Returns the factors of a configuration's scaling.
pub(super) fn factors(config: &ModelConfig) -> Vec<f32> {
    let unscaled = rope::frequencies(&ModelConfig { rope_scaling: None, ..config.clone() }, 1);
    unscaled.iter().zip(rope::frequencies(config, 1)).map(|(unscaled, scaled)| unscaled / scaled).collect()
}

/// Returns the scaling that has these factors.
///
/// # Errors
/// Returns the reason if none has.
pub(super) fn scaling(
    found: &[f32],
    original_context_length: Option<usize>,
    config: &ModelConfig,
) -> Result<RopeScaling, String> {
    let pairs = config.rotary_dim() / 2;
    if found.len() != pairs {
        return Err(format!("has {} factors, the heads have {pairs} pairs", found.len()));
    }
    let original_context_length = original_context_length.unwrap_or(ORIGINAL_CONTEXT_LENGTH);
    let unscaled = rope::frequencies(&ModelConfig { rope_scaling: None, ..config.clone() }, 1);
    let largest = f64::from(found.iter().copied().fold(1.0, f32::max));
    let candidates = std::iter::once(largest).chain(FACTORS).flat_map(|factor| {
        let scaling = move |(low_freq_factor, high_freq_factor)| RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context_length,
        };
        let solved = solve(found, factor, &unscaled, original_context_length);
        [Some((LOW_FREQ_FACTOR, HIGH_FREQ_FACTOR)), solved].into_iter().flatten().map(scaling)
    });
    candidates.into_iter().find(|candidate| has(*candidate, found, config)).ok_or_else(|| {
        "has factors that are not those of a scaling of the type llama3, the only one that is supported".to_owned()
    })
}

/// Returns the two ends of the ramp from two factors on it: for a pair with r rotations within the original context,
/// the fraction of the frequency that is kept is (r - low) / (high - low).
fn solve(found: &[f32], factor: f64, unscaled: &[f32], original_context_length: usize) -> Option<(f64, f64)> {
    let on_ramp = |x: &f32| f64::from(*x) > 1.0 + 1e-6 && f64::from(*x) < factor * (1.0 - 1e-6);
    let kept = |x: f32| (1.0 / f64::from(x) - 1.0 / factor) / (1.0 - 1.0 / factor);
    let rotations = |frequency: f32| original_context_length as f64 * f64::from(frequency) / std::f64::consts::TAU;
    let mut points = found.iter().zip(unscaled).filter(|(x, _)| on_ramp(x)).map(|(x, f)| (rotations(*f), kept(*x)));
    let ((r1, kept1), (r2, kept2)) = (points.next()?, points.next_back()?);
    let width = (r1 - r2) / (kept1 - kept2);
    let low = r1 - kept1 * width;
    // The parameters of people are short numbers.
    let rounded = |x: f64| (x * 1000.0).round() / 1000.0;
    Some((rounded(low), rounded(low + width)))
}

fn has(scaling: RopeScaling, found: &[f32], config: &ModelConfig) -> bool {
    let config = ModelConfig { rope_scaling: Some(scaling), ..config.clone() };
    let is_valid = config.validate().is_ok();
    is_valid && factors(&config).iter().zip(found).all(|(a, b)| (a - b).abs() <= TOLERANCE * a.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;
    use crate::config::tests::tiny;

    #[test]
    fn scalings_are_recovered_from_their_factors() {
        let check = |low_freq_factor: f64, high_freq_factor: f64, original_context_length: usize, declared: bool| {
            let scaling_of =
                RopeScaling::Llama3 { factor: 8.0, low_freq_factor, high_freq_factor, original_context_length };
            let base = ModelConfig { head_dim: 64, rope_theta: 500_000.0, ..tiny(Family::Llama) };
            let config = ModelConfig { rope_scaling: Some(scaling_of), ..base.clone() };
            let found = scaling(&factors(&config), declared.then_some(original_context_length), &base);
            assert_eq!(found, Ok(scaling_of));
        };
        check(1.0, 4.0, 8192, false);
        check(1.0, 4.0, 4096, true);
        check(2.0, 16.0, 8192, false);
        check(1.5, 6.0, 2048, true);
    }

    #[test]
    fn other_factors_are_an_error() {
        let config = ModelConfig { head_dim: 8, ..tiny(Family::Llama) };
        let check = |found: &[f32], expected: &str| {
            let error = scaling(found, None, &config).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&[1.0, 2.0], "has 2 factors, the heads have 4 pairs");
        check(&[8.0, 1.0, 8.0, 1.0], "has factors that are not those");
        check(&[f32::NAN; 4], "has factors that are not those");
        check(&[0.0; 4], "has factors that are not those");
    }
}
