//! Attention of single queries over keys and values in blocks of a paged cache (`PagedAttention`, 2023).
//!
//! Softmax is computed while the blocks are read, with a running maximum (Online normalizer calculation for softmax,
//! 2018), so there is no row of scores to store.
//!
//! Dimensions: M rows, H query heads, K key/value heads, C width of a head, S tokens of a block.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::Pool;
use crate::dispatch::vectorized;
use crate::simd::{LANES, exp, larger, max, sum, sum_of_two, tanh};

/// The multiply-adds from which rows are divided among threads; see `packed`.
const MIN_PARALLEL_PRODUCTS: usize = 1 << 17;

/// The most tokens whose scores are computed before they are used.
const TILE: usize = 32;

/// The numbers of keys, or of values, of a tile: together they fill the first cache in f32.
const TILE_LEN: usize = 4096;

/// The most query heads of a key/value head whose sums are kept side by side.
const MAX_GROUP: usize = 16;

/// The elements of a value that are summed in registers over the tokens of a tile.
const VALUE_LANES: usize = 32;

/// A number of the KV cache: f32 or f16.
pub trait KvElement: Copy + Send + Sync + private::Sealed {
    /// Returns the number in f32.
    fn to_f32(self) -> f32;
    /// Returns the nearest number to one in f32.
    fn from_f32(x: f32) -> Self;
    /// Returns at most [`TILE_LEN`] numbers in f32, converted in `buffer` unless they are.
    #[doc(hidden)]
    fn slice_to_f32<'a>(x: &'a [Self], buffer: &'a mut [f32; TILE_LEN]) -> &'a [f32];
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
}

impl KvElement for f32 {
    #[inline]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline]
    fn slice_to_f32<'a>(x: &'a [Self], _: &'a mut [f32; TILE_LEN]) -> &'a [f32] {
        x
    }
}

impl KvElement for f16 {
    #[inline]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    #[inline]
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }

    #[inline]
    fn slice_to_f32<'a>(x: &'a [Self], buffer: &'a mut [f32; TILE_LEN]) -> &'a [f32] {
        let converted = &mut buffer[..x.len()];
        x.convert_to_f32_slice(converted);
        converted
    }
}

/// The dimensions and options of attention over a paged cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionHeads {
    /// H, a multiple of K.
    pub n_head: usize,
    /// K: each key/value head serves H / K query heads (GQA, 2023).
    pub n_kv_head: usize,
    /// C.
    pub head_dim: usize,
    /// S.
    pub block_tokens: usize,
    /// The factor of query · key, usually 1 / √C.
    pub scale: f32,
    /// Scores become cap × tanh(score / cap) (Gemma 2, 2024).
    pub soft_cap: Option<f32>,
    /// The number of latest tokens that a query attends to, its own included; None for all.
    pub window: Option<usize>,
}

/// A query: a token of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    /// The position of the token: it attends to the positions from 0 to its own.
    pub position: usize,
    /// The blocks of its sequence: position p stands in block `blocks[p / S]`.
    pub blocks: &'a [u32],
}

/// Computes attention: for each query head of each row the mean of the values, weighted by
/// softmax(scale × query · key).
///
/// # Shapes
/// - queries, y: `[M, H C]`
/// - rows: `[M]`
/// - cache: `[blocks, 2, K, S, C]`, keys before values
///
/// # Panics
/// Panics if the shapes do not match, or a row's blocks do not reach its position.
pub fn attention<T: KvElement>(
    pool: &Pool,
    heads: &AttentionHeads,
    queries: &[f32],
    rows: &[AttentionRow],
    cache: &[T],
    y: &mut [f32],
) {
    let group_len = heads.n_head / heads.n_kv_head * heads.head_dim;
    let row_len = group_len * heads.n_kv_head;
    assert_eq!(heads.n_head % heads.n_kv_head, 0, "whole groups of query heads");
    assert_eq!((queries.len(), y.len()), (rows.len() * row_len, rows.len() * row_len), "a query and a result a row");
    let products: usize = rows.iter().map(|row| 2 * row_len * (row.position + 1)).sum();
    let work = |i: usize, y: &mut [f32]| {
        let (row, kv_head) = (rows[i / heads.n_kv_head], i % heads.n_kv_head);
        let queries = &queries[i * group_len..][..group_len];
        let part = MAX_GROUP * heads.head_dim;
        for (queries, y) in queries.chunks(part).zip(y.chunks_mut(part)) {
            vectorized(|| attend(heads, queries, &row, kv_head, cache, y));
        }
    };
    if products < MIN_PARALLEL_PRODUCTS {
        y.chunks_exact_mut(group_len).enumerate().for_each(|(i, y)| work(i, y));
    } else {
        pool.for_each_chunk(y, group_len, work);
    }
}

