//! Downloads of single files: requests, the cache, and the transfer with resuming and verification.

pub mod cache;
pub(crate) mod meter;
pub mod request;
pub(crate) mod transfer;
