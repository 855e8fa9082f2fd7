//! Token shards: the tokens of a split in safetensors files of bounded size.
//!
//! `train-00000.safetensors` has two tensors: `tokens` (u16 where the vocabulary fits, else u32), the documents one
//! after the other, each with the end-of-text token as its last; and `document_offsets` (u64), the start of each
//! document, and the end of the last. For chats there is a third, `loss_mask` (u8, as long as `tokens`): 1 where the
//! token counts towards the loss, else 0. Preferences are pairs of documents, the chosen answer and the rejected one;
//! then the metadata has `pairs`. The metadata has `split`, `vocab_size`, `tokenizer_digest` (SHA-256 of the
//! `tokenizer.json` beside it) and `text_bytes`, the UTF-8 bytes of the text of these tokens, by which a loss per token
//! is converted to bits per byte.

mod format;
mod mapped;
mod masked_document;
mod reader;
mod shard_file;
mod writer;

pub use masked_document::{Answer, MaskedDocument, Segment, SegmentKind};
pub use reader::Split;
pub use writer::{ShardTotals, Writer};
