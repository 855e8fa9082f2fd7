//! The output: tokens in runs and shards, signals and the report.

pub(crate) mod order;
pub(crate) mod outcome;
pub(crate) mod refusals;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod shards;
pub(crate) mod signals;
pub(crate) mod tokenizer;
