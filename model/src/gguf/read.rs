//! Reading the weights of a model: checking the tensors, and mapping them to parameters.

use std::collections::BTreeMap;

use super::File;
use super::layout::{self, OUTPUT};
use super::rope_factors::ROPE_FACTORS;
use crate::checkpoint::stored::Content;
use crate::checkpoint::{StoredParameter, StoredWeights};
use crate::{Error, ModelConfig, RopeScaling};

/// Returns the weights in a file of a model of this configuration.
///
/// # Errors
/// Names the tensor that is missing, has the wrong shape, or is not part of the model.
pub(crate) fn weights<'a>(file: &'a File, config: &ModelConfig) -> Result<StoredWeights<'a>, Error> {
    check_sizes(file, config)?;
    let tensors = layout::tensors(config);
    let mut parameters = BTreeMap::new();
    for tensor in &tensors {
        let wrong = |reason| Error::Tensor { path: file.path().to_owned(), tensor: tensor.name.clone(), reason };
        let (info, bytes) = file.tensor(&tensor.name).ok_or_else(|| wrong("is missing".to_owned()))?;
        if info.shape != tensor.shape {
            let reason = format!("has shape {:?}, the metadata requires {:?}", info.shape, tensor.shape);
            return Err(wrong(reason));
        }
        // A vector is one row, whose parts need not be whole blocks.
        let vector = (info.shape.len() < 2).then(|| info.tensor_type.decode(bytes));
        let row_bytes = bytes.len() / info.shape[0].max(1);
        let mut first_row = 0;
        for (parameter, rows) in &tensor.parts {
            let content = match &vector {
                Some(values) => Content::Values(tensor.change.revert(&values[first_row..first_row + rows]).into()),
                None => Content::Rows {
                    tensor_type: info.tensor_type,
                    bytes: &bytes[first_row * row_bytes..][..rows * row_bytes],
                    order: tensor.change.row_order(*rows),
                },
            };
            let columns = info.shape[1..].iter().product();
            let part = StoredParameter { content, rows: *rows, columns, map: Some(file.map()) };
            parameters.insert(parameter.clone(), part);
            first_row += rows;
        }
    }
    let is_known = |name: &String| {
        tensors.iter().any(|tensor| tensor.name == *name)
            || (name == OUTPUT && config.tied_embeddings)
            || (name == ROPE_FACTORS && matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. })))
    };
    if let Some(name) = file.tensors().keys().filter(|name| !is_known(name)).min() {
        let reason = format!("is not part of a {} with this metadata", config.family.model_type());
        return Err(Error::Tensor { path: file.path().to_owned(), tensor: name.clone(), reason });
    }
    Ok(StoredWeights { parameters })
}

/// Checks that the largest tensors are there before memory is allocated for the model that the metadata claims.
fn check_sizes(file: &File, config: &ModelConfig) -> Result<(), Error> {
    let stored: u64 = file.tensors().values().map(|info| info.shape.iter().product::<usize>() as u64).sum();
    if config.parameters() > stored {
        let reason = format!("the metadata describes {} parameters, the tensors have {stored}", config.parameters());
        return Err(Error::Gguf { path: file.path().to_owned(), reason });
    }
    Ok(())
}
