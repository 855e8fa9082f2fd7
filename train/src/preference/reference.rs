//! What the reference thinks of each pair, computed once.

use std::path::Path;

use artifact::file::write_atomically;
use artifact::{Context, Digest};
use burn::module::Module;
use model::{Transformer, lora};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Pairs, tensors};
use crate::Error;

/// The name of the tensor in the file: `[pairs, 2]`, the log-probability of the chosen answer and of the rejected one, zeros
/// where a pair does not fit.
const TENSOR: &str = "log_probabilities";

/// The key of the metadata that holds the digest of the reference's weights.
const MODEL: &str = "model";

/// The log-probabilities that the reference gives the answers of a split.
#[derive(Debug, Default, PartialEq)]
pub struct Reference {
    pairs: Vec<[f32; 2]>,
}

impl Reference {
    /// Returns the log-probability of a pair's chosen answer less that of the rejected one.
    pub fn margin(&self, pair: usize) -> f32 {
        let [chosen, rejected] = self.pairs[pair];
        chosen - rejected
    }

    /// Reads what this model thinks of the pairs from the file, or computes it and writes the file, where it is missing,
    /// damaged or of another model or number of pairs.
    ///
    /// # Errors
    /// When the device fails, the disk refuses, or somebody asked to stop.
    pub fn of(model: &Transformer, pairs: &Pairs<'_>, path: &Path, context: &Context) -> Result<Self, Error> {
        let digest = lora::base_digest(model)?;
        if let Some(found) = Self::read(path, digest, pairs.total()) {
            return Ok(found);
        }
        context.progress.begin("judging the pairs", pairs.len() as u64, "pairs");
        let model = model.valid();
        let mut all = vec![[0.0; 2]; pairs.total()];
        let mut done = 0;
        for batch in pairs.all() {
            let values = model.log_probabilities(tensors(&batch, &model), None);
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
        let bytes: Vec<u8> = all.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect();
        let unwritable = |source| model::Error::Safetensors { path: path.to_owned(), source };
        let view = TensorView::new(Dtype::F32, vec![all.len(), 2], &bytes).map_err(unwritable)?;
        let metadata = [(MODEL.to_owned(), digest.to_string())].into();
        write_atomically(path, &safetensors::serialize([(TENSOR, view)], Some(metadata)).map_err(unwritable)?)?;
        Ok(Self { pairs: all })
    }

    fn read(path: &Path, model: Digest, pairs: usize) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        let file = SafeTensors::deserialize(&bytes).ok()?;
        let tensor = file.tensor(TENSOR).ok()?;
        let of = header.metadata().as_ref()?.get(MODEL)?.clone();
        if of != model.to_string() || tensor.dtype() != Dtype::F32 || tensor.shape() != [pairs, 2] {
            return None;
        }
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Some(Self { pairs: values.as_chunks().0.to_vec() })
    }
}
