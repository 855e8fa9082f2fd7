//! Constants of the format.

/// The key in the metadata of shards whose documents are pairs.
pub(super) const PAIRS: &str = "pairs";

/// The largest vocabulary whose ids fit in 16 bits.
pub(super) const NARROW_VOCABULARY: usize = 1 << 16;

/// Returns the file name of a shard.
pub(super) fn file_name(split: &str, index: usize) -> String {
    format!("{split}-{index:05}.safetensors")
}
