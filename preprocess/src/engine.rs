//! The engine: parallel, resumable passes over the documents of a corpus.

pub(crate) mod corpus;
pub(crate) mod documents;
pub(crate) mod layout;
pub(crate) mod parquet;
pub(crate) mod pass;
pub(crate) mod record;
pub(crate) mod schedule;
pub(crate) mod signals;
pub(crate) mod split;
pub(crate) mod spool;
pub(crate) mod steps;
pub(crate) mod thresholds;
