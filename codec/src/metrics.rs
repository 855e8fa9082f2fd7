//! How well codecs reconstruct, and how well they use their codes.
//!
//! Dimensions: H rows and W columns of pixels.

/// Errors below it count as it, 60 dB: otherwise one constant picture would decide a mean.
const MIN_SQUARED_ERROR: f64 = 1e-6;

/// The side and the deviation of SSIM's window, and its constants for values from 0 to 1; the paper's.
const WINDOW: usize = 11;
const WINDOW_DEVIATION: f64 = 1.5;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// Returns the peak signal-to-noise ratio of two pictures in dB, 60 at most.
///
/// # Panics
/// Panics if they have different lengths.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len(), "pictures of one size");
    let squares = a.iter().zip(b).map(|(a, b)| ((f64::from(*a) - f64::from(*b)) / 255.0).powi(2));
    -10.0 * (squares.sum::<f64>() / a.len() as f64).max(MIN_SQUARED_ERROR).log10()
}

/// Returns the structural similarity of the luma of two pictures: 1 if they are equal (Image Quality Assessment: From
/// Error Visibility to Structural Similarity, 2004). The mean over the windows of 11 × 11 pixels that lie inside, or of
/// the whole picture if it is smaller.
///
/// # Shapes
/// - a, b: `[H, W, 3]`, `width` being W
///
/// # Panics
/// Panics if they have different lengths, or no whole rows.
pub fn ssim(a: &[u8], b: &[u8], width: usize) -> f64 {
    assert_eq!(a.len(), b.len(), "pictures of one size");
    let (a, b) = (luma(a), luma(b));
    assert!(width > 0 && a.len().is_multiple_of(width), "{} pixels in rows of {width}", a.len());
    let height = a.len() / width;
    let (rows, columns) = (WINDOW.min(height), WINDOW.min(width));
    let weights = (gaussian(rows), gaussian(columns));
    let mut sum = 0.0;
    for top in 0..=height - rows {
        for left in 0..=width - columns {
            sum += window_similarity(&a, &b, width, [top, left], (&weights.0, &weights.1));
        }
    }
    sum / ((height - rows + 1) * (width - columns + 1)) as f64
}

fn window_similarity(
    a: &[f64],
    b: &[f64],
    width: usize,
    [top, left]: [usize; 2],
    (rows, columns): (&[f64], &[f64]),
) -> f64 {
    // Means of a, b, a², b² and a b.
    let mut means = [0.0; 5];
    for (y, row_weight) in rows.iter().enumerate() {
        for (x, weight) in columns.iter().enumerate() {
            let at = (top + y) * width + left + x;
            let (a, b, weight) = (a[at], b[at], weight * row_weight);
            for (mean, value) in means.iter_mut().zip([a, b, a * a, b * b, a * b]) {
                *mean += weight * value;
            }
        }
    }
    let [a, b, aa, bb, ab] = means;
    let luminance = (2.0 * a * b + C1) / (a * a + b * b + C1);
    luminance * (2.0 * (ab - a * b) + C2) / ((aa - a * a) + (bb - b * b) + C2)
}

/// Returns the luma of pixels (ITU-R BT.601), from 0 to 1.
fn luma(pixels: &[u8]) -> Vec<f64> {
    let luma = |rgb: &[u8; 3]| {
        let [r, g, b] = rgb.map(|value| f64::from(value) / 255.0);
        0.299 * r + 0.587 * g + 0.114 * b
    };
    pixels.as_chunks().0.iter().map(luma).collect()
}

