//! Training the codecs of pictures and sound, with the loop, the states and the guarantees of every other training.

use std::path::Path;

use artifact::Context;
use codec::{AudioCodec, AudioConfig, Autoencoder, ImageCodec, ImageConfig, Shape, WEIGHTS};
use model::{Precision, device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::ModelFiles;
use crate::checkpoint::state::BEST;
use crate::objective::reconstruction::{Items, Reconstruction};
use crate::optim::gradients::Workers;
use crate::trainer::{Setup, Trainer};
use crate::{Config, Error, OptimizerKind};

/// Patches that the first weights are computed of. Heuristic, not measured: because a covariance of some hundred values
/// is known well from several thousand.
const INITIAL_PATCHES: usize = 1 << 14;

/// Patches of sound in an item: 1.28 seconds with the codec's default configuration.
const AUDIO_PATCHES: usize = 32;

/// How a codec is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CodecTraining {
    /// Optimizer steps. Default 2000.
    pub steps: u64,
    /// Pictures, or pieces of sound, per step. Default 16.
    pub batch_size: usize,
    /// Micro-batches per step; on the CPU they run in parallel, one core each. Must divide `batch_size`. Default 2.
    pub micro_batches: usize,
    /// The peak learning rate of `AdamW`, which falls to a hundredth by a cosine. Default 0.004.
    pub learning_rate: f64,
    /// Steps between two validations, and between two saved states. Default 250.
    pub validation_every: u64,
}

impl Default for CodecTraining {
    fn default() -> Self {
        Self { steps: 2000, batch_size: 16, micro_batches: 2, learning_rate: 4e-3, validation_every: 250 }
    }
}

impl CodecTraining {
    /// Returns the configuration of the trainer.
    fn config(&self) -> Config {
        Config {
            optimizer: OptimizerKind::Adamw,
            steps: self.steps,
            batch_size: self.batch_size,
            micro_batches: self.micro_batches,
            learning_rate: self.learning_rate,
            final_learning_rate_ratio: 0.01,
            warmup_steps: self.steps / 50,
            weight_decay: 0.0,
            beta_2: 0.99,
            // Squared errors are far below one, and the most difficult batches have several times the median's.
            loss_spike: 0.0,
            validation_every: self.validation_every,
            save_every: self.validation_every,
            sample_every: 0,
            ..Config::default()
        }
    }
}

/// Trains a codec on pictures, or resumes an earlier attempt in the same folder. The best weights are those with the
/// lowest loss on the pictures of validation.
///
/// # Shapes
/// - train, validation: `[B, H, W, 3]`, of the configured size
///
/// # Errors
/// Returns an error if a value of a configuration is invalid, a split is not whole pictures or has none, the run was
/// asked to stop (the state is saved then), the device fails, or on I/O errors.
pub fn image_codec(
    config: &ImageConfig,
    training: &CodecTraining,
    [train, validation]: [&[u8]; 2],
    folder: &Path,
    context: &Context,
) -> Result<ImageCodec, Error> {
    config.validate()?;
    let (train, validation) = (image_items(config, train)?, image_items(config, validation)?);
    let model = fit(&config.shape(), training, &train, &validation, folder, context)?;
    Ok(ImageCodec::new(config.clone(), model))
}

/// Trains a codec on clips of sound, or resumes an earlier attempt in the same folder.
///
/// # Shapes
/// - train, validation: clips of `[S]` samples each, from −1 to 1
///
/// # Errors
/// As [`image_codec`].
pub fn audio_codec(
    config: &AudioConfig,
    training: &CodecTraining,
    [train, validation]: [&[Vec<f32>]; 2],
    folder: &Path,
    context: &Context,
) -> Result<AudioCodec, Error> {
    config.validate()?;
    let (train, validation) = (audio_items(config, train), audio_items(config, validation));
    let model = fit(&config.shape(), training, &train, &validation, folder, context)?;
    Ok(AudioCodec::new(config.clone(), model))
}

