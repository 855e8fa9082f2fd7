//! The module of every codec: patches → codes → patches.
//!
//! Encoder and decoder are each a linear map of single patches, which starts as the principal components of the data,
//! plus convolutions over neighbouring patches that start as zero. So an untrained codec is already that of the best
//! linear transform, and training only improves it.
//!
//! Dimensions: B items, N patches, I values of a patch, Z = G D latent values of a patch: G codes of D dimensions.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::layers::{Grid, Neighbours, Projection, Stack, StackShape};
use crate::principal::Principal;
use crate::{Error, Fsq};

/// The deviation of the latent values at the start. With it, tanh spreads them over all of its range but is almost
/// linear for most.
const LATENT_DEVIATION: f32 = 0.7;

/// Undoes [`LATENT_DEVIATION`] and, for most values, tanh.
const LATENT_SCALE: f32 = 1.4;

/// The shape of an autoencoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// I.
    pub patch_dim: usize,
    /// Height and width of the convolutions, odd.
    pub kernel: [usize; 2],
    /// The number of values of each of the D dimensions of a code.
    pub levels: Vec<usize>,
    /// G.
    pub codes_per_patch: usize,
    /// Channels of the convolutions.
    pub channels: usize,
    /// Residual blocks in each of encoder and decoder.
    pub blocks: usize,
}

impl Shape {
    /// Returns Z.
    pub fn latent_dim(&self) -> usize {
        self.codes_per_patch * self.levels.len()
    }

    /// Returns the number of parameters.
    pub fn parameters(&self) -> usize {
        let (i, z, c) = (self.patch_dim, self.latent_dim(), self.channels);
        let positions = self.kernel[0] * self.kernel[1];
        let stack = |inputs: usize, outputs: usize| {
            (positions * inputs + 1) * c + self.blocks * 2 * (positions * c + 1) * c + (c + 1) * outputs
        };
        (i + 1) * z + stack(i, z) + (z + 1) * i + stack(z, i)
    }

    fn stack(&self, inputs: usize, outputs: usize) -> StackShape {
        let positions = self.kernel[0] * self.kernel[1];
        StackShape { inputs, outputs, channels: self.channels, blocks: self.blocks, positions }
    }
}

/// An autoencoder with a quantised bottleneck.
#[derive(Module, Debug)]
pub struct Autoencoder {
    encoder_map: Projection, // [Z, I]
    encoder: Stack,
    decoder_map: Projection, // [I, Z]
    decoder: Stack,
    #[module(skip)]
    shape: Shape,
}

impl Autoencoder {
    /// Returns an untrained autoencoder for patches like these. The same seed and patches give the same weights.
    ///
    /// # Shapes
    /// - patches: `[.., I]`
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn init(shape: &Shape, patches: &[f32], seed: u64, device: &Device) -> Result<Self, Error> {
        let (i, z) = (shape.patch_dim, shape.latent_dim());
        let Principal { mean, components, deviations } = Principal::of(patches, i, z, &device.clone().inner())?;
        let (mut encode, mut encode_bias, mut decode) = (vec![0.0; z * i], vec![0.0; z], vec![0.0; i * z]);
        for (row, (component, deviation)) in components.iter().zip(deviations).enumerate() {
            if deviation > 0.0 {
                for (column, value) in component.iter().enumerate() {
                    encode[row * i + column] = value / deviation * LATENT_DEVIATION;
                    encode_bias[row] -= mean[column] * encode[row * i + column];
                    decode[column * z + row] = value * deviation * LATENT_SCALE;
                }
            }
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self {
            encoder_map: Projection::new(encode, encode_bias, device),
            encoder: Stack::random(&shape.stack(i, z), &mut rng, device),
            decoder_map: Projection::new(decode, mean, device),
            decoder: Stack::random(&shape.stack(z, i), &mut rng, device),
            shape: shape.clone(),
        })
    }

    /// Returns an autoencoder of zeros, to load weights into.
    pub fn zeros(shape: &Shape, device: &Device) -> Self {
        let (i, z) = (shape.patch_dim, shape.latent_dim());
        Self {
            encoder_map: Projection::zeros(z, i, device),
            encoder: Stack::zeros(&shape.stack(i, z), device),
            decoder_map: Projection::zeros(i, z, device),
            decoder: Stack::zeros(&shape.stack(z, i), device),
            shape: shape.clone(),
        }
    }

