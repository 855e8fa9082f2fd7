//! The reference's log-probabilities of each pair, computed once.

use std::path::Path;

use artifact::{Context, Digest};
use burn::module::Module;
use model::safetensors::{F32Tensor, write_f32};
use model::{Transformer, lora};
use safetensors::{Dtype, SafeTensors};

use super::pairs::Pairs;
use crate::Error;
use crate::objective::cross_entropy::to_tensors;

/// The name of the tensor in the file: `[pairs, 2]`, the log-probabilities of the chosen and the rejected answer, zero
/// for pairs that do not fit.
const TENSOR: &str = "log_probabilities";

/// The key of the metadata that holds the digest of the reference's weights.
const MODEL: &str = "model";

/// The reference's log-probabilities of the answers of a split.
#[derive(Debug, Default, PartialEq)]
pub struct Reference {
    pairs: Vec<[f32; 2]>,
}

impl Reference {
    /// Returns the log-probability of a pair's chosen answer minus that of the rejected one.
    pub fn margin(&self, pair: usize) -> f32 {
        let [chosen, rejected] = self.pairs[pair];
        chosen - rejected
    }

    /// Reads the log-probabilities of the pairs under `model` from a file. If it is missing, damaged, or of another
    /// model or number of pairs, computes them and writes it.
    ///
    /// # Errors
    /// Returns an error if the device fails or the run was asked to stop, and on I/O errors.
    pub fn of(model: &Transformer, pairs: &Pairs<'_>, path: &Path, context: &Context) -> Result<Self, Error> {
        let digest = lora::base_digest(model)?;
        if let Some(found) = Self::read(path, digest, pairs.total()) {
            return Ok(found);
        }
        context.progress.begin("scoring pairs with the reference", pairs.len() as u64, "pairs");
        let model = model.valid();
        let device = model.device();
        let mut all = vec![[0.0; 2]; pairs.total()];
        let mut done = 0;
        for batch in pairs.all() {
            let values = model.log_probabilities(to_tensors(&batch.rows, &device), None);
            let values: Vec<f32> = values.try_into_vec_as().map_err(Error::compute)?;
            let sum = |range: &std::ops::Range<usize>| {
                values[range.clone()].iter().map(|value| f64::from(*value)).sum::<f64>() as f32
            };
            for place in &batch.places {
                all[place.pair] = [sum(&place.chosen), sum(&place.rejected)];
            }
            done += batch.len() as u64;
            context.progress.position(done);
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
        }
        let values = all.as_flattened().to_vec();
        let tensor = F32Tensor { name: TENSOR.to_owned(), shape: vec![all.len(), 2], values };
        write_f32(path, vec![tensor], (MODEL, &digest.to_string()))?;
        Ok(Self { pairs: all })
    }

    fn read(path: &Path, model: Digest, pairs: usize) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        let file = SafeTensors::deserialize(&bytes).ok()?;
        let tensor = file.tensor(TENSOR).ok()?;
        let found = header.metadata().as_ref()?.get(MODEL)?.clone();
        if found != model.to_string() || tensor.dtype() != Dtype::F32 || tensor.shape() != [pairs, 2] {
            return None;
        }
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Some(Self { pairs: values.as_chunks().0.to_vec() })
    }
}
