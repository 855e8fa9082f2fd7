//! The weights of attention over a paged cache: what the mean of the values is taken with.
//!
//! Dimensions: H query heads, C width of a head, S tokens of a block, T positions up to the row's.

use super::super::kv_pages::{KvElement, KvPages, Numbers, TILE, TILE_LEN};
use super::super::softmax;
use super::{AttentionHeads, AttentionRow, Tile, scale};
use crate::dispatch::vectorized;

/// Returns the weights that [`attention`](super::attention) gives the values of each position, for each query head of a
/// row: softmax(scale × query · key), and zero for positions before the window.
///
/// # Shapes
/// - query: `[H C]`
/// - output: `[H T]`
///
/// # Panics
/// Panics if the shapes do not match, or the row's blocks do not reach its position.
pub fn attention_weights(heads: &AttentionHeads, query: &[f32], row: AttentionRow, cache: &KvPages) -> Vec<f32> {
    let shape = [heads.n_kv_head, heads.head_dim, heads.block_tokens];
    assert_eq!(cache.shape(), shape, "key/value heads, their width and the tokens of a block are the cache's");
    assert_eq!(query.len(), heads.n_head * heads.head_dim, "a query for each head");
    assert_eq!(heads.n_head % heads.n_kv_head, 0, "whole groups of query heads");
    match cache.numbers() {
        Numbers::F32(numbers) => weights_over(heads, query, row, numbers),
        Numbers::F16(numbers) => weights_over(heads, query, row, numbers),
        Numbers::Int8(numbers) => weights_over(heads, query, row, numbers),
    }
}

fn weights_over<T: KvElement>(heads: &AttentionHeads, query: &[f32], row: AttentionRow, cache: &[T]) -> Vec<f32> {
    let (group, end) = (heads.n_head / heads.n_kv_head, row.position + 1);
    let first = heads.window.map_or(0, |window| end.saturating_sub(window));
    let mut weights = vec![0.0; heads.n_head * end];
    for (head, (query, weights)) in query.chunks_exact(heads.head_dim).zip(weights.chunks_exact_mut(end)).enumerate() {
        vectorized!(write_scores(heads, query, row.blocks, head / group, cache, first, weights));
        softmax(&mut weights[first..]);
    }
    weights
}

/// Writes the scores of a query head with the keys from position `first` on.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn write_scores<T: KvElement>(
    heads: &AttentionHeads,
    query: &[f32],
    blocks: &[u32],
    kv_head: usize,
    cache: &[T],
    first: usize,
    weights: &mut [f32],
) {
    let (c, s) = (heads.head_dim, heads.block_tokens);
    let (tile_tokens, head_len) = ((TILE_LEN / c).min(TILE), T::head_len(s, c));
    let mut buffer = [0.0; TILE_LEN];
    let mut position = first - first % s % tile_tokens;
    while position < weights.len() {
        let (block, token) = (blocks[position / s] as usize, position % s);
        let width = (s - token).min(tile_tokens);
        let keys = &cache[(block * 2 * heads.n_kv_head + kv_head) * head_len..][..head_len];
        let (keys, stride) = T::keys(keys, s, token..token + width, &mut buffer);
        let mut scores = [[0.0; TILE]];
        Tile { keys, stride, values: &[], position, width }.scores([query], &mut scores);
        let visible = first.saturating_sub(position)..width.min(weights.len() - position);
        scale(heads, &mut scores[0][visible.clone()]);
        weights[position..][visible.clone()].copy_from_slice(&scores[0][visible]);
        position += width;
    }
}
