//! The finished checkpoint in the Hugging Face layout.

use artifact::Unsealed;
use model::{Dtype, Transformer, checkpoint, lora};

use super::ModelFiles;
use super::state::{BEST, Snapshot};
use super::trainable::{TransformerFiles, finished};
use crate::config::Weights;
use crate::optim::optimizer;
use crate::{ADAPTER, Error};

/// The weights of the last step, beside those of the best validation.
const LAST_WEIGHTS: &str = "last.safetensors";

/// Writes the checkpoint: the weights that `train.weights` selects, with those of the last step beside them if they are
/// others; the optimizer's and the trainer's state; the tokenizer.
///
/// # Errors
/// Returns an error if the device fails, and on I/O errors.
pub fn write(files: &TransformerFiles<'_>, last: &Snapshot<'_, Transformer>, out: &Unsealed) -> Result<(), Error> {
    let Snapshot { model, optimizer, state } = *last;
    let config = files.config;
    let best_is_older = state.best.is_some_and(|best| best.step != state.step);
    let selected = if best_is_older && config.weights == Weights::Best {
        let weights = checkpoint::weights(&finished(model, config.quantization)?)?;
        checkpoint::save_weights(&weights, model.config().family, &out.path(LAST_WEIGHTS), Dtype::F32)?;
        files.load(model, &out.path(BEST))?
    } else {
        model.clone()
    };
    if config.lora.is_some() {
        let folder = out.path(ADAPTER);
        artifact::file::create_folder(&folder)?;
        lora::save(&selected, files.base(), &folder)?;
    }
    let max_shard_bytes = config.max_shard_bytes.unwrap_or(checkpoint::MAX_SHARD_BYTES);
    checkpoint::save_sharded(&finished(&selected, config.quantization)?, out.folder(), Dtype::F32, max_shard_bytes)?;
    optimizer.save(model, &out.path(optimizer::FILE))?;
    state.write(out.folder())?;
    files.tokenizer.write_hugging_face(out.folder(), model.config().context_length)?;
    Ok(())
}
