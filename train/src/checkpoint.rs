//! What a training writes: states to resume from, and the finished checkpoint.

pub mod init;
pub mod output;
pub mod pruned;
pub mod state;
pub mod trainable;

use std::path::Path;

use crate::Error;

/// Writes and reads the trainable parameters of models of type `M`, to resume from and to keep the best ones.
pub trait ModelFiles<M> {
    /// Writes the trainable parameters of a model, and whatever else makes the folder useful by itself.
    ///
    /// # Errors
    /// Returns an error if the device fails, and on I/O errors.
    fn save(&self, model: &M, folder: &Path) -> Result<(), Error>;

    /// Returns `model` with the parameters that [`ModelFiles::save`] wrote.
    ///
    /// # Errors
    /// Returns an error if a file is missing, damaged, or of another model.
    fn load(&self, model: &M, folder: &Path) -> Result<M, Error>;
}
