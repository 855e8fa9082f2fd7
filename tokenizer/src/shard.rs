//! Shards: the tokens of a split in safetensors files of bounded size.
//!
//! `train-00000.safetensors` has two tensors: `tokens` (u16 where the vocabulary fits, else u32), whole documents one
//! after the other, each with the end-of-text token as its last; and `document_offsets` (u64), where each document
//! begins, and one more for the end. Where documents are chats there is a third, `loss_mask` (u8, as long as `tokens`): 1
//! where a model shall learn to write the token, else 0. Where documents are preferences, they come in twos, an answer that
//! was chosen and one that was rejected, and the metadata has `pairs`. The metadata holds `split`, `vocab_size`, `tokenizer_digest` (SHA-256 of the
//! `tokenizer.json` beside it) and `text_bytes`, the UTF-8 bytes of the text these tokens stand for, by which a loss
//! per token becomes bits per byte.

mod mapped;
mod reader;
mod writer;

pub use reader::Split;
pub use writer::{Writer, Written};

/// The key of the metadata of shards whose documents come in twos.
const PAIRS: &str = "pairs";

/// The largest vocabulary whose ids fit in 16 bits.
const NARROW_VOCABULARY: usize = 1 << 16;

/// Returns the file name of a split's shard.
fn file_name(split: &str, index: usize) -> String {
    format!("{split}-{index:05}.safetensors")
}
