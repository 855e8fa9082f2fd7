//! Digests of the weights that adapters are trained on: of their names, shapes and values in f32, so that they do not
//! depend on the files and the number type in which the weights are stored.

use artifact::Digest;
use artifact::digest::Hasher;

use super::saved_modules;
use crate::checkpoint::{self, StoredModel, Weight};
use crate::gguf::TensorType;
use crate::{Error, Transformer};

/// Returns the digest of a model's weights without its adapters and the embeddings that are trained beside them.
///
/// # Errors
/// Returns an error if the device fails.
pub fn base_digest(model: &Transformer) -> Result<Digest, Error> {
    digest_without(model, &saved_modules(model))
}

/// As [`base_digest`], without parameters of these names.
pub(super) fn digest_without(model: &Transformer, excluded: &[&str]) -> Result<Digest, Error> {
    let mut hasher = Hasher::default();
    let weights = checkpoint::weights(model)?.into_iter().filter(|(name, _)| !excluded.contains(&name.as_str()));
    for (name, Weight { shape, values }) in weights {
        begin(&mut hasher, &name, &shape);
        add(&mut hasher, &values);
    }
    Ok(hasher.finish())
}

/// As [`base_digest`], of weights in files; None of weights in quantised blocks.
pub(super) fn digest_of_stored(model: &StoredModel) -> Result<Option<Digest>, Error> {
    let (weights, mut hasher) = (model.weights()?, Hasher::default());
    for (name, shape) in checkpoint::shapes_of(model.config()) {
        let Some(parameter) = weights.get(&name) else { continue };
        if matches!(parameter.tensor_type(), TensorType::Blocks(_)) {
            return Ok(None);
        }
        begin(&mut hasher, &name, &shape);
        let [rows, columns] = parameter.shape();
        let mut values = vec![0.0; columns];
        for row in 0..rows {
            parameter.read_row(row, &mut values);
            add(&mut hasher, &values);
        }
        parameter.release(0..rows);
    }
    Ok(Some(hasher.finish()))
}

fn begin(hasher: &mut Hasher, name: &str, shape: &[usize]) {
    hasher.update(format!("{name} {shape:?}\n").as_bytes());
}

fn add(hasher: &mut Hasher, values: &[f32]) {
    for chunk in values.chunks(1 << 14) {
        hasher.update(&chunk.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    }
}