    /// Returns the shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> Device {
        self.encoder_map.weight.val().device()
    }

    /// Returns the patches of items after quantisation, with gradients that pass through it.
    ///
    /// # Shapes
    /// - patches, output: `[B, N, I]`, N being that of the grid
    pub fn reconstruct(&self, patches: Tensor<3>, grid: Grid) -> Tensor<3> {
        let neighbours = self.neighbours(&patches, grid);
        let latent = self.encode_tensor(patches, &neighbours);
        self.decode_tensor(latent, &neighbours)
    }

    /// Returns the codes of items, G for each patch.
    ///
    /// # Shapes
    /// - patches: `[B, N, I]`, N being that of the grid
    /// - output: `[B, N, G]`
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn encode(&self, patches: &[f32], grid: Grid) -> Result<Vec<u32>, Error> {
        let patches = self.tensor(patches, self.shape.patch_dim, grid);
        let latent = self.encode_tensor(patches.clone(), &self.neighbours(&patches, grid));
        let latent: Vec<f32> = latent.try_into_vec_as().map_err(Error::compute("codes"))?;
        let fsq = Fsq::new(&self.shape.levels);
        Ok(latent.chunks_exact(fsq.dims()).map(|values| fsq.code(values)).collect())
    }

    /// Returns the patches of items.
    ///
    /// # Shapes
    /// - codes: `[B, N, G]`, N being that of the grid
    /// - output: `[B, N, I]`
    ///
    /// # Errors
    /// Returns an error if a code is outside the codebook, or the device fails.
    pub fn decode(&self, codes: &[u32], grid: Grid) -> Result<Vec<f32>, Error> {
        let fsq = Fsq::new(&self.shape.levels);
        let vocab_size = fsq.vocab_size();
        if let Some(code) = codes.iter().find(|code| **code as usize >= vocab_size) {
            return Err(Error::Code { code: *code, vocab_size });
        }
        let latent: Vec<f32> = codes.iter().flat_map(|code| fsq.values(*code)).collect();
        let latent = self.tensor(&latent, self.shape.latent_dim(), grid);
        let patches = self.decode_tensor(latent.clone(), &self.neighbours(&latent, grid));
        patches.try_into_vec_as().map_err(Error::compute("the patches of codes"))
    }

    /// Returns rows of `width` values as `[B, N, width]`.
    fn tensor(&self, values: &[f32], width: usize, grid: Grid) -> Tensor<3> {
        let shape = [values.len() / width / grid.patches(), grid.patches(), width];
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device())
    }

    fn neighbours(&self, items: &Tensor<3>, grid: Grid) -> Neighbours {
        let [b, n, _] = items.dims();
        assert_eq!(n, grid.patches(), "one row for each patch of the grid");
        Neighbours::new(grid, b, self.shape.kernel, &items.device())
    }

    /// Returns quantised latent values `[B, N, Z]` of patches `[B, N, I]`.
    fn encode_tensor(&self, patches: Tensor<3>, neighbours: &Neighbours) -> Tensor<3> {
        let [b, n, i] = patches.dims();
        let x = patches.reshape([1, b * n, i]); // [1, B N, I]
        let linear = self.encoder_map.forward(x.clone(), None); // [1, B N, Z]
        let latent = self.encoder.forward(x, neighbours, linear); // [1, B N, Z]
        Fsq::new(&self.shape.levels).quantize(latent).reshape([b, n, self.shape.latent_dim()])
    }

    /// Returns patches `[B, N, I]` of quantised latent values `[B, N, Z]`.
    fn decode_tensor(&self, latent: Tensor<3>, neighbours: &Neighbours) -> Tensor<3> {
        let [b, n, z] = latent.dims();
        let x = latent.reshape([1, b * n, z]); // [1, B N, Z]
        let linear = self.decoder_map.forward(x.clone(), None); // [1, B N, I]
        self.decoder.forward(x, neighbours, linear).reshape([b, n, self.shape.patch_dim])
    }
}
