//! The shapes of the codecs, which their files and `[preprocess.codec]` share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::autoencoder::Shape;
use crate::{Error, Fsq};

/// Samples per second of the sound that codecs read and write.
pub const SAMPLE_RATE: usize = 16_000;

/// A codec's largest vocabulary: far above what a small Transformer learns, and far from the end of a `u32`.
const MAX_VOCAB_SIZE: usize = 1 << 16;

/// The shape of an [`ImageCodec`](crate::ImageCodec).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Width and height of a picture in pixels, a multiple of `patch`. Default 32.
    pub size: usize,
    /// Width and height of a patch in pixels. Default 4.
    pub patch: usize,
    /// The number of values of each dimension of the quantiser; their product is the size of the vocabulary. Default
    /// `[7, 5, 5, 5, 5]`: 4,375.
    pub levels: Vec<usize>,
    /// Codes of each patch. Default 1.
    pub codes_per_patch: usize,
    /// Channels of the convolutions. Default 64.
    pub channels: usize,
    /// Residual blocks in each of encoder and decoder. Default 1.
    pub blocks: usize,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self { size: 32, patch: 4, levels: vec![7, 5, 5, 5, 5], codes_per_patch: 1, channels: 64, blocks: 1 }
    }
}

impl ImageConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid field, without the table that it is in.
    pub fn validate(&self) -> Result<(), Error> {
        in_range("patch", self.patch, 1, 16)?;
        in_range("size", self.size, self.patch, 1024)?;
        if !self.size.is_multiple_of(self.patch) {
            return Err(invalid("size", format!("{} is not a multiple of patch = {}", self.size, self.patch)));
        }
        check_shape(&self.shape())
    }

    /// Returns the number of codes of a picture.
    pub fn tokens(&self) -> usize {
        (self.size / self.patch).pow(2) * self.codes_per_patch
    }

    /// Returns the number of values of a picture: three for each pixel.
    pub fn values(&self) -> usize {
        self.size * self.size * 3
    }

    /// Returns the size of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.levels.iter().product()
    }

    /// Returns the shape of the autoencoder.
    pub fn shape(&self) -> Shape {
        Shape {
            patch_dim: self.patch * self.patch * 3,
            kernel: [3, 3],
            levels: self.levels.clone(),
            codes_per_patch: self.codes_per_patch,
            channels: self.channels,
            blocks: self.blocks,
        }
    }
}

/// The shape of an [`AudioCodec`](crate::AudioCodec).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AudioConfig {
    /// Samples in a window of the Fourier transform, a power of two. Default 1024: 64 ms.
    pub window_samples: usize,
    /// Samples from one frame to the next, even. Default 160: 10 ms.
    pub hop_samples: usize,
    /// Bands of the mel scale. Default 80.
    pub mel_bands: usize,
    /// Frames of a patch. Default 4: 40 ms.
    pub frames_per_patch: usize,
    /// The number of values of each dimension of the quantiser; their product is the size of the vocabulary. Default
    /// `[7, 5, 5, 5, 5]`: 4,375.
    pub levels: Vec<usize>,
    /// Codes of each patch. Default 2: with the other defaults, 50 tokens a second.
    pub codes_per_patch: usize,
    /// Channels of the convolutions. Default 96.
    pub channels: usize,
    /// Residual blocks in each of encoder and decoder. Default 2.
    pub blocks: usize,
    /// Iterations of the Griffin-Lim algorithm, which makes a waveform of a spectrogram. Default 48.
    pub griffin_lim_iterations: usize,
}

impl Default for AudioConfig {
    fn default() -> Self {
        Self {
            window_samples: 1024,
            hop_samples: 160,
            mel_bands: 80,
            frames_per_patch: 4,
            levels: vec![7, 5, 5, 5, 5],
            codes_per_patch: 2,
            channels: 96,
            blocks: 2,
            griffin_lim_iterations: 48,
        }
    }
}