fn gaussian(count: usize) -> Vec<f64> {
    let middle = (count as f64 - 1.0) / 2.0;
    let weights: Vec<f64> =
        (0..count).map(|i| (-0.5 * ((i as f64 - middle) / WINDOW_DEVIATION).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// How much of a vocabulary codes use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodeUsage {
    /// The fraction of the vocabulary that occurs.
    pub used: f64,
    /// The entropy of the distribution of codes, in bits; log2 of the vocabulary's size if all are equally frequent.
    pub entropy_bits: f64,
}

impl CodeUsage {
    /// Returns the usage of codes below `vocab_size`.
    ///
    /// # Panics
    /// Panics if a code is not below it.
    pub fn of(codes: &[u32], vocab_size: usize) -> Self {
        let mut counts = vec![0_u64; vocab_size];
        for code in codes {
            counts[*code as usize] += 1;
        }
        let present = counts.iter().filter(|count| **count > 0);
        let entropy = present.clone().map(|count| {
            let probability = *count as f64 / codes.len() as f64;
            -probability * probability.log2()
        });
        Self { used: present.count() as f64 / vocab_size as f64, entropy_bits: entropy.sum() }
    }
}

/// Returns the mean distance of frames of the mel scale in dB: of the natural logarithms of magnitudes that
/// [`AudioConfig::frames`](crate::AudioConfig::frames) returns.
///
/// # Panics
/// Panics if there are different numbers of frames.
pub fn mel_distance_db(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "frames of one length");
    let distances = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    distances.sum::<f64>() / a.len() as f64 * 20.0 * std::f64::consts::LOG10_E
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_of_known_errors() {
        assert!((psnr(&[0; 30], &[255; 30])).abs() < 1e-9);
        assert!((psnr(&[100; 30], &[110; 30]) - 28.1308).abs() < 1e-4);
        assert!((psnr(&[7; 30], &[7; 30]) - 60.0).abs() < 1e-9);
    }

    #[test]
    fn ssim_of_known_pictures() {
        let gray = |value: u8| vec![value; 32 * 32 * 3];
        assert!((ssim(&gray(9), &gray(9), 32) - 1.0).abs() < 1e-12);
        // Constant pictures differ in luminance alone: (2 · 0.2 · 0.6 + 0.0001) / (0.04 + 0.36 + 0.0001).
        assert!((ssim(&gray(51), &gray(153), 32) - 0.2401 / 0.4001).abs() < 1e-9);
        // Black against white: 0.0001 / 1.0001.
        assert!((ssim(&gray(0), &gray(255), 32) - 0.0001 / 1.0001).abs() < 1e-9);
        // Columns of 0 and 1 in turn, and their negative. Under weights w the mean is m = Σ w over one colour, and with
        // the other picture's 1 − m both variances are m (1 − m) and the covariance is its negative.
        let stripes = |first: u8| -> Vec<u8> {
            (0..32 * 32).flat_map(|i| [if (i % 2 == 0) == (first > 0) { 255 } else { 0 }; 3]).collect()
        };
        let weights: Vec<f64> = (-5..=5).map(|i| (-f64::from(i * i) / 4.5).exp()).collect();
        let m = weights.iter().step_by(2).sum::<f64>() / weights.iter().sum::<f64>();
        let v = m * (1.0 - m);
        let expected = (2.0 * v + C1) / (m * m + (1.0 - m) * (1.0 - m) + C1) * (C2 - 2.0 * v) / (2.0 * v + C2);
        assert!((ssim(&stripes(0), &stripes(1), 32) - expected).abs() < 1e-9);
        assert!(expected < -0.99);
    }

    #[test]
    fn usage_of_known_codes() {
        let usage = CodeUsage::of(&[0, 0, 1, 2], 8);
        assert!((usage.used - 0.375).abs() < 1e-12 && (usage.entropy_bits - 1.5).abs() < 1e-12, "{usage:?}");
        let all: Vec<u32> = (0..16).collect();
        let usage = CodeUsage::of(&all, 16);
        assert!((usage.used - 1.0).abs() < 1e-12 && (usage.entropy_bits - 4.0).abs() < 1e-12, "{usage:?}");
    }

    #[test]
    fn a_factor_of_ten_is_twenty_decibels() {
        let distance = mel_distance_db(&[0.0, 1.0], &[10.0_f32.ln(), 1.0 - 10.0_f32.ln()]);
        assert!((distance - 20.0).abs() < 1e-5);
    }
}
