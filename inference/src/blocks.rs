//! The blocks of a paged KV cache: which sequence uses them, and which tokens are in them.
//!
//! A block holds the keys and values of a fixed number of tokens; the storage belongs to the
//! [`ForwardPass`](crate::ForwardPass), this module only counts. A sequence is a [`BlockTable`]: the list of its blocks
//! (Efficient Memory Management for Large Language Model Serving with `PagedAttention`, 2023). Sequences share blocks
//! in two ways:
//!
//! - A *fork* has all blocks of the original. Who writes into a shared block first gets a copy of it.
//! - A full block is registered under a hash of its tokens and of everything before them. A new sequence that begins
//!   with the same tokens starts with the registered blocks (`SGLang`: Efficient Execution of Structured Language Model
//!   Programs, 2024; here through chained hashes instead of a tree). A block that no sequence uses any more stays
//!   registered until its space is needed; the least recently used is evicted first.
//!
//! Hashes are chained from the name of the tenant, so that no tenant can measure what others have asked, and from the
//! adapter that the keys and values are computed with.

mod hash;
mod pool;

pub use hash::Owner;
pub use pool::{BlockCopy, BlockPool, BlockTable, OutOfBlocks};
