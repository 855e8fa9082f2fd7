//! Writing a format as one file for llama.cpp.

use std::fs;
use std::path::Path;

use artifact::Sealed;
use kernels::blocks::BlockType;
use model::ModelConfig;
use model::checkpoint::{StoredModel, StoredParameter, StoredWeights};
use model::gguf::{Parameters, Quantization};
use tokenizer::Tokenizer;

use crate::rounded::Rounded;
use crate::{Error, Format};

/// Writes the model in `checkpoint` and its tokenizer to the file `path`; returns its length, and what differs from the
/// model apart from rounding, in words.
///
/// # Errors
/// Names what llama.cpp does not compute or encode in the same way, the weight that is not finite or does not fit, and
/// on I/O errors.
pub(crate) fn write(
    format: Format,
    quantization: Quantization,
    checkpoint: &Sealed,
    path: &Path,
    rounded: &mut Rounded,
) -> Result<(u64, Vec<String>), Error> {
    let folder = checkpoint.folder();
    let model = StoredModel::open(folder)?;
    let tokenizer = Tokenizer::from_folder(folder)?;
    let mut source = Source { folder, config: model.config(), weights: model.weights()?, rounded };
    let name = model.config().family.model_type();
    let notes = registry::gguf::write_parameters(&mut source, &tokenizer, name, quantization, path)
        .map_err(|source| Error::Gguf { format: format.name(), source: Box::new(source) })?;
    let bytes = fs::metadata(path).map_err(|e| artifact::Error::io("read", path, e))?.len();
    Ok((bytes, notes))
}

/// The parameters of a checkpoint; matrices that were rounded are taken from there.
struct Source<'a> {
    folder: &'a Path,
    config: &'a ModelConfig,
    weights: StoredWeights<'a>,
    rounded: &'a mut Rounded,
}

impl Source<'_> {
    fn wrong(&self, name: &str, reason: String) -> model::Error {
        model::Error::Tensor { path: self.folder.to_owned(), tensor: name.to_owned(), reason }
    }
}

impl Parameters for Source<'_> {
    fn config(&self) -> &ModelConfig {
        self.config
    }

    fn values(&mut self, name: &str) -> Result<Vec<f32>, model::Error> {
        let values = self.weights.get(name).map(StoredParameter::values);
        let values = values.ok_or_else(|| self.wrong(name, "is missing".to_owned()))?;
        match values.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(self.wrong(name, format!("holds {} at element {i}", values[i]))),
            None => Ok(values),
        }
    }

    fn blocks(&mut self, name: &str, block_type: BlockType) -> Result<Option<Vec<u8>>, model::Error> {
        self.rounded.blocks(name, block_type).map_err(|error| self.wrong(name, error.to_string()))
    }
}
