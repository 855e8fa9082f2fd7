//! Short-time Fourier transforms, and waveforms of spectrograms without phases.
//!
//! The transform is a radix-2 one of our own, because every FFT crate would enable features of crates below burn; it
//! computes two frames at a time, one as real and one as imaginary numbers. It has the same bits on every machine.
//!
//! Dimensions: F frames, W samples of a window, K = W / 2 + 1 frequencies.

use std::f64::consts::PI;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A complex number: its real and its imaginary part.
pub type Complex = [f32; 2];

/// The momentum of the fast Griffin-Lim algorithm; the paper's best.
const MOMENTUM: f32 = 0.99;

/// Amplitudes below it have no phase.
const MIN_AMPLITUDE: f32 = 1e-12;

/// A short-time Fourier transform with a Hann window, whose frames are centred on the middle of their hop.
#[derive(Debug, Clone)]
pub struct Stft {
    hop: usize,
    window: Vec<f32>,       // [W]
    twiddles: Vec<Complex>, // [W / 2]
}

impl Stft {
    /// Returns the transform with windows of `window_samples`, a power of two, every `hop_samples`.
    ///
    /// # Panics
    /// Panics if the window is not a power of two of at least 4, or the hop is odd, zero or longer than it.
    pub fn new(window_samples: usize, hop_samples: usize) -> Self {
        let n = window_samples;
        assert!(n >= 4 && n.is_power_of_two(), "a window of {n} samples is not a power of two");
        assert!(hop_samples > 0 && hop_samples.is_multiple_of(2) && hop_samples <= n, "a hop of {hop_samples} samples");
        let angle = |i: usize| 2.0 * PI * i as f64 / n as f64;
        Self {
            hop: hop_samples,
            window: (0..n).map(|i| (0.5 - 0.5 * angle(i).cos()) as f32).collect(),
            twiddles: (0..n / 2).map(|i| [angle(i).cos() as f32, -angle(i).sin() as f32]).collect(),
        }
    }

    /// Returns K.
    pub fn frequencies(&self) -> usize {
        self.window.len() / 2 + 1
    }

    /// Returns the spectrogram of samples, of which zeros make whole hops: `[F, K]`.
    pub fn forward(&self, samples: &[f32]) -> Vec<Complex> {
        let (n, k) = (self.window.len(), self.frequencies());
        let frames = samples.len().div_ceil(self.hop);
        let mut spectrogram = vec![[0.0; 2]; frames * k];
        let mut buffer = vec![[0.0; 2]; n];
        for first in (0..frames).step_by(2) {
            for (i, value) in buffer.iter_mut().enumerate() {
                let sample = |frame| self.position(frame, i).and_then(|at| samples.get(at)).copied().unwrap_or(0.0);
                *value = [sample(first) * self.window[i], sample(first + 1) * self.window[i]];
            }
            self.transform(&mut buffer);
            // With z = a + i b of two real frames, a has the spectrum (z + z*) / 2 and b (z − z*) / 2 i.
            for i in 0..k {
                let ([re, im], [mirrored_re, mirrored_im]) = (buffer[i], buffer[(n - i) % n]);
                spectrogram[first * k + i] = [0.5 * (re + mirrored_re), 0.5 * (im - mirrored_im)];
                if first + 1 < frames {
                    spectrogram[(first + 1) * k + i] = [0.5 * (im + mirrored_im), 0.5 * (mirrored_re - re)];
                }
            }
        }
        spectrogram
    }

    /// Returns the samples whose spectrogram is nearest to the given one (Signal Estimation from Modified Short-Time
    /// Fourier Transform, 1984): `F` hops.
    pub fn inverse(&self, spectrogram: &[Complex]) -> Vec<f32> {
        let (n, k) = (self.window.len(), self.frequencies());
        let frames = spectrogram.len() / k;
        let (mut samples, mut weights) = (vec![0.0_f32; frames * self.hop], vec![0.0_f32; frames * self.hop]);
        let mut buffer = vec![[0.0; 2]; n];
        for first in (0..frames).step_by(2) {
            // The conjugate of z = a + i b, whose transform is the conjugate of n times the inverse transform of z.
            for (i, value) in buffer.iter_mut().enumerate() {
                // The imaginary parts of the lowest and the highest frequency do not exist.
                let sign = if i % (n / 2) == 0 {
                    0.0
                } else if i < k {
                    1.0
                } else {
                    -1.0
                };
                let at = i.min(n - i);
                let of = |frame: usize| if frame < frames { spectrogram[frame * k + at] } else { [0.0; 2] };
                let ([a_re, a_im], [b_re, b_im]) = (of(first), of(first + 1));
                *value = [a_re - sign * b_im, -(sign * a_im + b_re)];
            }
            self.transform(&mut buffer);
            for (frame, part) in [(first, 0), (first + 1, 1)] {
                for (i, (value, window)) in buffer.iter().zip(&self.window).enumerate() {
                    if let Some(at) = self.position(frame, i).filter(|at| *at < samples.len()) {
                        let value = if part == 0 { value[0] } else { -value[1] };
                        samples[at] += value / n as f32 * window;
                        weights[at] += if frame < frames { window * window } else { 0.0 };
                    }
                }
            }
        }
        samples.iter_mut().zip(&weights).for_each(|(sample, weight)| *sample /= weight.max(1e-3));
        samples
    }

