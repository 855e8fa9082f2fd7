//! The mean squared error of a codec's reconstruction.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use codec::{Autoencoder, Grid};

use super::{Objective, Step, ValidationLoss};
use crate::data::shuffle::Shuffle;
use crate::optim::gradients::Workers;
use crate::{Config, Error};

/// Items of one forward pass of a validation. Heuristic, not measured: as many as a usual micro-batch.
const VALIDATION_ITEMS: usize = 16;

/// The items of a split: pictures, or pieces of sound, as patches.
pub struct Items<'a> {
    /// The number of items.
    pub count: usize,
    /// The arrangement of an item's patches.
    pub grid: Grid,
    /// Returns the patches of an item, `[N, I]`.
    pub patches: Box<dyn Fn(usize) -> Vec<f32> + Sync + 'a>,
}

impl Items<'_> {
    /// Returns items as `[B, N, I]`.
    fn tensor(&self, items: &[usize], device: &Device) -> Tensor<3> {
        let patches: Vec<f32> = items.iter().flat_map(|item| (self.patches)(*item)).collect();
        let n = self.grid.patches();
        let shape = [items.len(), n, patches.len() / items.len().max(1) / n];
        Tensor::from_data(TensorData::new(patches, shape), device)
    }
}

/// The objective of a codec.
pub struct Reconstruction<'a> {
    batch_size: usize,
    micro_batches: usize,
    workers: Workers,
    order: Shuffle,
    train: &'a Items<'a>,
    validation: &'a Items<'a>,
}

impl<'a> Reconstruction<'a> {
    /// Returns the objective over two splits, neither of them empty.
    pub fn new(config: &Config, seed: u64, workers: Workers, train: &'a Items<'a>, validation: &'a Items<'a>) -> Self {
        let order = Shuffle::new(seed, (0..train.count).collect());
        let Config { batch_size, micro_batches, .. } = *config;
        Self { batch_size, micro_batches, workers, order, train, validation }
    }
}

impl Objective<Autoencoder> for Reconstruction<'_> {
    fn step(&mut self, model: &Autoencoder, step: u64) -> Result<Step, Error> {
        let first = step * self.batch_size as u64;
        let items: Vec<usize> = (first..first + self.batch_size as u64).map(|index| self.order.at(index)).collect();
        let batches: Vec<&[usize]> = items.chunks(self.batch_size / self.micro_batches).collect();
        let (losses, gradients) = self.workers.each(model, batches.len(), |model, i| {
            let patches = self.train.tensor(batches[i], &model.device());
            let loss = squared_error(model, patches, self.train.grid).div_scalar(batches.len() as f64);
            let gradients = GradientsParams::from_grads(loss.backward(), model);
            Ok((value(loss.inner())?, gradients))
        })?;
        let codes = self.batch_size * self.train.grid.patches() * model.shape().codes_per_patch;
        Ok(Step { loss: losses.iter().sum(), parts: None, gradients, n_tokens: codes as u64 })
    }

    fn validate(&self, model: &Autoencoder) -> Result<ValidationLoss, Error> {
        let model = model.valid();
        let items: Vec<usize> = (0..self.validation.count).collect();
        let mut sum = 0.0;
        for items in items.chunks(VALIDATION_ITEMS) {
            let patches = self.validation.tensor(items, &model.device());
            sum += value(squared_error(&model, patches, self.validation.grid))? * items.len() as f64;
        }
        Ok(ValidationLoss { loss: sum / items.len() as f64, ..ValidationLoss::default() })
    }
}

/// Returns the mean squared error over all values.
fn squared_error(model: &Autoencoder, patches: Tensor<3>, grid: Grid) -> Tensor<1> {
    (model.reconstruct(patches.clone(), grid) - patches).square().mean()
}

fn value(loss: Tensor<1>) -> Result<f64, Error> {
    loss.try_into_scalar::<f32>().map(f64::from).map_err(Error::compute)
}
