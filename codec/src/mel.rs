//! Frames of the mel scale: bands of frequencies as wide as the ear resolves them.
//!
//! Dimensions: F frames, K frequencies, M bands.

use crate::SAMPLE_RATE;

/// Magnitudes below it count as it: −100 dB of a tone of full scale.
const MIN_MAGNITUDE: f32 = 1e-5;

/// Updates of the magnitudes that are sought for a frame of bands. Heuristic, not measured: because neighbouring bands
/// overlap by half, the residual changes little after a few dozen.
const INVERSION_STEPS: usize = 50;

/// Triangular filters, evenly spaced on the mel scale from 0 Hz to half the sample rate, with a height of one.
#[derive(Debug, Clone)]
pub struct MelFilters {
    /// For each band, its first frequency and its weights from there.
    bands: Vec<(usize, Vec<f32>)>,
    frequencies: usize,
    /// Divides magnitudes, so that a tone of full scale has a magnitude of one.
    full_scale: f32,
}

impl MelFilters {
    /// Returns the filters for the frequencies of windows of `window_samples`.
    pub fn new(window_samples: usize, bands: usize) -> Self {
        let frequencies = window_samples / 2 + 1;
        let hertz_per_frequency = SAMPLE_RATE as f64 / window_samples as f64;
        let top = mel(SAMPLE_RATE as f64 / 2.0);
        let edge = |i: usize| hertz(top * i as f64 / (bands + 1) as f64) / hertz_per_frequency;
        let band = |i: usize| {
            let [low, centre, high] = [edge(i), edge(i + 1), edge(i + 2)];
            let weight =
                |k: usize| (((k as f64 - low) / (centre - low)).min((high - k as f64) / (high - centre))) as f32;
            let (first, last) = (low.floor() as usize + 1, (high.ceil() as usize).min(frequencies));
            // A band between two frequencies has the nearest one, so that none is empty.
            let weights: Vec<f32> = (first..last).map(|k| weight(k).max(0.0)).collect();
            if weights.iter().all(|weight| *weight == 0.0) {
                (centre.round() as usize, vec![1.0])
            } else {
                (first, weights)
            }
        };
        // The sum of a Hann window is half its length, and half of a tone's amplitude is at its positive frequency.
        Self { bands: (0..bands).map(band).collect(), frequencies, full_scale: window_samples as f32 / 4.0 }
    }

    /// Returns the natural logarithms of the bands' magnitudes.
    ///
    /// # Shapes
    /// - magnitudes: `[F, K]`
    /// - output: `[F, M]`
    pub fn log_bands(&self, magnitudes: &[f32]) -> Vec<f32> {
        let frames = magnitudes.chunks_exact(self.frequencies);
        frames
            .flat_map(|frame| self.apply(frame).map(|band| (band / self.full_scale).max(MIN_MAGNITUDE).ln()))
            .collect()
    }

    /// Returns magnitudes, none negative, whose bands are nearly those given: multiplicative updates (Algorithms for
    /// Non-negative Matrix Factorization, 2000) with the filters fixed.
    ///
    /// # Shapes
    /// - `log_bands`: `[F, M]`
    /// - output: `[F, K]`
    pub fn magnitudes(&self, log_bands: &[f32]) -> Vec<f32> {
        log_bands.chunks_exact(self.bands.len()).flat_map(|frame| self.frame_magnitudes(frame)).collect()
    }

    fn frame_magnitudes(&self, log_bands: &[f32]) -> Vec<f32> {
        // Codes of a model may be of any loudness; e^10 is far beyond full scale.
        let wanted: Vec<f32> = log_bands.iter().map(|band| band.min(10.0).exp() * self.full_scale).collect();
        let numerator = self.transposed(&wanted);
        let mut magnitudes: Vec<f32> = numerator.clone();
        for _ in 0..INVERSION_STEPS {
            let bands: Vec<f32> = self.apply(&magnitudes).collect();
            let denominator = self.transposed(&bands);
            for ((magnitude, above), below) in magnitudes.iter_mut().zip(&numerator).zip(denominator) {
                *magnitude *= above / below.max(f32::MIN_POSITIVE);
            }
        }
        magnitudes
    }

    fn apply(&self, magnitudes: &[f32]) -> impl Iterator<Item = f32> {
        self.bands.iter().map(|(first, weights)| {
            weights.iter().zip(&magnitudes[*first..]).map(|(weight, magnitude)| weight * magnitude).sum()
        })
    }

    fn transposed(&self, bands: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.frequencies];
        for ((first, weights), band) in self.bands.iter().zip(bands) {
            sums[*first..].iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight * band);
        }
        sums
    }
}

/// O'Shaughnessy's formula (Speech Communication: Human and Machine, 1987).
fn mel(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

fn hertz(mel: f64) -> f64 {
    700.0 * (10.0_f64.powf(mel / 2595.0) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stft::{Stft, magnitudes};

    #[test]
    fn a_thousand_hertz_are_a_thousand_mels() {
        assert!((mel(1000.0) - 1000.0).abs() < 0.1);
        assert!((hertz(mel(440.0)) - 440.0).abs() < 1e-9);
    }

    #[test]
    fn a_tone_is_in_its_band_at_its_loudness() {
        let (stft, filters) = (Stft::new(1024, 160), MelFilters::new(1024, 80));
        for hertz in [300.0, 1000.0, 4000.0] {
            let angle = |i: i32| 2.0 * std::f64::consts::PI * hertz * f64::from(i) / 16_000.0;
            let samples: Vec<f32> = (0..4800).map(|i| angle(i).sin() as f32).collect();
            let bands = filters.log_bands(&magnitudes(&stft.forward(&samples)));
            let frame = &bands[15 * 80..16 * 80];
            let loudest = (0..80).max_by(|a, b| frame[*a].total_cmp(&frame[*b])).unwrap();
            let centre = super::hertz(mel(8000.0) * (loudest + 1) as f64 / 81.0);
            assert!((centre / hertz - 1.0).abs() < 0.06, "{hertz} Hz is in the band of {centre} Hz");
            // The window spreads a tone over neighbouring frequencies, which the band adds up: 0 dB to 6 dB.
            assert!((-0.7..0.75).contains(&frame[loudest]), "{hertz} Hz: {}", frame[loudest]);
            let silence = filters.log_bands(&magnitudes(&stft.forward(&[0.0; 1600])));
            assert!(silence.iter().all(|band| (band - 1e-5_f32.ln()).abs() < 1e-5));
        }
    }

    #[test]
    fn inverted_bands_are_the_bands() {
        let filters = MelFilters::new(1024, 80);
        // Three frames of a spectrum with harmonics.
        let spectrum: Vec<f32> = (0..3 * 513).map(|i| 5.0 / (1 + i % 17) as f32 / (1 + i % 513) as f32).collect();
        let bands = filters.log_bands(&spectrum);
        let found = filters.log_bands(&filters.magnitudes(&bands));
        let error = bands.iter().zip(&found).map(|(a, b)| (a - b).abs()).sum::<f32>() / 240.0;
        assert!(error < 0.05, "{error}");
        assert!(filters.magnitudes(&[f32::NAN; 80]).len() == 513);
    }
}
