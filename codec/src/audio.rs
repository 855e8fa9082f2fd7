//! Speech ↔ codes: frames of the mel scale as patches, and a waveform by the Griffin-Lim algorithm.
//!
//! Dimensions: S samples, F frames, N patches, M bands, G codes of a patch.

use crate::image::check_whole;
use crate::mel::MelFilters;
use crate::stft::{Stft, magnitudes};
use crate::{AudioConfig, Autoencoder, Error, Grid};

/// Patches of one forward pass: longer sound is cut, so that memory is bounded. 20 seconds with the default
/// configuration; the codes at a cut are those of a beginning and an end.
const MAX_PATCHES: usize = 512;

/// Moves and divides logarithms of magnitudes, so that those of speech are mostly in −1 to 1.
const LOG_CENTRE: f32 = -5.0;
const LOG_SCALE: f32 = 4.0;

/// The codec of mono sound at [`SAMPLE_RATE`](crate::SAMPLE_RATE).
#[derive(Debug, Clone)]
pub struct AudioCodec {
    config: AudioConfig,
    model: Autoencoder,
}

impl AudioCodec {
    /// Returns the codec of a trained autoencoder.
    ///
    /// # Panics
    /// Panics if the autoencoder has another shape.
    pub fn new(config: AudioConfig, model: Autoencoder) -> Self {
        assert_eq!(config.shape(), *model.shape(), "an autoencoder of the configured shape");
        Self { config, model }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &AudioConfig {
        &self.config
    }

    /// Returns the autoencoder.
    pub fn model(&self) -> &Autoencoder {
        &self.model
    }

    /// Returns the size of the vocabulary: codes are below it.
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size()
    }

    /// Returns the number of codes of sound with that many samples.
    pub fn tokens(&self, samples: usize) -> usize {
        samples.div_ceil(self.config.patch_samples()) * self.config.codes_per_patch
    }

    /// Returns the codes of sound, which is extended by silence to whole patches.
    ///
    /// # Shapes
    /// - samples: `[S]`, from −1 to 1
    /// - output: `[N, G]`
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn encode(&self, samples: &[f32]) -> Result<Vec<u32>, Error> {
        let patches = self.config.patches(samples);
        let pieces = patches.chunks(MAX_PATCHES * self.model.shape().patch_dim);
        let codes = pieces.map(|patches| self.model.encode(patches, row(patches.len() / self.model.shape().patch_dim)));
        Ok(codes.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Returns the frames of codes: natural logarithms of the magnitudes of the bands.
    ///
    /// # Shapes
    /// - codes: `[N, G]`
    /// - output: `[F, M]`
    ///
    /// # Errors
    /// Returns an error if the codes are not those of whole patches, one is outside the codebook, or the device fails.
    pub fn decode_frames(&self, codes: &[u32]) -> Result<Vec<f32>, Error> {
        let each = self.config.codes_per_patch;
        check_whole(codes.len(), each, "codes", "patches of sound")?;
        let pieces = codes.chunks(MAX_PATCHES * each);
        let patches = pieces.map(|codes| self.model.decode(codes, row(codes.len() / each)));
        let patches = patches.collect::<Result<Vec<_>, _>>()?.concat();
        Ok(patches.into_iter().map(|value| value * LOG_SCALE + LOG_CENTRE).collect())
    }

    /// Returns the sound of codes, from −1 to 1.
    ///
    /// # Shapes
    /// - codes: `[N, G]`
    /// - output: `[S]`, whole patches
    ///
    /// # Errors
    /// As [`AudioCodec::decode_frames`].
    pub fn decode(&self, codes: &[u32]) -> Result<Vec<f32>, Error> {
        Ok(self.config.sound(&self.decode_frames(codes)?))
    }
}

/// Returns the arrangement of patches in a row.
fn row(patches: usize) -> Grid {
    Grid { height: 1, width: patches }
}

impl AudioConfig {
    /// Returns the frames of sound, which is extended by silence to whole patches: natural logarithms of the magnitudes
    /// of the bands.
    ///
    /// # Shapes
    /// - samples: `[S]`
    /// - output: `[F, M]`
    pub fn frames(&self, samples: &[f32]) -> Vec<f32> {
        let mut samples = samples.to_vec();
        samples.resize(samples.len().next_multiple_of(self.patch_samples()), 0.0);
        self.filters().log_bands(&magnitudes(&self.stft().forward(&samples)))
    }

    /// Returns sound with such frames, from −1 to 1.
    ///
    /// # Shapes
    /// - frames: `[F, M]`
    /// - output: `[S]`
    pub fn sound(&self, frames: &[f32]) -> Vec<f32> {
        let samples = self.stft().griffin_lim(&self.filters().magnitudes(frames), self.griffin_lim_iterations);
        samples.into_iter().map(|sample| sample.clamp(-1.0, 1.0)).collect()
    }

    /// Returns the patches of sound: [`AudioConfig::frames`], with values mostly from −1 to 1.
    ///
    /// # Shapes
    /// - samples: `[S]`
    /// - output: `[N, F / N, M]`
    pub fn patches(&self, samples: &[f32]) -> Vec<f32> {
        self.frames(samples).into_iter().map(|value| (value - LOG_CENTRE) / LOG_SCALE).collect()
    }

    /// Returns the arrangement of that many patches.
    pub fn grid(&self, patches: usize) -> Grid {
        row(patches)
    }

    fn stft(&self) -> Stft {
        Stft::new(self.window_samples, self.hop_samples)
    }

    fn filters(&self) -> MelFilters {
        MelFilters::new(self.window_samples, self.mel_bands)
    }
}
