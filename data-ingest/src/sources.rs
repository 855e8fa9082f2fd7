//! Where documents come from: files selected in folders, crates of a registry, and remote sources.

pub(crate) mod crates;
pub(crate) mod filter;
mod globs;
pub(crate) mod remote;
pub(crate) mod select;
