//! What a scheduler has done and holds.

/// Counts of a scheduler: the first five at the moment, the others since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sequences that wait for their turn, preempted ones included.
    pub waiting: usize,
    /// Sequences that have blocks.
    pub running: usize,
    /// Blocks of the cache.
    pub blocks: usize,
    /// Blocks that sequences use.
    pub used_blocks: usize,
    /// Blocks whose tokens a new sequence could reuse, used or not.
    pub cached_blocks: usize,
    /// Steps in which the model ran.
    pub steps: u64,
    /// Tokens that the model read.
    pub read_tokens: u64,
    /// Tokens of sequences when they started to run.
    pub started_tokens: u64,
    /// How many of these were in reused blocks.
    pub reused_tokens: u64,
    /// Tokens that were sampled.
    pub sampled_tokens: u64,
    /// Tokens that speculative decoding proposed.
    pub drafted_tokens: u64,
    /// How many of these were right.
    pub accepted_tokens: u64,
    /// How often a sequence lost its blocks to another.
    pub preemptions: u64,
}

impl Counters {
    /// Returns the fraction of the tokens of started sequences that were in reused blocks; 0 if none has started.
    pub fn hit_rate(&self) -> f64 {
        if self.started_tokens == 0 { 0.0 } else { self.reused_tokens as f64 / self.started_tokens as f64 }
    }
}