fn image_items<'a>(config: &'a ImageConfig, pixels: &'a [u8]) -> Result<Items<'a>, codec::Error> {
    let each = config.values();
    if !pixels.len().is_multiple_of(each) {
        return Err(codec::Error::Incomplete { unit: "pixel values", items: "pictures", found: pixels.len(), each });
    }
    let patches = move |item: usize| config.patches(&pixels[item * each..][..each]);
    Ok(Items { count: pixels.len() / each, grid: config.grid(), patches: Box::new(patches) })
}

/// Returns the pieces of clips that fit, and of each clip the last one, which may overlap with the one before. Short
/// clips end in silence.
fn audio_items(config: &AudioConfig, clips: &[Vec<f32>]) -> Items<'static> {
    let item_values = config.shape().patch_dim * AUDIO_PATCHES;
    let mut pieces = Vec::new();
    for clip in clips {
        let mut samples = clip.clone();
        samples.resize(samples.len().max(AUDIO_PATCHES * config.patch_samples()), 0.0);
        let patches = config.patches(&samples);
        let last = patches.len() - item_values;
        let starts = (0..last).step_by(item_values).chain([last]);
        pieces.extend(starts.map(|start| patches[start..][..item_values].to_vec()));
    }
    let (count, grid) = (pieces.len(), config.grid(AUDIO_PATCHES));
    Items { count, grid, patches: Box::new(move |item| pieces[item].clone()) }
}

/// Returns the autoencoder with the lowest validation loss, on the device of the context.
fn fit(
    shape: &Shape,
    training: &CodecTraining,
    train: &Items<'_>,
    validation: &Items<'_>,
    folder: &Path,
    context: &Context,
) -> Result<Autoencoder, Error> {
    for (split, items) in [("train", train), ("validation", validation)] {
        if items.count == 0 {
            return Err(Error::NoItems { split });
        }
    }
    let config = training.config();
    config.validate()?;
    let backend = device::backend(&context.device)?;
    let plain_device = device::resolve(&context.device)?;
    let device = plain_device.clone().autodiff();
    artifact::file::create_folder(folder)?;

    let every = (train.count * train.grid.patches()).div_ceil(INITIAL_PATCHES);
    let patches: Vec<f32> = (0..train.count).step_by(every).flat_map(|item| (train.patches)(item)).collect();
    let model = Autoencoder::init(shape, &patches, context.seed, &device)?;
    let workers = Workers::new(backend.is_cpu(), config.micro_batches);
    // Forward, and twice as much backward, for each patch.
    let flops_per_token = 6.0 * shape.parameters() as f64 / shape.codes_per_patch as f64;
    let trained = Trainer::new(Setup {
        config: &config,
        context,
        folder,
        model,
        objective: Box::new(Reconstruction::new(&config, context.seed, workers, train, validation)),
        files: &CodecFiles,
        sample: Box::new(|_| Ok(None)),
        flops_per_token,
        peak_flops_per_second: device::matmul_flops_per_second(&plain_device, Precision::F32)?,
    })?
    .fit()?;
    let is_older = trained.state.best.is_some_and(|best| best.step < trained.state.step);
    let selected = if is_older { CodecFiles.load(&trained.model, &folder.join(BEST))? } else { trained.model };
    Ok(burn::module::Module::valid(&selected))
}

/// Saves an autoencoder as a file of weights.
struct CodecFiles;

impl ModelFiles<Autoencoder> for CodecFiles {
    fn save(&self, model: &Autoencoder, folder: &Path) -> Result<(), Error> {
        Ok(codec::save_weights(model, &folder.join(WEIGHTS))?)
    }

    fn load(&self, model: &Autoencoder, folder: &Path) -> Result<Autoencoder, Error> {
        Ok(codec::load_weights(model.clone(), &folder.join(WEIGHTS))?)
    }
}