    /// Returns samples whose spectrogram has nearly these magnitudes, by the fast Griffin-Lim algorithm (A Fast
    /// Griffin-Lim Algorithm, 2013), from random phases that are always the same.
    ///
    /// # Shapes
    /// - magnitudes: `[F, K]`
    pub fn griffin_lim(&self, magnitudes: &[f32], iterations: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut estimate: Vec<Complex> = magnitudes
            .iter()
            .map(|magnitude| {
                let phase = rng.random_range(0.0..2.0 * PI);
                [magnitude * phase.cos() as f32, magnitude * phase.sin() as f32]
            })
            .collect();
        let mut previous: Option<Vec<Complex>> = None;
        for _ in 0..iterations {
            let consistent = self.forward(&self.inverse(&with_magnitudes(&estimate, magnitudes)));
            if let Some(previous) = &previous {
                for ((value, new), old) in estimate.iter_mut().zip(&consistent).zip(previous) {
                    *value = [0, 1].map(|part| new[part] + MOMENTUM * (new[part] - old[part]));
                }
            } else {
                estimate.clone_from(&consistent);
            }
            previous = Some(consistent);
        }
        self.inverse(&with_magnitudes(&estimate, magnitudes))
    }

    /// Returns the sample at position `i` of a frame's window; None before the first.
    fn position(&self, frame: usize, i: usize) -> Option<usize> {
        (frame * self.hop + i).checked_sub((self.window.len() - self.hop) / 2)
    }

    /// Replaces values by their discrete Fourier transform (Cooley and Tukey, 1965).
    fn transform(&self, values: &mut [Complex]) {
        let n = values.len();
        let shift = usize::BITS - n.ilog2();
        for i in 0..n {
            let reversed = i.reverse_bits() >> shift;
            if i < reversed {
                values.swap(i, reversed);
            }
        }
        let mut half = 1;
        while half < n {
            let step = n / (2 * half);
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                let twiddles = self.twiddles.iter().step_by(step);
                for ((a, b), [cos, sin]) in low.iter_mut().zip(high).zip(twiddles) {
                    let turned = [b[0] * cos - b[1] * sin, b[0] * sin + b[1] * cos];
                    *b = [a[0] - turned[0], a[1] - turned[1]];
                    *a = [a[0] + turned[0], a[1] + turned[1]];
                }
            }
            half *= 2;
        }
    }
}

/// Returns the magnitudes of a spectrogram.
pub fn magnitudes(spectrogram: &[Complex]) -> Vec<f32> {
    spectrogram.iter().map(|[re, im]| (re * re + im * im).sqrt()).collect()
}

/// Returns a spectrogram with other magnitudes.
fn with_magnitudes(spectrogram: &[Complex], magnitudes: &[f32]) -> Vec<Complex> {
    let values = spectrogram.iter().zip(magnitudes).map(|([re, im], magnitude)| {
        let amplitude = (re * re + im * im).sqrt();
        if amplitude < MIN_AMPLITUDE { [*magnitude, 0.0] } else { [re, im].map(|part| part / amplitude * magnitude) }
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn frames_are_discrete_fourier_transforms() {
        for (n, hop, count) in [(64, 16, 100), (16, 8, 37), (8, 2, 1)] {
            let stft = Stft::new(n, hop);
            let samples = noise(count);
            let found = stft.forward(&samples);
            assert_eq!(found.len(), count.div_ceil(hop) * (n / 2 + 1));
            for (at, found) in found.iter().enumerate() {
                let (frame, frequency) = (at / (n / 2 + 1), at % (n / 2 + 1));
                let mut expected = [0.0_f64; 2];
                for i in 0..n {
                    let sample = (frame * hop + i).checked_sub((n - hop) / 2).and_then(|at| samples.get(at));
                    let window = 0.5 - 0.5 * (2.0 * PI * i as f64 / n as f64).cos();
                    let angle = -2.0 * PI * (frequency * i) as f64 / n as f64;
                    let value = f64::from(*sample.unwrap_or(&0.0)) * window;
                    expected = [expected[0] + value * angle.cos(), expected[1] + value * angle.sin()];
                }
                for part in 0..2 {
                    assert!(
                        (f64::from(found[part]) - expected[part]).abs() < 1e-4,
                        "{n}, {at}: {found:?}, {expected:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn inverse_returns_the_samples() {
        for (n, hop, count) in [(1024, 160, 3200), (64, 16, 112), (256, 64, 64)] {
            let (stft, samples) = (Stft::new(n, hop), noise(count));
            let found = stft.inverse(&stft.forward(&samples));
            assert_eq!(found.len(), count);
            let error = samples.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 1e-3, "{n}, {hop}: {error}");
        }
    }

    #[test]
    fn griffin_lim_of_a_tone_has_its_frequency() {
        let stft = Stft::new(1024, 160);
        for hertz in [220.0, 440.0, 1234.5, 3000.0] {
            let samples: Vec<f32> =
                (0..8000).map(|i| (0.5 * (2.0 * PI * hertz * f64::from(i) / 16_000.0).sin()) as f32).collect();
            let found = stft.griffin_lim(&magnitudes(&stft.forward(&samples)), 40);
            // Rising zero crossings of the middle half second's inner part.
            let inner = &found[1600..6400];
            let crossings: Vec<f64> = inner
                .windows(2)
                .enumerate()
                .filter(|(_, pair)| pair[0] < 0.0 && pair[1] >= 0.0)
                .map(|(at, pair)| at as f64 + f64::from(pair[0] / (pair[0] - pair[1])))
                .collect();
            let periods = (crossings.len() - 1) as f64;
            let measured = periods * 16_000.0 / (crossings[crossings.len() - 1] - crossings[0]);
            assert!((measured / hertz - 1.0).abs() < 0.01, "{hertz} Hz: {measured} Hz");
            let power = inner.iter().map(|x| x * x).sum::<f32>() / inner.len() as f32;
            assert!((power / 0.125 - 1.0).abs() < 0.15, "{hertz} Hz: power {power}");
        }
    }
}