impl AudioConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid field, without the table that it is in.
    pub fn validate(&self) -> Result<(), Error> {
        in_range("window_samples", self.window_samples, 64, 8192)?;
        if !self.window_samples.is_power_of_two() {
            return Err(invalid("window_samples", format!("{} is not a power of two", self.window_samples)));
        }
        // Windows that overlap by less than half cannot be added up to a waveform.
        in_range("hop_samples", self.hop_samples, 2, self.window_samples / 2)?;
        if !self.hop_samples.is_multiple_of(2) {
            return Err(invalid("hop_samples", format!("{} is odd", self.hop_samples)));
        }
        in_range("mel_bands", self.mel_bands, 4, self.window_samples / 4)?;
        in_range("frames_per_patch", self.frames_per_patch, 1, 64)?;
        in_range("griffin_lim_iterations", self.griffin_lim_iterations, 1, 10_000)?;
        check_shape(&self.shape())
    }

    /// Returns the samples of a patch.
    pub fn patch_samples(&self) -> usize {
        self.hop_samples * self.frames_per_patch
    }

    /// Returns the number of codes of a second.
    pub fn tokens_per_second(&self) -> f64 {
        SAMPLE_RATE as f64 / self.patch_samples() as f64 * self.codes_per_patch as f64
    }

    /// Returns the size of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.levels.iter().product()
    }

    /// Returns the shape of the autoencoder.
    pub fn shape(&self) -> Shape {
        Shape {
            patch_dim: self.frames_per_patch * self.mel_bands,
            kernel: [1, 5],
            levels: self.levels.clone(),
            codes_per_patch: self.codes_per_patch,
            channels: self.channels,
            blocks: self.blocks,
        }
    }
}

fn check_shape(shape: &Shape) -> Result<(), Error> {
    // Beyond it, the first weights take minutes: they are principal components.
    const MAX_PATCH_DIM: usize = 2048;
    if shape.patch_dim > MAX_PATCH_DIM {
        let reason = format!("a patch of {} values has more than {MAX_PATCH_DIM}", shape.patch_dim);
        return Err(invalid("frames_per_patch", reason));
    }
    in_range("the length of levels", shape.levels.len(), 1, 16)?;
    for levels in &shape.levels {
        in_range("levels", *levels, 2, 256)?;
    }
    let vocab_size = shape.levels.iter().try_fold(1_usize, |product, levels| product.checked_mul(*levels));
    if vocab_size.is_none_or(|size| size > MAX_VOCAB_SIZE) {
        return Err(invalid("levels", format!("their product is more than {MAX_VOCAB_SIZE}")));
    }
    in_range("codes_per_patch", shape.codes_per_patch, 1, 16)?;
    let latent_dim = shape.codes_per_patch * Fsq::new(&shape.levels).dims();
    if latent_dim > shape.patch_dim {
        let reason = format!("{latent_dim} quantised values are more than the {} of a patch", shape.patch_dim);
        return Err(invalid("codes_per_patch", reason));
    }
    in_range("channels", shape.channels, 1, 2048)?;
    in_range("blocks", shape.blocks, 0, 32)
}

fn in_range(key: &str, value: usize, low: usize, high: usize) -> Result<(), Error> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(invalid(key, format!("{value} is not between {low} and {high}")))
}

fn invalid(key: &str, reason: String) -> Error {
    Error::Config { key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
        let image = |change: fn(&mut ImageConfig), expected: &str| {
            let mut config = ImageConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        ImageConfig::default().validate().unwrap();
        assert_eq!((ImageConfig::default().tokens(), ImageConfig::default().vocab_size()), (64, 4375));
        image(|c| c.patch = 0, "patch: 0 is not between 1 and 16");
        image(|c| c.size = 30, "size: 30 is not a multiple of patch = 4");
        image(|c| c.size = usize::MAX, &format!("size: {} is not between 4 and 1024", usize::MAX));
        image(|c| c.levels = vec![], "the length of levels: 0 is not between 1 and 16");
        image(|c| c.levels = vec![1, 5], "levels: 1 is not between 2 and 256");
        image(|c| c.levels = vec![256; 16], "levels: their product is more than 65536");
        image(|c| c.codes_per_patch = 16, "codes_per_patch: 80 quantised values are more than the 48 of a patch");
        image(|c| c.channels = 1 << 40, "channels: 1099511627776 is not between 1 and 2048");

        let audio = |change: fn(&mut AudioConfig), expected: &str| {
            let mut config = AudioConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        AudioConfig::default().validate().unwrap();
        assert!((AudioConfig::default().tokens_per_second() - 50.0).abs() < 1e-9);
        audio(|c| c.window_samples = 1000, "window_samples: 1000 is not a power of two");
        audio(|c| c.hop_samples = 161, "hop_samples: 161 is odd");
        audio(|c| c.hop_samples = 1024, "hop_samples: 1024 is not between 2 and 512");
        audio(|c| c.mel_bands = 1000, "mel_bands: 1000 is not between 4 and 256");
        audio(|c| c.frames_per_patch = 64, "frames_per_patch: a patch of 5120 values has more than 2048");
    }
}
