//! Arithmetic on rows of f32 that the compiler turns into vector instructions.
//!
//! Everything here is inlined into an expression that [`crate::dispatch::vectorized`] compiles once for each
//! instruction set. Sums have sixteen partial sums on every instruction set, so that its width does not change the
//! result.
#![allow(clippy::inline_always, reason = "a function that is not inlined is compiled for the baseline instruction set")]

/// Partial results of a reduction, each over every sixteenth number.
pub const LANES: usize = 16;

/// 1.5 × 2²³: adding it rounds to an integer, which is then in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Returns the nearest integer to a number of a magnitude below 2²², the even one of two.
#[inline(always)]
pub fn round(x: f32) -> i32 {
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

/// Returns e^x within 2 units in the last place of f32 between −87 and 88; 0 below that range, e^88 above it.
///
/// The method of Cephes (Moshier, 1989): x = n ln 2 + r, e^r by a polynomial of degree 6, and n added to the exponent.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let clamped = if clamped > 88.0 { 88.0 } else { clamped };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.0e-1;
    let e_r = p * (r * r) + r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let power = e_r * f32::from_bits(exponent);
    if x < -87.0 { 0.0 } else { power }
}

/// Returns 1 / (1 + e^−x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns tanh(x) within 4 × 10⁻⁷.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// Returns the sum of `term` over the elements.
#[inline(always)]
pub fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum_of_three(x, x, x, |x, _, _| term(x))
}

/// Returns the sum of `term` over the pairs of elements of two slices of the same length.
#[inline(always)]
pub fn sum_of_two(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    sum_of_three(x, y, y, |x, y, _| term(x, y))
}

/// Returns the sum of `term` over the triples of elements of three slices of the same length.
#[inline(always)]
pub fn sum_of_three(x: &[f32], y: &[f32], z: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((x, x_rest), (y, y_rest), (z, z_rest)) =
        (x.as_chunks::<LANES>(), y.as_chunks::<LANES>(), z.as_chunks::<LANES>());
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane], z[lane]);
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).zip(z_rest).map(|((x, y), z)| term(*x, *y, *z)).sum();
    fold(lanes, |a, b| a + b) + rest
}

/// Returns the largest number of a row that is not NaN; −∞ for an empty row.
#[inline(always)]
pub fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*x, *lane);
        }
    }
    rest.iter().fold(fold(lanes, larger), |a, b| larger(a, *b))
}

/// Returns the larger of two numbers, the second if the first is NaN.
#[inline(always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn fold(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::vectorized;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 / 10_000.0;
            let exact = f64::from(x).exp();
            let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
            let error = (f64::from(exp(x)) - exact).abs() / unit;
            assert!(error <= 2.0, "exp({x}) is {error} units off");
        }
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(-1e30).to_bits(), 0);
        assert!(exp(1e30).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_cover_every_element() {
        for len in [0, 1, 15, 16, 17, 33, 100] {
            let row: Vec<f32> = (0..len).map(|i| (i * 7 % 31) as f32 - 15.0).collect();
            // Small integers: every order of summation gives the same sum.
            let total: f32 = row.iter().sum();
            assert!((vectorized!(sum(&row, |x| x)) - total).abs() < f32::EPSILON);
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(vectorized!(max(&row)).to_bits(), largest.to_bits());
        }
    }
}
