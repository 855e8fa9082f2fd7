//! Pictures ↔ codes.
//!
//! Dimensions: B pictures, H rows and W columns of pixels, G codes of a patch.

use crate::{Autoencoder, Error, Grid, ImageConfig};

/// Pictures that are encoded or decoded together. Heuristic, not measured: enough rows for a fast matrix product, few
/// enough that their activations fit into a cache.
const BATCH: usize = 16;

/// The codec of RGB pictures of one size.
#[derive(Debug, Clone)]
pub struct ImageCodec {
    config: ImageConfig,
    model: Autoencoder,
}

impl ImageCodec {
    /// Returns the codec of a trained autoencoder.
    ///
    /// # Panics
    /// Panics if the autoencoder has another shape.
    pub fn new(config: ImageConfig, model: Autoencoder) -> Self {
        assert_eq!(config.shape(), *model.shape(), "an autoencoder of the configured shape");
        Self { config, model }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &ImageConfig {
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

    /// Returns the number of codes of a picture.
    pub fn tokens(&self) -> usize {
        self.config.tokens()
    }

    /// Returns the codes of pictures, patch by patch, row by row. Those of a picture depend neither on the others nor
    /// on the number of threads.
    ///
    /// # Shapes
    /// - pixels: `[B, H, W, 3]`
    /// - output: `[B, H / patch, W / patch, G]`
    ///
    /// # Errors
    /// Returns an error if the pixels are not whole pictures, or the device fails.
    pub fn encode(&self, pixels: &[u8]) -> Result<Vec<u32>, Error> {
        let each = self.config.values();
        check_whole(pixels.len(), each, "pixel values", "pictures")?;
        let batches = pixels.chunks(BATCH * each).map(|pixels| {
            let patches: Vec<f32> = pixels.chunks(each).flat_map(|pixels| self.config.patches(pixels)).collect();
            self.model.encode(&patches, self.config.grid())
        });
        Ok(batches.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Returns the pictures of codes.
    ///
    /// # Shapes
    /// - codes: `[B, H / patch, W / patch, G]`
    /// - output: `[B, H, W, 3]`
    ///
    /// # Errors
    /// Returns an error if the codes are not those of whole pictures, one is outside the codebook, or the device fails.
    pub fn decode(&self, codes: &[u32]) -> Result<Vec<u8>, Error> {
        let each = self.config.tokens();
        check_whole(codes.len(), each, "codes", "pictures")?;
        let mut pixels = Vec::with_capacity(codes.len() / each * self.config.values());
        for codes in codes.chunks(BATCH * each) {
            let decoded = self.model.decode(codes, self.config.grid())?;
            for picture in decoded.chunks(self.config.values()) {
                pixels.extend(self.config.pixels(picture));
            }
        }
        Ok(pixels)
    }
}

/// Checks that a number of values is that of whole items.
pub(crate) fn check_whole(found: usize, each: usize, unit: &'static str, items: &'static str) -> Result<(), Error> {
    if found.is_multiple_of(each) { Ok(()) } else { Err(Error::Incomplete { unit, items, found, each }) }
}

impl ImageConfig {
    /// Returns the arrangement of a picture's patches.
    pub fn grid(&self) -> Grid {
        Grid { height: self.size / self.patch, width: self.size / self.patch }
    }

    /// Returns the patches of a picture, with values from −1 to 1.
    ///
    /// # Shapes
    /// - pixels: `[H, W, 3]`
    /// - output: `[H / patch, W / patch, patch, patch, 3]`
    ///
    /// # Panics
    /// Panics if the pixels are not one picture.
    pub fn patches(&self, pixels: &[u8]) -> Vec<f32> {
        assert_eq!(pixels.len(), self.values(), "the pixels of one picture");
        self.pixel_order().map(|at| f32::from(pixels[at]) / 127.5 - 1.0).collect()
    }

    /// Returns the pixels of a picture's patches.
    fn pixels(&self, patches: &[f32]) -> Vec<u8> {
        let mut pixels = vec![0; self.values()];
        for (at, value) in self.pixel_order().zip(patches) {
            // Not finite values become 0.
            pixels[at] = ((value + 1.0) * 127.5).round() as u8;
        }
        pixels
    }

    /// Returns the position in a picture of each value of its patches.
    fn pixel_order(&self) -> impl Iterator<Item = usize> {
        let Self { size, patch, .. } = *self;
        let row_values = size * 3;
        let corners = (0..size).step_by(patch).flat_map(move |y| (0..size).step_by(patch).map(move |x| (y, x)));
        corners.flat_map(move |(y, x)| {
            (y..y + patch).flat_map(move |y| (0..patch * 3).map(move |column| y * row_values + x * 3 + column))
        })
    }
}