/// Computes at most [`MAX_GROUP`] query heads of one row that share a key/value head.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn attend<T: KvElement>(
    heads: &AttentionHeads,
    queries: &[f32],
    row: &AttentionRow,
    kv_head: usize,
    cache: &[T],
    y: &mut [f32],
) {
    let c = heads.head_dim;
    assert!(c <= TILE_LEN, "heads of {c} elements");
    let head_len = heads.block_tokens * c;
    let block_len = 2 * heads.n_kv_head * head_len;
    let tile_tokens = (TILE_LEN / c).min(TILE);
    let (mut key_buffer, mut value_buffer) = ([0.0; TILE_LEN], [0.0; TILE_LEN]);
    // The largest score so far, and the sum of e^(score − largest), of each query.
    let mut state = [(f32::NEG_INFINITY, 0.0f32); MAX_GROUP];
    let first = heads.window.map_or(0, |window| (row.position + 1).saturating_sub(window));
    let end = row.position + 1;
    let mut position = first;
    y.fill(0.0);
    while position < end {
        let (block, token) = (position / heads.block_tokens, position % heads.block_tokens);
        let tokens = (heads.block_tokens - token).min(end - position).min(tile_tokens - token % tile_tokens);
        let block = &cache[row.blocks[block] as usize * block_len..][..block_len];
        let (keys, values) = block.split_at(block_len / 2);
        let at = kv_head * head_len + token * c;
        let keys = T::slice_to_f32(&keys[at..at + tokens * c], &mut key_buffer);
        let values = T::slice_to_f32(&values[at..at + tokens * c], &mut value_buffer);
        let heads_of_group = queries.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(&mut state);
        for ((query, y), (largest, total)) in heads_of_group {
            let mut scores = [f32::NEG_INFINITY; TILE];
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(c)) {
                *score = heads.scale * sum_of_two(query, key, |query, key| query * key);
            }
            let scores = &mut scores[..tokens.next_multiple_of(LANES).min(TILE)];
            if let Some(cap) = heads.soft_cap {
                scores.iter_mut().take(tokens).for_each(|score| *score = cap * tanh(*score / cap));
            }
            let new_largest = larger(*largest, max(scores));
            let decay = exp(*largest - new_largest);
            for score in &mut *scores {
                *score = exp(*score - new_largest);
            }
            *total = *total * decay + sum(scores, |x| x);
            *largest = new_largest;
            add_values(y, decay, &scores[..tokens], values);
        }
        position += tokens;
    }
    for (y, (_, total)) in y.chunks_exact_mut(c).zip(state) {
        let factor = 1.0 / total;
        for y in y {
            *y *= factor;
        }
    }
}

/// Turns y into `decay` × y + Σ probability × value.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn add_values(y: &mut [f32], decay: f32, probs: &[f32], values: &[f32]) {
    let c = y.len();
    let (chunks, rest) = y.as_chunks_mut::<VALUE_LANES>();
    for (i, y) in chunks.iter_mut().enumerate() {
        let mut sums = y.map(|y| y * decay);
        for (prob, value) in probs.iter().zip(values.chunks_exact(c)) {
            let value = &value[i * VALUE_LANES..(i + 1) * VALUE_LANES];
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum += prob * value;
            }
        }
        *y = sums;
    }
    let at = c - rest.len();
    for (j, y) in rest.iter_mut().enumerate() {
        let products = probs.iter().zip(values.chunks_exact(c)).map(|(prob, value)| prob * value[at + j]);
        *y = products.fold(*y * decay, |sum, product| sum + product);
    }
}
