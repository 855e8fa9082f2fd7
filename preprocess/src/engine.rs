//! The engine: passes over the documents of a corpus, on all cores, resumable.

pub(crate) mod corpus;
pub(crate) mod documents;
pub(crate) mod parquet;
pub(crate) mod pass;
pub(crate) mod record;
pub(crate) mod schedule;
pub(crate) mod spool;
pub(crate) mod steps;
