//! Sealed artifacts, the inputs and outputs of stages.
//!
//! In: the files that a stage wrote into its folder. Out: a folder whose `manifest.json`, written last and atomically,
//! lists the files, the recipe they were made from and the machine. The store finds an artifact by its fingerprint, so
//! a stage with unchanged inputs is skipped, and changed inputs can be named.
//!
//! This crate must not depend on tensors, tokenizers or the network.

pub mod context;
pub mod digest;
mod error;
pub mod file;
pub mod fingerprint;
pub mod format;
pub mod gc;
pub mod json;
pub mod layout;
pub mod manifest;
mod sealed;
pub mod store;

pub use context::{Cancel, Context, Event, Progress};
pub use digest::Digest;
pub use error::Error;
pub use fingerprint::{Change, Recipe};
pub use layout::StoreLayout;
pub use manifest::{FileEntry, Host, Manifest};
pub use sealed::{NOTICED_FRACTION, NOTICES, Outcome, Sealed, Unsealed};
pub use store::{Store, StoreLock};
